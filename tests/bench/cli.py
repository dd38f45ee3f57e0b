"""``guyline exec true``, the whole process from its start to its end, beside ``python -c pass``."""

import asyncio
import os
import sys
from functools import partial
from pathlib import Path

from tests.bench.harness import Aim, Figure, in_ms, interleaved, seconds
from tests.support.agent import RunningAgent

_ROUNDS = 100
_AIMS = (Aim("value", "<=", 150), None)


async def measure() -> list[Figure]:
    """Returns p50 and p99 of the command's whole life."""
    guyline = str(Path(sys.executable).with_name("guyline"))
    async with RunningAgent() as agent:
        environment = os.environ | {"GUYLINE_AGENT_ADDRESS": agent.address}
        ours, theirs = await interleaved(
            _ROUNDS,
            partial(seconds, partial(_run, [guyline, "exec", "true"], environment)),
            partial(seconds, partial(_run, [sys.executable, "-c", "pass"], environment)),
        )
    return in_ms("cli", ours, theirs, "python -c pass", aims=_AIMS)


async def _run(argv: list[str], environment: dict[str, str]) -> None:
    child = await asyncio.create_subprocess_exec(*argv, env=environment)
    assert await child.wait() == 0, f"{argv[0]} failed"
