"""What a process is given to read: accepted at once, passed on as it reads, lost or repeated by nobody's death."""

import asyncio
import enum
import errno
import fcntl
import os
import struct
import termios
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from guyline.agentd.process.bell import Bell
from guyline.agentd.process.errors import (
    InputClosed,
    InputConflict,
    InputFull,
    InputOffsetOutOfRange,
    InputTooLong,
    SystemExhausted,
)
from guyline.agentd.process.faults import FaultPoint, no_fault
from guyline.agentd.process.streams.input_room import InputNotFreed, InputRoom
from guyline.agentd.system.holes import punch_hole
from guyline.agentd.system.transfer import pass_on
from guyline.daemon.logging import get_logger

COMPARABLE_BYTES = 128 * 1024
"""So much of what was read is still there, for who asks after a break whether it was his."""
_PASS_BYTES = 1 << 20
"""The most that is passed on at once, as much as the largest pipe holds."""
_FREE_BYTES = 128 * 1024
"""The memory of what came before that is given back in pieces of this size."""
_LONGEST_WAIT = 3600.0
"""Seconds; whoever waits for room has a time of its own."""
_PAGE = 4096
_BLOCK = 512  # the unit of st_blocks, whatever a file system's own is
_INT = struct.Struct("i")

log = get_logger("input")


class InputMode(enum.Enum):
    """What a process has for standard input."""

    NONE = "none"  # the null device
    PIPE = "pipe"
    TERMINAL = "terminal"


@dataclass(frozen=True)
class InputDescriptors:
    """Both are the input's to close; the keeper holds duplicates for the next worker."""

    file: int
    """A file in memory: its size is what was accepted, its position what was passed on."""

    sink: int
    """The pipe's writing end, or the terminal's master; non-blocking."""

    def account(self) -> tuple[int, int]:
        """How much was accepted and how much passed on."""
        return os.fstat(self.file).st_size, os.lseek(self.file, 0, os.SEEK_CUR)


class Input:
    """The input of one process.

    Bytes are counted from its beginning. What is accepted is safe: the kernel holds it and the account of it, and the
    next worker goes on where this one was, even within a write. At most ``bound`` bytes wait for the process to read;
    a writer then waits as well.

    Args:
        descriptors: See there. None: it is over.
        over: How much was accepted and passed on in all, of one that is over.
        mode: A pipe or a terminal.
        ends_at: Where the input ends, if that is known.
        bound: How many bytes may wait.
        room: What all inputs share.
        ending: Called with the end's offset before that takes effect: from then on the next worker must know.
        reach: Called at the fault points.
        closed: Called with how much was accepted and passed on, once nothing can be passed on any more: the keeper
            lets its duplicates go as well then.
    """

    def __init__(
        self,
        descriptors: InputDescriptors | None,
        *,
        over: tuple[int, int] = (0, 0),
        mode: InputMode,
        ends_at: int | None,
        bound: int,
        room: InputRoom,
        ending: Callable[[int], None],
        closed: Callable[[int, int], None],
        reach: FaultPoint = no_fault,
    ) -> None:
        self.mode = mode
        self.next_offset, self.passed_bytes = descriptors.account() if descriptors else over
        self._descriptors = descriptors
        self._ends_at = ends_at
        self._bound = bound
        self._room = room
        self._ending = ending
        self._closed = closed
        self._reach = reach
        self._freed_to = self._free_to(self.passed_bytes)  # no earlier worker has freed more
        self._frees = True  # False once memory could not be given back
        self._unfreed_bytes = 0  # what it then holds, as counted in the room
        self._writes_later = False  # whether the loop tells when the sink takes more
        self._lock = asyncio.Lock()  # one writer at a time, in the order in which they came
        if descriptors:
            self._room.take(self._waiting_bytes)

    def __repr__(self) -> str:
        return f"<Input {self.mode.value}: {self.passed_bytes} of {self.next_offset} bytes passed on>"

    @property
    def is_open(self) -> bool:
        """Whether more is accepted."""
        return self._descriptors is not None and self._ends_at is None

    def resume(self) -> None:
        """Passes on what an earlier worker had accepted; also frees, or counts, what that one could not free."""
        if self._descriptors:
            self._free(self._descriptors, since=0)
        self._pass_on()

    async def write(
        self, data: bytes, *, offset: int | None, eof: bool, at_most: float | None, first_try: bool = False
    ) -> int:
        """Accepts as much as there is room for within ``at_most`` seconds; returns the next offset.

        What was accepted before is passed over, so that a write can be repeated. Cancelling keeps what was accepted.

        Args:
            data: Any number of bytes.
            offset: Where they belong. None: behind all that was accepted; within a time that is then all of them or
                none, since nobody could say what to repeat.
            eof: The input ends behind them. Only once all of them are accepted.
            at_most: None: as long as it takes.
            first_try: It was not sent before, so that nothing of it can have been accepted. Then all of it is, or
                nothing, unless so much can never wait: what others write stands before it or behind.

        Raises:
            InputOffsetOutOfRange: Bytes before ``offset`` are missing.
            InputConflict: Others were accepted there.
            InputClosed: There is something new in it, and nothing more is accepted.
            InputFull: Nothing was accepted in the time.
            InputTooLong: It is for all or none, and so much can never wait.
            InputNotFreed: There is no room for it, since what was read takes all that inputs may have.
            SystemExhausted: There is no memory for it.
        """
        whole = offset is None and at_most is not None
        if whole and len(data) > self._bound:
            raise InputTooLong(len(data), self._bound)
        whole |= first_try and len(data) <= self._bound
        has_turn = False  # until then the next offset is moved by somebody else
        try:
            async with asyncio.timeout(at_most), self._lock:
                has_turn = True
                at = self._demand_no_hole(offset)
                self._demand_no_other(memoryview(data), at, first_try=first_try)
                await self._accept_all(memoryview(data), at, whole=whole, eof=eof)
        except TimeoutError:
            if not has_turn or offset is None or self.next_offset <= offset:
                raise InputFull(self.next_offset) from None
        return self.next_offset

    async def compare(self, data: bytes, *, offset: int, at_most: float) -> int:
        """Returns the next offset, if this is what was accepted at ``offset``.

        Raises:
            InputConflict: It is not, or nobody can say any more.
            InputFull: Somebody wrote all the time.
        """
        try:
            async with asyncio.timeout(at_most), self._lock:
                if offset < self._freed_to or offset + len(data) > self.next_offset:
                    raise InputConflict(None, self.next_offset)
                self._demand_no_other(memoryview(data), offset, first_try=False)
        except TimeoutError:
            raise InputFull(self.next_offset) from None
        return self.next_offset

    def end(self, offset: int | None) -> int:
        """The input ends behind what was accepted; returns how much that is. Ending it twice is fine.

        Raises:
            InputOffsetOutOfRange: Bytes before ``offset`` were not accepted yet.
        """
        self._demand_no_hole(offset)
        if self.is_open:
            self._end_here()
        return self.next_offset

    def close(self) -> None:
        """Gives the descriptors back. What was accepted goes on to the process with the next worker."""
        if descriptors := self._descriptors:
            self._watch_sink(watched=False)
            self._descriptors = None
            self._room.give_back(self._waiting_bytes)
            self._room.unfreed_bytes -= self._unfreed_bytes
            os.close(descriptors.file)
            os.close(descriptors.sink)

    def discard(self) -> None:
        """Closes it for good: the process has ended, or reads no more."""
        if self._descriptors:
            self.close()
            self._closed(self.next_offset, self.passed_bytes)
            self._reach("input.closed")

    @property
    def _waiting_bytes(self) -> int:
        return self.next_offset - self.passed_bytes

    def _demand_no_hole(self, offset: int | None) -> int:
        if offset is not None and offset > self.next_offset:
            raise InputOffsetOutOfRange(offset, self.next_offset)
        return self.next_offset if offset is None else offset

    def _demand_no_other(self, data: memoryview, offset: int, *, first_try: bool) -> None:
        """What is to be passed over must be what was accepted, as far as that can still be seen."""
        if first_try and data and offset < self.next_offset:
            raise InputConflict(offset, self.next_offset)
        start, end = max(offset, self._freed_to), min(offset + len(data), self.next_offset)
        if self._descriptors is None or start >= end:
            return
        accepted = os.pread(self._descriptors.file, end - start, start)
        if accepted != (given := data[start - offset : end - offset]):
            raise InputConflict(start + _common_bytes(accepted, given), self.next_offset)

    async def _accept_all(self, data: memoryview, offset: int, *, whole: bool, eof: bool) -> None:
        """Holds the lock, so nobody else accepts anything; the input may be closed meanwhile."""
        end = offset + len(data)
        bell = Bell()
        self._room.subscribe(bell)
        try:
            while self.next_offset < end:
                self._accept(data[self.next_offset - offset :], whole=whole)
                if self.next_offset < end:
                    await bell.wait(_LONGEST_WAIT)
        finally:
            self._room.unsubscribe(bell)
        if eof and self.is_open:
            self._end_here()

    def _accept(self, data: memoryview, *, whole: bool) -> None:
        """Takes what there is room for, and passes on what the process takes now."""
        if not self.is_open or self._descriptors is None:
            raise InputClosed(self.next_offset)
        room = min(self._bound - self._waiting_bytes, self._room.free_bytes)
        wanted = len(data) if whole else 1
        if not self._frees:
            left = self._room.free_unfreed_bytes
            if left < wanted:
                raise InputNotFreed(self.next_offset)
            room = min(room, left)
        if room >= wanted:
            try:
                accepted = os.pwrite(self._descriptors.file, data[:room], self.next_offset)
            except OSError as why:
                raise SystemExhausted(why.errno or errno.ENOMEM, "more input") from why
            self.next_offset += accepted
            self._room.take(accepted)
            if not self._frees:
                self._count_unfreed(self._descriptors)
            self._reach("input.accepted")
            self._pass_on()
            if self._descriptors is None:
                raise InputClosed(self.passed_bytes)

    def _end_here(self) -> None:
        self._ending(self.next_offset)
        self._reach("input.ending")
        self._ends_at = self.next_offset
        self._pass_on()

    def _pass_on(self) -> None:
        """Gives the process what it takes without waiting; the loop calls again when it takes more."""
        descriptors = self._descriptors
        if descriptors is None:
            return
        try:
            with suppress(BlockingIOError):
                while self._waiting_bytes and (passed := pass_on(descriptors.file, descriptors.sink, _PASS_BYTES)):
                    self.passed_bytes += passed
                    self._room.give_back(passed)
                    self._reach("input.passed")
        except OSError:  # EPIPE, EIO: nobody reads it any more
            self.discard()
            return
        if self.passed_bytes == self._ends_at and self.mode is InputMode.PIPE:
            self.discard()
            return
        self._watch_sink(watched=self._waiting_bytes > 0)
        self._free(descriptors, since=self._freed_to)

    def _watch_sink(self, *, watched: bool) -> None:
        assert self._descriptors
        if watched and not self._writes_later:
            asyncio.get_running_loop().add_writer(self._descriptors.sink, self._pass_on)
        elif self._writes_later and not watched:
            asyncio.get_running_loop().remove_writer(self._descriptors.sink)
        self._writes_later = watched

    def _free(self, descriptors: InputDescriptors, *, since: int) -> None:
        """Gives memory back. A pipe holds the file's own pages until they are read, so these must stay as they are.

        Where that fails nothing is lost but room: the process has what was passed on, and the writer is not to hear of
        it before there is none.
        """
        if not self._frees:
            return
        unread = 0 if self.mode is InputMode.TERMINAL else _unread_bytes(descriptors.sink)
        free_to = self._free_to(self.passed_bytes - unread)
        if free_to - since >= _FREE_BYTES:
            try:
                punch_hole(descriptors.file, since, free_to)
            except OSError as why:  # as under gVisor, or a seccomp filter
                log.warning("the memory of what was read cannot be given back", error=str(why))
                self._frees = False
                self._count_unfreed(descriptors)
            else:
                self._freed_to = max(self._freed_to, free_to)

    @staticmethod
    def _free_to(read_to: int) -> int:
        return max(0, read_to - COMPARABLE_BYTES) // _PAGE * _PAGE

    def _count_unfreed(self, descriptors: InputDescriptors) -> None:
        """Only what the file itself says counts what an earlier worker left there as well."""
        held = _held_bytes(descriptors.file)
        self._room.unfreed_bytes += held - self._unfreed_bytes
        self._unfreed_bytes = held


def _common_bytes(one: bytes, other: memoryview) -> int:
    """How many bytes at the beginning are the same; both are of one length. (As numbers: a hundred times as fast.)"""
    differing = int.from_bytes(one) ^ int.from_bytes(other)
    return len(one) - (differing.bit_length() + 7) // 8


def _unread_bytes(pipe: int) -> int:
    unread: int = _INT.unpack(fcntl.ioctl(pipe, termios.FIONREAD, _INT.pack(0)))[0]
    return unread


def _held_bytes(file: int) -> int:
    """How much memory a file takes, whichever worker wrote it."""
    return os.fstat(file).st_blocks * _BLOCK
