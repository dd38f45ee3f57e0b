"""All processes of the agent: starting, finding, listing, and forgetting them."""

import asyncio
import itertools
import uuid
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from guyline.agentd.journal.journals import Journals
from guyline.agentd.keeper import table
from guyline.agentd.process.assembly import Assembler
from guyline.agentd.process.clock import Clock
from guyline.agentd.process.ending.canceling import Canceling
from guyline.agentd.process.ending.limits import Limits, Timers
from guyline.agentd.process.ending.lookout import Lookout
from guyline.agentd.process.ending.retention import Retention
from guyline.agentd.process.ending.signals import Signals
from guyline.agentd.process.errors import KeeperLost, ProcessNotFound, ProcessRunning
from guyline.agentd.process.faults import FaultPoint
from guyline.agentd.process.listing.changes import Changes
from guyline.agentd.process.listing.ends import Ends
from guyline.agentd.process.listing.usage import UsageReader
from guyline.agentd.process.metrics import ProcessMetrics
from guyline.agentd.process.process import Process
from guyline.agentd.process.restoring import EntryKeeper, Restorer
from guyline.agentd.process.spec import Origin, StartSpec
from guyline.agentd.process.starting.keys import Keys, Use
from guyline.agentd.process.starting.room import Room, Seats
from guyline.agentd.process.starting.starter import LASTING_FAILURES, Starter
from guyline.agentd.process.streams.input_room import InputRoom
from guyline.agentd.process.streams.secrets import kept_secrets
from guyline.agentd.process.tasks import Tasks
from guyline.agentd.system.cgroup import Cgroup
from guyline.agentd.view.redaction import Secrets
from guyline.daemon.caller import Caller
from guyline.daemon.logging import get_logger
from guyline.errors import GuylineError, ShuttingDown

_LOOK_AGAIN = 0.01  # seconds

log = get_logger("processes")


class Keeper(EntryKeeper, Protocol):
    """What is asked of the keeper; see ``keeper.client.KeeperClient``."""

    store_id: str

    async def signal(self, process_id: str, number: int, cause: str, *, to_all: bool) -> int: ...
    async def fence(self, process_id: str, info: str) -> None: ...
    def cgroup_of(self, process_id: str) -> Cgroup | None: ...


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """How much, how many, how long."""

    max_processes: int
    max_ended: int  # that are listed
    max_chat_processes: int
    max_followers: int
    ended_retention: float  # seconds that an ended process and its output are kept
    pause_patience: float  # seconds that a paused process waits for its reader
    input_bytes: int  # that may wait for one process
    input_quota_bytes: int  # that may wait for all


@dataclass(frozen=True)
class Started:
    """A process, and whether it had been started before under the same key."""

    process: Process
    attached: bool


@dataclass(frozen=True, slots=True)
class Listed:
    """A process as ``changes`` knows it: its chat and labels decide who hears of it, also once it is gone."""

    process_id: str
    chat_id: str | None
    labels: Mapping[str, str] = field(default_factory=dict, compare=False)

    @classmethod
    def of(cls, process: Process) -> "Listed":
        return cls(process.process_id, process.origin.chat_id, process.origin.labels)


class Processes:
    """Holds every ``Process`` by id, and tells ``changes`` what is new.

    A process of another chat is to a caller as if it did not exist.
    """

    def __init__(
        self,
        *,
        keeper: Keeper,
        journals: Journals,
        starter: Starter,
        keys: Keys,
        lookout: Lookout,
        bounds: Bounds,
        tasks: Tasks,
        metrics: ProcessMetrics,
        boot_id: str,
        reach: FaultPoint,
        clock: Clock = Clock(),  # noqa: B008 - immutable
        timers: Timers | None = None,  # of limits; None: the loop's
    ) -> None:
        self.changes: Changes[Listed] = Changes()
        self.ends = Ends()
        self.bounds = bounds
        self.seats = Seats(most=bounds.max_followers)
        self._keeper = keeper
        self._journals = journals
        self._starter = starter
        self._keys = keys
        self._tasks = tasks
        self._metrics = metrics
        self._reach = reach
        self._processes: dict[str, Process] = {}
        self._running: dict[str, Process] = {}
        self._room = Room(most=bounds.max_processes, most_of_a_chat=bounds.max_chat_processes)
        self._is_closing = False
        self._sequence = itertools.count(1)
        self.signals = Signals(keeper=keeper, lookout=lookout, boot_id=boot_id, tasks=tasks, reach=reach)
        self._limits = Limits(signals=self.signals, wall_clock=clock.wall, timers=timers, reach=reach)
        self.usage = UsageReader(self.signals.census, cgroup_of=keeper.cgroup_of)
        self.canceling = Canceling(
            keeper=keeper, keys=keys, signals=self.signals, boot_id=boot_id, tasks=tasks, clock=clock
        )
        self._retention = Retention(
            self,
            journals=journals,
            keys=keys,
            ended_retention=bounds.ended_retention,
            max_ended=bounds.max_ended,
            clock=clock,
        )
        self._assembler = self._new_assembler()
        self._restorer = self._new_restorer(clock)

    def _new_assembler(self) -> Assembler:
        return Assembler(
            keeper=self._keeper,
            journals=self._journals,
            input_room=InputRoom(self.bounds.input_quota_bytes),
            input_bytes=self.bounds.input_bytes,
            pause_patience=self.bounds.pause_patience,
            metrics=self._metrics,
            reach=self._reach,
            changed=self._on_change,
            grown=self._retention.make_room,
        )

    def _new_restorer(self, clock: Clock) -> Restorer:
        return Restorer(
            keeper=self._keeper,
            journals=self._journals,
            keys=self._keys,
            room=self._room,
            ended_retention=self.bounds.ended_retention,
            clock=clock,
            take_up=self._take_up,
            find=self.find,
        )

    def __iter__(self) -> Iterator[Process]:
        return iter(self._processes.values())

    @property
    def running(self) -> Collection[Process]:
        return self._running.values()

    def restore(self) -> None:
        """Takes up what the keeper handed over: every process goes on where the last worker left it."""
        self._sequence = itertools.count(1 + self._restorer.restore())

    def close(self) -> None:
        """Gives all descriptors back. The processes go on."""
        self._limits.close()
        self._restorer.close()
        for process in self:
            process.close()

    def refuse_starts(self) -> None:
        """From now on nothing is started: the agent ends."""
        self._is_closing = True

    async def ends_are_told(self, *, at_most: float) -> None:
        """Waits until every process has ended and its followers know, or ``at_most`` seconds."""
        loop = asyncio.get_running_loop()
        latest = loop.time() + at_most
        # No single event says this, and it is asked once in an agent's life.
        while any(map(_is_untold, self)) and loop.time() < latest:  # noqa: ASYNC110 - see above
            await asyncio.sleep(_LOOK_AGAIN)

    def get(self, process_id: str, caller: Caller) -> Process:
        """Raises ProcessNotFound also for one that is another chat's, or that only its key keeps known."""
        process = self._processes.get(process_id)
        if process is None or not process.is_listed or not caller.sees(process.origin.chat_id):
            raise ProcessNotFound(process_id)
        return process

    def find(self, process_id: str) -> Process | None:
        return self._processes.get(process_id)

    async def secrets_of(self, process: Process) -> Secrets:
        """What must not be shown of its output. Raises SecretsLost."""
        return await kept_secrets(self._journals, process)

    def seen_by(self, caller: Caller) -> list[Process]:
        return [process for process in self if process.is_listed and caller.sees(process.origin.chat_id)]

    async def start(self, spec: StartSpec, caller: Caller) -> Started:
        """Starts a command, unless its key was used for the same start before. Cancelling stops nothing.

        Raises:
            GuylineError: It was not started; KeeperLost alone says that it may have been.
        """
        fingerprint = spec.fingerprint(self._keeper.store_id) if spec.key else ""
        if spec.key and (use := self._keys.find(caller.chat_id, spec.key, fingerprint)):
            return Started(await use.process(), attached=True)
        if self._is_closing:
            raise ShuttingDown
        process_id = str(uuid.uuid4())
        work = self._start(process_id, spec, caller.chat_id, fingerprint)
        task = self._tasks.start(work, name=f"start of {process_id}", expected=GuylineError)
        if spec.key:
            self._keys.put(caller.chat_id, spec.key.value, Use(fingerprint, process_id, spec.key.created_at, task))
        return Started(await asyncio.shield(task), attached=False)

    # Starting.

    async def _start(self, process_id: str, spec: StartSpec, chat_id: str | None, fingerprint: str) -> Process:
        try:
            with self._room.taken(process_id, chat_id):
                entry, origin = await self._starter.spawn(
                    spec, process_id=process_id, sequence=next(self._sequence), chat_id=chat_id, fingerprint=fingerprint
                )
        except BaseException as why:
            self._has_failed(process_id, spec, chat_id, why)
            raise
        process = self._take_up(entry, origin)
        self._metrics.started()
        self._reach("start.taken_up")
        process.log.info("process started", pid=process.pid, directory=process.origin.directory)
        return process

    def _has_failed(self, process_id: str, spec: StartSpec, chat_id: str | None, why: BaseException) -> None:
        """Forgets what only a process would need. Its key may be used again if nothing was tried."""
        if isinstance(why, GuylineError):
            self._metrics.refused(why.reason)
            may_have_run = isinstance(why, KeeperLost)
        else:
            may_have_run = process_id in self._keeper.entries  # a defect, behind or before the keeper was asked
        if spec.redact and not may_have_run:
            self._journals.remove(process_id)  # there are only its secrets
        if spec.key and not may_have_run and not isinstance(why, LASTING_FAILURES):
            self._keys.remove(chat_id, spec.key.value)

    # Making a process of what the keeper has.

    def _take_up(self, entry: table.Entry, origin: Origin) -> Process:
        process = self._assembler.assemble(entry, origin)
        self._processes[process.process_id] = self._running[process.process_id] = process
        self._keys.remember(origin, process)
        if entry.exit:
            self.ends.seen(entry.exit.order)
        if entry.exit and (process.note.end_told or not process.output.is_open):
            process.was_over(entry.exit)
        process.resume()
        process.has_changed()
        if entry.exit and process.is_running:
            process.ended(entry.exit)
        self.signals.resume_ladder(process)
        self._limits.watch(process)
        return process

    # What the keeper and the processes tell.

    def exited(self, process_id: str, exit_: table.Exit) -> None:
        if self._restorer.has_left_out(process_id):
            self.ends.settled(exit_.order)  # nobody will be told
            return
        process = self._processes.get(process_id)
        if process is None or process.is_running:
            self.ends.seen(exit_.order)
        if process:
            process.ended(exit_)

    def _on_change(self, process: Process) -> None:
        if process.is_listed:
            self.changes.put(Listed.of(process))
        if process.exit and self._running.pop(process.process_id, None):
            process.ended_at_change = self.changes.position
            self.ends.settled(process.exit.order)
            self._limits.forget(process)
        if process.is_over and process.over_since is None:
            self._room.give_back(process.process_id)
            process.over_since = self._retention.when_over(process)

    # Time.

    def sweep(self) -> Iterator[None]:
        """Removes what was kept long enough: first the output, and once its key has expired all that is known.

        One process a step, since freeing a large journal takes milliseconds.
        """
        try:
            self._keys.crowd_out()
        except OSError as why:  # a full disk: what goes now may make room for the next time
            log.warning("keys beyond their number stay known", problem=str(why))
        self._restorer.forget_left_out()
        for process_id in self._keys.expire_failures():
            if not self._restorer.has_left_out(process_id):
                self._keeper.forget(process_id)
        for process in self._retention.leaving():
            if self.find(process.process_id) is process:  # nobody has removed it since
                self._let_go(process)
            yield

    def remove(self, process: Process) -> None:
        """Forgets an ended process and its output; its key stays known.

        Raises:
            ProcessRunning: It runs, or what it left behind holds its output open.
        """
        if not process.is_over:
            raise ProcessRunning(process.process_id, has_ended=not process.is_running)
        self._let_go(process)

    def _let_go(self, process: Process) -> None:
        if process.is_listed:
            self._unlist(process)
        if process.note.output_gone is None:  # also if an earlier worker came no further
            self._retention.drop_output(process)
        # What is being ended must be known until that is noted, and then to the next worker.
        is_being_ended = process.note.ladder or self.signals.is_ending(process)
        if not (is_being_ended or self._keys.are_to_know(process.origin)):
            self._forget(process)

    def _unlist(self, process: Process) -> None:
        process.is_listed = False
        process.change_note(removed=True)
        self.changes.remove(Listed.of(process))

    def _forget(self, process: Process) -> None:
        del self._processes[process.process_id]
        if process.origin.key:
            self._keys.remove(process.origin.chat_id, process.origin.key)
        self._keeper.forget(process.process_id)


def _is_untold(process: Process) -> bool:
    return process.is_running or process.output.is_followed
