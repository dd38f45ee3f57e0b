"""The worker may die at any moment: no command runs twice, no byte and no exit is lost, callers see a pause."""

import asyncio
import os
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from hashlib import sha256
from pathlib import Path

import pytest

from guyline.agentd.process.faults import INPUT_STEPS, LIMIT_STEPS, STEPS
from guyline.client import AsyncAgent, EndedBy, Terminal, TimeLimit
from tests.support import faulty_agent, proc
from tests.support.agent import AgentProcess, RunningAgent
from tests.support.clock import MS, moment, until
from tests.support.program import program
from tests.support.programs.noise import digest

SOAK = bool(os.environ.get("GUYLINE_SOAK"))
KILLS = 300 if SOAK else 20
NOISE_BYTES = (2000 if SOAK else 150) << 20


@asynccontextmanager
async def dies_at(step: str, folder: Path) -> AsyncIterator[AsyncAgent]:
    """An agent whose worker dies at this step, once. Afterwards it has, and nothing is left of what was run."""
    armed = folder / "armed"
    process = AgentProcess(program=(faulty_agent.__file__,), environment={faulty_agent.VARIABLE: str(armed)})
    async with RunningAgent(process=process, owns_process=True) as running, AsyncAgent(running.address) as agent:
        held_before = len(proc.descriptors(running.keeper_pid))
        armed.write_text(step)
        yield agent
        await running.serves_again()

        assert not armed.exists(), "the worker did not come by this step"
        await until(lambda: len(proc.descriptors(running.keeper_pid)) == held_before)
        assert not [child for child in proc.children(running.keeper_pid) if child.is_zombie]


@pytest.mark.parametrize("step", STEPS)
async def test_a_worker_that_dies_between_two_steps_loses_and_repeats_nothing(step: str, tmp_path: Path) -> None:
    """The caller repeats its start by key, unseen: one command ran, and its output and exit are those of that one."""
    marks = tmp_path / "marks"
    async with dies_at(step, tmp_path) as agent:
        over = await agent.run(f"echo ran >> {marks}; echo out; echo err >&2; exit 7")

    assert marks.read_text() == "ran\n"
    assert (over.output, over.exit.code) == (b"out\nerr\n", 7)


@pytest.mark.parametrize("step", STEPS)
async def test_the_same_of_a_command_in_a_terminal(step: str, tmp_path: Path) -> None:
    """It has other descriptors, and its output takes another way."""
    marks = tmp_path / "marks"
    async with dies_at(step, tmp_path) as agent:
        over = await agent.run(f"echo ran >> {marks}; stty size; exit 7", terminal=Terminal(90, 30))

    assert marks.read_text() == "ran\n"
    assert (over.output, over.exit.code) == (b"30 90\r\n", 7)


@pytest.mark.parametrize("step", INPUT_STEPS)
async def test_a_worker_that_dies_within_a_write_loses_and_repeats_nothing(step: str, tmp_path: Path) -> None:
    """The writer goes on where the agent says; the process reads every byte once, and the end."""
    data = random.Random(step).randbytes(3_000_000)
    async with dies_at(step, tmp_path) as agent:
        over = await agent.run("sha256sum; exit 7", input=data)

    assert over.output.split()[0].decode() == sha256(data).hexdigest()
    assert over.exit.code == 7


@pytest.mark.parametrize("step", LIMIT_STEPS)
async def test_a_worker_that_dies_as_a_limit_strikes_leaves_no_survivor(step: str, tmp_path: Path) -> None:
    """The next one goes on with the end, and the limit's name is not lost."""
    async with dies_at(step, tmp_path) as agent:
        over = await agent.run("sleep 1000 & wait", timeout=300 * MS)

    assert (over.exit.ended_by, over.exit.time_limit) == (EndedBy.TIME_LIMIT, TimeLimit.TIMEOUT)


@pytest.mark.timeout(3600 if SOAK else 120)
async def test_random_deaths_under_load_lose_and_repeat_nothing(agent: RunningAgent, tmp_path: Path) -> None:
    """Heavy output, hundreds of short commands, and a worker that is killed again and again at random moments."""
    marks = tmp_path / "marks"
    enough = asyncio.Event()
    # After quick deaths the keeper lets up to 2 s pass; for how long a client bears that is no subject here.
    async with AsyncAgent(agent.address, patience=3600) as client, asyncio.TaskGroup() as group:
        streams = [group.create_task(follow_noise(client, seed, enough)) for seed in (1, 2)]
        shorts = [group.create_task(run_short_commands(client, marks, name, enough)) for name in "abcd"]
        await kill_workers(agent, KILLS, seed=7)
        enough.set()
    short_runs = Counter({number: 1 for task in shorts for number in task.result()})

    assert Counter(marks.read_text().split()) == short_runs
    assert all(task.result() >= 1 for task in streams)
    assert not [child for child in proc.children(agent.keeper_pid) if child.is_zombie]


@pytest.mark.timeout(3600 if SOAK else 120)
async def test_random_deaths_leave_terminals_inputs_and_limits_as_they_were(agent: RunningAgent) -> None:
    """The same with shells that somebody types into, commands that read, and commands that are ended by a limit."""
    enough = asyncio.Event()
    async with AsyncAgent(agent.address, patience=3600) as client, asyncio.TaskGroup() as group:
        work = [
            group.create_task(type_into_shells(client, enough)),
            group.create_task(type_into_shells(client, enough)),
            group.create_task(feed_readers(client, enough)),
            group.create_task(run_into_limits(client, enough)),
        ]
        await kill_workers(agent, KILLS, seed=11)
        enough.set()

    assert all(task.result() >= 1 for task in work)
    assert not [child for child in proc.children(agent.keeper_pid) if child.is_zombie]


async def type_into_shells(client: AsyncAgent, enough: asyncio.Event) -> int:
    """Types line after line into one shell after the other; each is answered once, in the same terminal."""
    rounds = 0
    while not rounds or not enough.is_set():
        shell = await client.open(["bash", "--norc", "-i"], terminal=Terminal(99, 33, "dumb"), env={"PS1": "> "})
        lines = shell.lines()
        for number in range(20):
            await shell.write(b"echo answer $((%d * 7)) $(stty size)\r" % number)
            while not (line := (await anext(lines)).text).startswith("answer"):
                assert number == 0 or "answer $((" in line, line  # what was typed is echoed
            assert line.split() == ["answer", str(number * 7), "33", "99"]
        await shell.write(b"exit 5\r")
        assert not [line async for line in lines if line.text.startswith("answer")]
        assert (await shell.wait()).code == 5
        rounds += 1
    return rounds


async def feed_readers(client: AsyncAgent, enough: asyncio.Event) -> int:
    """Gives one reader after the other megabytes to read; each must read them byte by byte."""
    rounds = 0
    while not rounds or not enough.is_set():
        data = random.Random(rounds).randbytes(8 << 20)
        over = await client.run("sha256sum", input=data)
        assert over.output.split()[0].decode() == sha256(data).hexdigest()
        rounds += 1
    return rounds


async def run_into_limits(client: AsyncAgent, enough: asyncio.Event) -> int:
    """Runs commands that never end, one with each limit; each limit strikes, under its name."""
    rounds = 0
    while not rounds or not enough.is_set():
        hard, idle = await asyncio.gather(
            client.run("while :; do echo x; sleep 0.05; done", timeout=600 * MS),
            client.run("echo once; exec sleep 1000", idle_timeout=600 * MS),
        )
        assert (hard.exit.time_limit, idle.exit.time_limit) == (TimeLimit.TIMEOUT, TimeLimit.IDLE_TIMEOUT)
        rounds += 1
    return rounds


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
