"""Asking the kernel who there is, whatever else the worker is busy with."""

import asyncio
from collections.abc import Callable

from guyline.agentd.process.threads import OwnThreads
from guyline.agentd.system import proc
from guyline.agentd.system.cgroup import Cgroup

_LOOKS = 5
"""How often a cgroup in which somebody is being born is looked at again."""


class Lookout(OwnThreads):
    """Looks in a thread of its own; ``close`` ends it.

    What ends processes waits for nobody else's work then. The thread is there from the beginning: somebody who has
    used up all there are, as a fork bomb does, could not be ended if it had to be made first.
    """

    def __init__(self, *, look: Callable[[], dict[int, proc.Stat]] = proc.all_processes) -> None:
        super().__init__("lookout", threads=1)
        self._look = look
        self._threads.submit(int)

    def everybody(self) -> "asyncio.Future[dict[int, proc.Stat]]":
        """Every process there is, by pid. Raises OSError if the kernel cannot be asked."""
        return self._ask(self._look)

    def living_in(self, cgroup: Cgroup) -> "asyncio.Future[dict[int, proc.Stat]]":
        """Who is in it both before and after being looked at: no number can have become a stranger's in between.

        Raises OSError if the kernel cannot be asked.
        """
        return self._ask(_living_in, cgroup)


def _living_in(cgroup: Cgroup) -> dict[int, proc.Stat]:
    stats: dict[int, proc.Stat] = {}
    now: set[int] = set()
    for _ in range(_LOOKS):
        stats = {pid: stat for pid in cgroup.members() if (stat := proc.stat_of(pid))}
        now = cgroup.members()
        if now <= stats.keys():
            break
    return {pid: stat for pid, stat in stats.items() if pid in now}
