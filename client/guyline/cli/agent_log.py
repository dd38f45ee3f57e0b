"""What an agent that this command runs says on standard error."""

import asyncio
import contextlib
import os
import threading

from guyline.cli.sink import STDERR

_KEPT_BYTES = 64 * 1024
_LAST_WORDS = 1.0
"""Seconds for what an agent that has ended has said; somebody else may hold its standard error open, or nobody read
this command's own.
"""


class AgentLog:
    """Keeps what the agent says until it is let go, the newest 64 KiB, and passes everything on from then on. If the
    agent cannot start, it has said why.

    A reader who is slow is waited for, in a thread of its own that no exit waits for: what finds no room among the 64
    KiB meanwhile is dropped, the oldest first, and counted.

    Args:
        source: The agent's standard error. None: it has this command's own.
    """

    def __init__(self, source: asyncio.StreamReader | None) -> None:
        self.is_let_go = False
        self._source = source
        self._kept = b""
        self._dropped_bytes = 0
        self._is_over = asyncio.Event()
        self._is_last = False
        self._news = threading.Condition()  # about what is kept, and whether more will come
        self._writer = threading.Thread(target=self._write, name="agent log", daemon=True)

    @property
    def kept(self) -> str:
        """What has been said, and not been passed on."""
        return self._kept.decode(errors="replace").strip()

    async def pass_on(self) -> None:
        """Reads it to its end."""
        while self._source is not None and (data := await self._source.read(_KEPT_BYTES)):
            with self._news:
                kept = self._kept + data
                self._kept = kept[-_KEPT_BYTES:]
                self._dropped_bytes += len(kept) - len(self._kept)
                self._news.notify()
        self._is_over.set()

    def let_go(self) -> None:
        """Passes on what is kept, and what comes."""
        if not self.is_let_go:
            self.is_let_go = True
            self._writer.start()

    async def over(self) -> None:
        """Returns once everything is read, or soon."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LAST_WORDS):
                await self._is_over.wait()

    def finish(self, instead: str | None = None) -> None:
        """Returns once what is kept is passed on, or this in place of it, or soon. Nothing that comes after it is."""
        with self._news:
            if instead is not None:
                self._kept, self._dropped_bytes = f"{instead}\n".encode(), 0
        self.let_go()
        with self._news:
            self._is_last = True
            self._news.notify()
        self._writer.join(_LAST_WORDS)

    def _write(self) -> None:
        while data := self._next():
            with contextlib.suppress(OSError):  # nobody reads it, or there is no room now: the next may find some
                while data:
                    data = data[os.write(STDERR, data) :]

    def _next(self) -> bytes:
        """What is to be written, as soon as there is something; empty: nothing more will be."""
        with self._news:
            self._news.wait_for(lambda: self._kept or self._is_last)
            data, self._kept = self._kept, b""
            dropped, self._dropped_bytes = self._dropped_bytes, 0
        return b'\n{"event":"log bytes dropped","bytes":%d}\n' % dropped + data if dropped else data
