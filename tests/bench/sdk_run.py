"""``agent.run`` of /bin/true from Python, with and without an event loop, beside ``subprocess.run``."""

import asyncio
import subprocess
import time
from collections.abc import Callable
from functools import partial

from guyline.client import Agent, AsyncAgent
from tests.bench.harness import Figure, in_ms, interleaved, seconds
from tests.support.agent import RunningAgent

_ROUNDS = 500
_TRUE = ["/bin/true"]


async def measure() -> list[Figure]:
    """Returns p50 and p99 of both."""
    async with RunningAgent() as running, AsyncAgent(running.address) as agent:
        with Agent(running.address) as blocking:

            async def sync() -> float:
                return await asyncio.to_thread(_timed, partial(blocking.run, _TRUE, check=True))

            async def bare() -> float:
                return await asyncio.to_thread(_timed, partial(subprocess.run, _TRUE, check=True))

            awaited, waited, reference = await interleaved(
                _ROUNDS, partial(seconds, partial(agent.run, _TRUE, check=True)), sync, bare
            )
    return [
        *in_ms("sdk_run.async", awaited, reference, "subprocess.run"),
        *in_ms("sdk_run.sync", waited, reference, "subprocess.run"),
    ]


def _timed(act: Callable[[], object]) -> float:
    start = time.perf_counter()
    act()
    return time.perf_counter() - start
