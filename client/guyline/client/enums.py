"""The enums of the wire: what may be asked for, and what is told."""

from enum import IntEnum
from typing import Self


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


class TimeLimit(WireEnum):
    """A limit of time, by name: the two of a start, and the one of a call that only stops following."""

    UNSPECIFIED = 0
    TIMEOUT = 1
    IDLE_TIMEOUT = 2
    DETACH_AFTER = 3


class InputMode(WireEnum):
    """What a process has for standard input: the null device, a pipe, or its terminal (which is only told)."""

    UNSPECIFIED = 0
    NONE = 1
    PIPE = 2
    TERMINAL = 3


class Resource(WireEnum):
    """What setrlimit(2) limits. In bytes, but for CPU (seconds), OPEN_FILES and PROCESSES."""

    UNSPECIFIED = 0
    CPU = 1
    FILE_SIZE = 2
    DATA = 3
    STACK = 4
    CORE = 5
    OPEN_FILES = 6
    ADDRESS_SPACE = 7
    PROCESSES = 8
    LOCKED_MEMORY = 9


class OutputStyle(WireEnum):
    """How a view shows output: plain (no terminal codes, of progress bars the last state), or as it was printed."""

    UNSPECIFIED = 0
    PLAIN = 1
    RAW = 2


class OutputWait(WireEnum):
    """What a view waits for: the process's end, or anything new (or its end)."""

    UNSPECIFIED = 0
    EXIT = 1
    OUTPUT = 2


class WaitOver(WireEnum):
    """Why a wait ended without anything holding: the time is over, or nothing will be printed any more."""

    UNSPECIFIED = 0
    TIMEOUT = 1
    OUTPUT_ENDED = 2
