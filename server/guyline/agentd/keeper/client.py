"""The worker's end of the socket to the keeper, on an asyncio loop."""

import asyncio
import contextlib
import functools
import itertools
import os
import select
import socket
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol, Self, TypeVar

from guyline.agentd.keeper import messages as m
from guyline.agentd.keeper.config import Config, become_keeper
from guyline.agentd.keeper.setup import SetupFailed
from guyline.agentd.keeper.table import Entry, Exit, from_memory_file, to_memory_file
from guyline.agentd.keeper.watchdog import Watchdog
from guyline.agentd.keeper.worker import LOCKS_FROM, SETTINGS
from guyline.agentd.system.cgroup import Cgroup
from guyline.daemon.logging import get_logger

_RELEASE_AFTER = 0.01
"""Seconds: nobody waits for it, and many go in one message."""
_TRY_AGAIN_AFTER = 0.1
_MOST_TRIES = 100
"""How often, and every how many seconds, it is tried to take a lost keeper's place before the worker gives up."""

Number = TypeVar("Number")
"""What an answer names its question by."""
Answer = TypeVar("Answer")

log = get_logger("keeper-client")


class KeeperGone(Exception):
    """The keeper died before it answered: what was asked may or may not have happened."""


class OtherFormat(Exception):
    """The keeper speaks another format: it runs on with older code than what was installed, or with newer one."""

    def __init__(self, found: int | None) -> None:
        super().__init__("the keeper speaks another format of messages")
        self.found = found  # None: not even that can be read


@dataclass(frozen=True)
class Spawned:
    """A command that the keeper started."""

    pid: int
    start_ticks: int
    started_at: float  # seconds since the epoch


class KeeperEvents(Protocol):
    """What the keeper tells unasked. Called on the loop, in the order in which things happened."""

    def exited(self, process_id: str, exit_: Exit) -> None: ...

    def shut_down(self, grace: float) -> None:
        """The agent ends: its commands have been told to, and have ``grace`` seconds for it."""

    def stop(self) -> None:
        """All commands are gone; the worker is to end."""

    def keeper_lost(self) -> None:
        """The keeper has died. This process takes its place next."""

    def keeper_not_replaced(self) -> None:
        """The keeper has died, and this process cannot take its place: it is of no more use."""


class KeeperClient:
    """Asks the keeper, and mirrors its table, so that this process could take its place.

    Made by ``connect``. Descriptors in ``entries`` are the worker's own duplicates: who uses them closes them, after
    ``release``.
    """

    def __init__(
        self, connection: m.Connection, welcome: m.Welcome, entries: dict[str, Entry], reach: Callable[[str], None]
    ) -> None:
        config = Config.from_json(welcome.config)
        self.entries = entries
        self.instance_id = config.instance_id
        self.started_at = config.started_at  # of the keeper's life, seconds since the epoch
        self.store_id = welcome.store_id
        self.worker_starts = welcome.worker_starts
        self.why_no_cgroups = welcome.why_no_cgroups  # empty: each command has one
        self.why_no_limits = welcome.why_no_limits  # by the limit's field in ``setup.Setup``; empty: it can be set
        self._cgroups = welcome.cgroups
        self.keeper_pid = os.getppid()
        self._connection = connection
        self._reach = reach
        locks = list(range(LOCKS_FROM, LOCKS_FROM + len(config.locks)))
        self._config = config._replace(settings=SETTINGS, locks=locks)
        self._events: KeeperEvents | None = None
        self._numbers = itertools.count(1)
        self._starts: dict[str, asyncio.Future[Spawned | OSError]] = {}
        self._signals: dict[int, asyncio.Future[int]] = {}
        self._released: list[str] = []
        self._watchdog = Watchdog(self.keeper_pid)
        self._is_lost = False  # the keeper has died

    @classmethod
    def connect(cls, sock: socket.socket, *, reach: Callable[[str], None]) -> Self:
        """Waits for the hand-over, which the keeper sends at once. ``reach`` is called at the fault points.

        Raises:
            OtherFormat: The keeper is of another version, which this one does not understand.
            KeeperGone: It died meanwhile.
        """
        sock.set_inheritable(False)  # the keeper that this process may become has no use for it, nor its commands
        connection = m.Connection(sock)
        welcome, table = _welcome(connection)
        entries = {entry.process_id: entry for entry in from_memory_file(table)}
        os.close(table)
        for entry in entries.values():
            entry.kept = {}  # the numbers are the keeper's
        while True:
            message, descriptors = _next(connection)
            match message:
                case m.Descriptors(process_id, names):
                    entries[process_id].kept = dict(zip(names, descriptors, strict=True))
                case m.HandedOver():
                    return cls(connection, welcome, entries, reach)
                case _:
                    raise m.MalformedMessage(f"{type(message).__name__} during the hand-over")

    def listen(self, events: KeeperEvents) -> None:
        """From now on the keeper's messages are handled on the running loop."""
        self._events = events
        asyncio.get_running_loop().add_reader(self._connection.fileno(), self._on_readable)

    def close(self) -> None:
        """Hears no more. What was sent is still done."""
        if not self._is_lost:
            self._send_releases()
            self._disconnect()
        self._fail_waiters()

    def ready(self) -> None:
        self._send(m.Ready())

    async def start(self, request: m.Start, descriptors: Sequence[int]) -> Spawned:
        """Has a command spawned. An id that the keeper knows is answered with what it has, and starts nothing.

        The descriptors stay the caller's to close. Cancelling leaves the command alone.

        Raises:
            SetupFailed: A part of its set-up was not possible, or not allowed.
            OSError: It could not be spawned.
            KeeperGone: It may or may not have been spawned.
        """
        self._demand_keeper()
        answer = self._ask(request, descriptors, answers=self._starts, number=request.process_id)
        if request.process_id not in self.entries:
            entry = self.entries[request.process_id] = Entry(request.process_id, request.info)
            kept = descriptors[1 + len(request.child) :]
            entry.kept = dict(zip(request.kept, kept, strict=True))
        self._reach("start.sent")
        self._watchdog.waits()
        result = await asyncio.shield(answer)
        if isinstance(result, OSError):
            raise result
        return result

    async def fence(self, process_id: str, info: str) -> None:
        """Has it recorded that a start was canceled before it came. Once this returns it survives the whole agent.

        Raises:
            KeeperGone: It may or may not have been recorded.
        """
        self._demand_keeper()
        answer = self._ask(m.Fence(process_id, info), answers=self._starts, number=process_id)
        self.entries[process_id] = Entry(process_id, info)
        await asyncio.shield(answer)

    async def signal(self, process_id: str, number: int, cause: str, *, to_all: bool) -> int:
        """Signals the command's process group; returns zero or the errno (ESRCH: the command itself has ended).

        Where that is not permitted SIGKILL ``to_all`` reaches it by its cgroup.

        Raises:
            KeeperGone: It may or may not have been sent.
        """
        self._demand_keeper()
        request = m.Signal(next(self._numbers), process_id, number, cause, to_all)
        return await self._ask(request, answers=self._signals, number=request.number)

    def cgroup_of(self, process_id: str) -> Cgroup | None:
        """The cgroup that the command has, or had, for itself; None: there are none here."""
        return Cgroup(f"{self._cgroups}/{process_id}") if self._cgroups else None

    def note(self, process_id: str, note: str) -> None:
        """Replaces the note on a process. Once this returns, the next worker gets it, whatever happens to this one."""
        self.entries[process_id].note = note
        self._send(m.Note(process_id, note))

    def let_go(self, process_id: str, names: Collection[str]) -> None:
        """These descriptors are not needed any more, although the process goes on."""
        if entry := self.entries.get(process_id):
            entry.kept = {name: descriptor for name, descriptor in entry.kept.items() if name not in names}
            self._send(m.LetGo(process_id, list(names)))

    def release(self, process_id: str, *, still_used: Collection[str] = ()) -> None:
        """The end of the output is recorded: the keeper may let its descriptors go once the process has ended.

        Those of an input it keeps until ``let_go``.
        """
        entry = self.entries[process_id]
        entry.kept = {name: descriptor for name, descriptor in entry.kept.items() if name in still_used}
        entry.released = True
        if not self._released:
            asyncio.get_running_loop().call_later(_RELEASE_AFTER, self._send_releases)
        self._released.append(process_id)
        self._reach("output.released")

    def forget(self, process_id: str) -> None:
        self.entries.pop(process_id, None)
        self._send(m.Forget(process_id))

    def upgrade(self, interpreter: str) -> None:
        """Asks the keeper to become what this interpreter has installed; this worker then gets SIGTERM."""
        self._send(m.Upgrade(interpreter))

    def take_over(self) -> NoReturn:
        """Becomes the keeper, in place; a new worker is its first child.

        The commands of the lost keeper go on; their exit statuses went with it.

        Raises:
            OSError: There is no descriptor for it; nothing has changed.
        """
        kept = [descriptor for entry in self.entries.values() for descriptor in entry.kept.values()]
        table = to_memory_file(self.entries.values())
        try:
            config = self._config._replace(table=table, instance_id=os.urandom(16).hex(), started_at=time.time())
            become_keeper(config, kept=kept)
        finally:
            os.close(table)

    def _send_releases(self) -> None:
        if self._released:
            self._send(m.Release(self._released))
            self._released = []

    def _demand_keeper(self) -> None:
        if self._is_lost:
            raise KeeperGone("the keeper is gone, and this worker takes its place")

    def _ask(
        self,
        request: m.Message,
        descriptors: Sequence[int] = (),
        *,
        answers: dict[Number, asyncio.Future[Answer]],
        number: Number,
    ) -> asyncio.Future[Answer]:
        """Sends what is answered. What could not be sent, for which it raises OSError, is not waited for."""
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._send(request, descriptors)
        answers[number] = answer
        return answer

    def _send(self, message: m.Message, descriptors: Sequence[int] = ()) -> None:
        if self._is_lost:
            return  # what it says is in the entries, which the next keeper gets
        try:
            self._connection.send(message, descriptors)
        except ConnectionError:
            return  # the end of the connection tells, once all that came before it is read
        if self._connection.has_queued:
            asyncio.get_running_loop().add_writer(self._connection.fileno(), self._on_writable)

    def _on_writable(self) -> None:
        with contextlib.suppress(ConnectionError):
            self._connection.flush()
        if not self._connection.has_queued:
            asyncio.get_running_loop().remove_writer(self._connection.fileno())

    def _on_readable(self) -> None:
        # One message: the loop calls again if there are more, and asking whether there are costs those who wait.
        with contextlib.suppress(BlockingIOError):
            if (received := self._connection.receive()) is None:
                self._lost()
            else:
                self._handle(received[0])

    def _lost(self) -> None:
        """Those who wait go on waiting: their calls end with this program, and till then what they hold stays open."""
        assert self._events
        self._is_lost = True
        self._disconnect()
        self._watchdog.rests()
        self._events.keeper_lost()
        self._take_over(tries_left=_MOST_TRIES)

    def _take_over(self, *, tries_left: int) -> None:
        assert self._events
        try:
            self.take_over()
        except OSError as why:
            if tries_left == _MOST_TRIES:
                log.warning("the keeper's place cannot be taken now", error=str(why))
            if not tries_left:
                log.error("the keeper's place cannot be taken", error=str(why))  # noqa: TRY400 - the text says it all
                self._events.keeper_not_replaced()
                return
        again = functools.partial(self._take_over, tries_left=tries_left - 1)
        asyncio.get_running_loop().call_later(_TRY_AGAIN_AFTER, again)

    def _disconnect(self) -> None:
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._connection.fileno())
        loop.remove_writer(self._connection.fileno())
        self._connection.close()

    def _fail_waiters(self) -> None:
        waiters: list[asyncio.Future[Any]] = [*self._starts.values(), *self._signals.values()]
        for waiter in waiters:
            if not waiter.done():
                waiter.set_exception(KeeperGone("the keeper is gone"))
                waiter.exception()  # nobody may be waiting any more
        self._starts.clear()
        self._watchdog.rests()
        self._signals.clear()

    def _handle(self, message: m.Message) -> None:
        assert self._events
        self._watchdog.heard()
        match message:
            case m.Started(process_id, pid, ticks, started_at):
                entry = self.entries[process_id]
                entry.pid, entry.start_ticks, entry.started_at = pid, ticks, started_at
                self._answer_start(process_id, Spawned(pid, ticks, started_at))
            case m.Failed(process_id, number, part):
                entry = self.entries[process_id]
                entry.errno, entry.failed_part, entry.kept = number, part, {}
                why = SetupFailed(number, part) if part else OSError(number, os.strerror(number))
                self._answer_start(process_id, why)
            case m.Exited(process_id, fields):
                exit_ = Exit.from_json(fields)
                if entry_ := self.entries.get(process_id):
                    entry_.exit = exit_
                    self._events.exited(process_id, exit_)
            case m.Signalled(number, failure):
                if (answer := self._signals.pop(number, None)) and not answer.done():
                    answer.set_result(failure)
            case m.ShutDown(grace):
                self._events.shut_down(grace)
            case m.Stop():
                self._events.stop()
            case _:
                log.error("unexpected message of the keeper", kind=type(message).__name__)

    def _answer_start(self, process_id: str, result: Spawned | OSError) -> None:
        if (answer := self._starts.pop(process_id, None)) and not answer.done():
            answer.set_result(result)
        if not self._starts:
            self._watchdog.rests()


def _welcome(connection: m.Connection) -> tuple[m.Welcome, int]:
    """The first message of the hand-over, and the table."""
    try:
        message, descriptors = _next(connection)
    except m.MalformedMessage as why:
        raise OtherFormat(None) from why
    if not isinstance(message, m.Welcome) or message.format != m.FORMAT:
        m.close_all(descriptors)
        raise OtherFormat(getattr(message, "format", None))
    (table,) = descriptors
    return message, table


def _next(connection: m.Connection) -> tuple[m.Message, list[int]]:
    select.select([connection], [], [])
    received = connection.receive()
    if received is None:
        raise KeeperGone("the keeper died during the hand-over")
    return received
