"""One command: what it was started as, what it has printed, how it ended."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self
from uuid import UUID

from guyline.agentd.journal.note import JournalNote
from guyline.agentd.keeper import table
from guyline.agentd.process.exit import Exit, TimeLimit
from guyline.agentd.process.faults import FaultPoint
from guyline.agentd.process.metrics import ProcessMetrics
from guyline.agentd.process.spec import Origin
from guyline.agentd.process.streams.input import Input
from guyline.agentd.process.streams.output import Output
from guyline.agentd.process.streams.source import TerminalSource
from guyline.daemon.logging import Logger, get_logger

DRAIN_GRACE = 0.1
"""Seconds for which an ended command's pipe, if a descendant holds it open, is waited for to go quiet.

A shell's process substitution (``> >(tee log)``) prints its last lines in this time; a daemon that was left behind
delays nothing more.
"""


SETTLE_WITHIN = 1.0
"""Seconds after which an end is told even if a descendant goes on printing."""


@dataclass(frozen=True)
class Ladder:
    """A series of ever stronger signals that is under way."""

    signal: int  # the next one
    to_all: bool
    grace: float  # seconds between the steps
    next_at: float  # CLOCK_BOOTTIME seconds
    cause: str = "caller"

    def to_json(self) -> list[Any]:
        return [self.signal, self.to_all, self.grace, self.next_at, self.cause]


@dataclass(frozen=True)
class Note:
    """What must be known of a running process besides its origin, if this worker dies."""

    journal: JournalNote = JournalNote()  # noqa: RUF009 - immutable
    ladder: Ladder | None = None
    pace_lost: bool = False  # PAUSE has turned into DROP_OLDEST
    output_gone: int | None = None  # so many bytes it had printed; the journal was given up
    input_ends_at: int | None = None  # its input ends behind so many bytes
    input_over: tuple[int, int] | None = None  # it is closed: so many bytes were accepted, and passed on
    struck: TimeLimit | None = None  # a limit of time has struck
    quiet: list[Any] | None = None  # since when it has printed nothing; see ``limits.Quiet``
    removed: bool = False  # it is listed no more: only its key keeps it known
    end_told: bool = False  # though its output may go on

    def to_json(self) -> str:
        ladder = self.ladder.to_json() if self.ladder else None
        struck = self.struck.value if self.struck else None
        fields = [self.journal.to_json(), ladder, self.pace_lost, self.output_gone]
        later = [self.removed, self.input_ends_at, self.input_over, struck, self.quiet, self.end_told]
        return json.dumps([*fields, *later], separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Self:
        if not text:
            return cls()
        journal, ladder, pace_lost, output_gone, *later = json.loads(text)
        removed, input_ends_at, input_over, struck, quiet, *latest = later or (False, None, None, None, None)
        return cls(
            JournalNote.from_json(journal),
            Ladder(*ladder) if ladder else None,
            pace_lost,
            output_gone,
            input_ends_at,
            tuple(input_over) if input_over else None,
            TimeLimit(struck) if struck else None,
            quiet,
            removed,
            bool(latest and latest[0]),
        )


class Process:
    """A command from its spawn until it is forgotten.

    ``exit`` is set once the command has ended *and* what it printed is in the journal: who sees an exit can read
    everything. ``version`` grows with every change but that of the output's size.
    """

    def __init__(
        self,
        origin: Origin,
        *,
        pid: int | None,
        start_ticks: int,
        started_at: float,
        note: Note,
        keep_note: Callable[[str], None],
        changed: Callable[["Process"], None],
        metrics: ProcessMetrics,
        reach: FaultPoint,
    ) -> None:
        self.origin = origin
        self.pid = pid
        self.start_ticks = start_ticks
        self.started_at = started_at
        self.exit: Exit | None = None
        self.version = 0
        self.is_listed = not note.removed  # False once only its key keeps it known
        self.over_since: float | None = None  # by the steady clock, set by `Processes` when it is over
        self.ended_at_change = 0  # the position in `Processes.changes` at which it ended; 0: it runs
        self.note = note
        self.output: Output  # set by whoever makes the process, right away: the two need each other
        self.input: Input | None = None  # as above
        self.terminal: TerminalSource | None = None  # as above
        self._keep_note = keep_note
        self.metrics = metrics
        self._changed = changed
        self._reach = reach
        self._seen: Exit | None = None  # it has ended; its output may not be complete
        self._settling: asyncio.TimerHandle | None = None
        self._settle_by = 0.0  # loop time
        self._settled = asyncio.Event()

    def __repr__(self) -> str:
        return f"<Process {self.origin.process_id} pid={self.pid} exit={self.exit}>"

    @cached_property
    def log(self) -> Logger:
        return get_logger("process").bind(process_id=self.process_id, chat_id=self.origin.chat_id)

    @property
    def process_id(self) -> str:
        return self.origin.process_id

    @cached_property
    def id_bytes(self) -> bytes:
        """The same in 16 bytes, for cursors."""
        return UUID(self.process_id).bytes

    @property
    def is_running(self) -> bool:
        return self.exit is None

    @property
    def is_over(self) -> bool:
        """Whether it has ended, and nothing that it left behind can print any more."""
        return self.exit is not None and not self.output.is_open

    @property
    def is_paced(self) -> bool:
        """Whether it waits for its reader (PAUSE), rather than lose output."""
        return self.origin.pause and not self.note.pace_lost

    @property
    def has_been_seen_to_end(self) -> bool:
        """Whether it has ended, though what it printed last may not all be in the journal yet."""
        return self._seen is not None or self.exit is not None

    async def wait(self) -> Exit:
        """Returns the exit once there is one. Cancelling is safe."""
        await self._settled.wait()
        assert self.exit
        return self.exit

    def resume(self) -> None:
        """Reads what it prints and passes on what it is given, from now on."""
        is_timed = self.origin.time_limits.idle_timeout is not None
        if (self.terminal or is_timed) and not self.output.is_held_up:
            # What an earlier worker left between a terminal and the journal wakes nobody; and what was printed while
            # there was none is no silence.
            self.output.drain()
        self.output.resume()
        if self.input:
            self.input.resume()

    def was_over(self, seen: table.Exit) -> None:
        """It had ended before this worker began, and its output with it, or that was told."""
        self.exit = Exit.of(seen)
        self._settled.set()
        if self.input:
            self.input.discard()  # the earlier one may not have come to it

    def ended(self, seen: table.Exit) -> None:
        """The keeper has seen its end."""
        self._reach("exit.seen")
        self._seen = Exit.of(seen)
        self.output.drain()
        self._reach("exit.drained")
        self._settle_by = asyncio.get_running_loop().time() + SETTLE_WITHIN
        self._settle_when_quiet(size=-1)

    def output_ended(self) -> None:
        """Nobody holds its pipes any more."""
        self._reach("output.ended")
        if self._seen and self.exit is None:
            self._settle()
        else:
            self.has_changed()

    def has_changed(self) -> None:
        self.version += 1
        self._changed(self)
        self.output.ring()

    def change_note(self, **fields: Any) -> None:
        """Replaces fields of the note; once this returns, the next worker will know."""
        self.note = replace(self.note, **fields)
        self._keep_note(self.note.to_json())

    def keep_journal_note(self, journal: JournalNote) -> None:
        was_degraded = self.note.journal.degraded
        self.change_note(journal=journal)
        if journal.degraded and not was_degraded:
            self.log.warning("output is being lost: the disk is full or fails")
            self.has_changed()

    def close(self) -> None:
        """Gives the descriptors back; nothing is lost by it."""
        if self._settling:
            self._settling.cancel()
        if self.input:
            self.input.close()
        self.output.close()
        self.output.journal.close()

    def _settle_when_quiet(self, *, size: int) -> None:
        """Settles once the output is at its end, or has not grown for ``DRAIN_GRACE``."""
        now = self.output.journal.size
        loop = asyncio.get_running_loop()
        is_quiet = (now == size or loop.time() >= self._settle_by) and not self.output.is_stuck
        if is_quiet or not self.output.is_open:
            self._settle()
            return
        self._settling = loop.call_later(DRAIN_GRACE, lambda: self._settle_when_quiet(size=now))

    def _settle(self) -> None:
        if self._settling:
            self._settling.cancel()
        if self.exit is None and self._seen:
            self.exit = self._seen
            if self.output.is_open:
                self.change_note(end_told=True)  # else the next worker would wait for silence, and tell it again
            self._settled.set()
            if self.input:
                self.input.discard()
            self.has_changed()
            # After this step of the loop, in which the followers are told: nobody waits for a log line.
            asyncio.get_running_loop().call_soon(self._report, self._seen)
            self._reach("exit.told")

    def _report(self, exit_: Exit) -> None:
        output_bytes = self.output.journal.size
        self.log.info("process ended", exit=_in_words(exit_), ended_by=exit_.ended_by.value, output_bytes=output_bytes)
        self.metrics.ended(exit_, seconds=exit_.ended_at - self.started_at, output_bytes=output_bytes)


def _in_words(exit_: Exit) -> str:
    if exit_.unknown:
        return f"unknown ({exit_.unknown})"
    return f"signal {exit_.signal}" if exit_.signal is not None else f"code {exit_.code}"
