"""Values that must not be shown: finding them in output, and what stands in their place."""

from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

LEAST_BYTES = 4
"""Shorter values would be found everywhere."""


@dataclass(frozen=True)
class Secret:
    """A value of at least `LEAST_BYTES`, by the name of the variable that holds it."""

    name: str
    value: bytes = field(repr=False)


class Span(NamedTuple):
    """A stretch of data that one secret, or several that overlap, make up."""

    start: int
    end: int
    name: str  # of the longest


class Secrets:
    """What to look for, in each form in which it may be printed.

    Beside the value itself that is: its newlines as a terminal prints them (CR LF) or as its plain text has them (LF),
    and it without the newlines at its end, which a shell drops.
    """

    def __init__(self, secrets: Iterable[Secret] = ()) -> None:
        named: dict[bytes, str] = {}
        for secret in secrets:
            for value in _forms(secret.value):
                named.setdefault(value, secret.name)
        self._forms = [_Form(value, name) for value, name in sorted(named.items(), key=lambda each: -len(each[0]))]
        self.longest_bytes = max(map(len, named), default=0)
        """How long the longest form is."""

    def __repr__(self) -> str:
        return f"<Secrets {sorted({form.name for form in self._forms})}>"

    def __bool__(self) -> bool:
        return bool(self._forms)

    def spans(self, data: bytes, *, torn: bool = False) -> list[Span]:
        """Everything that is of a secret: in order, and no two overlap. Where secrets overlap, they are one.

        A byte is in a span if and only if it is part of some secret's value: so what is found in a part of the data is
        the same as in the whole, up to one byte less than `longest_bytes` from its borders.

        Args:
            data: Where to look.
            torn: What came before the data is lost: it may begin in the middle of a secret.
        """
        found = [(start, end, form) for form in self._forms for start, end in form.runs(data)]
        if torn:
            found += [(0, end, form) for form in self._forms if (end := form.rest(data))]
        spans: list[Span] = []
        longest = 0
        for start, end, form in sorted(found, key=lambda each: (each[0], -each[1])):
            if not spans or start >= spans[-1].end:
                spans.append(Span(start, end, form.name))
                longest = len(form.value)
                continue
            last = spans[-1]
            name = form.name if len(form.value) > longest else last.name
            longest = max(longest, len(form.value))
            spans[-1] = Span(last.start, max(last.end, end), name)
        return spans

    def unfinished(self, data: bytes) -> int:
        """How many bytes at the end may be the beginning of a secret."""
        return max((form.unfinished(data) for form in self._forms), default=0)


NOTHING_SECRET = Secrets()


def token(name: str) -> bytes:
    """What stands in the place of a secret."""
    return b"[redacted %s]" % name.encode(errors="surrogateescape")


def redacted(data: bytes, secrets: Secrets) -> bytes:
    """The same without the secrets. What lies before and behind the data is not known to it: see `Secrets.spans`."""
    parts: list[bytes] = []
    at = 0
    for span in secrets.spans(data):
        parts += [data[at : span.start], token(span.name)]
        at = span.end
    return b"".join((*parts, data[at:]))


class _Form:
    """One sequence of bytes to look for."""

    def __init__(self, value: bytes, name: str) -> None:
        self.value = value
        self.name = name
        self._borders = _border_lengths(value)

    def runs(self, data: bytes) -> Iterator[tuple[int, int]]:
        """Where it is, from and to; occurrences that overlap are one."""
        length = len(self.value)
        start = data.find(self.value)
        while start >= 0:
            last = start
            while (again := self._overlapping(data, last)) is not None:
                last = again
            yield start, last + length
            start = data.find(self.value, last + length)

    def _overlapping(self, data: bytes, at: int) -> int | None:
        """An occurrence that begins within the one at ``at``, the latest."""
        shifts = (len(self.value) - border for border in self._overlaps)
        return next((at + shift for shift in shifts if data.startswith(self.value, at + shift)), None)

    @property
    def _overlaps(self) -> Iterator[int]:
        """How long the value's ends are with which it also begins, the shortest first."""
        lengths: list[int] = []
        border = self._borders[-1]
        while border:
            lengths.append(border)
            border = self._borders[border - 1]
        return reversed(lengths)

    def rest(self, data: bytes) -> int:
        """How long the value's end is with which the data begins, if it is long enough to tell."""
        most = min(len(self.value) - 1, len(data))
        end = self.value[len(self.value) - most :]
        start = end.find(data[:LEAST_BYTES])
        if most < LEAST_BYTES or start < 0:
            return 0
        beginning = data[: most - start]
        length = _overlap(beginning, _border_lengths(beginning), end[start:])
        return length if length >= LEAST_BYTES else 0

    def unfinished(self, data: bytes) -> int:
        """How long the value's beginning is with which the data ends, without the whole."""
        end = data[-(len(self.value) - 1) :]
        start = end.find(self.value[:LEAST_BYTES])
        if start < 0:  # then it can only be shorter than that
            start = max(0, len(end) - LEAST_BYTES + 1)
        return _overlap(self.value, self._borders, end[start:])


def _forms(value: bytes) -> Iterator[bytes]:
    """Without those that are too short; the first is the value itself."""
    stripped = value.rstrip(b"\r\n")
    for form in (value, stripped):
        plain = form.replace(b"\r\n", b"\n")
        yield from (each for each in (form, plain, plain.replace(b"\n", b"\r\n")) if len(each) >= LEAST_BYTES)


def _overlap(value: bytes, borders: "array[int]", data: bytes) -> int:
    """How long the value's beginning is with which the data ends; the data must not be longer than the value.

    Knuth, Morris and Pratt: looks at each byte once, whatever the value.
    """
    matched = 0
    for byte in data:
        while matched and value[matched] != byte:
            matched = borders[matched - 1]
        matched += value[matched] == byte
    return matched


def _border_lengths(value: bytes) -> "array[int]":
    """For each beginning of the value: how long its longest end is with which it also begins, without the whole."""
    borders = array("I", [0]) * len(value)
    matched = 0
    for index in range(1, len(value)):
        while matched and value[matched] != value[index]:
            matched = borders[matched - 1]
        matched += value[matched] == value[index]
        borders[index] = matched
    return borders
