"""Which stream each byte of a journal came from, when stdout and stderr share one."""

import enum
import errno
import os
import sys
from array import array
from bisect import bisect_right
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from pathlib import Path

from guyline.agentd.process.filepool import FilePool
from guyline.agentd.process.note import HEAD_BYTES
from guyline.agentd.system.files import is_storage_failure, open_private, size_of

MAX_RUNS = 64 * 1024
"""So many changes between the streams are kept of one journal: half a MiB."""

_RECORD_BYTES = 8
_WORTH_REWRITING = 512  # records: one page of the disk


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
    """Where in a journal the stream changes: a file of records beside it, and the same records in memory.

    A record is written before the first byte behind it is taken: its offset in the journal, shifted left by one, with
    the lowest bit set for STDERR, in eight bytes of the machine's order. Before the first record everything is STDOUT,
    so that a process that never uses the other needs no file. Of several records at one offset the last one counts:
    that is what a crash between record and byte leaves.

    Not for several threads. Every method that opens the file may raise OSError: no descriptor is left.
    """

    def __init__(self, path: Path, pool: FilePool) -> None:
        self._path = path
        self._pool = pool
        self._file: int | None = None
        self._records: array[int] = array("Q")
        self.stored_bytes = size_of(path)  # what the records take on disk

    def load(self, size: int) -> None:
        """Reads what an earlier worker wrote of a journal that now has ``size`` bytes; loads once until closed.

        A last record that is torn, and those behind the end, which a lost page cache can leave, are cut off.
        """
        if self._file is not None:
            return
        try:
            self._file = open_private(self._path)
        except FileNotFoundError:
            return
        stored = os.pread(self._file, os.fstat(self._file).st_size, 0)
        records = array("Q", stored[: len(stored) // _RECORD_BYTES * _RECORD_BYTES])
        self._records = records[: bisect_right(records, _record(size, Stream.STDERR))]
        self.stored_bytes = len(self._records) * _RECORD_BYTES
        os.ftruncate(self._file, self.stored_bytes)

    @property
    def current(self) -> Stream:
        """The stream that the next byte belongs to unless it is marked otherwise."""
        return _stream(self._records[-1]) if self._records else Stream.STDOUT

    @property
    def middle(self) -> int | None:
        """If there are as many records as there may be: the offset of the one with half of them behind it."""
        return self._records[len(self._records) // 2] >> 1 if len(self._records) >= MAX_RUNS else None

    def mark(self, offset: int, stream: Stream) -> None:
        """Says that what comes at ``offset``, behind all that is there, is of this stream. Call before it is taken.

        Raises:
            OSError: There is no room.
        """
        if self.current is stream:
            return
        if self._file is None:
            self._file = self._pool.take(self._path)
        record = _record(offset, stream)
        _write(self._file, record.to_bytes(_RECORD_BYTES, sys.byteorder), self.stored_bytes)
        self._records.append(record)
        self.stored_bytes += _RECORD_BYTES

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
        records = self._records[:head] + self._records[covering:]
        try:
            with self._pool.replacing(self._path) as file:
                _write(file, records.tobytes(), 0)
        except OSError as why:
            if not is_storage_failure(why):
                raise
            return
        self.close()
        self._file, self._records, self.stored_bytes = file, records, len(records) * _RECORD_BYTES

    def close(self) -> None:
        """Gives back the descriptor and the memory; `load` gets them again."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
        self._records = array("Q")

    def remove(self) -> None:
        """Returns the file to the pool."""
        self.close()
        self._pool.recycle(self._path)


def _record(offset: int, stream: Stream) -> int:
    return offset << 1 | (stream is Stream.STDERR)


def _stream(record: int) -> Stream:
    return Stream.STDERR if record & 1 else Stream.STDOUT


def _write(file: int, data: bytes, offset: int) -> None:
    if os.pwrite(file, data, offset) < len(data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # what fitted is overwritten by the next attempt
