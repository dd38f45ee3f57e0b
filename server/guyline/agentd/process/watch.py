"""Watching the processes: one reader's way through what changes."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass

from guyline.agentd.process.process import Process
from guyline.agentd.process.processes import Processes
from guyline.daemon.caller import Caller


@dataclass(frozen=True)
class WatchBatch:
    """What changed. Empty, without ``synced``: nothing did, all is well."""

    position: int
    put: tuple[Process, ...] = ()
    removed: tuple[str, ...] = ()
    reset: bool = False  # what the reader knows is void; this batch has everything
    synced: bool = False  # the reader now has everything

    @property
    def is_empty(self) -> bool:
        return not (self.put or self.removed or self.reset)


class Watcher:
    """One caller's view. Iterate ``batches``; a slow reader gets each process once, as it then is.

    Args:
        position: Where the reader left off; None if that means nothing to this worker.
        quiet: Seconds after which an empty batch is told.
    """

    def __init__(self, processes: Processes, caller: Caller, position: int | None, *, quiet: float) -> None:
        self._processes = processes
        self._caller = caller
        self._is_void = position is None
        self._position = position or 0
        self._quiet = quiet

    async def batches(self) -> AsyncGenerator[WatchBatch, None]:
        """First everything since the position, ``synced``; then changes as they come. Close it to let go."""
        changes = self._processes.changes
        bell = changes.subscribe()
        try:
            yield self._take(first=True)
            while True:
                rang = await bell.wait(self._quiet)
                batch = self._take(first=False)
                if not (rang and batch.is_empty):  # others' changes are none of the caller's business
                    yield batch
        finally:
            changes.unsubscribe(bell)

    def _take(self, *, first: bool) -> WatchBatch:
        since = self._processes.changes.since(self._position)
        self._position = since.position
        seen = [listed for listed in since.changed if self._caller.sees(listed.chat_id)]
        put = [process for listed in seen if (process := self._processes.find(listed.process_id))]
        removed = tuple(listed.process_id for listed in since.removed if self._caller.sees(listed.chat_id))
        reset = since.reset or (first and self._is_void)
        return WatchBatch(since.position, tuple(put), removed, reset, synced=first or reset)
