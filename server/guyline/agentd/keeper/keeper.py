"""The keeper's loop: one thread that waits for signals, for the worker's messages, and for the next thing due."""

import contextlib
import errno
import os
import selectors
import signal
import time
import traceback
from collections.abc import Callable

from guyline.agentd.keeper import messages as m
from guyline.agentd.keeper.cgroups import Cgroups
from guyline.agentd.keeper.commands import KEEPER_LOST, Commands
from guyline.agentd.keeper.config import Config, become_keeper
from guyline.agentd.keeper.log import KeeperLog
from guyline.agentd.keeper.notify import ServiceManager
from guyline.agentd.keeper.records import RecordLog
from guyline.agentd.keeper.shutdown import Shutdown
from guyline.agentd.keeper.spawn import Spawner
from guyline.agentd.keeper.table import Entry, to_memory_file
from guyline.agentd.keeper.worker import CANNOT_SERVE, Worker
from guyline.agentd.system import proc

_HOUSEKEEPING = 10.0
"""Seconds between looks at whether the log wants to be rewritten, and whether cgroups are empty."""
_MAKES_WAY_WITHIN = 15.0
"""Seconds that an old worker has for its callers before it is killed for the new one's sake."""
_TRY_AGAIN = 0.5
"""Seconds after a failure of its own until the keeper looks for what was left undone."""
_BREATHER = 0.01
"""Seconds after a failure: what fails again and again must not take a whole CPU."""
_ENDING = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT}
_PASSED_ON = {signal.SIGUSR1}
"""To the worker, which then writes down what it is doing."""


class Keeper:
    """Owns the commands and the worker; ``run`` returns when all is over."""

    def __init__(
        self,
        config: Config,
        *,
        store_id: str,
        entries: list[Entry],
        records: RecordLog,
        spawner: Spawner,
        cgroups: Cgroups,
        log: KeeperLog,
    ) -> None:
        self._config = config
        self._store_id = store_id
        self._records = records
        self._log = log
        self._manager = ServiceManager()
        self._worker = Worker(config, spawner, cgroups)
        self._commands = Commands(
            entries, log=records, spawner=spawner, cgroups=cgroups, report=log, tell=self._worker.tell
        )
        self._shutdown: Shutdown | None = None
        self._selector = selectors.DefaultSelector()
        self._watched: int | None = None  # the worker's socket in the selector
        self._signals = _catch_signals()
        self._selector.register(self._signals, selectors.EVENT_READ, self._on_signals)
        self._next_housekeeping = time.monotonic() + _HOUSEKEEPING
        self._exit_code: int | None = None
        self._kill_worker_at: float | None = None
        self._has_served = False  # whether a worker ever did: if none can, this agent is set up wrong
        self._try_again_at: float | None = None  # set when something has failed: nobody tells of its cause again
        self._unwatched: list[Entry] = []  # of a lost keeper, and not to be watched yet for want of a descriptor
        for entry in self._commands.running:
            self._watch_if_no_child(entry)

    def run(self) -> int:
        """Returns the exit code for the whole agent."""
        if self._config.is_upgrade:
            self._worker.signal(signal.SIGTERM)  # the old code makes way; its successor gets everything
            self._kill_worker_at = time.monotonic() + _MAKES_WAY_WITHIN
        while self._exit_code is None:
            self._do(self._start_worker_if_due)
            self._do(self._watch_worker)
            for key, _ in self._selector.select(self._until_due()):
                self._do(key.data)
            self._do(self._do_what_is_due)
        self._commands.cgroups.close()
        return self._exit_code

    def _do(self, step: Callable[[], None]) -> None:
        """Does one thing. Whatever fails about it, this process must go on: its end would be that of all commands."""
        try:
            step()
        except Exception as why:  # noqa: BLE001 - as above; what is missing (a descriptor, memory) mostly comes back
            self._failed(step, why)
            time.sleep(_BREATHER)

    def _failed(self, step: Callable[..., object], why: Exception) -> None:
        where = traceback.extract_tb(why.__traceback__)[-1]
        name = getattr(step, "__qualname__", repr(step))
        self._log.error("a step failed", step=name, error=repr(why), at=f"{where.filename}:{where.lineno}")
        self._try_again_at = time.monotonic() + _TRY_AGAIN

    # What is due.

    def _until_due(self) -> float:
        due = [self._next_housekeeping]
        if self._try_again_at is not None:
            due.append(self._try_again_at)
        if self._kill_worker_at is not None:
            due.append(self._kill_worker_at)
        if self._shutdown:
            due.append(self._shutdown.due_at)
        elif self._worker.start_at is not None:
            due.append(self._worker.start_at)
        return max(0.0, min(due) - time.monotonic())

    def _do_what_is_due(self) -> None:
        if self._shutdown:
            self._exit_code = self._shutdown.advance()
        if self._kill_worker_at is not None and time.monotonic() >= self._kill_worker_at:
            self._kill_worker_at = None
            self._worker.signal(signal.SIGKILL)
        if self._try_again_at is not None and time.monotonic() >= self._try_again_at:
            self._try_again()
        if time.monotonic() >= self._next_housekeeping:
            self._next_housekeeping = time.monotonic() + _HOUSEKEEPING
            self._commands.cgroups.tidy()
            if self._records.wants_rewrite:
                self._records.rewrite(self._commands.entries.values())

    def _try_again(self) -> None:
        """Does what may have been left undone by a failure."""
        self._try_again_at = None
        self._reap()
        unwatched, self._unwatched = self._unwatched, []
        for entry in unwatched:
            self._watch_if_no_child(entry)

    def _start_worker_if_due(self) -> None:
        start_at = self._worker.start_at
        if self._shutdown or start_at is None or time.monotonic() < start_at:
            return
        try:
            self._worker.start(self._commands.entries.values(), store_id=self._store_id)
        except OSError as why:
            pause = self._worker.not_started() if self._worker.pid is None else None  # else its death comes next
            self._log.error("worker cannot be started", error=str(why), next_in_seconds=pause)
        else:
            self._log.info("worker started", worker_pid=self._worker.pid, starts=self._worker.starts)

    # The worker's messages.

    def _watch_worker(self) -> None:
        connection = self._worker.connection
        if connection is None or self._watched is not None:
            wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if connection and connection.has_queued else 0)
            if connection and self._watched is not None and self._selector.get_key(self._watched).events != wanted:
                self._selector.modify(self._watched, wanted, self._on_worker)
            return
        self._selector.register(connection.fileno(), selectors.EVENT_READ, self._on_worker)
        self._watched = connection.fileno()

    def _on_worker(self) -> None:
        connection = self._worker.connection
        if connection is None:
            return
        with contextlib.suppress(ConnectionError):  # what it sent before it died is still to be read
            connection.flush()
        with contextlib.suppress(BlockingIOError):
            if not self._receive_one(connection):
                self._disconnect()

    def _receive_one(self, connection: m.Connection) -> bool:
        """Handles the next message; false at the end of the connection.

        Raises:
            BlockingIOError: There is none.
        """
        try:
            received = connection.receive()
        except m.MalformedMessage as why:
            self._log.warning("message of the worker ignored", error=str(why))
            return True
        except m.DescriptorsLost as why:
            self._log.error("no descriptors left", error=str(why))
            if why.is_start:
                self._worker.tell(m.Failed(why.process_id, errno.EMFILE, ""))
            return True
        if received is None:
            return False
        try:
            self._handle(*received)
        except Exception as why:  # noqa: BLE001 - see _do; and whoever waits for an answer is to get one
            self._failed(self._handle, why)
            self._commands.answer_failed(received[0], getattr(why, "errno", None) or errno.EIO)
        return True

    def _drain_worker(self) -> None:
        """Does all that a dead worker had asked for: what it sent is done, what it did not send never happened."""
        connection = self._worker.connection
        if connection:
            try:
                with contextlib.suppress(BlockingIOError):
                    while self._receive_one(connection):
                        pass
            finally:
                self._disconnect()

    def _disconnect(self) -> None:
        if self._watched is not None:
            self._selector.unregister(self._watched)
            self._watched = None
        self._worker.forget_connection()

    def _handle(self, message: m.Message, descriptors: list[int]) -> None:
        if not isinstance(message, m.Start):
            m.close_all(descriptors)  # none belong to it
        match message:
            case m.Start():
                self._start(message, descriptors)
            case m.Upgrade(interpreter):
                self._upgrade(interpreter)
            case m.Ready():
                self._on_worker_ready()
            case _ if not self._commands.handle(message):
                self._log.warning("message of the worker ignored", error=f"unexpected {type(message).__name__}")

    def _on_worker_ready(self) -> None:
        if not self._has_served:
            self._manager.ready()
        self._has_served = True
        self._log.info("worker serves", worker_pid=self._worker.pid)

    def _start(self, request: m.Start, descriptors: list[int]) -> None:
        if len(descriptors) != 1 + len(request.child) + len(request.kept):
            self._log.warning("message of the worker ignored", error="a start with the wrong number of descriptors")
            m.close_all(descriptors)
        elif self._shutdown:
            m.close_all(descriptors)  # the worker refuses starts itself by now; this one crossed the news
        else:
            self._commands.start(request, descriptors)

    # Signals.

    def _caught(self) -> set[int]:
        """The signals that came since the last look."""
        with contextlib.suppress(BlockingIOError):
            return set(os.read(self._signals, 65536))  # a pipe's size: all that can be in it
        return set()

    def _on_signals(self) -> None:
        numbers = self._caught()
        if signal.SIGCHLD in numbers:
            self._do(self._reap)
        for number in sorted(numbers & _PASSED_ON):
            self._worker.signal(number)
        for number in sorted(numbers & _ENDING):
            self._end(signal.Signals(number))

    def _reap(self) -> None:
        for pid, status in self._commands.reap():
            if pid == self._worker.pid:
                self._on_worker_death(status)

    def _on_worker_death(self, status: int) -> None:
        self._kill_worker_at = None
        pid = self._worker.pid
        is_first_keeper = self._config.table is None
        cannot_serve = os.WIFEXITED(status) and os.WEXITSTATUS(status) == CANNOT_SERVE
        if cannot_serve and is_first_keeper and not self._has_served:
            self._exit_code = 1  # it has said why; nothing was started
        self._do(self._drain_worker)
        pause = self._worker.died()
        if not self._shutdown:
            self._log.warning("worker died", worker_pid=pid, next_in_seconds=pause)

    def _end(self, number: signal.Signals) -> None:
        if self._shutdown:
            self._log.warning("killing everything", signal=number.name)
            self._shutdown.hurry()
            return
        self._manager.stopping()
        self._log.info("shutting down", signal=number.name, running=len(self._commands.running))
        self._shutdown = Shutdown(self._commands, self._worker, grace=self._config.shutdown_grace, log=self._log)

    # Taking over and being replaced.

    def _watch_if_no_child(self, entry: Entry) -> None:
        """Of a command that a lost keeper started, the end can be seen, but not its status."""
        assert entry.pid
        if entry.is_child:
            return
        watch = None
        try:
            watch = _watch_of(entry.pid, entry.start_ticks)
            if watch is not None:
                self._selector.register(watch, selectors.EVENT_READ, self._when_gone(watch, entry))
        except OSError as why:
            self._unwatched.append(entry)
            m.close_all([] if watch is None else [watch])
            self._failed(_watch_of, why)
            return
        if watch is None:
            self._commands.end_unseen(entry, KEEPER_LOST)

    def _when_gone(self, watch: int, entry: Entry) -> Callable[[], None]:
        def gone() -> None:
            self._selector.unregister(watch)
            os.close(watch)
            self._commands.end_unseen(entry, KEEPER_LOST)

        return gone

    def _upgrade(self, interpreter: str) -> None:
        if self._shutdown or not self._worker.connection or not self._worker.pid:
            return
        self._log.info("upgrading the keeper", interpreter=interpreter)
        entries = self._commands.entries.values()
        kept = [descriptor for entry in entries for descriptor in entry.kept.values()]
        handed_on: list[int] = []
        try:
            handed_on.append(to_memory_file(entries))
            handed_on.append(os.dup(self._worker.connection.fileno()))
            config = self._config._replace(
                table=handed_on[0],
                worker_socket=handed_on[1],
                worker_pid=self._worker.pid,
                worker=[interpreter, *self._config.worker[1:]],
            )
            become_keeper(config, interpreter=interpreter, kept=kept, unhandled=self._caught)
        except OSError as why:
            self._log.warning("upgrade failed, going on", error=str(why))
            m.close_all(handed_on)


def _watch_of(pid: int, start_ticks: int) -> int | None:
    """A descriptor that is readable once this very process has ended; None: it has.

    Raises:
        OSError: There is no room for one.
    """
    try:
        watch = os.pidfd_open(pid)
    except ProcessLookupError:
        return None
    is_alive = False
    try:
        is_alive = proc.is_alive(pid, start_ticks)
    finally:
        if not is_alive:
            os.close(watch)
    return watch if is_alive else None


def _catch_signals() -> int:
    """Makes every signal of interest a byte in a pipe; returns its reading end."""
    ours, theirs = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(theirs, warn_on_full_buffer=False)
    for number in {signal.SIGCHLD, *_ENDING, *_PASSED_ON}:
        signal.signal(number, lambda *_: None)
    signal.signal(signal.SIGUSR2, lambda *_: None)  # not SIG_IGN, which commands would inherit
    signal.pthread_sigmask(signal.SIG_SETMASK, ())  # who came before this program had blocked them
    os.kill(os.getpid(), signal.SIGCHLD)  # somebody may have ended before this
    return ours
