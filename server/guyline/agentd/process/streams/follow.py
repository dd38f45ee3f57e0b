"""Following a process: one reader's way through its output, at its own pace."""

import time
from collections.abc import AsyncGenerator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from enum import Enum

from guyline.agentd.journal.errors import OffsetOutOfRange
from guyline.agentd.journal.piece import PIECE_BYTES, Piece
from guyline.agentd.journal.runs import Run
from guyline.agentd.journal.times import Mark
from guyline.agentd.process.bell import Bell
from guyline.agentd.process.exit import Exit
from guyline.agentd.process.process import Process

FLUSH_AFTER = 0.005
"""Seconds that a small piece of output may wait for more, so that a chatty process costs few messages."""
TERMINAL_FLUSH_AFTER = 0.001
"""The same of a terminal, where somebody waits for the echo of each key."""
_WORTH_SENDING = 64 * 1024
"""Bytes that are sent without waiting for more."""


@dataclass(frozen=True)
class Batch:
    """What happened since the batch before. Without change, data, gap and exit: nothing did, and all is well."""

    position: int  # the offset behind everything told so far
    changed: bool  # the process has changed (the first batch always says so)
    offset: int
    data: bytes = b""
    runs: tuple[Run, ...] = ()
    times: tuple[Mark, ...] = ()  # only if asked for
    gap: tuple[int, int] | None = None  # lies before ``data``
    exit: Exit | None = None  # nothing comes after it; never beside a gap
    detached: bool = False  # the time of the call is over; nothing comes after it either


class Role(Enum):
    """What a follower is to a process that was started with PAUSE."""

    ONLOOKER = "onlooker"  # nothing
    PACES = "paces"  # the process waits for it
    DRAINS = "drains"  # the process waits for nobody meanwhile, unless another one paces it


class Follower:
    """One reader of one process. Iterate ``batches``; nothing here slows the process, unless it paces it.

    A batch is told only once there is something to tell, or after ``quiet`` seconds. With ``times`` it says when its
    data was printed. With ``detach_after`` it goes no further than to what was printed so many seconds after the
    process's start, or by now if that is over, if the process runs then. Without ``output`` it tells of the process
    alone.
    """

    def __init__(
        self,
        process: Process,
        position: int,
        *,
        quiet: float,
        snapshot: bool = False,
        role: Role = Role.ONLOOKER,
        output: bool = True,
        times: bool = False,
        detach_after: float | None = None,
    ) -> None:
        self._process = process
        self._position = position
        self._until = process.output.journal.size if snapshot else None
        self._quiet = quiet
        self._times = times
        self._detach_at = None if detach_after is None else process.origin.began_at + detach_after
        self._detach_position: int | None = None  # once that time is over
        self._with_output = output
        self._role = role
        self._pacing = process.output.pacing
        self._ends_at: int | None = None  # once it has ended: a descendant may go on printing for ever
        self._version = -1
        self._sent_at = 0.0
        self._flush_after = TERMINAL_FLUSH_AFTER if process.terminal else FLUSH_AFTER

    async def batches(self) -> AsyncGenerator[Batch, None]:
        """Raises OffsetOutOfRange if the position is beyond the output. Close it (``aclosing``) to let go."""
        size = self._process.output.journal.size
        if self._position > size:  # before the role: one that is refused takes the pacing from nobody
            raise OffsetOutOfRange(self._position, size)
        with self._process.output.bell() as bell, self._playing_role():
            await self._hold_the_first(bell)
            while (batch := await self._next(bell)) is not None:
                yield batch
                self._sent_at = time.monotonic()
                if self._pacing and self._role is Role.PACES:
                    self._pacing.advance(self, self._position)
                if batch.exit or batch.detached:
                    return

    def _playing_role(self) -> AbstractContextManager[None]:
        if self._pacing is None or self._role is Role.ONLOOKER:
            return nullcontext()
        return self._pacing.drained() if self._role is Role.DRAINS else self._pacing.held(self, self._position)

    async def _hold_the_first(self, bell: Bell) -> None:
        """Gives a short command the moment to end, so that all of it goes in one message."""
        ends = time.monotonic() + FLUSH_AFTER
        while self._until is None and not self._is_worth_sending() and (left := ends - time.monotonic()) > 0:
            await bell.wait(left)

    def _is_worth_sending(self) -> bool:
        waiting = self._process.output.journal.size - self._position
        return self._process.exit is not None or waiting >= _WORTH_SENDING

    async def _next(self, bell: Bell) -> Batch | None:
        """The next batch, or None at the end of a snapshot."""
        quiet_at = time.monotonic() + self._quiet
        while True:
            if self._must_detach():
                return Batch(self._position, changed=self._version < 0, offset=self._position, detached=True)
            await self._let_more_come(bell)
            batch = await self._ready()
            if batch or self._is_snapshot_over():
                return batch
            wake_at = quiet_at if self._detach_at is None else min(quiet_at, self._detach_at)
            left = wake_at - time.monotonic()
            if (left <= 0 or not await bell.wait(left)) and not self._must_detach():
                return Batch(self._position, changed=False, offset=self._position)

    def _must_detach(self) -> bool:
        """Once the time is over, and everything that had been printed by then is sent."""
        if self._detach_at is None or time.monotonic() < self._detach_at or not self._process.is_running:
            return False
        if self._detach_position is None:
            self._detach_position = self._process.output.journal.size
        return self._position >= self._detach_position

    async def _let_more_come(self, bell: Bell) -> None:
        """No more than one small message in a flush time; the first after a pause goes at once."""
        wait_until = self._sent_at + self._flush_after
        while not self._is_worth_sending() and (left := wait_until - time.monotonic()) > 0:
            await bell.wait(left)

    def _is_snapshot_over(self) -> bool:
        return self._until is not None and self._position >= self._until

    async def _ready(self) -> Batch | None:
        version, exit_ = self._process.version, self._process.exit  # before the output: an end implies all of it
        if exit_ and self._ends_at is None:
            self._ends_at = self._process.output.journal.size
        piece = await self._read()
        self._position = piece.offset + len(piece.data)
        changed = version != self._version
        is_all = self._ends_at is not None and self._position >= self._ends_at
        ended = exit_ if is_all and not piece.gap else None  # a message has one signal: the end has its own
        if not (piece.data or piece.gap or changed or ended):
            return None
        self._version = version
        if piece.gap:
            self._process.metrics.gap()
        times = self._times_of(piece)
        return Batch(self._position, changed, piece.offset, piece.data, piece.runs, times, piece.gap, ended)

    def _times_of(self, piece: Piece) -> tuple[Mark, ...]:
        if not (self._times and piece.data):
            return ()
        return self._process.output.journal.times_between(piece.offset, piece.offset + len(piece.data))

    async def _read(self) -> Piece:
        if not self._with_output:
            return Piece(self._process.output.journal.size, b"")
        limit = PIECE_BYTES if self._until is None else max(0, min(PIECE_BYTES, self._until - self._position))
        return await self._process.output.read(self._position, limit)
