"""Who is in which process group and session: read from the kernel once for all who ask at the same time."""

import asyncio
from collections.abc import Callable

from guyline.agentd.process.tasks import Tasks
from guyline.agentd.system import proc


class Census:
    """All processes as they were at one moment, by group and by session."""

    def __init__(self, everybody: dict[int, proc.Stat]) -> None:
        self._everybody = everybody
        self._groups: dict[int, list[int]] = {}
        self._sessions: dict[int, list[int]] = {}
        for pid, stat in everybody.items():
            self._groups.setdefault(stat.group, []).append(pid)
            self._sessions.setdefault(stat.session, []).append(pid)

    def stat_of(self, pid: int) -> proc.Stat | None:
        """What was said of this process; None: there was none."""
        return self._everybody.get(pid)

    def in_group(self, number: int) -> dict[int, proc.Stat]:
        """Its members, zombies too."""
        return {pid: self._everybody[pid] for pid in self._groups.get(number, ())}

    def in_session(self, number: int) -> dict[int, proc.Stat]:
        """Its members, zombies too."""
        return {pid: self._everybody[pid] for pid in self._sessions.get(number, ())}


class CensusTaker:
    """Takes one census after the other while somebody asks.

    Each takes some 20 µs for every process of the machine, so a thousand who ask share one.
    """

    def __init__(self, *, tasks: Tasks, look: Callable[[], dict[int, proc.Stat]] = proc.all_processes) -> None:
        self._tasks = tasks
        self._look = look
        self._next: asyncio.Future[Census] | None = None
        self._is_at_work = False

    async def take(self) -> Census:
        """Returns a census that was begun after this call. Cancelling is safe.

        Raises:
            OSError: The kernel cannot be asked.
        """
        if self._next is None:
            self._next = asyncio.get_running_loop().create_future()
        awaited = self._next
        if not self._is_at_work:
            self._is_at_work = True
            self._tasks.start(self._work(), name="census")
        return await asyncio.shield(awaited)

    async def _work(self) -> None:
        try:
            while self._next:
                awaited, self._next = self._next, None
                try:
                    awaited.set_result(Census(await asyncio.to_thread(self._look)))
                except OSError as why:
                    awaited.set_exception(why)
                finally:
                    awaited.cancel()  # for who asked when all this is over; one that is done stays as it is
        finally:
            self._is_at_work = False
