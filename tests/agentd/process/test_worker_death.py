"""The worker may die at any moment: no command runs twice, no byte and no exit is lost, callers see a pause."""

import asyncio
import os
import random
from collections import Counter
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

import pytest

from guyline.agentd.process.faults import STEPS
from guyline.client import AsyncAgent
from tests.support import faulty_agent, proc
from tests.support.agent import AgentProcess, RunningAgent
from tests.support.clock import MS, moment, until
from tests.support.program import program
from tests.support.programs.noise import digest

SOAK = bool(os.environ.get("GUYLINE_SOAK"))
KILLS = 300 if SOAK else 20
NOISE_BYTES = (2000 if SOAK else 150) << 20


@pytest.mark.parametrize("step", STEPS)
async def test_a_worker_that_dies_between_two_steps_loses_and_repeats_nothing(step: str, tmp_path: Path) -> None:
    """The caller repeats its start by key, unseen: one command ran, and its output and exit are those of that one."""
    marks, armed = tmp_path / "marks", tmp_path / "armed"
    process = AgentProcess(program=(faulty_agent.__file__,), environment={faulty_agent.VARIABLE: str(armed)})
    async with RunningAgent(process=process, owns_process=True) as running, AsyncAgent(running.address) as agent:
        held_before = len(proc.descriptors(running.keeper_pid))
        armed.write_text(step)

        command = await agent.open(f"echo ran >> {marks}; echo out; echo err >&2; exit 7")
        output = b"".join([chunk.data async for chunk in command.output()])
        exit_ = await command.wait()
        await running.serves_again()

        assert not armed.exists(), "the worker did not come by this step"
        assert marks.read_text() == "ran\n"
        assert (output, exit_.code) == (b"out\nerr\n", 7)
        await until(lambda: len(proc.descriptors(running.keeper_pid)) == held_before)
        assert not [child for child in proc.children(running.keeper_pid) if child.is_zombie]


@pytest.mark.timeout(3600 if SOAK else 120)
async def test_random_deaths_under_load_lose_and_repeat_nothing(agent: RunningAgent, tmp_path: Path) -> None:
    """Heavy output, hundreds of short commands, and a worker that is killed again and again at random moments."""
    marks = tmp_path / "marks"
    enough = asyncio.Event()
    # After quick deaths the keeper lets up to 2 s pass; for how long a client bears that is no subject here.
    async with AsyncAgent(agent.address, patience=600) as client, asyncio.TaskGroup() as group:
        streams = [group.create_task(follow_noise(client, seed, enough)) for seed in (1, 2)]
        shorts = [group.create_task(run_short_commands(client, marks, name, enough)) for name in "abcd"]
        await kill_workers(agent, KILLS, seed=7)
        enough.set()
    short_runs = Counter({number: 1 for task in shorts for number in task.result()})

    assert Counter(marks.read_text().split()) == short_runs
    assert all(task.result() >= 1 for task in streams)
    assert not [child for child in proc.children(agent.keeper_pid) if child.is_zombie]


async def follow_noise(client: AsyncAgent, seed: int, enough: asyncio.Event) -> int:
    """Runs loud commands, one after the other, until enough workers have died; each must arrive byte by byte."""
    rounds = 0
    while not rounds or not enough.is_set():
        process = await client.open(program("noise", seed, NOISE_BYTES // 10, "--exit", 3))
        seen = sha256()
        async for chunk in process.output():
            assert chunk.gap is None
            seen.update(chunk.data)
        assert seen.hexdigest() == digest(seed, NOISE_BYTES // 10)
        assert (await process.wait()).code == 3
        rounds += 1
    return rounds


async def run_short_commands(client: AsyncAgent, marks: Path, name: str, enough: asyncio.Event) -> list[str]:
    """Runs short commands, one after the other; returns what each should have left in ``marks``, once."""
    ran: list[str] = []
    while not enough.is_set():
        number = f"{name}{len(ran)}"
        process = await client.open(f"echo {number} >> {marks}; echo {number}; exit {len(ran) % 100}")
        output = b"".join([chunk.data async for chunk in process.output()])
        exit_ = await process.wait()
        assert (output, exit_.code) == (f"{number}\n".encode(), len(ran) % 100)
        ran.append(number)
    return ran


async def kill_workers(agent: RunningAgent, times: int, *, seed: int) -> None:
    """Kills the worker at random moments of its life; often before it has served at all."""
    source = random.Random(seed)
    for _ in range(times):
        worker = await next_worker(agent)
        await moment(source.uniform(0, 700) * MS)
        with suppress(ProcessLookupError):
            os.kill(worker, 9)
        await proc.dead(worker)


async def next_worker(agent: RunningAgent) -> int:
    """Waits until the keeper has a worker, whether it serves or not."""
    found: list[int] = []

    def look() -> bool:
        workers = [each.pid for each in proc.children(agent.keeper_pid) if "agentd.main" in proc.command_line(each.pid)]
        found[:] = [pid for pid in workers if proc.is_alive(pid)]
        return bool(found)

    await until(look)
    return found[0]
