"""Work that belongs to the daemon and not to a call: it goes on when the call ends, and ends with its owner."""

import asyncio
from collections.abc import Coroutine
from typing import Any, Self, TypeVar

from guyline.daemon.logging import get_logger

T = TypeVar("T")

log = get_logger("tasks")


class Tasks:
    """Owns tasks: leaving the ``async with`` block cancels and awaits them.

    A failure is the business of who awaits the task; a defect is logged in any case, since nobody may.
    """

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def start(
        self, work: Coroutine[Any, Any, T], *, name: str, expected: type[Exception] | None = None
    ) -> asyncio.Task[T]:
        """Starts work. Errors of the ``expected`` type are not logged."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(lambda done: self._done(done, expected))
        return task

    def _done(self, task: asyncio.Task[Any], expected: type[Exception] | None) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            return
        why = task.exception()
        if why and not (expected and isinstance(why, expected)):
            log.error("a task failed", task=task.get_name(), exc_info=why)
