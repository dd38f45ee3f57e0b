"""The domain of processes with a simulated keeper and simulated clocks: a day passes when a test says so."""

import asyncio
import errno
import os
import time
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

from guyline.agentd.journal.journals import Journals
from guyline.agentd.keeper import table
from guyline.agentd.process.clock import Clock
from guyline.agentd.process.ending.lookout import Lookout
from guyline.agentd.process.faults import no_fault
from guyline.agentd.process.metrics import ProcessMetrics
from guyline.agentd.process.process import Process
from guyline.agentd.process.processes import Bounds, Processes
from guyline.agentd.process.spec import Key, Origin, StartSpec, TimeLimits
from guyline.agentd.process.starting.keys import Keys
from guyline.agentd.process.starting.starter import Starter
from guyline.agentd.process.tasks import Tasks
from guyline.agentd.system.cgroup import Cgroup
from guyline.daemon.caller import ALL_RIGHTS, Caller
from guyline.daemon.metrics import NoMetrics
from tests.support.clock import DEADLINE

HOUR = 3600.0
DAY = 24 * HOUR
OWNER = Caller(name="owner", rights=ALL_RIGHTS, trusted=True, request_id="1")
BOOT = "boot"
MIB = 1024 * 1024


class Timer:
    """What was asked to be done at a time."""

    def __init__(self, when: float, callback: Callable[[], None]) -> None:
        self.when = when
        self.callback = callback
        self.is_over = False

    def cancel(self) -> None:
        self.is_over = True


class Time:
    """Two clocks that go only when they are told to, and what is done as they go."""

    def __init__(self) -> None:
        self.wall = 1_800_000_000.0
        self.steady = time.monotonic()  # the loop of the test has the same, but for the moments that a test takes
        self.clock = Clock(wall=lambda: self.wall, steady=lambda: self.steady)
        self._timers: list[Timer] = []

    def time(self) -> float:
        return self.steady

    def call_at(self, when: float, callback: Callable[[], None]) -> Timer:
        timer = Timer(when, callback)
        self._timers.append(timer)
        return timer

    def pass_by(self, seconds: float) -> None:
        until = self.steady + seconds
        while due := [timer for timer in self._timers if not timer.is_over and timer.when <= until]:
            first = min(due, key=lambda timer: timer.when)
            self._go_to(max(self.steady, first.when))
            first.is_over = True
            first.callback()
        self._timers = [timer for timer in self._timers if not timer.is_over]
        self._go_to(until)

    def sleep(self, seconds: float) -> None:
        """The machine is suspended: the day goes on, and nothing else."""
        self.wall += seconds

    def _go_to(self, moment: float) -> None:
        self.wall += moment - self.steady
        self.steady = moment

    def jump(self, seconds: float) -> None:
        """Somebody sets the wall clock."""
        self.wall += seconds


class SimulatedKeeper:
    """Remembers what it is told, and starts nothing; what is signalled ends."""

    def __init__(self, time: Time) -> None:
        self.entries: dict[str, table.Entry] = {}
        self.store_id = "store"
        self.processes: Processes
        self._time = time
        self._ends = 0

    async def signal(self, process_id: str, number: int, _cause: str, *, to_all: bool) -> int:
        del to_all
        if self.entries[process_id].exit:
            return errno.ESRCH
        self.end(process_id, signal_=number)
        return 0

    async def fence(self, process_id: str, info: str) -> None:
        self.entries[process_id] = table.Entry(process_id, info)
        self.entries[process_id].errno = errno.ECANCELED

    def cgroup_of(self, _process_id: str) -> Cgroup | None:
        return None

    def note(self, process_id: str, note: str) -> None:
        self.entries[process_id].note = note

    def let_go(self, process_id: str, names: Collection[str]) -> None:
        for name in names:
            del self.entries[process_id].kept[name]

    def release(self, process_id: str, *, still_used: Collection[str] = ()) -> None:
        del still_used
        self.entries[process_id].released = True
        self.entries[process_id].kept = {}

    def forget(self, process_id: str) -> None:
        self.entries.pop(process_id, None)

    def end(self, process_id: str, *, signal_: int | None = None) -> None:
        """Sees the end of a process."""
        self._ends += 1
        code = 0 if signal_ is None else None
        exit_ = table.Exit(ended_at=self._time.wall, code=code, signal=signal_, order=self._ends)
        self.entries[process_id].exit = exit_
        self.processes.exited(process_id, exit_)


class SimulatedStarter:
    """Says that a command was started that has printed some bytes and closed its output. Waits while it is held up.

    With ``leaves_open`` the output stays open, and whoever finds the writing end in ``left_open`` may print more.
    """

    def __init__(self, keeper: SimulatedKeeper, time: Time) -> None:
        self.may_start = asyncio.Event()
        self.may_start.set()
        self.leaves_open = False
        self.left_open: list[int] = []
        self._keeper = keeper
        self._time = time

    async def spawn(
        self, spec: StartSpec, *, process_id: str, sequence: int, chat_id: str | None, fingerprint: str
    ) -> tuple[table.Entry, Origin]:
        await self.may_start.wait()
        origin = Origin(
            process_id=process_id,
            sequence=sequence,
            command=spec.command,
            argv=spec.arguments,
            directory="/",
            chat_id=chat_id,
            background=False,
            separate=False,
            pause=False,
            kept_bytes=spec.kept_bytes,
            created_at=self._time.wall,
            boot_id=BOOT,
            key=spec.key.value if spec.key else None,
            key_created_at=spec.key.created_at if spec.key else 0.0,
            fingerprint=fingerprint,
            time_limits=spec.time_limits,
            began_at=self._time.steady,
        )
        entry = self._keeper.entries[process_id] = table.Entry(process_id, origin.to_json())
        entry.started_at = self._time.wall
        entry.kept["stdout"], printing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        os.write(printing, b"printed\n")
        if self.leaves_open:
            self.left_open.append(printing)
        else:
            os.close(printing)
        return entry, origin


class World:
    """All of it, and the words that the stories need."""

    def __init__(self, folder: Path, tasks: Tasks, lookout: Lookout) -> None:
        self.time = Time()
        self.keeper = SimulatedKeeper(self.time)
        self.starter = SimulatedStarter(self.keeper, self.time)
        self.most = 10_000
        self.most_at_once = 1000
        self.horizon = 0.0
        self._folder = folder
        self._tasks = tasks
        self._lookout = lookout
        self.open()

    def open(self) -> None:
        """A worker begins, with what the keeper has."""
        self.journals = Journals(self._folder, quota_bytes=1024 * MIB)
        self.keys = Keys(
            retention=DAY,
            most=self.most,
            horizon=self.horizon,
            keep_horizon=self.keep_horizon,
            clock=self.time.clock,
        )
        self.processes = self.keeper.processes = Processes(
            keeper=self.keeper,
            journals=self.journals,
            starter=cast("Starter", self.starter),
            keys=self.keys,
            lookout=self._lookout,
            bounds=Bounds(
                max_processes=self.most_at_once,
                max_ended=self.most,
                max_chat_processes=1000,
                max_followers=10,
                ended_retention=HOUR,
                pause_patience=60.0,
                input_bytes=MIB,
                input_quota_bytes=MIB,
            ),
            tasks=self._tasks,
            metrics=ProcessMetrics(NoMetrics()),
            boot_id=BOOT,
            reach=no_fault,
            clock=self.time.clock,
            timers=self.time,
        )
        self.processes.restore()

    def close(self) -> None:
        """The worker ends."""
        self.processes.close()
        self.journals.close()

    def remember_at_most(self, most: int) -> None:
        """The next worker keeps so many ended processes, and so many keys."""
        self.close()
        self.most = most
        self.open()

    def keep_horizon(self, horizon: float) -> None:
        """As on a disk."""
        self.horizon = horizon

    def key(self, *, ahead: float = 0.0) -> Key:
        """One that is made now, by a clock that is so many seconds ahead."""
        return Key(os.urandom(8).hex(), self.time.wall + ahead)

    async def start(self, *, key: Key | None = None, limits: TimeLimits | None = None) -> Process:
        spec = StartSpec(command="true", kept_bytes=MIB, key=key, time_limits=limits or TimeLimits())
        return (await self.processes.start(spec, OWNER)).process

    async def run(self, *, key: Key | None = None) -> Process:
        """Starts a command, which ends."""
        process = await self.start(key=key)
        self.keeper.end(process.process_id)
        await process.wait()
        if not self.starter.leaves_open:
            await self.output_closed(process)
        return process

    async def output_closed(self, process: Process) -> None:
        bell = self.processes.changes.subscribe()
        while process.output.is_open:
            assert await bell.wait(DEADLINE)
        self.processes.changes.unsubscribe(bell)

    def sweep(self) -> None:
        for _ in self.processes.sweep():
            pass

    def listed(self) -> set[str]:
        return {process.process_id for process in self.processes.seen_by(OWNER)}


@asynccontextmanager
async def simulated(folder: Path) -> AsyncIterator[World]:
    """A world for the length of the block."""
    with Lookout() as lookout:
        async with Tasks() as tasks:
            world = World(folder, tasks, lookout)
            try:
                yield world
            finally:
                world.close()
