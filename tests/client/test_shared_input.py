"""Several who write to one input: what each of them was told is accepted is read, once and in order."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

import pytest

from guyline.client import AsyncAgent, AsyncProcess, InputConflict, InputMode, Printed
from tests.support.agent import RunningAgent
from tests.support.clock import DEADLINE

MIB = 1 << 20


@asynccontextmanager
async def two_writers(agent: RunningAgent) -> AsyncIterator[tuple[AsyncProcess, AsyncProcess]]:
    """Handles of two programs on one process, which prints what it is given."""
    async with (
        AsyncAgent(agent.address, patience=DEADLINE) as one,
        AsyncAgent(agent.address, patience=DEADLINE) as other,
    ):
        process = await one.start(["cat"], stdin=InputMode.PIPE, kept_bytes=64 * MIB)
        try:
            yield process, await other.attach(process.id)
        finally:
            await process.cancel(wait=DEADLINE)


async def read(process: AsyncProcess) -> bytes:
    """All that it prints."""
    return b"".join([chunk.data async for chunk in process.output()])


def without(lines: Iterable[bytes], data: bytes) -> bytes:
    """What is left when each of these lines is taken out, once; one may stand within another."""
    for line in lines:
        assert data.count(line) == 1, line
        data = data.replace(line, b"")
    return data


async def test_what_two_type_is_read_twice(shared_agent: RunningAgent) -> None:
    """Each of them answers yes, at one terminal: the second was taken for a repetition of the first."""
    async with two_writers(shared_agent) as (one, other):
        await one.write(b"1\n", shared=True)
        await other.write(b"2\n", shared=True)
        await one.write(b"yes\n", shared=True)
        await other.write(b"yes\n", shared=True)
        await other.write(b"m", shared=True)
        await one.write(b"make test\n", shared=True, eof=True)

        assert await read(one) == b"1\n2\nyes\nyes\nmmake test\n"


async def test_another_writer_is_noticed_though_what_it_wrote_is_read_by_now(shared_agent: RunningAgent) -> None:
    """Nobody can compare that any more; and what one writes for the first time cannot be there."""
    async with two_writers(shared_agent) as (one, other):
        await one.write(b"first\n")
        await other.write(b"x" * MIB + b"\n")
        await other.wait_for(Printed("x\n"), timeout=DEADLINE)

        with pytest.raises(InputConflict):
            await one.write(b"x" * 100)
        await one.write(b"end", eof=True)

        assert await read(one) == b"first\n" + b"x" * MIB + b"\nend"


async def test_much_that_is_shared_arrives_once_and_in_order(shared_agent: RunningAgent) -> None:
    """Others write in between: what had been accepted before them came again, whole segments of it."""
    mine = b"".join(b"%d\n" % number for number in range(1_500_000))
    theirs = [b"<line %d>" % number for number in range(100)]
    async with two_writers(shared_agent) as (one, other), asyncio.TaskGroup() as group:
        reading = group.create_task(read(one))
        writing = group.create_task(one.write(mine, shared=True))
        for line in theirs:
            await other.write(line, shared=True)
        await writing
        await one.close_input()
        printed = await reading

    assert without(theirs, printed) == mine
