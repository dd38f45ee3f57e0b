"""Much at once: hundreds of processes, and input that is larger than any buffer, over a connection that breaks."""

import asyncio
import os
import random
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path

import pytest

from guyline.client import AsyncAgent, InputMode
from tests.agentd.process.process_parts import MIB
from tests.support import proc
from tests.support.agent import RunningAgent
from tests.support.clock import MS, until
from tests.support.program import program
from tests.support.proxy import Link

SOAK = bool(os.environ.get("GUYLINE_SOAK"))
INPUT_BYTES = (1024 if SOAK else 96) * MIB
CUTS = 100 if SOAK else 12
PIECE_BYTES = 3 * MIB
AT_MOST_GROWN = 100 * MIB


def memory(pid: int) -> int:
    """What a process ever held, in bytes."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


@pytest.mark.timeout(120)
async def test_three_hundred_processes_at_once(agent: RunningAgent) -> None:
    """Each reads its own input and prints its own output; afterwards nothing is left of any of them."""
    held_before = len(proc.descriptors(agent.keeper_pid))
    async with AsyncAgent(agent.address, patience=120) as client:

        async def one(number: int) -> tuple[bytes, int | None]:
            process = await client.open(f"read line; echo $line; cat; exit {number % 200}", stdin=InputMode.PIPE)
            await process.write(b"%d\n" % number)
            seen = aiter(process.lines())
            first = await anext(seen)
            all_run.release()
            await go.wait()
            await process.write(b"rest", eof=True)
            rest = [line.text async for line in seen]
            return f"{first.text} {rest}".encode(), (await process.wait()).code

        all_run, go = asyncio.Semaphore(0), asyncio.Event()
        work = [asyncio.create_task(one(number)) for number in range(300)]
        for _ in range(300):
            await all_run.acquire()
        running = (await client.info()).running_processes
        go.set()
        ends = await asyncio.gather(*work)

    assert running == 300
    assert ends == [(f"{number} ['rest']".encode(), number % 200) for number in range(300)]
    await until(lambda: len(proc.descriptors(agent.keeper_pid)) == held_before)


@pytest.mark.timeout(1800 if SOAK else 120)
async def test_input_arrives_whole_however_often_the_connection_breaks(agent: RunningAgent) -> None:
    """The writer goes on at the byte that the agent names; the agent holds no more than its bound of it."""
    digest = sha256()
    source = random.Random(5)
    async with Link(agent.process.socket) as link, AsyncAgent(link.address, patience=60) as client:

        async def pieces() -> AsyncIterator[bytes]:
            count = INPUT_BYTES // PIECE_BYTES
            for number in range(count):
                if number % max(1, count // CUTS) == 0:  # in the middle of the piece, wherever that is
                    asyncio.get_running_loop().call_later(source.uniform(0, 5) * MS, link.cut)
                data = source.randbytes(PIECE_BYTES)
                digest.update(data)
                yield data

        held_before = memory(agent.worker_pid)
        process = await client.open("sha256sum; exit 3", stdin=InputMode.PIPE)
        await process.write(pieces(), eof=True)
        output = b"".join([chunk.data async for chunk in process.output()])
        exit_ = await process.wait()

    assert output.split()[0].decode() == digest.hexdigest()
    assert exit_.code == 3
    assert link.cuts >= min(5, CUTS)
    assert memory(agent.worker_pid) - held_before < AT_MOST_GROWN


async def test_a_slow_reader_makes_its_writer_wait_and_gets_everything(agent: RunningAgent) -> None:
    """It reads a little, rests a little; nothing piles up anywhere."""
    data = random.Random(9).randbytes(12 * MIB)
    held_before = memory(agent.worker_pid)
    async with AsyncAgent(agent.address) as client:
        over = await client.run(program("slow_reader", 200_000, 0.005), input=data)

    assert over.output.decode() == sha256(data).hexdigest()
    assert memory(agent.worker_pid) - held_before < AT_MOST_GROWN


async def test_many_slow_readers_do_not_hold_each_other_up(agent: RunningAgent) -> None:
    """One that does not read at all is nobody's problem but its writer's."""
    async with AsyncAgent(agent.address) as client:
        stuck = await client.open(["sleep", "1000"], stdin=InputMode.PIPE)
        writing = asyncio.create_task(stuck.write(bytes(8 * MIB)))
        data = [random.Random(seed).randbytes(2 * MIB) for seed in range(8)]
        overs = await asyncio.gather(*(client.run(program("slow_reader", 100_000, 0.002), input=each) for each in data))
        is_waiting = not writing.done()
        await stuck.cancel(grace=0, wait=10)
        await asyncio.wait({writing})

    assert [over.output.decode() for over in overs] == [sha256(each).hexdigest() for each in data]
    assert is_waiting
    assert writing.exception()
