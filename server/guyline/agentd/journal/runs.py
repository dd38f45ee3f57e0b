"""Which stream each byte of a journal came from, when stdout and stderr share one."""

import enum
import errno
from array import array
from bisect import bisect_right
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from pathlib import Path

from guyline.agentd.journal.filepool import FilePool
from guyline.agentd.journal.note import HEAD_BYTES
from guyline.agentd.journal.record_file import RecordFile
from guyline.daemon.logging import get_logger

MAX_RUNS = 64 * 1024
"""So many changes between the streams are kept of one journal: half a MiB."""

_WORTH_REWRITING = 512  # records: one page of the disk

log = get_logger("journal")


class Stream(enum.Enum):
    """Which of its outputs a process printed to; STDOUT also says "either" where the two are merged."""

    STDOUT = "stdout"
    STDERR = "stderr"


@dataclass(frozen=True)
class Run:
    """A piece of output that came from one stream."""

    stream: Stream
    length_bytes: int


RUNS_SUFFIX = ".runs"
"""What a journal's name ends in to name its runs."""


class RunLog:
    """Where in a journal the stream changes: records in a file beside it, and in memory.

    A record is the offset in the journal, shifted left by one, with the lowest bit set for STDERR. Before the first
    record everything is STDOUT, so that a process that never uses the other needs no file. Of several records at one
    offset the last one counts: that is what a crash between record and byte leaves.

    Not for several threads. Every method that opens the file may raise OSError: no descriptor is left, or the disk
    fails.
    """

    def __init__(self, path: Path, pool: FilePool) -> None:
        self._path = path
        self._file = RecordFile(path, pool)
        self._is_unreadable = False

    @property
    def stored_bytes(self) -> int:
        """What the records take on disk."""
        return self._file.stored_bytes

    @property
    def _records(self) -> "array[int]":
        return self._file.words

    def load(self, size: int) -> None:
        """Reads what an earlier worker wrote of a journal that now has ``size`` bytes; loads once until closed.

        Records behind the end, which a lost page cache can leave, are cut off. Of what the disk cannot read (EIO), all
        is STDOUT until it can: the output is worth more. The file stays until there is something new to say.
        """
        if self._file.is_loaded:
            return
        try:
            if self._file.load():
                self._file.cut(bisect_right(self._records, _record(size, Stream.STDERR)))
        except OSError as why:
            if why.errno != errno.EIO:
                raise
            self._file.close()
            if not self._is_unreadable:
                log.warning("which stream printed what cannot be read", file=str(self._path), error=str(why))
            self._is_unreadable = True
        else:
            self._is_unreadable = False

    @property
    def current(self) -> Stream:
        """The stream that the next byte belongs to unless it is marked otherwise."""
        return _stream(self._records[-1]) if self._records else Stream.STDOUT

    @property
    def middle(self) -> int | None:
        """If there are as many records as there may be: the offset of the one with half of them behind it."""
        return self._records[len(self._records) // 2] >> 1 if len(self._records) >= MAX_RUNS else None

    def changes_since(self, offset: int) -> int:
        """How many records lie behind an offset. Trimming at `middle` costs nothing there while they are few."""
        return len(self._records) - bisect_right(self._records, _record(offset, Stream.STDERR))

    def mark(self, offset: int, stream: Stream) -> None:
        """Says that what comes at ``offset``, behind all that is there, is of this stream. Call before it is taken.

        Records that could not be read are begun anew: what they say of the end is not to hold for what comes.

        Raises:
            OSError: There is no room.
        """
        if self._is_unreadable:
            self.remove()
        if self.current is stream:
            return
        self._file.append(_record(offset, stream))

    def between(self, start: int, end: int) -> tuple[Run, ...]:
        """How the bytes from ``start`` to ``end`` divide. Both must be kept, with all that is between them."""
        first = bisect_right(self._records, _record(start, Stream.STDERR))
        last = bisect_right(self._records, _record(end - 1, Stream.STDERR))
        stream = _stream(self._records[first - 1]) if first else Stream.STDOUT
        changes = [(start, stream), *((record >> 1, _stream(record)) for record in self._records[first:last])]
        ends = [*(offset for offset, _ in changes[1:]), end]
        parts = ((stream, to - since) for (since, stream), to in zip(changes, ends, strict=True) if to > since)
        return tuple(Run(stream, sum(length for _, length in same)) for stream, same in groupby(parts, itemgetter(0)))

    def forget(self, kept_from: int) -> None:
        """Gives up the records of what is behind the head and before ``kept_from``, once that is worth the trouble.

        The file is replaced as a whole; if there is no room for that, it stays as it is.
        """
        head = bisect_right(self._records, _record(HEAD_BYTES - 1, Stream.STDERR))
        covering = bisect_right(self._records, _record(kept_from, Stream.STDERR)) - 1
        if covering - head < _WORTH_REWRITING:
            return
        self._file.replace(self._records[:head] + self._records[covering:])

    def close(self) -> None:
        """Gives back the descriptor and the memory; `load` gets them again."""
        self._file.close()

    def remove(self) -> None:
        """Returns the file to the pool."""
        self._file.remove()
        self._is_unreadable = False


def _record(offset: int, stream: Stream) -> int:
    return offset << 1 | (stream is Stream.STDERR)


def _stream(record: int) -> Stream:
    return Stream.STDERR if record & 1 else Stream.STDOUT
