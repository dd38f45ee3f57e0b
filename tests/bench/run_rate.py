"""How many /bin/true per second the agent runs, 32 at once, beside bare Popen doing the same."""

import asyncio
import sys
import time
from pathlib import Path

from tests.bench.harness import Figure, interleaved
from tests.bench.run_true import run_true
from tests.support.agent import RunningAgent

_ROUNDS = 7
_AT_ONCE = 32
_TOTAL = 640


async def measure() -> list[Figure]:
    """Returns the rate."""
    async with RunningAgent() as agent:

        async def ours() -> float:
            start = time.perf_counter()
            async with asyncio.TaskGroup() as lanes:
                for _ in range(_AT_ONCE):
                    lanes.create_task(_lane(agent, _TOTAL // _AT_ONCE))
            return _TOTAL / (time.perf_counter() - start)

        rate, reference = await interleaved(_ROUNDS, ours, _popen)
    return [Figure("run_rate.32_at_once", rate.median, "1/s", reference.median, "bare Popen")]


async def _lane(agent: RunningAgent, times: int) -> None:
    for _ in range(times):
        await run_true(agent)


async def _popen() -> float:
    command = [sys.executable, "-m", "tests.bench.popen_rate", str(_TOTAL), str(_AT_ONCE)]
    child = await asyncio.create_subprocess_exec(
        *command, cwd=Path(__file__).parents[2], stdout=asyncio.subprocess.PIPE
    )
    printed, _ = await child.communicate()
    assert child.returncode == 0
    return float(printed)
