"""What the agent tells, as plain values: nothing here knows of gRPC or protobuf.

Times are aware ``datetime`` in UTC, durations ``float`` seconds.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import IntEnum
from typing import Self
from uuid import uuid4


class WireEnum(IntEnum):
    """Members have the numbers of the enum on the wire. A number from a newer agent reads as member zero."""

    @classmethod
    def _missing_(cls, value: object) -> Self | None:
        return cls(0) if isinstance(value, int) and value else None

    @property
    def label(self) -> str:
        """The name in lower case, as people and JSON get it."""
        return self.name.lower()


class ProcessState(WireEnum):
    """Where a process stands."""

    UNSPECIFIED = 0
    RUNNING = 1
    EXITED = 2
    UNKNOWN = 3


class UnknownEnd(WireEnum):
    """Why nobody knows how a process ended."""

    UNSPECIFIED = 0
    KEEPER_LOST = 1
    AGENT_LOST = 2


class EndedBy(WireEnum):
    """Who brought the end of a process about."""

    UNSPECIFIED = 0
    ITSELF = 1
    CALLER = 2
    TIME_LIMIT = 3
    AGENT = 4
    OOM_KILLER = 5


class Descendants(WireEnum):
    """Where descendants of an ended process were found."""

    UNSPECIFIED = 0
    GROUP = 1
    SESSION = 2
    CGROUP = 3


class OutputMode(WireEnum):
    """How standard output and standard error are kept: in one pipe, or in two that can be told apart."""

    UNSPECIFIED = 0
    MERGED = 1
    SEPARATE = 2


class WhenFull(WireEnum):
    """What happens when output comes faster than it is taken: the oldest is dropped, or the process waits."""

    UNSPECIFIED = 0
    DROP_OLDEST = 1
    PAUSE = 2


class OutputStream(WireEnum):
    """Which of its outputs a process printed to."""

    MERGED = 0
    STDOUT = 1
    STDERR = 2


class SignalScope(WireEnum):
    """Who gets a signal: the process group, or the session and the cgroup besides."""

    UNSPECIFIED = 0
    GROUP = 1
    ALL = 2


@dataclass(frozen=True)
class Key:
    """A name for a start: repeating the start with it never starts anything twice.

    The SDK makes one for each start by itself. Make your own, and store it, if the start must be repeatable by another
    program, or after a crash of this one.
    """

    value: str
    created_at: datetime

    @classmethod
    def new(cls) -> Self:
        """A key that nobody else has."""
        return cls(value=str(uuid4()), created_at=datetime.now(UTC))


@dataclass(frozen=True)
class Exit:
    """How a process ended. Exactly one of ``code``, ``signal`` and ``unknown`` is set."""

    code: int | None
    signal: int | None
    unknown: UnknownEnd | None
    ended_by: EndedBy
    ended_at: datetime | None
    user_cpu: float
    system_cpu: float
    peak_memory_bytes: int
    core_dumped: bool
    descendants_left: frozenset[Descendants]

    @property
    def succeeded(self) -> bool:
        """Whether the command exited with code zero."""
        return self.code == 0

    @property
    def shell_code(self) -> int | None:
        """What a shell would put into ``$?``: the code, or 128 and the signal. None if nobody knows."""
        return 128 + self.signal if self.signal is not None else self.code


@dataclass(frozen=True)
class ProcessInfo:
    """A process as the agent knew it at one moment."""

    process_id: str
    state: ProcessState
    command: str
    """The shell command line. Empty if it was started by ``argv``."""
    argv: tuple[str, ...]
    directory: str
    chat_id: str
    """The chat that started it. Empty: none."""
    background: bool
    output_mode: OutputMode
    when_full: WhenFull
    pid: int
    """The operating system's id while it runs. Zero if it is not known."""
    sequence: int
    """Counts the starts of the store: a larger one started later."""
    started_at: datetime
    output_bytes: int
    """The offset behind the last byte that it has printed."""
    kept_from: int
    """From here on everything is kept, but for gaps; the first 16 KiB are kept besides."""
    output_open: bool
    """Whether it, or a descendant, still holds its output open."""
    journal_degraded: bool
    """Whether output was lost because the disk was full or failed."""
    exit: Exit | None
    """How it ended; None while it runs."""


@dataclass(frozen=True)
class Gap:
    """Output that this reader does not get, since it is no longer kept or never was."""

    start: int
    """The first offset that is missing."""
    stop: int
    """The first offset behind it that is there again."""


@dataclass(frozen=True)
class Chunk:
    """A piece of output, as written."""

    offset: int
    """Where ``data`` begins in all that the process has printed, its streams counted together."""
    data: bytes
    stream: OutputStream
    gap: Gap | None = None
    """What is missing right before ``data``. A chunk may have a gap and no data."""
    printed_at: datetime | None = None
    """When ``data`` was printed, to the second below. None if that was not asked for."""


@dataclass(frozen=True)
class Listing:
    """Processes: running ones first, then the ended, each the newest first."""

    processes: tuple[ProcessInfo, ...]
    ended_total: int
    """How many ended ones there are in all."""


@dataclass(frozen=True)
class Reset:
    """Forget what you have: everything comes again, then ``Synced``."""


@dataclass(frozen=True)
class Synced:
    """All that existed is now said; what follows are changes."""


@dataclass(frozen=True)
class Put:
    """A process is new or has changed."""

    process: ProcessInfo


@dataclass(frozen=True)
class Removed:
    """A process is no longer kept."""

    process_id: str


WatchEvent = Reset | Synced | Put | Removed


@dataclass(frozen=True)
class Survivor:
    """Somebody whom a signal did not end."""

    pid: int
    name: str


@dataclass(frozen=True)
class Signalled:
    """What came of a signal. ``survivors`` is always empty for a call that did not wait."""

    process: ProcessInfo
    survivors: tuple[Survivor, ...]


@dataclass(frozen=True)
class Feature:
    """Something that an agent may have or not, and why not."""

    enabled: bool
    reason: str


@dataclass(frozen=True)
class AgentInfo:
    """Who an agent is, what it can do and what it holds."""

    agent_id: str
    """Its identity, once a control plane has given it one. Empty: none."""
    store_id: str
    """Names the state directory: what a store once knew it knows again after any restart."""
    instance_id: str
    """Names the keeper's life. A new one means that processes running before were lost."""
    version: str
    keeper_pid: int
    worker_pid: int
    started_at: datetime
    worker_started_at: datetime
    running_processes: int
    journal_degraded: bool
    features: Mapping[str, Feature] = field(default_factory=dict)
    limits: Mapping[str, float] = field(default_factory=dict)
    """The bounds in force, by their names on the wire: ``max_processes``, ``journal_bytes``, ... In bytes, seconds."""
    disk_use: Mapping[str, int] = field(default_factory=dict)
    """Bytes on disk, by their names on the wire: ``journal_bytes``, ``record_bytes``, ``free_bytes``."""


@dataclass(frozen=True)
class Upgrade:
    """Which version of the agent makes way for which."""

    from_version: str
    to_version: str
