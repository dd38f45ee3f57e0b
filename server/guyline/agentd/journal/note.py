"""What must be known of a journal besides its file: pure values, kept by the keeper for the next worker."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self

HEAD_BYTES = 16 * 1024
"""The beginning of every journal, which is never given up."""

MAX_GAPS = 64
"""More losses than these are told as fewer, larger ones."""

Range = tuple[int, int]
"""From the first offset to the one behind the last."""


@dataclass(frozen=True)
class JournalNote:
    """What a journal's file cannot say: what of it is no longer, or never was, there.

    It is kept before the effect that it describes. So after a crash it may name as lost what is still in the pipe or
    in the file, and never the other way round.
    """

    kept_from: int = 0
    """From here on everything is kept, but for the gaps; before it only the first `HEAD_BYTES` are."""

    gaps: tuple[Range, ...] = ()
    """What could not be stored, in order; no two touch. They reach up to where the next byte goes, or has gone."""

    degraded: bool = False
    """Whether there ever was a gap."""

    @property
    def taken(self) -> int:
        """As much was taken from the process at least, even if the file is shorter."""
        return max(self.kept_from, self.gaps[-1][1] if self.gaps else 0)

    @cached_property
    def lost(self) -> tuple[Range, ...]:
        """Everything that is not there, in order; no two ranges touch."""
        if self.kept_from <= HEAD_BYTES:
            return self.gaps
        return _united((*self.gaps, (HEAD_BYTES, self.kept_from)))

    def kept_bytes(self, size: int) -> int:
        """How much is there of ``size`` bytes that were taken."""
        return size - sum(end - start for start, end in self.lost)

    def lost_between(self, start: int, end: int) -> int:
        """How much between two offsets is not there."""
        return sum(max(0, min(lost_to, end) - max(lost_from, start)) for lost_from, lost_to in self.lost)

    def next_kept(self, offset: int, size: int) -> Range:
        """The first stretch that is there and not before ``offset``; an empty one at ``size`` if there is none."""
        start = offset
        for lost_from, lost_to in self.lost:
            if start < lost_from:
                return start, lost_from
            start = max(start, lost_to)
        return start, size

    def newest(self, length: int, size: int) -> int:
        """Where the last ``length`` bytes that are there begin, of ``size`` that were taken; 0 if there are fewer."""
        end = size
        for lost_from, lost_to in reversed(self.lost):
            if end - lost_to >= length:
                return end - length
            length -= end - lost_to
            end = lost_from
        return max(end - length, 0)

    def with_gap(self, start: int, end: int) -> Self:
        """The note once these bytes are lost. Beyond `MAX_GAPS` the two oldest gaps and what is between become one."""
        gaps = _united((*self.gaps, (start, end)))
        if len(gaps) > MAX_GAPS:
            gaps = ((gaps[0][0], gaps[1][1]), *gaps[2:])
        return replace(self, gaps=gaps, degraded=True)

    def with_kept_from(self, kept_from: int) -> Self:
        """The note once everything between the head and ``kept_from`` is given up."""
        gaps = tuple(gap for gap in self.gaps if gap[0] < HEAD_BYTES or gap[1] > kept_from)
        return replace(self, kept_from=kept_from, gaps=gaps)

    def to_json(self) -> dict[str, Any]:
        """A plain value for the keeper; `from_json` makes the note of it again."""
        return {"kept_from": self.kept_from, "gaps": [list(gap) for gap in self.gaps], "degraded": self.degraded}

    @classmethod
    def from_json(cls, kept: dict[str, Any]) -> Self:
        """The note that `to_json` made this of."""
        gaps = tuple((start, end) for start, end in kept["gaps"])
        return cls(kept_from=kept["kept_from"], gaps=gaps, degraded=kept["degraded"])


NOTHING_LOST = JournalNote()
"""The note of a journal that has none yet."""


def _united(ranges: Iterable[Range]) -> tuple[Range, ...]:
    """The same offsets as ordered ranges of which no two touch."""
    united: list[Range] = []
    for start, end in sorted(ranges):
        if united and start <= united[-1][1]:
            united[-1] = (united[-1][0], max(end, united[-1][1]))
        else:
            united.append((start, end))
    return tuple(united)
