"""What the tests of views share: output with gaps, a reader of it, and a simple terminal and redactor."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hypothesis import HealthCheck, settings

from guyline.agentd.view.plain import between_codes
from guyline.agentd.view.redaction import Secret, Secrets
from guyline.agentd.view.rendering import Renderer, context_bytes
from guyline.agentd.view.view import Shape, View, compose
from guyline.agentd.view.window import Run, ranges, windows

unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""For properties: how fast the machine is is none of them."""

EVERYTHING = Shape(most_bytes=1 << 20, most_line_bytes=1 << 16)


@dataclass(frozen=True)
class Printed:
    """Output, some of which may be lost."""

    data: bytes
    lost: tuple[tuple[int, int], ...] = ()

    def runs(self, start: int, end: int) -> list[Run]:
        """What is there between two offsets."""
        borders = [start, *(min(max(each, start), end) for gap in self.lost for each in gap), end]
        pairs = zip(borders[::2], borders[1::2], strict=True)
        return [Run(since, self.data[since:to]) for since, to in pairs if since < to]


def to_secrets(*values: bytes) -> Secrets:
    """Secrets by the names S0, S1, ..."""
    return Secrets(Secret(f"S{index}", value) for index, value in enumerate(values))


def look(
    printed: Printed | bytes,
    *,
    start: int = 0,
    final: bool = True,
    plain: bool = True,
    secrets: Sequence[bytes] = (),
    shape: Shape = EVERYTHING,
    sizes: Iterable[int] = (1 << 20,),
) -> View:
    """The view of all that was printed, as the agent makes it: with ever larger windows until that is enough."""
    output = Printed(printed) if isinstance(printed, bytes) else printed
    renderer = Renderer(plain, to_secrets(*secrets))
    end = len(output.data)
    views = []
    for size in sizes:
        wanted = ranges(start, end, size=size, context=context_bytes(renderer.secrets))
        head, tail = windows([output.runs(*each) for each in wanted], wanted, start, end, size=size)
        views.append(compose(head, tail, end=end, final=final, shape=shape, renderer=renderer))
        if views[-1].is_enough:
            break
    return views[-1]


def parts(view: View) -> tuple[bytes, bytes]:
    """The beginning and the end that a view shows."""
    if view.omission is None:
        return view.text, b""
    note = b"\n\n... [omitted %d bytes] ...\n\n" % (view.omission.end - view.omission.start)
    assert note in view.text
    first, _, last = view.text.partition(note)
    return first, last


def without_codes(data: bytes) -> bytes:
    """What is left of raw text for whoever removes the codes of terminals."""
    return b"".join(data[start:end] for start, end in between_codes(data, 0, len(data)))


TOKEN = re.compile(rb"\[redacted S\d\]")


def masked(data: bytes, secrets: Iterable[bytes]) -> list[bool]:
    """Of each byte, whether it is part of a secret: by looking everywhere."""
    hidden = [False] * len(data)
    for secret in secrets:
        for at in range(len(data) - len(secret) + 1):
            if data[at : at + len(secret)] == secret:
                hidden[at : at + len(secret)] = [True] * len(secret)
    return hidden


class Terminal:
    """One row after the other, character by character, for ASCII."""

    def __init__(self) -> None:
        self.rows: list[list[str]] = [[]]
        self.column = 0

    @property
    def text(self) -> bytes:
        return "\n".join("".join(row) for row in self.rows).encode()

    def show(self, character: str) -> None:
        row = self.rows[-1]
        if character == "\n":
            self.rows.append([])
            self.column = 0
        elif character == "\r":
            self.column = 0
        elif character == "\b":
            self.column = max(0, self.column - 1)
        else:
            while len(row) < self.column:
                row.append(" ")
            row[self.column : self.column + 1] = [character]
            self.column += 1

    def control(self, final: str, count: int | None) -> None:
        row, some = self.rows[-1], count or 1
        if final == "C":
            self.column += some
        elif final == "D":
            self.column = max(0, self.column - some)
        elif final == "G":
            self.column = some - 1
        elif final == "K" and not count:
            del row[self.column :]
        elif final == "K" and count == 1:
            for column in range(min(self.column + 1, len(row))):
                row[column] = " "
        elif final == "K" and count == 2:
            row.clear()
        elif final == "P":
            del row[self.column : self.column + some]
