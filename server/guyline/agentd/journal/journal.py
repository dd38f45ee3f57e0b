"""A process's output, kept in a file and addressed by its absolute offset."""

import errno
import os
import time
from collections.abc import Callable
from pathlib import Path

from guyline.agentd.journal.errors import OffsetOutOfRange
from guyline.agentd.journal.filepool import FilePool
from guyline.agentd.journal.note import HEAD_BYTES, JournalNote
from guyline.agentd.journal.piece import PIECE_BYTES, Cold, Piece
from guyline.agentd.journal.runs import RUNS_SUFFIX, RunLog, Stream
from guyline.agentd.journal.support import Support
from guyline.agentd.journal.times import TIMES_SUFFIX, Mark, TimeLog
from guyline.agentd.system.files import (
    copy_range,
    is_storage_failure,
    is_want,
    open_private,
    read_cached,
    read_only,
    size_of,
    written_at,
)
from guyline.agentd.system.holes import has_data, punch_hole
from guyline.agentd.system.pipes import grow_pipe, ready_bytes
from guyline.agentd.system.splice import copy, splice
from guyline.daemon.logging import get_logger

log = get_logger("journal")

MAX_DESCRIPTORS = 3
"""How many one journal may have open: its own, and those of its times and of its runs."""

TAKE_BYTES = 1024 * 1024
"""The most that one `Journal.take` moves: what the largest pipe holds."""

_BUSY_BYTES = 64 * 1024  # a pipe that was found this full is worth enlarging
_LARGEST_STEP = 8 * 1024 * 1024  # a hole costs 0.4 ms, so not one for every take
_PAGE = 4096
_RETRY_SECONDS = 0.1  # a full disk is asked again this often: each attempt may make ext4 commit its journal


class Journal:
    """One process's output: filled from its pipes, read by any number of readers at their own offset.

    Offsets count what the process has printed, its streams together, and never change. The file's size says how much
    was taken; ``note`` is what else must survive the worker, and ``keep_note`` must have it safe when it returns; it is
    called before the effect, which an error of its own prevents. ``kept_changed`` is told of changes of `kept_bytes`. A
    worker killed at any instruction thus leaves what its successor, given the same path and note, goes on with.

    At least ``bound`` bytes up to the end are kept and the first `HEAD_BYTES` besides, and at most an eighth of the
    bound more (8 MiB if that is less): what is older is punched out of the file. Where holes are not supported, the
    file is instead replaced, each time it holds twice its bound, by one with the head and the last ``bound`` bytes at
    the same offsets and nothing between; that stops everything for the time of the copy, some 50 ms for 64 MiB.

    No failure of the disk stops the process, nor does a directory that is gone: what cannot be stored becomes a gap.

    There is no file before the first byte, and no descriptor before the first use; with those of a `RunLog` and a
    `TimeLog`, whose files lie beside and count as kept, there are up to `MAX_DESCRIPTORS`. `close` gives them back
    until the next use, and ``used_at_rest`` hears of what helps to decide when; `remove` ends everything. Not for
    several threads, and nothing waits for a pipe; see `read` for the disk.
    """

    def __init__(
        self,
        *,
        path: Path,
        pool: FilePool,
        bound: int,
        separate: bool,
        started_at: float,
        note: JournalNote,
        keep_note: Callable[[JournalNote], None],
        kept_changed: Callable[[int], None],
        used_at_rest: Callable[["Journal"], None] = lambda _: None,
        support: Support = Support(),  # noqa: B008 - immutable
        buffer: bytearray | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self.path = path
        self._pool = pool
        self._bound = bound
        self._step = bound if support.no_punch_hole else max(min(bound // 8, _LARGEST_STEP) // _PAGE, 1) * _PAGE
        self._keep_note = keep_note
        self._support = support
        self._buffer = buffer or bytearray(PIECE_BYTES)  # one for many journals: nothing stays in it
        self._move = copy if support.no_splice else splice
        self._kept_changed = kept_changed
        self._used_at_rest = used_at_rest
        self._is_complete = False
        self._clock = clock
        self._file: int | None = None
        self._runs = RunLog(path.with_name(path.name + RUNS_SUFFIX), pool) if separate else None
        times = path.with_name(path.name + TIMES_SUFFIX)
        self._times = TimeLog(times, pool, started_at=started_at, clock=wall_clock)
        self._freed_to = HEAD_BYTES  # up to here nothing of the file's middle takes room
        self._counted = 0  # what `kept_changed` was told
        self._retry_at = 0.0
        self._tried_to_grow: set[Stream] = set()
        self._note = note
        self._size = self._recover()
        self._count()

    def __repr__(self) -> str:
        return (
            f"<Journal {self.path.name}: {self._size} bytes, kept from {self.kept_from}, {len(self._note.gaps)} gaps>"
        )

    @property
    def size(self) -> int:
        """How much was taken: the offset behind the last byte."""
        return self._size

    @property
    def kept_from(self) -> int:
        """From here on everything is kept, but for gaps."""
        return self._note.kept_from

    @property
    def kept_bytes(self) -> int:
        """How much it holds on disk, without the rounding to pages."""
        return self._counted

    def changes_since(self, offset: int) -> int:
        """How often the stream changes behind an offset; 0 where streams are merged."""
        return self._runs.changes_since(offset) if self._runs else 0

    @property
    def is_degraded(self) -> bool:
        """Whether output was lost because the disk was full or failed."""
        return self._note.degraded

    @property
    def written_at(self) -> float:
        """When something was stored last, in seconds since the epoch; 0 if nothing ever was, or nobody can tell."""
        return written_at(self.path) if self._size else 0.0

    def take(self, pipe: int, stream: Stream = Stream.STDOUT, *, at_most: int = TAKE_BYTES) -> int:
        """Moves what is ready from a non-blocking pipe to the end; returns how many bytes left the pipe, 0 at its end.

        A pipe that was full is enlarged, once.

        Raises:
            BlockingIOError: Nothing is ready.
            OSError: There is no descriptor or no memory for it now; what is ready stays in the pipe.
        """
        if self._clock() < self._retry_at:
            return self._drop(pipe, at_most)
        try:
            taken = self._store(pipe, stream, at_most)
        except OSError as why:
            if is_want(why) or isinstance(why, BlockingIOError):
                raise  # the pipe holds what is there until this is over
            if not (is_storage_failure(why) or self.is_degraded):  # told once: it goes on for as long as it does
                log.warning("output is lost", journal=self.path.name, error=errno.errorcode.get(why.errno or 0))
            self._retry_at = self._clock() + _RETRY_SECONDS
            return self._drop(pipe, at_most)
        if taken >= _BUSY_BYTES and stream not in self._tried_to_grow:
            self._tried_to_grow.add(stream)
            grow_pipe(pipe)
        self._trim()
        self._count()
        return taken

    def read(self, offset: int, at_most: int = PIECE_BYTES) -> Piece | Cold:
        """The next piece that is kept, from ``offset`` on, or `Cold` if the disk would have to be waited for.

        Raises:
            OffsetOutOfRange: The offset is behind the end.
            OSError: No descriptor is left.
        """
        try:
            return self._read(offset, at_most)
        except BlockingIOError:
            start, end = self._next_kept(offset, at_most)
            return Cold(self.path, start, end - start)

    def lost_between(self, start: int, end: int) -> int:
        """How many bytes between two offsets are no longer kept, or never were."""
        return self._note.lost_between(start, end)

    def offset_since(self, moment: float) -> int:
        """Where the first output begins that was printed at ``moment`` (since the epoch) or later, to the second.

        The end if there is none.

        Raises:
            OSError: No descriptor is left.
        """
        self._load_records()
        offset = self._times.since(moment)
        return self._size if offset is None else offset

    def times_between(self, start: int, end: int) -> tuple[Mark, ...]:
        """When the bytes of a piece that was just read were printed; the first mark is at ``start``."""
        return self._times.between(start, end)

    def shrink(self, to_bytes: int) -> None:
        """Gives up the oldest output until at most ``to_bytes`` are kept; the head stays in any case."""
        if self.kept_bytes <= to_bytes:
            return
        room = max(to_bytes - HEAD_BYTES - self._record_bytes(), 0)
        self._give_up_to(min(-(-self._note.newest(room, self._size) // _PAGE) * _PAGE, self._size))
        self._count()

    def complete(self) -> None:
        """Says that nothing more comes. From now on ``used_at_rest`` is called with the journal whenever it is used.

        Its owner can then close those that nobody has used for the longest time.
        """
        self._is_complete = True
        if self._file is not None:
            self._used_at_rest(self)
        else:
            self.close()  # its records may have been read without it

    def close(self) -> None:
        """Gives back the descriptors. Whatever is called afterwards opens them again."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
        self._times.close()
        if self._runs:
            self._runs.close()

    def remove(self) -> None:
        """Returns the files to the pool. Nothing else may be called afterwards."""
        self.close()
        self._kept_changed(-self._counted)
        self._counted = 0
        self._pool.recycle(self.path)
        self._times.remove()
        if self._runs:
            self._runs.remove()

    def _recover(self) -> int:
        """What was taken, from the file and the note; what the file should hold but does not, becomes a gap."""
        stored = size_of(self.path)
        size = max(stored, self._note.taken)
        if self._note.next_kept(stored, size)[0] < size:
            self._keep(self._note.with_gap(stored, size))
        return size

    def _keep(self, note: JournalNote) -> None:
        self._keep_note(note)
        self._note = note

    def _count(self) -> None:
        kept_bytes = self._note.kept_bytes(self._size) + self._record_bytes()
        self._kept_changed(kept_bytes - self._counted)
        self._counted = kept_bytes

    def _record_bytes(self) -> int:
        return self._times.stored_bytes + (self._runs.stored_bytes if self._runs else 0)

    def _store(self, pipe: int, stream: Stream, at_most: int) -> int:
        is_due = self._times.is_due
        writes_first = self._file is None or is_due or (self._runs and self._runs.current is not stream)
        if writes_first and ready_bytes(pipe) == 0:
            return 0  # the end needs no file and no record
        file = self._open_or_create()
        if self._runs:
            self._runs.mark(self._size, stream)
        if is_due:
            self._times.mark(self._size)
        stored, lost = self._move(pipe, file, self._size, at_most)
        self._size += stored
        if lost:
            self._lose(self._size, self._size + lost)
            self._retry_at = self._clock() + _RETRY_SECONDS
        return stored + lost

    def _drop(self, pipe: int, at_most: int) -> int:
        """Reads and forgets what is ready, and leaves room for it among the offsets."""
        ready = min(ready_bytes(pipe), at_most)
        if ready:
            self._lose(self._size, self._size + ready)  # a crash right after this calls lost what then still comes
            os.read(pipe, ready)
        return ready

    def _lose(self, start: int, end: int) -> None:
        self._keep(self._note.with_gap(start, end))
        self._size = max(self._size, end)
        self._count()

    def _next_kept(self, offset: int, at_most: int) -> tuple[int, int]:
        start, end = self._note.next_kept(offset, self._size)
        return start, min(end, start + min(at_most, PIECE_BYTES))

    def _read(self, offset: int, at_most: int) -> Piece:
        if offset > self._size:
            raise OffsetOutOfRange(offset, self._size)
        while True:
            start, end = self._next_kept(offset, at_most)
            data = self._stored_data(start, end) if start < end else b""
            if data or start == end:
                break
            self._lose(start, end)
        runs = self._runs.between(start, start + len(data)) if self._runs and data else ()
        return Piece(start, data, runs, gap=(offset, start) if start > offset else None)

    def _stored_data(self, start: int, end: int) -> bytes:
        """What the file has there: nothing if it is cut short or removed behind our back, or the disk fails."""
        self._load_records()  # outside: the bytes are not lost if these cannot be read
        try:
            return self._cached_data(start, end - start)
        except OSError as why:
            if why.errno not in (errno.ENOENT, errno.EIO):
                raise
            return b""

    def _open(self) -> int:
        self._load_records()
        return self._open_bytes()

    def _cached_data(self, start: int, length: int) -> bytes:
        try:
            file = self._open_bytes()
        except OSError as why:
            if why.errno != errno.EROFS:
                raise
            with read_only(self.path) as file:
                return read_cached(file, start, length, buffer=self._buffer)
        return read_cached(file, start, length, buffer=self._buffer)

    def _open_bytes(self) -> int:
        """Opens the file, and frees what an earlier worker had given up when it was killed."""
        if self._file is None:
            self._file = open_private(self.path)
            given_up_to = self.kept_from // _PAGE * _PAGE
            if self._freed_to < self.kept_from and not has_data(self._file, self._freed_to, given_up_to):
                self._freed_to = self.kept_from  # a hole that is punched again makes the file look as if just written
            self._free(self._file)
        return self._file

    def _load_records(self) -> None:
        if self._is_complete:
            self._used_at_rest(self)
        if self._file is None:
            self._times.load(self._size)
            if self._runs:
                self._runs.load(self._size)

    def _open_or_create(self) -> int:
        try:
            return self._open()
        except FileNotFoundError:
            self._file = self._pool.take(self.path)
            return self._file

    def _trim(self) -> None:
        excess = self._note.kept_bytes(self._size) - HEAD_BYTES - self._bound
        if excess > self._step:
            self._give_up_to(self._note.newest(self._bound, self._size) // _PAGE * _PAGE)
        if self._runs and (middle := self._runs.middle) is not None:
            self._give_up_to(middle)

    def _give_up_to(self, kept_from: int) -> None:
        if kept_from <= max(self.kept_from, HEAD_BYTES):
            return
        self._keep(self._note.with_kept_from(kept_from))
        try:
            file = self._open()
        except FileNotFoundError:
            return  # there were gaps only
        self._free(file)
        if self._support.no_punch_hole:
            self._replace(file)
        self._times.forget(kept_from)
        if self._runs:
            self._runs.forget(kept_from)

    def _free(self, file: int) -> None:
        """Punches out what is given up. What the disk refuses now is tried again with the next step."""
        if self._support.no_punch_hole or self._freed_to >= self.kept_from:
            return
        try:
            punch_hole(file, self._freed_to, self.kept_from)
        except OSError as why:
            if not is_storage_failure(why):
                raise
            return
        self._freed_to = self.kept_from

    def _replace(self, file: int) -> None:
        """Frees the same without holes. What the disk has no room for now is tried again with the next step."""
        try:
            with self._pool.replacing(self.path) as successor:
                offset = 0
                while offset < self._size:
                    start, offset = self._note.next_kept(offset, self._size)
                    copy_range(file, successor, start, offset)
        except OSError as why:
            if not is_storage_failure(why):
                raise
            return
        os.close(file)
        self._file = successor
