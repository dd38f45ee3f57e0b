"""What can be waited for: each knows how to look now, and how to wait."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from guyline.agentd.journal.errors import OffsetOutOfRange
from guyline.agentd.journal.piece import Piece
from guyline.agentd.process.process import Process
from guyline.agentd.process.waiting.pattern import Found, Pattern, Search, Window

SHORTEST_PAUSE = 0.02
"""Seconds until what tells nobody is asked again; the pauses grow."""
LONGEST_PAUSE = 0.25

_WINDOW_BYTES = 256 * 1024
"""Bytes that are searched at once, besides the 64 KiB before them."""
_STEPS_AT_ONCE = 100_000
"""A search of no more steps costs less than sending it to a thread, and a millisecond at worst (8 ns a step)."""
_PAUSE_BETWEEN_SEARCHES = 0.005
"""Seconds, so that a chatty process costs few searches: each begins 64 KiB back."""
_CATCH_UP_WITHIN = 10.0
"""Seconds to search what is there. With the usual pattern that is several GiB."""
_EXIT_FOLLOWS_WITHIN = 1.0
"""Seconds for which an exit is waited for once nobody can print any more: most often the two come together."""
_FOR_LONG = 3600.0

Span: TypeAlias = tuple[int, int]
"""Where a match begins and ends."""


@dataclass(frozen=True)
class Held:
    """A condition holds."""

    found: Found | None = None  # where in the output, if it is a pattern


class Condition(Protocol):
    """Something that holds at some time. Cancelling is safe, and whoever was cancelled may be asked again."""

    can_hold: bool
    """False once it is known that it never will."""

    @property
    def resume_at(self) -> int | None:
        """The offset in the output from which on it need be looked for next time. None: it is not looked for there."""
        ...

    async def look(self) -> Held | None:
        """Whether it holds now. Takes a bounded time."""
        ...

    async def wait(self) -> Held | None:
        """Waits until it holds, or never can."""
        ...


class HasEnded:
    """The process has ended, and its output is complete."""

    can_hold = True
    resume_at = None

    def __init__(self, process: Process) -> None:
        self._process = process

    async def look(self) -> Held | None:
        return None if self._process.is_running else Held()

    async def wait(self) -> Held:
        await self._process.wait()
        return Held()


class Asked:
    """What has to be asked again and again, since it tells nobody. ``holds`` takes a bounded time."""

    can_hold = True
    resume_at = None

    def __init__(self, holds: Callable[[], Awaitable[bool]]) -> None:
        self._holds = holds

    async def look(self) -> Held | None:
        return Held() if await self._holds() else None

    async def wait(self) -> Held:
        pause = SHORTEST_PAUSE
        while not await self._holds():
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
        return Held()


class HasPrinted:
    """The output holds a match of the pattern at or behind an offset.

    What comes before the offset, if it is still kept, tells whether a line or a word begins there. Has what would keep
    the event loop busy searched by ``find``, in a thread.

    Raises:
        OffsetOutOfRange: The offset is beyond the output.
    """

    def __init__(
        self, process: Process, pattern: Pattern, offset: int, *, find: Callable[[Window], Awaitable[Span | None]]
    ) -> None:
        if offset > process.output.journal.size:
            raise OffsetOutOfRange(offset, process.output.journal.size)
        self.can_hold = True
        self._process = process
        self._find_in_thread = find
        before = min(offset, 1)
        self._search = Search(pattern, offset, before=before)
        self._read_to = offset - before

    @property
    def resume_at(self) -> int:
        return self._search.resume_at

    async def look(self) -> Held | None:
        with suppress(TimeoutError):
            async with asyncio.timeout(_CATCH_UP_WITHIN):
                return await self._look()
        return None

    async def wait(self) -> Held | None:
        with self._process.output.bell() as bell:
            while not (held := await self._look()) and self.can_hold:
                await asyncio.sleep(_PAUSE_BETWEEN_SEARCHES)
                await bell.wait(_FOR_LONG)
        return held

    async def _look(self) -> Held | None:
        if not self.can_hold:
            return None
        is_open = self._process.output.is_open  # before its end: if it is not, nothing comes behind that
        if found := await self._catch_up():
            return Held(found)
        if not is_open:
            self.can_hold = False
            with suppress(TimeoutError):
                async with asyncio.timeout(_EXIT_FOLLOWS_WITHIN):
                    await self._process.wait()
        return None

    async def _catch_up(self) -> Found | None:
        """Searches up to the end of the output, which may have moved on since."""
        while True:
            piece = await self._read()
            if piece.gap:
                if not self._search.is_empty and (found := await self._find(is_all=True)):
                    return found
                self._search.skip_to(piece.offset)
            self._search.add(piece.data)
            self._read_to = piece.offset + len(piece.data)
            is_all = self._read_to == self._process.output.journal.size
            if is_all or self._search.unsearched >= _WINDOW_BYTES:
                if (found := await self._find(is_all=is_all)) or is_all:
                    return found
                await asyncio.sleep(0)  # others have their turn, however much there is to search

    async def _read(self) -> Piece:
        return await self._process.output.read(self._read_to)

    async def _find(self, *, is_all: bool) -> Found | None:
        window = self._search.window(is_all=is_all)
        return self._search.conclude(window, await self._span(window), is_all=is_all)

    async def _span(self, window: Window) -> Span | None:
        if window.most_steps <= _STEPS_AT_ONCE:
            return window.find()
        return await self._find_in_thread(window)
