"""When each byte of a journal was printed, to the second."""

import errno
import time
from array import array
from bisect import bisect_right
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from guyline.agentd.journal.filepool import FilePool
from guyline.agentd.journal.note import HEAD_BYTES
from guyline.agentd.journal.record_file import RecordFile
from guyline.agentd.system.files import is_storage_failure

RESOLUTION = 1.0
"""Seconds of output that share one time."""

MAX_MARKS = 64 * 1024
"""So many times are kept of one journal, in one MiB: the last nine hours of one that never pauses to the second."""

TIMES_SUFFIX = ".times"
"""What a journal's name ends in to name its times."""

_WORDS = 2
_WORTH_REWRITING = 256  # records: one page of the disk


class Mark(NamedTuple):
    """From ``offset`` on, and up to the next mark, output was printed at ``printed_at`` or up to a second later."""

    offset: int
    printed_at: float  # seconds since the epoch


class TimeLog:
    """When the output of a journal was taken: records in a file beside it, and in memory.

    A record is an offset and a time in milliseconds since the epoch, shifted left by one. There is one for the first
    byte that is taken `RESOLUTION` or more after the record before; the process's start counts as the first, so that
    what a short command prints needs no file. When there are `MAX_MARKS`, the older half is merged in pairs, and the
    lowest bit says of a record that its time is only the earliest.

    Times never go back: while the clock is behind the last record, what comes counts to that one. What the disk does
    not take, or has lost, makes times coarser and nothing else.

    Args:
        path: The file.
        pool: Where it comes from and goes to.
        started_at: When the process was started, in seconds since the epoch.
        clock: The same now.

    Not for several threads. `load` may raise OSError: no descriptor is left.
    """

    def __init__(
        self, path: Path, pool: FilePool, *, started_at: float, clock: Callable[[], float] = time.time
    ) -> None:
        self._file = RecordFile(path, pool, words=_WORDS)
        self._clock = clock
        self._started_at = started_at
        self._due = started_at + RESOLUTION

    @property
    def stored_bytes(self) -> int:
        """What the records take on disk."""
        return self._file.stored_bytes

    @property
    def is_due(self) -> bool:
        """Whether what is taken now needs a record."""
        return self._clock() >= self._due

    def load(self, size: int) -> None:
        """Reads what an earlier worker wrote of a journal that now has ``size`` bytes; loads once until closed.

        A record of bytes that never came is cut off.
        """
        if self._file.is_loaded:
            return
        try:
            if not self._file.load():
                return
        except OSError as why:
            if why.errno != errno.EIO:
                raise
            self._file.remove()  # no time is worth a byte of output
            return
        self._file.cut(self._behind(size - 1))
        if count := len(self._file):
            self._due = self._printed_at(count - 1) + RESOLUTION

    def mark(self, offset: int) -> None:
        """Says that what comes at ``offset``, behind all that is there, comes now. Call before it is taken."""
        now = self._clock()
        if now < self._due:
            return
        self._due = now + RESOLUTION
        if len(self._file) >= MAX_MARKS and not self._merge_old():
            return
        try:
            self._file.append(offset, _to_ms(now) << 1)
        except OSError as why:
            if not is_storage_failure(why):
                raise

    def since(self, moment: float) -> int | None:
        """Where the first output begins that may have been printed at ``moment`` or later; None if none was."""
        before = moment - RESOLUTION
        if self._started_at > before:
            return 0
        count = len(self._file)
        index = bisect_right(range(count), _to_ms(before), key=lambda number: self._word(number, 1) >> 1)
        if index and self._word(index - 1, 1) & 1:
            index -= 1
        return self._word(index, 0) if index < count else None

    def between(self, start: int, end: int) -> tuple[Mark, ...]:
        """When the bytes from ``start`` to ``end`` were printed. Both must be kept, with all that is between them."""
        first = self._behind(start) - 1
        begin = self._printed_at(first) if first >= 0 else self._started_at
        inside = range(first + 1, self._behind(end - 1))
        marks = {start: begin} | {self._word(number, 0): self._printed_at(number) for number in inside}
        return tuple(Mark(offset, printed_at) for offset, printed_at in marks.items())

    def forget(self, kept_from: int) -> None:
        """Gives up the records of what is behind the head and before ``kept_from``, once that is worth the trouble."""
        head, covering = self._behind(HEAD_BYTES - 1), self._behind(kept_from) - 1
        if covering - head >= _WORTH_REWRITING:
            words = self._file.words
            self._file.replace(words[: head * _WORDS] + words[covering * _WORDS :])

    def close(self) -> None:
        """Gives back the descriptor and the memory; `load` gets them again."""
        self._file.close()

    def remove(self) -> None:
        """Returns the file to the pool."""
        self._file.remove()

    def _merge_old(self) -> bool:
        """Makes one record of every two of the older half; False if there is no room for it now."""
        words = self._file.words
        half = MAX_MARKS // 2 * _WORDS
        pairs = zip(words[: half : 2 * _WORDS], words[1 : half : 2 * _WORDS], strict=True)
        merged = array("Q", chain.from_iterable((offset, stamp | 1) for offset, stamp in pairs))
        return self._file.replace(merged + words[half:])

    def _behind(self, offset: int) -> int:
        """How many records are at or before an offset."""
        return bisect_right(range(len(self._file)), offset, key=lambda number: self._word(number, 0))

    def _printed_at(self, number: int) -> float:
        return (self._word(number, 1) >> 1) / 1000

    def _word(self, number: int, which: int) -> int:
        return self._file.words[number * _WORDS + which]


def _to_ms(seconds: float) -> int:
    return max(0, int(seconds * 1000))
