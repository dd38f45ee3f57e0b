"""How much of the machine processes use at a moment, with all that came of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from guyline.agentd.process.ending.census import Census, CensusTaker
from guyline.agentd.process.process import Process
from guyline.agentd.process.threads import in_thread
from guyline.agentd.system import proc
from guyline.agentd.system.cgroup import Cgroup


@dataclass(frozen=True)
class Usage:
    """What those who live use; nobody lives: nothing."""

    cpu: float  # seconds so far
    memory_bytes: int  # resident; what they share is counted once for each
    processes: int


class UsageReader:
    """Reads it from the kernel, at one look for all processes that are asked for."""

    def __init__(self, census: CensusTaker, *, cgroup_of: Callable[[str], Cgroup | None]) -> None:
        self._census = census
        self._cgroup_of = cgroup_of

    async def of(self, processes: Sequence[Process]) -> dict[str, Usage]:
        """Of each running one, by its id: its group, session and cgroup together. Cancelling is safe.

        Raises:
            OSError: The kernel cannot be asked.
            SystemExhausted: There is no thread to ask it in.
        """
        running = [process for process in processes if process.is_running]
        if not running:
            return {}
        census = await self._census.take()
        return await in_thread(self._add_up, running, census)

    def _add_up(self, running: list[Process], census: Census) -> dict[str, Usage]:
        return {process.process_id: _sum(self._members(process, census)) for process in running}

    def _members(self, process: Process, census: Census) -> list[proc.Stat]:
        found = census.led_by(process.pid, process.start_ticks, with_session=True) if process.pid else {}
        if cgroup := self._cgroup_of(process.process_id):
            for pid in cgroup.members() - found.keys():
                if stat := census.stat_of(pid) or proc.stat_of(pid):
                    found[pid] = stat
        return [stat for stat in found.values() if stat.is_alive]


def _sum(members: list[proc.Stat]) -> Usage:
    return Usage(
        cpu=sum(stat.cpu_ticks for stat in members) * proc.TICK,
        memory_bytes=sum(stat.resident_pages for stat in members) * proc.PAGE_BYTES,
        processes=len(members),
    )
