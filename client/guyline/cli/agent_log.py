"""What an agent that this command runs says on standard error."""

import asyncio
import contextlib

from guyline.cli.sink import STDERR, write

_KEPT_BYTES = 64 * 1024
_LAST_WORDS = 1.0
"""Seconds for what an agent that has ended has said; somebody else may hold its standard error open."""


class AgentLog:
    """Keeps what the agent says until it is let go, the newest 64 KiB, and passes everything on from then on. If the
    agent cannot start, it has said why.

    Args:
        source: The agent's standard error. None: it has this command's own.
    """

    def __init__(self, source: asyncio.StreamReader | None) -> None:
        self._source = source
        self._kept = b""
        self._is_let_go = False
        self._is_over = asyncio.Event()

    @property
    def kept(self) -> str:
        """What has been said, and not been passed on."""
        return self._kept.decode(errors="replace").strip()

    async def pass_on(self) -> None:
        """Reads it to its end."""
        while self._source is not None and (data := await self._source.read(_KEPT_BYTES)):
            self._kept = (self._kept + data)[-_KEPT_BYTES:]
            if self._is_let_go:
                await self.let_go()
        self._is_over.set()

    async def let_go(self) -> None:
        """Passes on what is kept, and what comes."""
        self._is_let_go = True
        kept, self._kept = self._kept, b""
        with contextlib.suppress(OSError):  # where nobody reads complaints, nobody misses one
            await write(STDERR, kept)

    async def over(self) -> None:
        """Returns once everything is read, or soon."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LAST_WORDS):
                await self._is_over.wait()
