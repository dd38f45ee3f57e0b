"""What the keeper is told when it begins: by the launching command, by itself, or by a worker that takes its place."""

import json
import os
import signal
import sys
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, NoReturn

MODULE = "guyline.agentd.keeper"


class Config(NamedTuple):
    """Everything the keeper needs to know. Descriptors are numbers that were inherited."""

    state_dir: str
    worker: list[str]
    """The worker's command line. It finds its socket as descriptor 3 and ``settings`` as 4."""
    settings: int
    """A memory file that the keeper hands to every worker, unread."""
    locks: list[int]
    """Descriptors whose flock says that this agent lives: held, and handed to every worker, until the end."""
    shutdown_grace: float
    """Seconds from SIGTERM until nothing is left."""
    json_log: bool
    quiet_log: bool
    descriptor_limit: int
    """The soft limit that commands get; the agent itself takes as many as it may have."""
    oom_score: int
    """The ``oom_score_adj`` that commands get; the keeper lowers its own, if it may."""
    instance_id: str
    """Names this keeper's life; an upgrade goes on with it."""
    started_at: float
    process_cgroups: str
    """When each command is to have a cgroup of its own: "auto", "on" or "off"."""
    table: int | None = None
    """A memory file with the table of a keeper whose place this one takes."""
    worker_socket: int | None = None
    """An upgrade's: the socket to the worker that still runs."""
    worker_pid: int | None = None
    """An upgrade's: that worker."""

    @property
    def is_upgrade(self) -> bool:
        """Whether this process was the keeper before, so that the commands are its children."""
        return self.worker_pid is not None

    def to_descriptor(self) -> int:
        """Returns a memory file that ``from_descriptor`` reads, to be inherited."""
        file = os.memfd_create("guyline-config")
        os.write(file, self.to_json().encode())
        return file

    def to_json(self) -> str:
        return json.dumps(self._asdict())

    @classmethod
    def from_json(cls, text: str | bytes) -> "Config":
        fields: dict[str, Any] = json.loads(text)
        return cls(**fields)

    @classmethod
    def from_descriptor(cls, file: int) -> "Config":
        try:
            return cls.from_json(os.pread(file, os.fstat(file).st_size, 0))
        finally:
            os.close(file)


def become_keeper(
    config: Config,
    *,
    interpreter: str = sys.executable,
    kept: list[int],
    unhandled: Callable[[], Iterable[int]] = tuple,
) -> NoReturn:
    """Replaces this process's program by the keeper; pid, children and the descriptors named in ``kept`` stay.

    ``unhandled`` says which signals the old program has caught and done nothing about yet; the new one gets them.

    Raises:
        OSError: The interpreter cannot be executed; nothing has changed.
    """
    inherited = [config.to_descriptor(), config.settings, *config.locks, *kept]
    inherited += [file for file in (config.table, config.worker_socket) if file is not None]
    for descriptor in inherited:
        os.set_inheritable(descriptor, True)
    # A signal must find the old program's handlers or the new one's: in between it would be deadly, or lost to PID 1.
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    for number in unhandled():
        os.kill(os.getpid(), number)  # waits, blocked, for whoever has handlers next
    try:
        os.execv(interpreter, [interpreter, "-P", "-m", MODULE, str(inherited[0]), config.state_dir])
    except OSError:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        for descriptor in inherited:
            os.set_inheritable(descriptor, False)
        os.close(inherited[0])
        raise
