"""What this command is given to read, passed on to a process."""

import asyncio
import os
import stat
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
    if stat.S_ISREG(os.fstat(STDIN).st_mode):  # always ready, as far as the loop can tell
        while data := await asyncio.to_thread(os.read, STDIN, _HELD_BYTES):
            if passed := keys.feed(data):
                yield passed
            if keys.found:
                return
        return
    reader = _Reader(keys)
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
            data = os.read(STDIN, _READ_BYTES)
        except BlockingIOError:
            return
        except OSError:  # EIO: the terminal is gone
            data = b""
        self._held += self._keys.feed(data)
        self._is_over = not data or self._keys.found
        if self._is_over or len(self._held) >= _HELD_BYTES:
            self.close()
        if self._is_over or self._held:
            self._more.set()
