"""Watching the processes: one reader's way through what changes."""

import struct
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import NamedTuple

from guyline.agentd.process.bell import Bell
from guyline.agentd.process.listing.query import WHATEVER_LABELS, WantedLabels
from guyline.agentd.process.process import Process
from guyline.agentd.process.processes import Listed, Processes
from guyline.daemon.caller import Caller
from guyline.errors import InvalidInput, Violation

_LAYOUT = struct.Struct(">B16sQQ")
_VERSION = 2  # 1 is that of ``guyline.rpc.cursor``


class WatchCursor(NamedTuple):
    """Where a reader goes on. Opaque to clients as ``to_bytes``."""

    incarnation: bytes  # 16 bytes: the worker whose changes ``position`` counts
    position: int
    ends: int  # the reader was told of every end up to this one, whichever worker counts the changes

    def to_bytes(self) -> bytes:
        return _LAYOUT.pack(_VERSION, *self)

    @classmethod
    def from_bytes(cls, data: bytes) -> "WatchCursor":
        """Raises:
        InvalidInput: This is no cursor.
        """
        if len(data) != _LAYOUT.size or data[0] != _VERSION:
            raise InvalidInput(
                Violation("cursor", "is none of ours; pass `control.cursor` on as it came, or leave it out")
            )
        return cls(*_LAYOUT.unpack(data)[1:])


@dataclass(frozen=True)
class WatchBatch:
    """What changed. Empty, without ``synced``: nothing did, all is well."""

    cursor: WatchCursor
    put: tuple[Process, ...] = ()  # the oldest change first
    ended: frozenset[str] = frozenset()  # which of them have ended since the reader was told last
    removed: tuple[str, ...] = ()
    reset: bool = False  # what the reader knows is void; this batch has everything
    synced: bool = False  # the reader now has everything

    @property
    def is_empty(self) -> bool:
        return not (self.put or self.removed or self.reset)


@dataclass(frozen=True, kw_only=True)
class Interest:
    """Which processes a reader wants to hear of."""

    caller: Caller
    labels: WantedLabels = WHATEVER_LABELS

    def covers(self, listed: Listed) -> bool:
        return self.caller.sees(listed.chat_id) and self.labels.are_among(listed.labels)


class Watcher:
    """One reader's view. Iterate ``batches``; a slow reader gets each process once, as it then is.

    Args:
        processes: What is watched.
        interest: Which of them.
        cursor: Where the reader left off. None: it knows nothing.
        incarnation: 16 bytes that name this worker.
        quiet: Seconds after the batch before at which an empty one is told.
    """

    def __init__(
        self,
        processes: Processes,
        interest: Interest,
        cursor: WatchCursor | None,
        *,
        incarnation: bytes,
        quiet: float,
    ) -> None:
        self._processes = processes
        self._interest = interest
        self._cursor = cursor
        self._incarnation = incarnation
        self._quiet = quiet

    async def batches(self) -> AsyncGenerator[WatchBatch, None]:
        """First everything since the cursor, ``synced``; then changes as they come. Close it to let go."""
        changes = self._processes.changes
        bell = changes.subscribe()
        try:
            yield self._take(first=True)
            while True:
                yield await self._next(bell)
        finally:
            changes.unsubscribe(bell)

    async def _next(self, bell: Bell) -> WatchBatch:
        quiet_at = time.monotonic() + self._quiet
        while True:
            left = quiet_at - time.monotonic()
            rang = left > 0 and await bell.wait(left)
            batch = self._take(first=False)
            if not (rang and batch.is_empty):  # others' changes are none of the caller's business
                return batch

    def _take(self, *, first: bool) -> WatchBatch:
        before = self._cursor
        is_void = before is not None and before.incarnation != self._incarnation
        since = self._processes.changes.since(0 if before is None or is_void else before.position)
        reset = since.reset or is_void
        changed = filter(self._interest.covers, since.changed)
        put = tuple(process for listed in changed if (process := self._processes.find(listed.process_id)))
        self._cursor = WatchCursor(self._incarnation, since.position, self._processes.ends.settled_up_to)
        return WatchBatch(
            self._cursor,
            put,
            ended=frozenset(process.process_id for process in put if self._is_news(process, before)),
            removed=tuple(listed.process_id for listed in since.removed if self._interest.covers(listed)),
            reset=reset,
            synced=first or reset,
        )

    def _is_news(self, process: Process, before: WatchCursor | None) -> bool:
        """Whether it has ended, and a reader with this cursor was not told so."""
        if before is None or process.exit is None:
            return False
        if before.incarnation == self._incarnation:
            return process.ended_at_change > before.position
        return process.exit.order > before.ends
