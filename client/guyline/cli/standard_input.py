"""What this command is given to read, passed on to a process."""

import asyncio
import os
from collections.abc import AsyncGenerator

from guyline.cli.keys import DetachKeys

STDIN = 0
_READ_BYTES = 64 * 1024
_HELD_BYTES = 1 << 20
"""So much is read ahead of the process."""


async def standard_input(keys: DetachKeys) -> AsyncGenerator[bytes, None]:
    """Gives what comes, as it comes, and ends with it, or where the keys are found. Reads no more than a MiB ahead.

    The keys are looked for ahead as well: a process that reads nothing can still be left.
    """
    reader: _Reader | _AlwaysReady
    try:
        reader = _Reader(keys)
    except PermissionError:  # epoll's word for what is always ready: a file, /dev/null, /dev/zero
        reader = _AlwaysReady(keys)
    try:
        while data := await reader.read():
            yield data
    finally:
        reader.close()


class _Reader:
    """Reads whenever there is something, without making the descriptor non-blocking: others may have it as well."""

    def __init__(self, keys: DetachKeys) -> None:
        self._keys = keys
        self._loop = asyncio.get_running_loop()
        self._held = bytearray()
        self._more = asyncio.Event()
        self._is_reading = False
        self._is_over = False
        self._read_on()

    async def read(self) -> bytes:
        """All that has come since; nothing at the end."""
        await self._more.wait()
        data = bytes(self._held)
        self._held.clear()
        if not self._is_over:
            self._more.clear()
            self._read_on()
        return data

    def close(self) -> None:
        if self._is_reading:
            self._loop.remove_reader(STDIN)
            self._is_reading = False

    def _read_on(self) -> None:
        if not self._is_reading:
            self._loop.add_reader(STDIN, self._take)
            self._is_reading = True

    def _take(self) -> None:
        try:
            data = _read(_READ_BYTES)
        except BlockingIOError:
            return
        self._held += self._keys.feed(data)
        self._is_over = not data or self._keys.found
        if self._is_over or len(self._held) >= _HELD_BYTES:
            self.close()
        if self._is_over or self._held:
            self._more.set()


class _AlwaysReady:
    """Reads, in a thread, what the loop cannot watch."""

    def __init__(self, keys: DetachKeys) -> None:
        self._keys = keys

    async def read(self) -> bytes:
        """As above."""
        while not self._keys.found and (data := await asyncio.to_thread(_read, _HELD_BYTES)):
            if passed := self._keys.feed(data):
                return passed
        return b""

    def close(self) -> None:
        """There is nothing to end."""


def _read(size: int) -> bytes:
    try:
        return os.read(STDIN, size)
    except BlockingIOError:
        raise
    except OSError:  # EIO: the terminal is gone; EISDIR: it is a directory. Nothing can come from there
        return b""
