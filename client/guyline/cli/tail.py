"""Where in the output to begin."""

from collections import deque
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime

from guyline.client.process import AsyncProcess

_FIRST_LOOK_BYTES = 64 * 1024
_FURTHER = 8


@dataclass(frozen=True)
class Beginning:
    """Where to begin, as `Process.output` takes it: at an offset, or at a time; with neither, at the beginning."""

    from_offset: int | None = None
    since: datetime | None = None


FROM_THE_START = Beginning()


async def beginning(process: AsyncProcess, *, since: int | datetime | None, tail: tuple[int, bool] | None) -> Beginning:
    """Where to begin.

    Args:
        process: Whose output.
        since: An offset, or a time.
        tail: A number, and whether it counts lines; else bytes.
    """
    if isinstance(since, datetime):
        return Beginning(since=since)
    if tail is None:
        return Beginning(since)
    count, counts_lines = tail
    if counts_lines:
        return Beginning(await _last_lines(process, count))
    return Beginning(max(0, process.info.output_bytes - count))


async def _last_lines(process: AsyncProcess, lines: int) -> int | None:
    """Looks further and further back. Holds offsets only, not the output."""
    end = process.info.output_bytes
    size = _FIRST_LOOK_BYTES
    while True:
        look_from = max(0, end - size)
        starts = await _line_starts(process, look_from, end, at_most=lines)
        if len(starts) == lines:
            return starts[0] if lines else end
        if not look_from:
            return None
        size *= _FURTHER


async def _line_starts(process: AsyncProcess, start: int, end: int, *, at_most: int) -> deque[int]:
    """Where the last ``at_most`` lines between the two offsets begin, as far as their begin is seen."""
    starts: deque[int] = deque([0] if start == 0 else [], maxlen=at_most)
    async with aclosing(process.output(from_offset=start, snapshot=True)) as chunks:
        async for chunk in chunks:
            newline = chunk.data.find(b"\n")
            while newline >= 0 and chunk.offset + newline + 1 < end:
                starts.append(chunk.offset + newline + 1)
                newline = chunk.data.find(b"\n", newline + 1)
    return starts
