"""From ``kill -9`` of the worker to the first answered call, beside the cold start of a bare gRPC server."""

import asyncio
import time
from functools import partial

from tests.bench.harness import Figure, Sample, interleaved
from tests.bench.many import PROCESSES, live
from tests.bench.reference import bare_server
from tests.support.agent import RunningAgent

_ROUNDS = 5
_LONG_LIFE = 11.0  # seconds; the keeper restarts at once what lived for 10, and lets a crash loop wait


async def measure() -> list[Figure]:
    """Returns the median, with no process and with a thousand."""
    async with RunningAgent() as agent:
        alone = await _beside_cold_start(agent)
        async with live(agent, PROCESSES):
            crowded = await _beside_cold_start(agent)
    return [_figure("0", *alone), _figure(str(PROCESSES), *crowded)]


async def _beside_cold_start(agent: RunningAgent) -> list[Sample]:
    return await interleaved(_ROUNDS, partial(_kill_and_ask, agent), _cold_start)


async def _kill_and_ask(agent: RunningAgent) -> float:
    await asyncio.sleep(_LONG_LIFE)
    start = time.perf_counter()
    await agent.kill_worker()
    await agent.serves_again()
    return time.perf_counter() - start


async def _cold_start() -> float:
    start = time.perf_counter()
    async with bare_server():
        return time.perf_counter() - start


def _figure(processes: str, ours: Sample, theirs: Sample) -> Figure:
    return Figure(
        f"recovery.{processes}_processes", ours.median * 1000, "ms", theirs.median * 1000, "bare server, cold start"
    )
