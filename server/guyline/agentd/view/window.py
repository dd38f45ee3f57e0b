"""What is read of the output for a view: its beginning and its end, and no more of it than that takes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

_LEAST_BYTES = 24 * 1024
_MOST_BYTES = 512 * 1024
_GROWTH = 5

Range: TypeAlias = tuple[int, int]
"""From the first offset to the one behind the last."""


@dataclass(frozen=True)
class Run:
    """Output without a gap in it."""

    offset: int
    data: bytes

    @property
    def end(self) -> int:
        """The offset behind the last byte."""
        return self.offset + len(self.data)


@dataclass(frozen=True)
class Window:
    """Output without a gap in it: a stretch, and before it what is needed to understand its beginning."""

    offset: int
    """Where ``data`` begins."""

    data: bytes

    start: int
    """Where the stretch begins."""

    torn: bool = False
    """Whether what came before ``data`` is lost."""

    limited: bool = False
    """Whether the stretch was ended, or begun, where it is only because that is enough to read at first."""

    @property
    def end(self) -> int:
        """The offset behind the last byte."""
        return self.offset + len(self.data)

    @property
    def begins_in_line(self) -> bool:
        """Whether its stretch may begin in the middle of a line."""
        before = self.start - self.offset
        return self.start > 0 and self.data[before - 1 : before] != b"\n"


Windows: TypeAlias = tuple[Window, Window | None]
"""The beginning and the end, or all as one."""


def sizes(view_bytes: int) -> Iterator[int]:
    """How much to read of either end, in bytes: more each time, as long as that is not enough for the view.

    Of most output the first is enough. Of what is mostly codes, or one line drawn anew, no more than 1 MiB is read.
    """
    size = max(view_bytes * 3 // 4, _LEAST_BYTES)
    while size < _MOST_BYTES:
        yield size
        size *= _GROWTH
    yield max(_MOST_BYTES, view_bytes * 3 // 4)


def ranges(start: int, end: int, *, size: int, context: int) -> list[Range]:
    """What to read for the view from ``start`` to ``end``: all, or beginning and end, each with the context before."""
    if end - start <= 2 * size:
        return [(max(0, start - context), end)]
    return [(max(0, start - context), start + size), (end - size - context, end)]


def is_less(now: Windows, before: Windows) -> bool:
    """Whether some of what was read before is gone by now, as that of a process that goes on printing soon is."""
    (head, tail), (head_before, tail_before) = now, before
    return head.end < head_before.end or bool(tail and tail_before and tail.offset > tail_before.offset)


def windows(read: Sequence[Sequence[Run]], wanted: Sequence[Range], start: int, end: int, *, size: int) -> Windows:
    """Of what was read of each range, the beginning and the end; only the first, if that is all.

    What lies between two gaps is in neither.
    """
    is_all = len(wanted) == 1
    head = next((run for run in read[0] if run.offset <= start <= run.end), Run(start, b""))
    beginning = Window(
        head.offset,
        head.data,
        start,
        torn=head.offset > wanted[0][0],
        limited=not is_all and head.end == wanted[0][1],
    )
    if head.end == end:
        return beginning, None
    tail = read[-1][-1] if read[-1] and read[-1][-1].end == end else Run(end, b"")
    tail_start = start if is_all else end - size
    ending = Window(
        tail.offset,
        tail.data,
        max(tail.offset, tail_start),
        torn=tail.offset > wanted[-1][0],
        limited=not is_all and tail.offset <= tail_start,
    )
    return beginning, ending
