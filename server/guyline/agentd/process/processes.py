"""All processes of the agent: starting, finding, listing, and forgetting them."""

import asyncio
import itertools
import time
import uuid
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from guyline.agentd.journal.journals import Journals
from guyline.agentd.journal.runs import Stream
from guyline.agentd.keeper import table
from guyline.agentd.process.changes import Changes
from guyline.agentd.process.errors import (
    KeeperLost,
    ProcessNotFound,
    TooManyProcesses,
)
from guyline.agentd.process.faults import FaultPoint
from guyline.agentd.process.keys import Keys, Outcome, Use
from guyline.agentd.process.metrics import ProcessMetrics
from guyline.agentd.process.output import Output
from guyline.agentd.process.pacing import Pacing
from guyline.agentd.process.process import Note, Process
from guyline.agentd.process.retention import Retention, gone_output
from guyline.agentd.process.signals import Signals
from guyline.agentd.process.spec import Origin, StartSpec
from guyline.agentd.process.starting import LASTING_FAILURES, Starter, spawn_failure
from guyline.agentd.process.tasks import Tasks
from guyline.agentd.system.cgroup import Cgroup
from guyline.daemon.caller import Caller
from guyline.errors import GuylineError, ShuttingDown

_LOOK_AGAIN = 0.01  # seconds


class Keeper(Protocol):
    """What is asked of the keeper; see ``keeper.client.KeeperClient``."""

    entries: dict[str, table.Entry]
    store_id: str

    async def signal(self, process_id: str, number: int, cause: str) -> int: ...
    def cgroup_of(self, process_id: str) -> Cgroup | None: ...
    def note(self, process_id: str, note: str) -> None: ...
    def release(self, process_id: str) -> None: ...
    def forget(self, process_id: str) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """How much, how many, how long."""

    max_processes: int
    ended_retention: float  # seconds that an ended process and its output are kept
    pause_patience: float  # seconds that a paused process waits for its reader


@dataclass(frozen=True)
class Started:
    """A process, and whether it had been started before under the same key."""

    process: Process
    attached: bool


class Listed(NamedTuple):
    """A process as ``changes`` knows it: its chat decides who hears of it, also once it is gone."""

    process_id: str
    chat_id: str | None

    @classmethod
    def of(cls, process: Process) -> "Listed":
        return cls(process.process_id, process.origin.chat_id)


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
        bounds: Bounds,
        tasks: Tasks,
        metrics: ProcessMetrics,
        boot_id: str,
        reach: FaultPoint,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.changes: Changes[Listed] = Changes()
        self.bounds = bounds
        self._keeper = keeper
        self._journals = journals
        self._starter = starter
        self._keys = keys
        self._tasks = tasks
        self._metrics = metrics
        self._reach = reach
        self._clock = clock
        self._processes: dict[str, Process] = {}
        self._running: dict[str, Process] = {}
        self._starting = 0
        self._is_closing = False
        self._sequence = itertools.count(1)
        self.signals = Signals(keeper=keeper, boot_id=boot_id, tasks=tasks)
        self._retention = Retention(
            self, journals=journals, keys=keys, ended_retention=bounds.ended_retention, clock=clock
        )

    def __iter__(self) -> Iterator[Process]:
        return iter(self._processes.values())

    @property
    def running(self) -> Collection[Process]:
        return self._running.values()

    def restore(self) -> None:
        """Takes up what the keeper handed over: every process goes on where the last worker left it."""
        origins = {process_id: Origin.from_json(entry.info) for process_id, entry in self._keeper.entries.items()}
        self._sequence = itertools.count(1 + max((origin.sequence for origin in origins.values()), default=0))
        for process_id, entry in list(self._keeper.entries.items()):
            origin = origins[process_id]
            if entry.errno is not None:
                self._remember_failure(origin, entry.errno, entry.failed_part)
            else:
                self._take_up(entry, origin)
        for name in self._journals.names_on_disk() - self._processes.keys():
            self._journals.remove(name)

    def close(self) -> None:
        """Gives all descriptors back. The processes go on."""
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
        """Raises ProcessNotFound also for one that is another chat's."""
        process = self._processes.get(process_id)
        if process is None or not caller.sees(process.origin.chat_id):
            raise ProcessNotFound(process_id)
        return process

    def find(self, process_id: str) -> Process | None:
        return self._processes.get(process_id)

    def seen_by(self, caller: Caller) -> list[Process]:
        return [process for process in self if process.is_listed and caller.sees(process.origin.chat_id)]

    async def start(self, spec: StartSpec, caller: Caller) -> Started:
        """Starts a command, unless its key was used for the same start before. Cancelling stops nothing.

        Raises:
            GuylineError: It was not started; KeeperLost alone says that it may have been.
        """
        fingerprint = spec.fingerprint(self._keeper.store_id) if spec.key else ""
        if spec.key and (use := self._keys.find(caller.chat_id, spec.key, fingerprint, now=self._clock())):
            return Started(await _outcome(use), attached=True)
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
        self._starting += 1
        try:
            self._check_room()
            entry, origin = await self._starter.spawn(
                spec, process_id=process_id, sequence=next(self._sequence), chat_id=chat_id, fingerprint=fingerprint
            )
        except GuylineError as why:
            self._metrics.refused(why.reason)
            if spec.key and not isinstance(why, (*LASTING_FAILURES, KeeperLost)):
                self._keys.remove(chat_id, spec.key.value)  # nothing was tried: the same key may try again
            raise
        finally:
            self._starting -= 1
        process = self._take_up(entry, origin)
        self._metrics.started()
        self._reach("start.taken_up")
        process.log.info("process started", pid=process.pid, directory=process.origin.directory)
        return process

    def _check_room(self) -> None:
        if len(self._running) + self._starting > self.bounds.max_processes:  # this one counts as starting
            raise TooManyProcesses(self.bounds.max_processes)

    def _remember_failure(self, origin: Origin, number: int, part: str) -> None:
        self._remember_key(origin, spawn_failure(origin, number, part))

    def _remember_key(self, origin: Origin, outcome: Outcome) -> None:
        if origin.key:
            use = Use(origin.fingerprint, origin.process_id, origin.key_created_at, outcome)
            self._keys.put(origin.chat_id, origin.key, use)

    # Making a process of what the keeper has.

    def _take_up(self, entry: table.Entry, origin: Origin) -> Process:
        process_id = origin.process_id
        process = Process(
            origin,
            pid=entry.pid,
            start_ticks=entry.start_ticks,
            started_at=entry.started_at or origin.created_at,
            note=Note.from_json(entry.note),
            keep_note=lambda note: self._keeper.note(process_id, note),
            changed=self._on_change,
            metrics=self._metrics,
            reach=self._reach,
        )
        self._processes[process_id] = self._running[process_id] = process
        process.output = self._output_of(process, entry)
        self._remember_key(origin, process)
        if entry.exit and not process.output.is_open:
            process.was_over(entry.exit)
        process.output.resume()
        process.has_changed()
        if entry.exit and process.is_running:
            process.ended(entry.exit)
        self.signals.resume_ladder(process)
        return process

    def _output_of(self, process: Process, entry: table.Entry) -> Output:
        process_id, origin, gone = process.process_id, process.origin, process.note.output_gone
        if gone is not None:
            process.is_listed = False
            return gone_output(process_id, gone)
        journal = self._journals.open(
            process_id,
            bound=origin.kept_bytes,
            separate=origin.separate,
            started_at=process.started_at,
            note=process.note.journal,
            keep_note=process.keep_journal_note,
        )
        pipes = {Stream(name): descriptor for name, descriptor in entry.kept.items()}
        output = Output(
            pipes,
            journal,
            grown=self._retention.make_room,
            ended=lambda: self._on_output_end(process),
            reach=self._reach,
        )
        if origin.pause and not process.note.pace_lost and pipes:
            output.pacing = Pacing(
                bound=origin.kept_bytes,
                patience=self.bounds.pause_patience,
                position=journal.kept_from,  # what was sent by an earlier worker is not known: its reader will say
                resumed=output.resume,
                gave_up=lambda: process.change_note(pace_lost=True),
            )
        return output

    # What the keeper and the processes tell.

    def exited(self, process_id: str, exit_: table.Exit) -> None:
        if process := self._processes.get(process_id):
            process.ended(exit_)

    def _on_output_end(self, process: Process) -> None:
        self._keeper.release(process.process_id)
        process.output_ended()

    def _on_change(self, process: Process) -> None:
        if not process.is_running:
            self._running.pop(process.process_id, None)
        if process.is_listed:
            self.changes.put(Listed.of(process))

    # Time.

    def sweep(self) -> Iterator[None]:
        """Removes what was kept long enough: first the output, and once its key has expired all that is known.

        One process a step, since freeing a large journal takes milliseconds.
        """
        for process_id in self._keys.expire_failures(now=self._clock()):
            self._keeper.forget(process_id)
        for process in [each for each in self if self._retention.is_old(each)]:
            if process.is_listed:
                self._unlist(process)
            if self._retention.is_forgettable(process):
                self._forget(process)
            yield

    def _unlist(self, process: Process) -> None:
        process.is_listed = False
        if process.note.output_gone is None:
            self._retention.drop_output(process)
        self.changes.remove(Listed.of(process))

    def _forget(self, process: Process) -> None:
        del self._processes[process.process_id]
        if process.origin.key:
            self._keys.remove(process.origin.chat_id, process.origin.key)
        self._keeper.forget(process.process_id)


def _is_untold(process: Process) -> bool:
    return process.is_running or process.output.is_followed


async def _outcome(use: Use) -> Process:
    outcome = use.outcome
    if isinstance(outcome, asyncio.Future):
        return await asyncio.shield(outcome)
    if isinstance(outcome, Process):
        return outcome
    raise outcome
