"""Limits of time: who runs for too long, or prints nothing for too long, is ended."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, Self

from guyline.agentd.process.ending.signals import Signals
from guyline.agentd.process.exit import TimeLimit
from guyline.agentd.process.faults import FaultPoint
from guyline.agentd.process.process import Process

_CLOCK_WAS_SET = 1.0
"""Seconds by which the two clocks may drift apart before the time of day counts as set."""


@dataclass(frozen=True)
class Quiet:
    """Since when a process has printed nothing, for a worker that did not see it."""

    since: float  # CLOCK_MONOTONIC
    clock_offset: float  # the time of day less CLOCK_MONOTONIC at that moment

    def to_json(self) -> list[Any]:
        return [self.since, self.clock_offset]

    @classmethod
    def from_json(cls, fields: list[Any]) -> Self:
        return cls(*fields)


class Timer(Protocol):
    """Something that will be done."""

    def cancel(self) -> None: ...


class Timers(Protocol):
    """What there is of an event loop: its time, and what is done at one."""

    def time(self) -> float: ...
    def call_at(self, when: float, callback: Callable[[], None]) -> Timer: ...


class LimitWatch:
    """Looks after one running process that has limits, with one timer.

    All times are the loop's, which is CLOCK_MONOTONIC: it stands still while the machine sleeps, nobody can set it, and
    it means the same to every worker of one boot.

    Args:
        process: Its output is open already.
        timers: The loop, outside of tests.
        wall_clock: Seconds since the epoch: tells a successor whether the time of a file says anything.
        strike: Called once, with the limit.
    """

    def __init__(
        self,
        process: Process,
        *,
        timers: Timers,
        wall_clock: Callable[[], float],
        strike: Callable[[Process, TimeLimit], None],
    ) -> None:
        self._process = process
        self._limits = process.origin.time_limits
        self._wall_clock = wall_clock
        self._strike = strike
        self._timers = timers
        self._timer: Timer | None = None
        self._quiet_since = self._quiet_at_first()

    def begin(self) -> None:
        """Looks at once, and then whenever a limit may strike."""
        self._look()

    def end(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        if self._process.has_been_seen_to_end:
            return
        now = self._timers.time()
        due = self._due(now)
        struck = [limit for limit, at in due.items() if at <= now]
        if struck:
            self._strike(self._process, min(struck, key=lambda limit: due[limit]))
            return
        if due:
            self._timer = self._timers.call_at(min(due.values()), self._look)

    def _due(self, now: float) -> dict[TimeLimit, float]:
        """When each limit strikes if nothing happens before."""
        due = {}
        if self._limits.timeout is not None:
            due[TimeLimit.TIMEOUT] = self._process.origin.began_at + self._limits.timeout
        if self._limits.idle_timeout is not None:
            due[TimeLimit.IDLE_TIMEOUT] = self._last_sign(now) + self._limits.idle_timeout
        return due

    def _last_sign(self, now: float) -> float:
        """When it printed something last, as far as is known, which the next worker will know as well."""
        output = self._process.output
        since = now if output.is_held_up or output.is_stuck else max(self._quiet_since, output.grown_at)
        if since > self._quiet_since:
            self._quiet_since = since
            self._process.change_note(quiet=Quiet(since, self._wall_clock() - now).to_json())
        return since

    def _quiet_at_first(self) -> float:
        """What an earlier worker has noted, or what it could not note any more: when the output's file grew last.

        That is a time of day. If that was set meanwhile it says nothing, and the benefit of the doubt is the process's.
        """
        origin, note = self._process.origin, self._process.note
        noted = Quiet.from_json(note.quiet or [origin.began_at, origin.created_at - origin.began_at])
        now = self._timers.time()
        if abs(self._wall_clock() - now - noted.clock_offset) > _CLOCK_WAS_SET:
            return now
        grown_at = self._process.output.journal.written_at - noted.clock_offset
        return min(now, max(noted.since, grown_at))


class Limits:
    """The limits of all processes. What they strike, they end, with all that came of it."""

    def __init__(
        self,
        *,
        signals: Signals,
        wall_clock: Callable[[], float],
        timers: Timers | None,
        reach: FaultPoint,
    ) -> None:
        self._signals = signals
        self._wall_clock = wall_clock
        self._reach = reach
        self._timers = timers
        self._watches: dict[str, LimitWatch] = {}

    def watch(self, process: Process) -> None:
        """Enforces its limits from now on, if it has any."""
        limits = process.origin.time_limits
        if process.has_been_seen_to_end or (limits.timeout is None and limits.idle_timeout is None):
            return
        if process.note.struck:
            return  # the ladder was noted with it, and goes on as any other does
        timers = self._timers or asyncio.get_running_loop()
        watch = LimitWatch(process, timers=timers, wall_clock=self._wall_clock, strike=self._strike)
        self._watches[process.process_id] = watch
        watch.begin()

    def forget(self, process: Process) -> None:
        """It has ended."""
        if watch := self._watches.pop(process.process_id, None):
            watch.end()

    def close(self) -> None:
        for watch in self._watches.values():
            watch.end()

    def _strike(self, process: Process, limit: TimeLimit) -> None:
        process.log.info("a time limit strikes", limit=limit.value)
        self._signals.sentence(process, grace=process.origin.time_limits.grace, cause=limit.value, struck=limit)
        self._reach("limit.noted")
        process.has_changed()
