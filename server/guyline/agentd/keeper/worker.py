"""The worker as the keeper sees it: a child that may die at any moment and is started again."""

import contextlib
import os
import signal
import socket
import time
from collections.abc import Iterable

from guyline.agentd.keeper import messages as m
from guyline.agentd.keeper.cgroups import Cgroups
from guyline.agentd.keeper.config import Config
from guyline.agentd.keeper.spawn import Spawner
from guyline.agentd.keeper.table import Entry, to_memory_file

SOCKET = 3
"""The descriptor under which a worker finds its socket to the keeper."""
SETTINGS = 4
"""The descriptor under which a worker finds its settings."""
LOCKS_FROM = 5
"""The first of the descriptors under which a worker finds the agent's locks."""

CANNOT_SERVE = 78
"""A worker's exit code (EX_CONFIG of sysexits.h): the settings cannot be served, and trying again changes nothing."""
GRPC_ENVIRONMENT = {"GRPC_ENABLE_FORK_SUPPORT": "0", "GRPC_VERBOSITY": "NONE"}
"""gRPC reads these when it is imported: no fork handlers, and no lines of its own in the log."""

_LONG_LIFE = 10.0
"""Seconds of life after which a death is no sign of a worker that cannot live."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 2.0


class Worker:
    """The current worker, if there is one, and when to start the next."""

    def __init__(self, config: Config, spawner: Spawner, cgroups: Cgroups) -> None:
        self.pid: int | None = None
        self.connection: m.Connection | None = None
        self.starts = 0
        self.start_at: float | None = time.monotonic()
        """When to start the next one; None while one lives."""
        self._config = config
        self._spawner = spawner
        self._cgroups = cgroups
        self._born = 0.0
        self._pause = 0.0
        if config.is_upgrade:
            assert config.worker_socket is not None
            os.set_inheritable(config.worker_socket, False)  # only the change of code was to inherit it
            self.pid, self.start_at = config.worker_pid, None
            self.connection = m.Connection(socket.socket(fileno=config.worker_socket))

    def start(self, entries: Iterable[Entry], *, store_id: str) -> None:
        """Spawns a worker and hands it everything.

        Raises:
            OSError: It could not be spawned or, if there is a ``pid``, not be handed everything: that one dies.
        """
        handed_over = list(entries)
        table = to_memory_file(handed_over)
        try:
            self._begin()
            self._hand_over(handed_over, table, store_id)
        except ConnectionError:
            pass  # it died already; reaping it will tell
        except OSError:
            self.signal(signal.SIGKILL)  # if it was spawned: half of what is kept would be taken for all of it
            raise
        finally:
            os.close(table)

    def not_started(self) -> float:
        """Notes that none could be; returns the seconds until it is tried again."""
        self._pause = min(max(2 * self._pause, _FIRST_PAUSE), _LONGEST_PAUSE)
        self.start_at = time.monotonic() + self._pause
        return self._pause

    def _begin(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            self.pid = self._spawn(theirs)
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        self.starts += 1
        self._born, self.start_at = time.monotonic(), None
        self.connection = m.Connection(ours)

    def tell(self, message: m.Message) -> None:
        """Sends, if there is a worker; its successor learns everything from the table.

        A connection to a dead worker stays, since what it sent is still to be read.
        """
        if self.connection:
            with contextlib.suppress(ConnectionError):
                self.connection.send(message)

    def signal(self, number: int) -> None:
        if self.pid:
            os.kill(self.pid, number)

    def forget_connection(self) -> None:
        if self.connection:
            self.connection.close()
            self.connection = None

    def died(self) -> float:
        """Notes that it is gone; returns the seconds until the next one is due."""
        self.pid = None
        lived = time.monotonic() - self._born
        self._pause = 0.0 if lived >= _LONG_LIFE else min(max(2 * self._pause, _FIRST_PAUSE), _LONGEST_PAUSE)
        if self.starts <= 1 or lived >= _LONG_LIFE:
            self._pause = 0.0
        self.start_at = time.monotonic() + self._pause
        return self._pause

    def _spawn(self, theirs: socket.socket) -> int:
        its_own = dict(enumerate([theirs.fileno(), self._config.settings, *self._config.locks], start=SOCKET))
        argv = self._config.worker
        env = {**os.environ, **GRPC_ENVIRONMENT}
        return self._spawner.spawn(argv[0], argv, env, descriptors={1: 1, 2: 2, **its_own})

    def _hand_over(self, entries: list[Entry], table: int, store_id: str) -> None:
        assert self.connection
        config = self._config._replace(table=None, worker_socket=None, worker_pid=None)
        cgroups = self._cgroups
        welcome = m.Welcome(
            m.FORMAT,
            store_id,
            self.starts,
            config.to_json(),
            cgroups.folder,
            cgroups.why_none,
            cgroups.why_no_limits,
        )
        self.connection.send(welcome, [table])
        for entry in entries:
            if entry.kept:
                self.connection.send(m.Descriptors(entry.process_id, list(entry.kept)), list(entry.kept.values()))
        self.connection.send(m.HandedOver())
