"""What a start may be given, said once for all calls that start something."""

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TypedDict, TypeVar

from guyline.client.enums import InputMode, OutputMode, Resource, WhenFull
from guyline.client.values import Bytes, Key

Given = TypeVar("Given")


@dataclass(frozen=True)
class Terminal:
    """A terminal for a process to control, as it is at the start. ``term`` is what TERM is set to; empty:
    xterm-256color.
    """

    columns: int = 80
    rows: int = 24
    term: str = ""


@dataclass(frozen=True)
class ResourceLimit:
    """A limit as of setrlimit(2), in the resource's own unit. None: without limit."""

    resource: Resource
    soft: int | None
    """Where the kernel begins to refuse."""
    hard: int | None
    """How far the process itself may raise that. More than the agent has wants a privilege."""


@dataclass(frozen=True)
class GroupLimits:
    """Limits for a process and all that comes of it together. Each is a feature that an agent may lack.

    Zero: no limit.
    """

    memory_bytes: int = 0
    cpus: float = 0.0
    """CPUs' worth of time: 1.5 is one and a half."""
    pids: int = 0
    """Processes and threads."""


@dataclass(frozen=True)
class Privileges:
    """As whom, and with how much of the machine, a process runs. What is left out is as the agent has it."""

    user: str = ""
    """A name or number. Another one than the agent's own wants an agent that runs as root."""
    group: str = ""
    """A name or number, in place of the user's own."""
    umask: int | None = None
    nice: int | None = None
    """-20 to 19; less than the agent's own wants a privilege."""
    oom_score: int | None = None
    """How ready the kernel is to kill it when memory runs out, -1000 to 1000; less than the agent's own wants a
    privilege.
    """
    resource_limits: Collection[ResourceLimit] = ()
    group_limits: GroupLimits | None = None


class StartOptions(TypedDict, total=False):
    """How to start a command. Each is a keyword argument; what is left out, or None, is the agent's default."""

    directory: str | os.PathLike[str] | None
    """Where to start it; ``~`` is the agent's home directory. A relative one begins at the agent's default."""
    env: Mapping[str, str] | None
    """Variables on top of the agent's own."""
    output: OutputMode | None
    """Whether stdout and stderr can be told apart. MERGED by default, which keeps their order."""
    when_full: WhenFull | None
    """Whether the process waits for a slow reader, as in a shell's pipeline (``run`` and ``open``), or its oldest
    output makes room (``start``).
    """
    kept_bytes: int | None
    """How much of its output is kept, besides the first 16 KiB."""
    background: bool | None
    """Kept with the process, without effect."""
    key: Key | None
    """Makes the start repeatable by others too. By default each start gets a fresh one, so that it is repeatable
    here.
    """
    stdin: InputMode | None
    """NONE, or PIPE for ``write``."""
    terminal: Terminal | None
    """Gives it a terminal of its own, for input and output. Not with SEPARATE."""
    timeout: float | None
    """Seconds after which the agent ends it, whatever becomes of this program. 1 ms to 30 days."""
    idle_timeout: float | None
    """Seconds without output after which the agent ends it."""
    grace: float | None
    """Seconds from SIGTERM to SIGKILL when a limit strikes. 5 by default, up to 600."""
    labels: Mapping[str, str] | None
    """Names and values to find it by: at most 32."""
    privileges: Privileges | None
    """As whom, and with how much of the machine, it runs."""
    redact: Collection[str] | None
    """Names of variables whose values never appear in views. Each must be set and have at least 4 bytes."""


class RunOptions(StartOptions, total=False):
    """How to run a command to its end: as for any start, and these."""

    input: Bytes | None
    """All that it gets to read. Not with a terminal."""
    check: bool | None
    """Raise ``CommandFailed`` unless it exits with zero."""
    max_output_bytes: int | None
    """How much of its output the result has at most: the newest. 16 MiB by default."""
    detach_after: float | None
    """Seconds after which it is left to itself, and ``StillRunning`` raised, which says how much input it was given."""


class OutputRange(TypedDict, total=False):
    """Which part of the output to read. Of the first three, the first that is given counts."""

    from_offset: int | None
    """Begin there instead of at the beginning."""
    tail_bytes: int | None
    """Begin so many bytes before what is printed now."""
    since: datetime | None
    """Begin with what was printed then, by the agent's clock, to the second. One without a time zone is local."""
    snapshot: bool
    """End once everything printed by now has come."""


def or_default(given: Given | None, default: Given) -> Given:
    """What is given, whatever it is; for None the default."""
    return default if given is None else given


def refuse_others(options: Mapping[str, object], known: type, *, of: str) -> None:
    """Refuses keyword arguments that ``known``, a TypedDict, does not have. Python leaves that to type checkers, and a
    limit with a slip in its name would not hold.

    Raises:
        TypeError: There is one; worded as of any other method.
    """
    for name in options:
        if name not in known.__annotations__:
            raise TypeError(f"{of}() got an unexpected keyword argument {name!r}")
