"""An hour of mixed work on one agent: what it holds must be flat.

    python -m tests.endurance [--seconds 3600]

Prints what is held by and by, and at the end a line of JSON; exits with 1 if something has grown.
"""

import argparse
import asyncio
import json
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass

from guyline.client import AsyncAgent
from tests.endurance.work import KINDS
from tests.support import proc
from tests.support.agent import RunningAgent

_SETTINGS = {"ended_retention": 60, "max_ended": 1500, "max_keys": 1500, "journal_quota_bytes": 256 << 20}
"""So that everything that is kept for a time has gone again many times before the end."""
_SAMPLES = 60
_MAY_GROW = {"keeper_bytes": 2 << 20, "worker_bytes": 16 << 20, "keeper_descriptors": 8, "worker_descriptors": 16}


@dataclass(frozen=True)
class Held:
    """What an agent holds at a moment."""

    keeper_bytes: int
    worker_bytes: int
    keeper_descriptors: int
    worker_descriptors: int
    journal_bytes: int
    record_bytes: int
    processes: int


async def held(running: RunningAgent, agent: AsyncAgent) -> Held:
    """Memory is what each process has for itself (PSS)."""
    info = await agent.info()
    return Held(
        keeper_bytes=proc.proportional_bytes(running.keeper_pid),
        worker_bytes=proc.proportional_bytes(running.worker_pid),
        keeper_descriptors=len(proc.descriptors(running.keeper_pid)),
        worker_descriptors=len(proc.descriptors(running.worker_pid)),
        journal_bytes=info.disk_use["journal_bytes"],
        record_bytes=info.disk_use["record_bytes"],
        processes=info.running_processes,
    )


async def _repeat(kind: Callable[[AsyncAgent, int], Awaitable[None]], agent: AsyncAgent, until: float) -> int:
    rounds = 0
    while time.monotonic() < until:
        await kind(agent, rounds)
        rounds += 1
    return rounds


async def endure(seconds: float) -> tuple[list[Held], dict[str, int]]:
    """Does everything side by side for so long; returns what was held, and how often each kind of work was done."""
    samples: list[Held] = []
    until = time.monotonic() + seconds
    async with (
        RunningAgent(settings=_SETTINGS) as running,
        AsyncAgent(running.address) as agent,
        asyncio.TaskGroup() as group,
    ):
        work = {kind.__name__: group.create_task(_repeat(kind, agent, until)) for kind in KINDS}
        while time.monotonic() < until:
            await asyncio.sleep(seconds / _SAMPLES)
            samples.append(await held(running, agent))
            print(json.dumps(asdict(samples[-1])), file=sys.stderr, flush=True)
    return samples, {name: task.result() for name, task in work.items()}


def growth(samples: list[Held]) -> dict[str, float]:
    """The last quarter's median less the second quarter's, by name. The first quarter is for warming up."""
    quarter = len(samples) // 4
    before, after = samples[quarter : 2 * quarter], samples[-quarter:]
    return {name: _median(after, name) - _median(before, name) for name in _MAY_GROW}


def _median(samples: list[Held], name: str) -> float:
    return float(statistics.median(getattr(sample, name) for sample in samples))


def main() -> None:
    """Works, and judges."""
    parser = argparse.ArgumentParser(prog="python -m tests.endurance")
    parser.add_argument("--seconds", type=float, default=3600.0)
    samples, rounds = asyncio.run(endure(parser.parse_args().seconds))
    grown = growth(samples)
    failed = [name for name, by in grown.items() if by > _MAY_GROW[name]]
    print(json.dumps({"rounds": rounds, "grown": grown, "first": asdict(samples[0]), "last": asdict(samples[-1])}))
    sys.exit(f"grown beyond what is allowed: {', '.join(failed)}" if failed else 0)


if __name__ == "__main__":
    main()
