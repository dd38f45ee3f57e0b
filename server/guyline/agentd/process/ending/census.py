"""Who is in which process group and session: read from the kernel once for all who ask at the same time."""

import asyncio

from guyline.agentd.process.ending.lookout import Lookout
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

    def led_by(self, number: int, start_ticks: int, *, with_session: bool) -> dict[int, proc.Stat]:
        """The members of the group, or the session too, that this very process leads or has led, zombies too.

        Nobody, if its number is another's by now.
        """
        leader = self.stat_of(number)
        if leader and leader.start_ticks != start_ticks:
            return {}
        return self.in_group(number) | (self.in_session(number) if with_session else {})


class CensusTaker:
    """Takes one census after the other while somebody asks.

    Each takes some 20 µs for every process of the machine, so a thousand who ask share one.
    """

    def __init__(self, *, tasks: Tasks, lookout: Lookout) -> None:
        self._tasks = tasks
        self._lookout = lookout
        self._looking: asyncio.Task[Census] | None = None
        self._waiting: asyncio.Task[Census] | None = None  # until the one before is done; who asks now gets this one

    async def take(self) -> Census:
        """Returns a census that was begun after this call. Cancelling is safe.

        Raises:
            OSError: The kernel cannot be asked.
        """
        if self._waiting is None:
            work = self._look_after(self._looking)
            self._waiting = self._tasks.start(work, name="census", expected=OSError)
        return await asyncio.shield(self._waiting)

    async def _look_after(self, before: asyncio.Task[Census] | None) -> Census:
        if before:
            await asyncio.wait({before})
        self._looking, self._waiting = self._waiting, None
        try:
            return Census(await self._lookout.everybody())
        finally:
            self._looking = None
