"""From a key typed into a terminal to its echo on the screen, beside a bare pair of terminal ends in this process."""

import os
import time
from collections.abc import AsyncGenerator

from guyline.client import AsyncAgent, AsyncProcess, Chunk, Terminal
from tests.bench.harness import Figure, in_ms, interleaved
from tests.support.agent import RunningAgent

_ROUNDS = 500


async def measure() -> list[Figure]:
    """Returns p50 and p99, by a write through the agent and what a follower of the terminal then sees."""
    async with RunningAgent() as running, AsyncAgent(running.address) as agent:
        process = await agent.open("stty -icanon; echo ready; exec sleep 1000", terminal=Terminal())
        screen = process.output()
        while b"ready" not in (await anext(screen)).data:
            pass
        master, slave = os.openpty()
        try:

            async def ours() -> float:
                return await _typed(process, screen)

            async def bare() -> float:
                return _echoed(master)

            echo, reference = await interleaved(_ROUNDS, ours, bare)
        finally:
            os.close(master)
            os.close(slave)
        await screen.aclose()
        await process.cancel(grace=0, wait=10)
    return in_ms("keystroke", echo, reference, "bare pty pair")


async def _typed(process: AsyncProcess, screen: AsyncGenerator[Chunk, None]) -> float:
    start = time.perf_counter()
    await process.write(b"x")
    while b"x" not in (await anext(screen)).data:
        pass
    return time.perf_counter() - start


def _echoed(master: int) -> float:
    start = time.perf_counter()
    os.write(master, b"x")
    os.read(master, 16)
    return time.perf_counter() - start
