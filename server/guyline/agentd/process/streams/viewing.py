"""Looking at a process's output: waiting until there is something to see, and reading what a view of it takes."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from guyline.agentd.journal.errors import OffsetOutOfRange
from guyline.agentd.process.bell import Bell
from guyline.agentd.process.process import Process
from guyline.agentd.process.threads import OwnThreads
from guyline.agentd.view.rendering import Renderer, context_bytes
from guyline.agentd.view.view import Shape, View, compose
from guyline.agentd.view.window import Run, Window, Windows, is_less, ranges, sizes, windows

_COMPOSING_THREADS = 2
"""So many views are composed at once."""
_MOST_AT_ONCE = 8
"""So many are read and composed: each may hold 1.5 MiB of output. The others wait for their turn."""

Told = TypeVar("Told")


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What to show, and when."""

    start: int  # an offset
    shape: Shape
    renderer: Renderer
    wait: float  # seconds, at most
    for_output: bool  # wait until there is something behind ``start``, rather than for the process's end


@dataclass(frozen=True)
class Seen(Generic[Told]):
    """A view, and what the process was when it was made."""

    process: Told
    view: View
    lost_bytes: int  # of the omission


class Views(OwnThreads):
    """Makes views, a few at a time: odd output can take long, and nobody else is to wait for it. ``close`` ends it."""

    def __init__(self) -> None:
        super().__init__("view", threads=_COMPOSING_THREADS)
        self.turns = asyncio.Semaphore(_MOST_AT_ONCE)

    async def see(self, process: Process, wanted: Wanted, describe: Callable[[Process], Told]) -> Seen[Told]:
        """Waits for what is wanted, then looks. Cancelling is safe: who waits for a turn gives it up.

        Args:
            process: Whose output.
            wanted: What of it.
            describe: Called in the moment at which the output is seen: if the process has ended by then, the view is
                of all that it has printed.

        Raises:
            OffsetOutOfRange: The view is to begin behind what is printed so far.
        """
        return await _Viewer(self, process, wanted).see(describe)

    def compose(
        self, head: Window, tail: Window | None, *, end: int, final: bool, shape: Shape, renderer: Renderer
    ) -> "asyncio.Future[View]":
        """As ``view.view.compose``."""
        return self._ask(compose, head, tail, end=end, final=final, shape=shape, renderer=renderer)


class _Viewer:
    """Makes one view of one process, for as long as somebody waits for it."""

    def __init__(self, views: Views, process: Process, wanted: Wanted) -> None:
        self._views = views
        self._process = process
        self._wanted = wanted

    async def see(self, describe: Callable[[Process], Told]) -> Seen[Told]:
        size = self._process.output.journal.size
        if self._wanted.start > size:
            raise OffsetOutOfRange(self._wanted.start, size)
        loop = asyncio.get_running_loop()
        latest = loop.time() + self._wanted.wait
        size, is_final = self._wanted.start, False
        with self._process.output.bell() as bell:
            while True:
                await self._wait(bell, size, latest, was_final=is_final)
                async with self._views.turns:  # before the look: who looks and then waits finds the end gone
                    exit_, told, size = self._process.exit, describe(self._process), self._process.output.journal.size
                    is_final = not self._process.output.is_open
                    view = await self._view(size, final=is_final)
                is_news = not self._wanted.for_output or view.end > self._wanted.start
                if exit_ or is_news or loop.time() >= latest:  # else all that came may be the beginning of a secret
                    break
        return Seen(told, view, self._lost_bytes(view))

    async def _wait(self, bell: Bell, size: int, latest: float, *, was_final: bool) -> None:
        """Until what is waited for has happened; of output, until there is more than ``size``, or there will be no
        more, so that what might have become a secret is none.
        """
        loop = asyncio.get_running_loop()
        while self._process.is_running and (left := latest - loop.time()) > 0:
            output = self._process.output
            if self._wanted.for_output and (output.journal.size > size or not (was_final or output.is_open)):
                return
            await bell.wait(left)

    async def _view(self, end: int, *, final: bool) -> View:
        """The view of what is printed up to ``end``."""
        start, shape, renderer = self._wanted.start, self._wanted.shape, self._wanted.renderer
        view: View | None = None
        before: Windows | None = None
        for size in sizes(shape.most_bytes):
            wanted = ranges(start, end, size=size, context=context_bytes(renderer.secrets))
            read = [await self._read(*each) for each in wanted]
            now = windows(read, wanted, start, end, size=size)
            if before and is_less(now, before):
                break  # less output makes no better view
            before = now
            view = await self._views.compose(*now, end=end, final=final, shape=shape, renderer=renderer)
            if view.is_enough:
                break
        assert view, "there is at least one size"
        return view

    async def _read(self, start: int, end: int) -> list[Run]:
        """What is there between two offsets."""
        runs: list[Run] = []
        parts: list[bytes] = []
        begin = start  # of the parts
        while start < end:
            piece = await self._process.output.read(start, end - start)
            if piece.gap:
                runs.append(Run(begin, b"".join(parts)))
                begin, parts = piece.offset, []
            data = piece.data[: max(0, end - piece.offset)]  # behind a gap it may reach further
            parts.append(data)
            start = piece.offset + len(data)
            if not data:
                break
        runs.append(Run(begin, b"".join(parts)))
        return [run for run in runs if run.data]

    def _lost_bytes(self, view: View) -> int:
        omission = view.omission
        return self._process.output.journal.lost_between(omission.start, omission.end) if omission else 0
