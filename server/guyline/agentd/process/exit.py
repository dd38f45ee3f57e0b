"""How a command ended, in the domain's words."""

import enum
import signal
from dataclasses import dataclass
from typing import Self

from guyline.agentd.keeper import table

_ASKED_TO_END = {signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM}
_TAKES_EFFECT_WITHIN = 10.0
"""Seconds after such a signal of a caller within which an exit is taken for its effect. (What a limit of time has begun
to end is under sentence for as long as its grace.)
"""


class State(enum.Enum):
    """Where a process stands."""

    RUNNING = "running"
    EXITED = "exited"
    UNKNOWN = "unknown"


class EndedBy(enum.Enum):
    """Who brought the end about."""

    NOT_KNOWN = ""
    ITSELF = "itself"
    CALLER = "caller"
    TIME_LIMIT = "time_limit"
    AGENT = "agent"
    OOM_KILLER = "oom_killer"


class TimeLimit(enum.Enum):
    """A limit of time, by the name under which the keeper notes who sent a signal."""

    TIMEOUT = "timeout"
    IDLE_TIMEOUT = "idle_timeout"


@dataclass(frozen=True, kw_only=True)
class Exit:
    """How a command ended. Exactly one of ``code``, ``signal`` and ``unknown`` is set."""

    code: int | None
    signal: int | None
    unknown: str | None  # why nobody knows: KEEPER_LOST or AGENT_LOST
    ended_by: EndedBy
    ended_at: float  # seconds since the epoch
    user_cpu: float  # seconds
    system_cpu: float  # seconds
    peak_memory_bytes: int
    core_dumped: bool
    left_in: tuple[str, ...]  # "group", "session", "cgroup"
    time_limit: TimeLimit | None = None  # the one that brought it about
    order: int = 0  # counts the ends of this store; 0: of an older Guyline, which did not count

    @classmethod
    def of(cls, seen: table.Exit) -> Self:
        """From what the keeper saw."""
        ended_by, time_limit = _ended_by(seen)
        return cls(
            code=seen.code,
            signal=seen.signal,
            unknown=seen.unknown,
            ended_by=ended_by,
            time_limit=time_limit,
            ended_at=seen.ended_at,
            user_cpu=seen.user_cpu,
            system_cpu=seen.system_cpu,
            peak_memory_bytes=seen.peak_memory_bytes,
            core_dumped=seen.core_dumped,
            left_in=seen.left_in,
            order=seen.order,
        )


def state_of(exit_: Exit | None) -> State:
    """Where a process with this end, or none, stands."""
    if exit_ is None:
        return State.RUNNING
    return State.UNKNOWN if exit_.unknown else State.EXITED


_LIMITS = {limit.value: limit for limit in TimeLimit}


def _ended_by(seen: table.Exit) -> tuple[EndedBy, TimeLimit | None]:
    """Who, and which limit if it was one."""
    asked = seen.asked
    if seen.unknown:
        return EndedBy.NOT_KNOWN, None
    if seen.oom_killed:
        return EndedBy.OOM_KILLER, None
    if asked is None or not _has_taken_effect(asked, seen):
        return EndedBy.ITSELF, None
    if limit := _LIMITS.get(asked.cause):
        return EndedBy.TIME_LIMIT, limit
    return EndedBy(asked.cause), None


def _has_taken_effect(asked: table.Asked, seen: table.Exit) -> bool:
    is_soon = asked.cause in _LIMITS or seen.ended_at - asked.at <= _TAKES_EFFECT_WITHIN
    obeyed = asked.signal in _ASKED_TO_END and is_soon
    return seen.signal == asked.signal or (seen.signal is None and obeyed)
