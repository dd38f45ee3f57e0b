"""Signals to a command and all that came of it, and knowing when they are gone."""

import asyncio
import contextlib
import errno
import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Protocol

from guyline.agentd.keeper.client import KeeperGone
from guyline.agentd.process.ending.census import CensusTaker
from guyline.agentd.process.ending.lookout import Lookout
from guyline.agentd.process.errors import KeeperLost, ProcessNotRunning, SignalNotPermitted
from guyline.agentd.process.faults import FaultPoint
from guyline.agentd.process.process import Ladder, Process
from guyline.agentd.process.tasks import Tasks
from guyline.agentd.system import proc
from guyline.agentd.system.cgroup import Cgroup

_NEXT_STEP: dict[int, int] = {signal.SIGINT: signal.SIGTERM, signal.SIGTERM: signal.SIGKILL}
_SHORTEST_PAUSE = 0.1
"""Seconds until a ladder goes on that the system had no room for; twice as long each time."""
_LONGEST_PAUSE = 2.0


class GroupSignaller(Protocol):
    """The keeper: the only one that can tell whether a group's number is still the command's."""

    async def signal(self, process_id: str, number: int, cause: str, *, to_all: bool) -> int: ...
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

    def __init__(
        self, *, keeper: GroupSignaller, lookout: Lookout, boot_id: str, tasks: Tasks, reach: FaultPoint
    ) -> None:
        self._keeper = keeper
        self._lookout = lookout
        self._boot_id = boot_id
        self._tasks = tasks
        self._reach = reach
        self._climbing: dict[str, asyncio.Task[None]] = {}
        self._ending: Counter[str] = Counter()  # how many are about to begin a ladder, by process
        self.census = CensusTaker(tasks=tasks, lookout=lookout)

    async def send(self, process: Process, number: int, *, to_all: bool, cause: str = "caller") -> None:
        """Signals the command's group; with ``to_all`` its whole session and cgroup.

        Raises:
            ProcessNotRunning: Nobody is left.
            SignalNotPermitted: Whoever is left is somebody whom the agent may not signal.
            KeeperLost: The keeper died while it was asked.
            OSError: The system has no room for it now; some may have been reached.
        """
        try:
            failure = await self._keeper.signal(process.process_id, number, cause, to_all=to_all)
        except KeeperGone as why:
            raise KeeperLost from why
        if failure not in {0, errno.ESRCH, errno.EPERM}:
            raise OSError(failure, os.strerror(failure))
        is_leader_gone = failure == errno.ESRCH
        reached = failure not in {errno.ESRCH, errno.EPERM}
        refused = [process.pid or 0] if failure == errno.EPERM else []  # of a group, nobody may be signalled then
        if is_leader_gone or to_all:
            for member in await self.members(process, to_all=to_all):
                if is_leader_gone or not member.in_group:
                    try:
                        reached |= _signal_exactly(member.who, number)
                    except PermissionError:
                        refused.append(member.who.pid)
        if to_all and number == signal.SIGKILL and self._kill_cgroup(process):
            reached, refused = reached or bool(refused), []  # that asks nobody for a permission
        if refused:
            process.log.warning("some may not be signalled", signal=number, to_all=to_all, cause=cause, pids=refused)
        if not reached:
            raise SignalNotPermitted(process.process_id, number) if refused else ProcessNotRunning(process.process_id)
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

        Raises as ``send``. If the system has no room for the signal now, the ladder begins with it. And it begins for
        those whom the agent may not signal, if they have a cgroup: that the kernel kills for anybody who owns it.
        """
        with self._about_to_end(process):
            await self._first_step(process, number, to_all=to_all, grace=grace, cause=cause)
        if wait is None:
            return []
        return await self.wait_until_gone(process, to_all=to_all, at_most=wait)

    def sentence(self, process: Process, *, grace: float, cause: str, **noted: object) -> None:
        """Ends all of it by a ladder from SIGTERM on, which is noted before its first signal, together with ``noted``.

        So whichever worker lives sends the signals. If all of it is about to be killed anyway, nothing is added.
        """
        if self.will_be_killed(process, within=grace):
            process.change_note(**noted)
            return
        present, now = process.note.ladder, _boot_time()
        if present:
            grace = min(grace, max(0.0, _kills_at(present) - now))
        process.change_note(ladder=Ladder(signal.SIGTERM, True, grace, now, cause), **noted)
        self.resume_ladder(process)

    def is_ending(self, process: Process) -> bool:
        """Whether somebody is about to begin a ladder: until then no note tells of it."""
        return process.process_id in self._ending

    @contextlib.contextmanager
    def _about_to_end(self, process: Process) -> Iterator[None]:
        self._ending[process.process_id] += 1
        try:
            yield
        finally:
            self._ending[process.process_id] -= 1
            if not self._ending[process.process_id]:
                del self._ending[process.process_id]

    async def _first_step(
        self, process: Process, number: int, *, to_all: bool, grace: float | None, cause: str
    ) -> None:
        above = None if grace is None or number == signal.SIGKILL else (_after(number), grace)
        try:
            await self.send(process, number, to_all=to_all, cause=cause)
        except OSError as why:
            if grace is None:
                raise
            process.log.warning("a signal cannot be sent to all now", signal=number, problem=str(why))
            above = number, 0.0
        except SignalNotPermitted:
            if above is None or not (to_all and self._keeper.cgroup_of(process.process_id)):
                raise
        if above is not None and grace is not None:
            step, pause = above
            self._begin(process, Ladder(step, to_all, grace, _boot_time() + pause, cause))

    async def members(self, process: Process, *, to_all: bool) -> list[Member]:
        """Who is alive of the command's group, or of its group, session and cgroup."""
        if process.origin.boot_id != self._boot_id:
            return []
        found = await self._by_number(process, to_all=to_all)
        if to_all and (cgroup := self._keeper.cgroup_of(process.process_id)):
            found |= await self._lookout.living_in(cgroup)
        return [
            Member(Survivor(pid, stat.name, stat.start_ticks), in_group=stat.group == process.pid)
            for pid, stat in found.items()
            if stat.is_alive
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

    def will_be_killed(self, process: Process, *, within: float) -> bool:
        """Whether a ladder is about to kill all of it: it needs no further asking."""
        ladder = process.note.ladder if self._is_climbing(process) else None
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

    def _begin(self, process: Process, ladder: Ladder) -> None:
        """Starts a ladder. It survives the worker.

        Of two ladders the one that comes to SIGKILL first is climbed, and reaches all whom either was to reach.
        """
        present = process.note.ladder
        if present:
            first = min(present, ladder, key=_kills_at)
            ladder = replace(first, to_all=present.to_all or ladder.to_all)
        if ladder != present:
            process.change_note(ladder=ladder)
        if ladder != present or not self._is_climbing(process):
            self.resume_ladder(process)

    def _is_climbing(self, process: Process) -> bool:
        """Not one that has just failed, and is still to be taken out."""
        task = self._climbing.get(process.process_id)
        return task is not None and not task.done()

    def _has_climbed(self, process_id: str, task: "asyncio.Task[None]") -> None:
        if self._climbing.get(process_id) is task:
            del self._climbing[process_id]

    async def _climb(self, process: Process) -> None:
        pause = _SHORTEST_PAUSE
        while ladder := process.note.ladder:
            try:
                await self._step(process, ladder)
                pause = _SHORTEST_PAUSE
            except OSError as why:  # descriptors or memory, most likely: what was promised holds once there are some
                process.log.warning("a ladder cannot go on now", signal=ladder.signal, problem=str(why))
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)

    async def _step(self, process: Process, ladder: Ladder) -> None:
        left = max(0.0, ladder.next_at - _boot_time())
        is_due = not left and ladder.signal != signal.SIGKILL  # nobody is looked for: the keeper knows whom it reaches
        if is_due or await self.wait_until_gone(process, to_all=ladder.to_all, at_most=left):
            with contextlib.suppress(ProcessNotRunning, SignalNotPermitted):
                await self.send(process, ladder.signal, to_all=ladder.to_all, cause=ladder.cause)
            self._reach("ladder.signalled")
            if ladder.signal != signal.SIGKILL:
                step, next_at = _after(ladder.signal), _boot_time() + ladder.grace
                process.change_note(ladder=replace(ladder, signal=step, next_at=next_at))
                return
        process.change_note(ladder=None)

    async def _by_number(self, process: Process, *, to_all: bool) -> dict[int, proc.Stat]:
        """Who is in the group of its number, or its session too; nobody, if the number is another's by now."""
        pid, exit_ = process.pid, process.exit
        if pid is None or (exit_ and not exit_.unknown and not exit_.left_in):
            return {}  # nobody was left: a group or session of that number is a stranger's
        census = await self.census.take()
        return census.led_by(pid, process.start_ticks, with_session=to_all)

    def _kill_cgroup(self, process: Process) -> bool:
        """Reaches also what forks faster than it can be listed. Returns whether it reached all that is in it."""
        cgroup = self._keeper.cgroup_of(process.process_id)
        if cgroup is None:
            return False
        try:
            return cgroup.kill()
        except OSError as why:
            process.log.warning("a cgroup cannot be killed as a whole", problem=str(why))
            return False


def _after(number: int) -> int:
    """The ladder's next step."""
    return _NEXT_STEP.get(number, signal.SIGTERM)


def _kills_at(ladder: Ladder) -> float:
    steps = 0
    number = ladder.signal
    while number != signal.SIGKILL:
        number = _after(number)
        steps += 1
    return ladder.next_at + steps * ladder.grace


def _signal_exactly(who: Survivor, number: int) -> bool:
    """Signals this very process, or nobody; returns whether it was there.

    Raises:
        OSError: There is no descriptor left for it; a PermissionError, if it is one whom the agent may not signal.
    """
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
