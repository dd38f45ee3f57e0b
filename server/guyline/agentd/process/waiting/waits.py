"""Waiting for the first of several things."""

import asyncio
import enum
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

from guyline.agentd.process.exhaustion import exhaustion_told
from guyline.agentd.process.process import Process
from guyline.agentd.process.threads import OwnThreads
from guyline.agentd.process.waiting.conditions import Asked, Condition, HasEnded, HasPrinted, Held
from guyline.agentd.process.waiting.pattern import Found, Pattern
from guyline.agentd.process.waiting.presence import Presence
from guyline.agentd.system.loopback import is_listening

_SEARCHING_THREADS = 4
"""So many patterns are searched for at once, if it takes long. The others wait for their turn."""


@dataclass(frozen=True)
class ForExit:
    """The process has ended."""


@dataclass(frozen=True)
class ForPattern:
    """It has printed something, at or behind ``offset``."""

    pattern: Pattern
    offset: int


@dataclass(frozen=True)
class ForPort:
    """Somebody listens on a port of this machine."""

    port: int


@dataclass(frozen=True)
class ForFile:
    """Something is there. The path may be relative to the process's directory, or to ``~``."""

    path: str


WaitFor: TypeAlias = ForExit | ForPattern | ForPort | ForFile


class Over(enum.Enum):
    """Why a wait ended without anything holding."""

    TIMEOUT = enum.auto()
    OUTPUT_ENDED = enum.auto()  # only patterns were waited for, and nothing will be printed any more


@dataclass(frozen=True)
class Outcome:
    """What a wait came to: the index of what holds, or why nothing does, and each condition's ``resume_at``."""

    met: int | None = None
    found: Found | None = None
    over: Over | None = None
    searched: tuple[int | None, ...] = ()


class Waits(OwnThreads):
    """Waits for what processes, and those that watch them, are waited for; ``close`` ends it."""

    def __init__(self, presence: Presence) -> None:
        super().__init__("search", threads=_SEARCHING_THREADS)
        self._presence = presence

    async def first(self, process: Process, wanted: Sequence[WaitFor], *, timeout: float) -> Outcome:
        """Waits until something holds: of several, what stands first. Cancelling leaves nothing behind.

        After ``timeout`` seconds all are looked at once more, so that with 0 they are looked at once.

        Raises:
            OffsetOutOfRange: A pattern's offset is beyond the output.
            SystemExhausted: No descriptor is left, or no thread.
        """
        conditions = [self._condition(process, each) for each in wanted]
        with process.output.bell():  # followed, that is: an agent that ends then leaves time to tell the end
            try:
                return await _first(conditions, timeout)
            except ExceptionGroup as failed:  # of those that looked at the same time: one answer is enough
                raise failed.exceptions[0] from failed

    def _condition(self, process: Process, wanted: WaitFor) -> Condition:
        match wanted:
            case ForExit():
                return HasEnded(process)
            case ForPattern(pattern, offset):
                return HasPrinted(process, pattern, offset, find=lambda window: self._ask(window.find))
            case ForPort(port):
                return Asked(partial(_is_answering, port))
            case ForFile(path):
                return Asked(partial(self._presence.is_there, path, process.origin.directory))


async def _is_answering(port: int) -> bool:
    with exhaustion_told("asking a port"):
        return await is_listening(port)


async def _first(conditions: Sequence[Condition], timeout: float) -> Outcome:
    first = await _wait_for_any(conditions, timeout)
    # What stands before it may hold as well, and just not have been looked at: an exit may be known before what
    # was printed right before it is searched.
    before = conditions if first is None else conditions[: first[0]]
    if met := await _look_at_all(before) or first:
        index, held = met
        return Outcome(met=index, found=held.found)
    if not any(condition.can_hold for condition in conditions):
        return Outcome(over=Over.OUTPUT_ENDED)
    return Outcome(over=Over.TIMEOUT, searched=tuple(condition.resume_at for condition in conditions))


async def _wait_for_any(conditions: Sequence[Condition], timeout: float) -> tuple[int, Held] | None:
    """The first that holds, or None once the time is over or none of them ever can."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(condition.wait()) for condition in conditions]
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + timeout
        held: tuple[int, Held] | None = None
        pending = set(tasks)
        while pending and not held and (left := ends_at - loop.time()) > 0:
            _, pending = await asyncio.wait(pending, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            held = _first_held(tasks)
        for task in pending:
            task.cancel()
    return held


def _first_held(tasks: Sequence[asyncio.Task[Held | None]]) -> tuple[int, Held] | None:
    for index, task in enumerate(tasks):
        if task.done() and (held := task.result()):
            return index, held
    return None


async def _look_at_all(conditions: Sequence[Condition]) -> tuple[int, Held] | None:
    """The one that stands first of those that hold now."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(condition.look()) for condition in conditions]
        for index, task in enumerate(tasks):
            if held := await task:
                for other in tasks[index + 1 :]:
                    other.cancel()
                return index, held
    return None
