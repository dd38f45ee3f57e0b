"""The stream of output with which a handle begins, until somebody reads it."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, contextmanager, suppress

from guyline.client.errors import GuylineError
from guyline.client.following import FollowedOutput, OutputMessage
from guyline.client.pacing import Pacing

_Take = Callable[[AsyncGenerator[OutputMessage, None]], AsyncGenerator[object, None]]


class Opened:
    """A stream of output of which the first message has come. Its process waits for it, if it is slow.

    Nobody reads it until `messages` is taken over. Meanwhile, for as long as somebody waits for something of the
    process, it is `flowing`: what comes is dropped, so that the process goes on. It keeps the pacing all the time, so
    that neither a reader elsewhere loses it, nor the process goes on for good once the wait is over.

    Args:
        followed: What is followed.
        first: Its first message.
        rest: The others.
        pacing: Says of a call that is made after a break whether it paces the process.
    """

    def __init__(
        self,
        followed: FollowedOutput,
        first: OutputMessage,
        rest: AsyncGenerator[OutputMessage, None],
        *,
        pacing: Pacing,
    ) -> None:
        self.followed = followed
        self._pacing = pacing
        self.first = first
        self._rest = rest
        self._flow: AsyncGenerator[object, None] | None = None
        self._waiters = 0
        self._dropping: asyncio.Task[None] | None = None
        self._closing: asyncio.Task[None] | None = None

    @property
    def is_whole(self) -> bool:
        """Whether nothing of it was dropped."""
        return self._flow is None

    @property
    def is_flowing(self) -> bool:
        """Whether somebody has it flow."""
        return self._waiters > 0

    async def messages(self) -> AsyncGenerator[OutputMessage, None]:
        """All of it, the first message as well."""
        async with aclosing(self._rest):
            yield self.first
            async for message in self._rest:
                yield message

    @contextmanager
    def flowing(self, take: _Take, *, stopped: Callable[[], None]) -> Iterator[None]:
        """Has the process go on for the length of the block. ``take`` sees what is dropped; ``stopped`` is called once
        nothing is any more.
        """
        self._flow = self._flow or take(self.messages())
        self._waiters += 1
        if self._dropping is None or self._dropping.done():
            self._dropping = asyncio.create_task(self._drop(self._flow, stopped))
        try:
            yield
        finally:
            self._waiters -= 1

    async def flowed(self) -> None:
        """Returns once nothing more comes of it, if it is `flowing`. Cancelling is safe."""
        if self._dropping is not None:
            await asyncio.wait({self._dropping})

    async def aclose(self) -> None:
        """Lets go of it, also if this is cancelled: nobody else would, and the process would wait for it."""
        self._closing = self._closing or asyncio.create_task(self._close())
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        if self._dropping is not None:
            self._dropping.cancel()
            await asyncio.wait({self._dropping})
        if self._flow is not None:
            await self._flow.aclose()
        await self._rest.aclose()  # a flow that has not begun closes nothing

    async def _drop(self, flow: AsyncGenerator[object, None], stopped: Callable[[], None]) -> None:
        """Ends with the first message after the last wait: to give up waiting for one would end the stream."""
        with self._pacing.among(self.followed, reads=False), suppress(GuylineError):  # the wait itself tells of it
            while self._waiters and await anext(flow, None) is not None:
                pass
        stopped()
