"""Ending a process, or seeing to it that its start never comes."""

import asyncio
import signal
import uuid
from typing import Protocol

from guyline.agentd.keeper.client import KeeperGone
from guyline.agentd.process.clock import Clock
from guyline.agentd.process.ending.signals import Signals
from guyline.agentd.process.errors import KeeperLost, ProcessNotRunning, StartCanceled
from guyline.agentd.process.process import Process
from guyline.agentd.process.spec import Key, Origin
from guyline.agentd.process.starting.keys import Keys, Use
from guyline.agentd.process.tasks import Tasks
from guyline.errors import GuylineError


class Fencing(Protocol):
    """What a cancel asks of the keeper; see ``keeper.client.KeeperClient``."""

    async def fence(self, process_id: str, info: str) -> None: ...
    def forget(self, process_id: str) -> None: ...


class Canceling:
    """Ends what runs, and fences what has not come.

    Args:
        keeper: Remembers fences.
        keys: Says what a key was used for.
        signals: Ends processes.
        boot_id: Goes into what is remembered.
        tasks: A cancel goes on when its caller has gone.
        clock: When it was.
    """

    def __init__(
        self, *, keeper: Fencing, keys: Keys, signals: Signals, boot_id: str, tasks: Tasks, clock: Clock
    ) -> None:
        self._keeper = keeper
        self._keys = keys
        self._signals = signals
        self._boot_id = boot_id
        self._tasks = tasks
        self._clock = clock

    async def end(self, process: Process, *, grace: float) -> None:
        """Ends a process with all that came of it. Fine if it has ended.

        Raises:
            KeeperLost: The keeper died while it was asked.
        """
        if self._signals.will_be_killed(process, within=grace):
            return  # as an earlier cancel wants it: many programs take a second SIGTERM for impatience
        try:
            await self._signals.end(process, signal.SIGTERM, to_all=True, grace=grace, wait=None)
        except ProcessNotRunning:
            process.log.debug("nobody is left to be canceled")

    async def end_start(self, key: Key, chat_id: str | None, *, grace: float) -> Process | None:
        """Ends what was started under a key, and waits for a start that is under way. None: nothing will ever run.

        Cancelling stops nothing.

        Raises:
            KeyExpired: Of a key of this age nobody can say whether it was used.
            KeeperLost: The keeper died while it was asked.
        """
        work = self._end_start(key, chat_id, grace)
        return await asyncio.shield(self._tasks.start(work, name="cancel of a start", expected=GuylineError))

    async def _end_start(self, key: Key, chat_id: str | None, grace: float) -> Process | None:
        use = self._keys.find(chat_id, key, None) or self._begin_fence(key, chat_id)
        while True:
            try:
                process = await use.process()
            except StartCanceled:
                return None
            except KeeperLost:
                raise
            except GuylineError:
                use = self._in_place_of(use, key, chat_id)
            else:
                await self.end(process, grace=grace)
                return process

    def _in_place_of(self, failed: Use, key: Key, chat_id: str | None) -> Use:
        """What counts after a start that has failed: another one that came meanwhile, or a fence.

        Not every failure is recorded, and some may be repeated with the same key.
        """
        use = self._keys.get(chat_id, key.value)
        if use is not None and use is not failed:
            return use
        self._keeper.forget(failed.process_id)
        return self._begin_fence(key, chat_id)

    def _begin_fence(self, key: Key, chat_id: str | None) -> Use:
        """From now on the key is used: who starts something under it waits until the fence is recorded, and fails."""
        origin = Origin.of_fence(
            key, process_id=str(uuid.uuid4()), chat_id=chat_id, created_at=self._clock.wall(), boot_id=self._boot_id
        )
        task = self._tasks.start(self._fail(origin, key), name="fence", expected=GuylineError)
        use = Use("", origin.process_id, key.created_at, task)
        self._keys.put(chat_id, key.value, use)
        return use

    async def _fail(self, origin: Origin, key: Key) -> Process:
        """Fails as the start would, once it is recorded that it is canceled."""
        try:
            await self._keeper.fence(origin.process_id, origin.to_json())
        except KeeperGone as why:
            raise KeeperLost from why
        raise StartCanceled(key.value)
