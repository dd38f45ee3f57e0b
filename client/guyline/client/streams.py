"""The streams of output of one handle: the one that it began with, those that are read, those by which it waits."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager, nullcontext, suppress
from typing import Unpack

from guyline.client.beside import beside
from guyline.client.connection import Connection
from guyline.client.errors import GuylineError
from guyline.client.following import FollowedOutput, OutputMessage, follow
from guyline.client.opened import Opened
from guyline.client.options import OutputRange
from guyline.client.pacing import Pacing
from guyline.client.requests import to_attach_request
from guyline.client.values import ProcessInfo
from guyline.client.wire import Update, to_update

_Stream = tuple[FollowedOutput, AsyncGenerator[OutputMessage, None]]


class Streams:
    """Gives out streams of one process's output, and lets no more than one of them pace it.

    Args:
        connection: The way to the agent.
        process_id: Whose output.
        pacing: Which of them paces the process.
        keepalive: Seconds after which a quiet stream shows that it is alive.
        opened: The one that was opened with the handle.
        told: Takes what a message says of the process, and gives the process as of then.
    """

    def __init__(
        self,
        connection: Connection,
        process_id: str,
        *,
        pacing: Pacing,
        keepalive: float,
        opened: Opened | None,
        told: Callable[[Update], ProcessInfo],
    ) -> None:
        self._connection = connection
        self._process_id = process_id
        self._pacing = pacing
        self._keepalive = keepalive
        self._opened = opened
        self._detach_after = opened.followed.detach_after if opened else None
        self._told = told
        self._reopening: asyncio.Task[None] | None = None

    async def aclose(self) -> None:
        """Lets go of the stream that nobody has read."""
        opened = self._take()
        if opened is not None:
            await opened.aclose()
        if self._reopening is not None:
            await asyncio.wait({self._reopening})

    async def read(self, *, times: bool, **where: Unpack[OutputRange]) -> AsyncGenerator[Update, None]:
        """What comes of the output, and of the process, to its exit. The process waits for who reads slowly."""
        snapshot = where.get("snapshot", False)
        plain = not (snapshot or times) and all(value is None for key, value in where.items() if key != "snapshot")
        opened = await self._take_opened() if plain else None
        followed, messages = opened or self._attached(times=times, **where)
        try:
            with nullcontext() if snapshot else self._pacing.among(followed, reads=True):
                async with aclosing(self._updates(messages)) as updates:
                    async for update in updates:
                        yield update
        finally:
            self._give_pacing_back()

    async def wait(self) -> AsyncGenerator[tuple[Update, bool], None]:
        """What comes of the process, to its exit or to the end of the opened stream; and of each whether the agent was
        asked for it now. The process waits for nobody.
        """
        opened = await self._take_whole()
        async with aclosing(self._waiting(*(opened or self._attached(without_output=True)))) as updates:
            async for update in updates:
                yield update, opened is None

    @asynccontextmanager
    async def flowing(self) -> AsyncIterator[None]:
        """For who waits for something of the process by other calls: else it would stand still once it had printed what
        is kept.
        """
        if not self._pacing.is_wanted:
            yield
            return
        self._stop_reopening()
        opened, stopped = self._opened, self._give_pacing_back
        try:
            with nullcontext() if opened is None else opened.flowing(self._updates, stopped=stopped):
                async with beside(self._drain()):
                    yield
        finally:
            self._give_pacing_back()

    def _give_pacing_back(self) -> None:
        """Has the process wait for the opened stream again, once all have left that came before it."""
        opened = self._opened
        if opened is None or opened.followed.ended or opened.is_flowing or not self._pacing.lacks(opened.followed):
            return
        self._stop_reopening()
        self._reopening = asyncio.create_task(self._reopen(opened))

    async def _reopen(self, opened: Opened) -> None:
        """Puts another in the place of the opened stream, from its beginning: only a new call is given the pacing."""
        followed, messages = self._begun_anew(opened)
        with self._pacing.among(followed, reads=True), suppress(GuylineError):  # who reads it then is told
            if (first := await anext(messages, None)) is None:
                return
            self._opened = Opened(followed, first, messages, pacing=self._pacing)
            await opened.aclose()

    def _stop_reopening(self) -> None:
        if self._reopening is not None:
            self._reopening.cancel()

    def _take(self) -> Opened | None:
        self._stop_reopening()
        opened, self._opened = self._opened, None
        return opened

    async def _drain(self) -> None:
        """Has the process print on. The opened stream does that, while it lasts."""
        with suppress(GuylineError):  # the wait itself tells of it
            if self._opened is not None:
                await self._opened.flowed()
            if self._pacing.is_wanted:
                await _to_the_end(self._waiting(*self._attached(without_output=True)))

    async def _waiting(
        self, followed: FollowedOutput, messages: AsyncGenerator[OutputMessage, None]
    ) -> AsyncGenerator[Update, None]:
        with self._pacing.among(followed, reads=False):
            async with aclosing(self._updates(messages)) as updates:
                async for update in updates:
                    yield update

    async def _take_whole(self) -> _Stream | None:
        """The opened stream. If something of it was dropped it is of no use any more, and closed."""
        opened = self._take()
        if opened is None:
            return None
        if opened.is_whole:
            return opened.followed, opened.messages()
        await opened.aclose()
        return None

    async def _take_opened(self) -> _Stream | None:
        """The opened stream, or if something of it was dropped the same again."""
        opened = self._opened
        if (whole := await self._take_whole()) is not None or opened is None:
            return whole
        return self._begun_anew(opened)

    def _begun_anew(self, opened: Opened) -> _Stream:
        followed = opened.followed.begun_anew()
        return followed, follow(self._connection, followed)

    def _attached(self, *, times: bool = False, without_output: bool = False, **where: Unpack[OutputRange]) -> _Stream:
        request = to_attach_request(self._process_id, where, times=times, without_output=without_output)
        if self._detach_after is not None and not (without_output or request.snapshot):
            request.detach_after.CopyFrom(self._detach_after)
        followed = FollowedOutput(request, pacing=self._pacing, keepalive=self._keepalive)
        return followed, follow(self._connection, followed)

    async def _updates(self, messages: AsyncGenerator[OutputMessage, None]) -> AsyncGenerator[Update, None]:
        async with aclosing(messages):
            async for message in messages:
                update = to_update(message)
                if self._told(update).exit is not None:
                    self._pacing.end()
                yield update


async def _to_the_end(updates: AsyncGenerator[Update, None]) -> None:
    async with aclosing(updates):
        async for _ in updates:
            pass
