"""Signals to a command and all that came of it, and knowing when they are gone."""

import asyncio
import contextlib
import errno
import os
import signal
import time
from dataclasses import dataclass, replace
from typing import Protocol

from guyline.agentd.keeper.client import KeeperGone
from guyline.agentd.process.ending.census import CensusTaker
from guyline.agentd.process.errors import KeeperLost, ProcessNotRunning
from guyline.agentd.process.process import Ladder, Process
from guyline.agentd.process.tasks import Tasks
from guyline.agentd.system import proc
from guyline.agentd.system.cgroup import Cgroup

_LOOKS = 5
"""How often a cgroup in which somebody is being born is looked at again."""
_NEXT_STEP = {signal.SIGINT: signal.SIGTERM, signal.SIGTERM: signal.SIGKILL}


class GroupSignaller(Protocol):
    """The keeper: the only one that can tell whether a group's number is still the command's."""

    async def signal(self, process_id: str, number: int, cause: str) -> int: ...
    def cgroup_of(self, process_id: str) -> Cgroup | None: ...


@dataclass(frozen=True)
class Survivor:
    """Somebody of a command's group, session or cgroup who is alive."""

    pid: int
    name: str
    start_ticks: int


@dataclass(frozen=True)
class Member:
    """One of a command's group, session or cgroup."""

    who: Survivor
    in_group: bool


class Signals:
    """Sends signals, climbs ladders, and waits for the end of whole groups."""

    def __init__(self, *, keeper: GroupSignaller, boot_id: str, tasks: Tasks) -> None:
        self._keeper = keeper
        self._boot_id = boot_id
        self._tasks = tasks
        self._climbing: dict[str, asyncio.Task[None]] = {}
        self.census = CensusTaker(tasks=tasks)

    async def send(self, process: Process, number: int, *, to_all: bool, cause: str = "caller") -> None:
        """Signals the command's group; with ``to_all`` its whole session and cgroup.

        Raises:
            ProcessNotRunning: Nobody is left.
            KeeperLost: The keeper died while it was asked.
        """
        try:
            failure = await self._keeper.signal(process.process_id, number, cause)
        except KeeperGone as why:
            raise KeeperLost from why
        is_leader_gone = failure == errno.ESRCH
        reached = not is_leader_gone
        if is_leader_gone or to_all:
            for member in await self.members(process, to_all=to_all):
                if is_leader_gone or not member.in_group:
                    reached |= _signal_exactly(member.who, number)
        if to_all and number == signal.SIGKILL:
            self._kill_cgroup(process)
        if not reached:
            raise ProcessNotRunning(process.process_id)
        process.log.info("signal sent", signal=number, to_all=to_all, cause=cause)

    async def end(
        self,
        process: Process,
        number: int,
        *,
        to_all: bool,
        grace: float | None,
        wait: float | None,
        cause: str = "caller",
    ) -> list[Survivor]:
        """Signals, begins the ladder if there is a ``grace``, and waits if told to; returns who is alive then.

        Raises as ``send``.
        """
        await self.send(process, number, to_all=to_all, cause=cause)
        if grace is not None:
            self.climb(process, after=number, to_all=to_all, grace=grace, cause=cause)
        if wait is None:
            return []
        return await self.wait_until_gone(process, to_all=to_all, at_most=wait)

    async def members(self, process: Process, *, to_all: bool) -> list[Member]:
        """Who is alive of the command's group, or of its group, session and cgroup."""
        if process.origin.boot_id != self._boot_id:
            return []
        found = await self._by_number(process, to_all=to_all)
        if to_all and (cgroup := self._keeper.cgroup_of(process.process_id)):
            found |= await asyncio.to_thread(_living_in, cgroup)
        return [
            Member(Survivor(pid, stat.name, stat.start_ticks), in_group=stat.group == process.pid)
            for pid, stat in found.items()
            if stat.state not in {"Z", "X"}
        ]

    async def wait_until_gone(self, process: Process, *, to_all: bool, at_most: float) -> list[Survivor]:
        """Returns once nobody is left, or after ``at_most`` seconds who is. Cancelling is safe."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(at_most):
                while members := await self.members(process, to_all=to_all):
                    await _until_gone(members[0].who)
                if process.origin.boot_id == self._boot_id:
                    await process.wait()  # what it printed last is then in the journal
        return [member.who for member in await self.members(process, to_all=to_all)]

    def climb(self, process: Process, *, after: int, to_all: bool, grace: float, cause: str) -> None:
        """Starts the ladder above the signal ``after``, a step each ``grace`` seconds. Survives the worker.

        Of two ladders the one that comes to SIGKILL first is climbed, and reaches all whom either was to reach.
        """
        if after == signal.SIGKILL:
            return
        step = _NEXT_STEP.get(signal.Signals(after), signal.SIGTERM)
        ladder = Ladder(step, to_all, grace, _boot_time() + grace, cause)
        present = process.note.ladder
        if present:
            first = min(present, ladder, key=_kills_at)
            ladder = replace(first, to_all=present.to_all or to_all)
        if ladder != present:
            process.change_note(ladder=ladder)
            self.resume_ladder(process)

    def will_be_killed(self, process: Process, *, within: float) -> bool:
        """Whether a ladder is about to kill all of it: it needs no further asking."""
        ladder = process.note.ladder
        return bool(
            ladder and ladder.to_all and ladder.signal == signal.SIGKILL and ladder.next_at <= _boot_time() + within
        )

    def resume_ladder(self, process: Process) -> None:
        """Goes on with the ladder that the process's note tells of, if there is one."""
        if climbing := self._climbing.pop(process.process_id, None):
            climbing.cancel()
        if process.note.ladder:
            climbing = self._tasks.start(self._climb(process), name=f"ladder of {process.process_id}")
            self._climbing[process.process_id] = climbing
            climbing.add_done_callback(lambda task: self._has_climbed(process.process_id, task))

    def _has_climbed(self, process_id: str, task: "asyncio.Task[None]") -> None:
        if self._climbing.get(process_id) is task:
            del self._climbing[process_id]

    async def _climb(self, process: Process) -> None:
        while ladder := process.note.ladder:
            left = max(0.0, ladder.next_at - _boot_time())
            if not await self.wait_until_gone(process, to_all=ladder.to_all, at_most=left):
                break
            with contextlib.suppress(ProcessNotRunning):
                await self.send(process, ladder.signal, to_all=ladder.to_all, cause=ladder.cause)
            if ladder.signal == signal.SIGKILL:
                break
            step = _NEXT_STEP[signal.Signals(ladder.signal)]
            process.change_note(ladder=replace(ladder, signal=step, next_at=_boot_time() + ladder.grace))
        process.change_note(ladder=None)

    async def _by_number(self, process: Process, *, to_all: bool) -> dict[int, proc.Stat]:
        """Who is in the group of its number, or its session too; nobody, if the number is another's by now."""
        pid, exit_ = process.pid, process.exit
        if pid is None or (exit_ and not exit_.unknown and not exit_.left_in):
            return {}  # nobody was left: a group or session of that number is a stranger's
        census = await self.census.take()
        return census.led_by(pid, process.start_ticks, with_session=to_all)

    def _kill_cgroup(self, process: Process) -> None:
        """Reaches also what forks faster than it can be listed."""
        if cgroup := self._keeper.cgroup_of(process.process_id):
            try:
                cgroup.kill()
            except OSError as why:
                process.log.warning("a cgroup cannot be killed as a whole", problem=str(why))


def _kills_at(ladder: Ladder) -> float:
    steps = 0
    number = signal.Signals(ladder.signal)
    while number in _NEXT_STEP:
        number = _NEXT_STEP[number]
        steps += 1
    return ladder.next_at + steps * ladder.grace


def _living_in(cgroup: Cgroup) -> dict[int, proc.Stat]:
    """Who is in it both before and after being looked at: no number can have become a stranger's in between."""
    stats: dict[int, proc.Stat] = {}
    now: set[int] = set()
    for _ in range(_LOOKS):
        stats = {pid: stat for pid in cgroup.members() if (stat := proc.stat_of(pid))}
        now = cgroup.members()
        if now <= stats.keys():
            break
    return {pid: stat for pid, stat in stats.items() if pid in now}


def _signal_exactly(who: Survivor, number: int) -> bool:
    """Signals this very process, or nobody; returns whether it was there."""
    try:
        watch = os.pidfd_open(who.pid)
    except ProcessLookupError:
        return False
    try:
        if not proc.is_alive(who.pid, who.start_ticks):
            return False
        signal.pidfd_send_signal(watch, number)
    except ProcessLookupError:
        return False
    else:
        return True
    finally:
        os.close(watch)


async def _until_gone(who: Survivor) -> None:
    try:
        watch = os.pidfd_open(who.pid)
    except ProcessLookupError:
        return
    loop = asyncio.get_running_loop()
    gone = asyncio.Event()
    loop.add_reader(watch, gone.set)
    try:
        if proc.is_alive(who.pid, who.start_ticks):
            await gone.wait()
    finally:
        loop.remove_reader(watch)
        os.close(watch)


def _boot_time() -> float:
    """Seconds since boot, those of a suspended machine included: means the same to every worker."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
