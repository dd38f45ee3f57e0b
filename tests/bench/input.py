"""How fast a process is fed, beside a bare pipe to the same program."""

import asyncio
import time

from guyline.client import AsyncAgent, InputMode
from tests.bench.harness import Figure, interleaved
from tests.support.agent import RunningAgent

_BYTES = 256 << 20
_ROUNDS = 5
_READER = ["wc", "-c"]
_PIECE = bytes(4 << 20)


async def measure() -> list[Figure]:
    """Returns MB/s of one input stream."""
    async with RunningAgent() as running, AsyncAgent(running.address) as agent:

        async def fed() -> float:
            start = time.perf_counter()
            process = await agent.open(_READER, stdin=InputMode.PIPE)
            await process.write((_PIECE for _ in range(_BYTES // len(_PIECE))), eof=True)
            assert (await process.wait()).code == 0
            return _BYTES / (time.perf_counter() - start) / 1e6

        ours, bare = await interleaved(_ROUNDS, fed, _piped)
    return [Figure("input.one", ours.median, "MB/s", bare.median, "bare pipe")]


async def _piped() -> float:
    start = time.perf_counter()
    child = await asyncio.create_subprocess_exec(
        *_READER, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL
    )
    assert child.stdin is not None
    for _ in range(_BYTES // len(_PIECE)):
        child.stdin.write(_PIECE)
        await child.stdin.drain()
    child.stdin.close()
    await child.wait()
    return _BYTES / (time.perf_counter() - start) / 1e6
