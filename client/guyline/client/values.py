"""What the agent tells, as plain values: nothing here knows of gRPC or protobuf.

Times are aware ``datetime`` in UTC, durations ``float`` seconds.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Self
from uuid import uuid4

from guyline.client.enums import (
    Descendants,
    EndedBy,
    InputMode,
    OutputMode,
    OutputStream,
    ProcessState,
    TimeLimit,
    UnknownEnd,
    WhenFull,
)


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
    time_limit: TimeLimit = TimeLimit.UNSPECIFIED
    """The limit that brought the end about; only with ``EndedBy.TIME_LIMIT``."""

    @property
    def succeeded(self) -> bool:
        """Whether the command exited with code zero."""
        return self.code == 0

    @property
    def shell_code(self) -> int | None:
        """What a shell would put into ``$?``: the code, or 128 and the signal. None if nobody knows."""
        return 128 + self.signal if self.signal is not None else self.code


@dataclass(frozen=True)
class TerminalSize:
    """How large a terminal is, in characters: 1 to 10,000 each."""

    columns: int = 80
    rows: int = 24


@dataclass(frozen=True)
class TimeLimits:
    """When a process is ended by the agent, in seconds; None: never."""

    timeout: float | None
    """So long after its start."""
    idle_timeout: float | None
    """So long after its last output."""
    grace: float | None
    """From SIGTERM to SIGKILL; None: the agent's 5 seconds."""


@dataclass(frozen=True)
class Input:
    """What a process reads."""

    mode: InputMode
    next_offset: int
    """How much it was given: where the next byte goes in."""
    passed_bytes: int
    """How much of that has been passed to it; the rest waits for it to read."""
    is_open: bool
    """Whether more is accepted."""


@dataclass(frozen=True)
class Usage:
    """What a process and its descendants use at a moment."""

    cpu: float
    """Seconds of CPU time so far, of those that live."""
    memory_bytes: int
    """Their resident sets; what they share is counted once for each."""
    processes: int


NO_INPUT = Input(mode=InputMode.NONE, next_offset=0, passed_bytes=0, is_open=False)


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
    abridged: bool = False
    """Whether ``command`` and ``argv`` are cut to 1 KiB in all, as in lists."""
    labels: Mapping[str, str] = field(default_factory=dict)
    input: Input = NO_INPUT
    terminal: TerminalSize | None = None
    """The size of its terminal as it is now; None: it has none."""
    time_limits: TimeLimits | None = None
    struck: TimeLimit = TimeLimit.UNSPECIFIED
    """The limit that has struck: it is being ended, or was."""
    user: str = ""
    """The user it was started as. Empty: the agent's own."""
    usage: Usage | None = None
    """Only of running ones, in lists that asked for it."""


Bytes = bytes | bytearray | memoryview


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
class Line:
    """A line of output, as text. ``str`` of it is its text."""

    text: str
    """Without its end. Bytes that are no UTF-8 are replaced."""
    offset: int
    """Where it begins in all that the process has printed, its streams counted together."""
    stream: OutputStream
    gap: Gap | None = None
    """What is missing right before it. The line may then be the rest of one."""

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Listing:
    """Processes: running ones first, then the ended, each the newest first."""

    processes: tuple[ProcessInfo, ...]
    ended_total: int
    """How many ended ones there are in all that were asked for."""


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
class Ended(Put):
    """A process has ended since this reader was told last. It has changed as well, so this is a ``Put``."""


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
class Canceled:
    """What came of a cancel."""

    process: ProcessInfo | None
    """The process as it is now; None: none was started."""
    fenced: bool
    """Whether nothing was started under the key, so that nothing ever will be."""


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
