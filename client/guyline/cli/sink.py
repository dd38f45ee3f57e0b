"""Where output goes: the descriptors of this command, without ever blocking the event loop."""

import asyncio
import base64
import json
from abc import ABC, abstractmethod
from dataclasses import replace

from guyline.cli.descriptor import write_all
from guyline.cli.say import complain
from guyline.client.enums import OutputStream
from guyline.client.values import Chunk

STDOUT, STDERR = 1, 2

_GAP_NOTE = "guyline: {} bytes of output are missing here: they are no longer kept"


class Sink(ABC):
    """Takes what a process prints."""

    @abstractmethod
    async def take(self, chunk: Chunk) -> None:
        """Passes a piece on.

        Raises:
            OSError: The descriptor does not take it; BrokenPipeError if nobody reads it any more.
        """


class Descriptors(Sink):
    """Bytes as they are, each stream to its descriptor. Gaps are said on standard error."""

    async def take(self, chunk: Chunk) -> None:
        """As above."""
        if chunk.gap is not None:
            await asyncio.to_thread(complain, _GAP_NOTE.format(chunk.gap.stop - chunk.gap.start))
        await write(STDERR if chunk.stream is OutputStream.STDERR else STDOUT, chunk.data)


class JsonLines(Sink):
    """A line of JSON for each piece."""

    async def take(self, chunk: Chunk) -> None:
        """As above."""
        said: dict[str, object] = {
            "offset": chunk.offset,
            "stream": chunk.stream.label,
            "base64": base64.b64encode(chunk.data).decode(),
        }
        if chunk.printed_at is not None:
            said["printed_at"] = chunk.printed_at.isoformat()
        if chunk.gap is not None:
            said["gap"] = {"from": chunk.gap.start, "to": chunk.gap.stop}
        await write_json({"output": said})


class Stamped(Sink):
    """Before each line, when it was printed, in local time. A line that came in pieces has the time of the first."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._at_line_start = dict.fromkeys(OutputStream, True)

    async def take(self, chunk: Chunk) -> None:
        """As above."""
        if not chunk.data or chunk.printed_at is None:
            return await self._sink.take(chunk)
        stamp = chunk.printed_at.astimezone().isoformat(timespec="seconds").encode() + b" "
        stamped = stamp.join(_lines(chunk.data))
        if self._at_line_start[chunk.stream]:
            stamped = stamp + stamped
        self._at_line_start[chunk.stream] = chunk.data.endswith(b"\n")
        return await self._sink.take(replace(chunk, data=stamped))


def _lines(data: bytes) -> list[bytes]:
    """Lines with their ends. (`splitlines` would also split at carriage returns, which progress bars are full of.)"""
    lines = data.split(b"\n")
    return [line + b"\n" for line in lines[:-1]] + ([lines[-1]] if lines[-1] else [])


async def write_json(said: object) -> None:
    """Prints a line of JSON on standard output."""
    await write(STDOUT, json.dumps(said).encode() + b"\n")


async def write(descriptor: int, data: bytes) -> None:
    """Writes all of it. In a thread: a pipe that nobody empties blocks its writer, and signals must get through."""
    if data:
        await asyncio.to_thread(write_all, descriptor, data)
