"""What the SDK promises, with a real agent: input, waits, views, limits, ends."""

import asyncio
import hashlib
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from pathlib import Path

import pytest

from guyline.client import (
    AsyncAgent,
    Ended,
    EndedBy,
    Exited,
    FileExists,
    InputClosed,
    InputMode,
    Key,
    NoInput,
    NotMet,
    OutputWait,
    Printed,
    ProcessNotFound,
    ProcessRunning,
    ProcessState,
    StartCanceled,
    StillRunning,
    Synced,
    Terminal,
    TimeLimit,
    WaitOver,
)
from guyline.client.values import Bytes
from tests.support.agent import RunningAgent
from tests.support.clock import DEADLINE
from tests.support.proxy import Link


@pytest.fixture
async def client(shared_agent: RunningAgent) -> AsyncIterator[AsyncAgent]:
    """A client of an agent that other tests use as well."""
    async with AsyncAgent(shared_agent.address, patience=DEADLINE) as agent:
        yield agent


async def test_a_filter_is_fed(client: AsyncAgent) -> None:
    """More than any pipe holds, in both directions."""
    data = bytes(range(256)) * 40_000

    completed = await client.run(["cat"], input=data, max_output_bytes=len(data))

    assert completed.output == data


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
async def test_bytes_may_be_of_any_kind(client: AsyncAgent, kind: Callable[[bytes], Bytes]) -> None:
    """What comes from a buffer need not be copied first."""
    assert (await client.run(["cat"], input=kind(b"given"))).output == b"given"

    process = await client.open(["cat"], stdin=InputMode.PIPE)
    await process.write(kind(b"one, "))
    await process.write([kind(b"two")], eof=True)
    assert [line.text async for line in process.lines()] == ["one, two"]


async def test_a_short_wait_knows_of_an_end_all_the_same(client: AsyncAgent) -> None:
    """Otherwise whoever polls without a wait would never see the end."""
    started = await client.start(["true"])
    opened = await client.open(["true"])
    for process in (started, opened):
        await (await client.attach(process.id)).wait()
        assert (await process.wait(0)).code == 0

    with pytest.raises(StillRunning):
        await (await client.start(["sleep", "5"], timeout=5)).wait(0)


async def test_a_command_that_does_not_read_is_no_failure(client: AsyncAgent) -> None:
    """As the left side of `| head` is none."""
    assert (await client.run(["true"], input=b"x" * 1_000_000)).exit.code == 0


async def test_a_write_that_is_given_up_leaves_the_input_in_order(client: AsyncAgent, tmp_path: Path) -> None:
    """A part of it was accepted; the next write begins behind that, and nothing of either is mixed or lost."""
    go = tmp_path / "go"
    reader = await client.open(f"until test -e {go}; do sleep 0.02; done; cat", stdin=InputMode.PIPE)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):
            await reader.write(b"a" * 8_000_000)
    go.touch()
    await reader.write(b"the next", eof=True)
    given = b"".join([chunk.data async for chunk in reader.output()])

    assert given.lstrip(b"a") == b"the next"
    assert 0 < given.count(b"a") < 8_000_000


async def test_a_writer_that_waits_goes_on_after_an_upgrade(agent: RunningAgent, tmp_path: Path) -> None:
    """Its process did not read, before and after; then it does, and gets every byte."""
    data = bytes(range(256)) * 10_000
    go = tmp_path / "go"
    async with AsyncAgent(agent.address, patience=DEADLINE) as client, asyncio.TaskGroup() as group:
        reader = await client.open(f"until test -e {go}; do sleep 0.02; done; sha256sum", stdin=InputMode.PIPE)
        pieces = [data[start : start + 100_000] for start in range(0, len(data), 100_000)]

        async def in_calls() -> None:
            for piece in pieces:  # each small enough for a call of its own, rather than a stream
                await reader.write(piece)
            await reader.close_input()

        writing = group.create_task(in_calls())
        async with asyncio.timeout(DEADLINE):
            while (await client.attach(reader.id)).info.input.next_offset < 1 << 20:
                pass  # nothing tells of it
        await client.upgrade()
        assert not writing.done()
        go.touch()
        await writing
        printed = b"".join([chunk.data async for chunk in reader.output()])

    assert printed.split()[0].decode() == hashlib.sha256(data).hexdigest()


async def test_input_is_byte_exact_over_a_link_that_breaks(shared_agent: RunningAgent) -> None:
    """Nothing is lost and nothing comes twice, wherever the cuts fall."""
    data = bytes(range(256)) * 80_000
    async with Link(Path(shared_agent.address.removeprefix("unix:"))) as link:
        link.cut_at_random(seed=7, cuts=20, at_most_bytes=600_000)
        async with AsyncAgent(link.address, patience=DEADLINE, connect_timeout=DEADLINE) as agent:
            completed = await agent.run(["sha256sum"], input=data)

    assert completed.text.split()[0] == hashlib.sha256(data).hexdigest()


async def test_a_conversation(client: AsyncAgent) -> None:
    """Write, read, write, end."""
    process = await client.open("while read line; do echo got $line; done; echo bye", stdin=InputMode.PIPE)
    await process.write(b"one\n")
    await process.wait_for(Printed("got one"), timeout=DEADLINE)
    await process.write(b"two\n", eof=True)

    assert [line.text async for line in process.lines()] == ["got one", "got two", "bye"]
    with pytest.raises(InputClosed):
        await process.write(b"three\n")


async def test_nobody_writes_to_a_process_without_input(client: AsyncAgent) -> None:
    """It was started with the null device."""
    process = await client.start(["sleep", "60"])
    with pytest.raises(NoInput):
        await process.write(b"x")
    await process.cancel(wait=DEADLINE)


async def test_a_terminal_can_be_written_to_and_sized(client: AsyncAgent) -> None:
    """As a person would see it."""
    process = await client.open(["sh"], terminal=Terminal(columns=100, rows=30))
    await process.write(b"stty size\n")
    await process.wait_for(Printed("30 100"), timeout=DEADLINE)
    await process.resize(120, 40)
    await process.write(b"stty size; exit 3\n")

    assert (await process.wait()).code == 3
    assert b"40 120" in (await process.view()).data


async def test_a_wait_outlasts_a_killed_worker(agent: RunningAgent, tmp_path: Path) -> None:
    """It is asked again, and nobody notices."""
    async with AsyncAgent(agent.address, patience=DEADLINE) as client:
        process = await client.start(["sleep", "60"])
        waiting = asyncio.create_task(process.wait_for(Exited(), FileExists(tmp_path / "there"), timeout=DEADLINE))
        await asyncio.sleep(0)
        await agent.kill_worker()
        await asyncio.to_thread((tmp_path / "there").touch)

        assert (await waiting).index == 1


async def test_output_that_ends_is_waited_for_no_longer(client: AsyncAgent) -> None:
    """Only a pattern was asked for, and nothing will be printed any more."""
    process = await client.start("echo no")

    with pytest.raises(NotMet) as caught:
        await process.wait_for(Printed("yes"), timeout=DEADLINE)

    assert caught.value.over is WaitOver.OUTPUT_ENDED


async def test_views_go_on_where_they_ended(client: AsyncAgent) -> None:
    """A model that polls sees everything once."""
    process = await client.open("echo one; read line; echo two", stdin=InputMode.PIPE)
    first = await process.view(wait=DEADLINE, wait_for=OutputWait.OUTPUT)
    await process.write(b"\n")
    second = await process.view(cursor=first.cursor, wait=DEADLINE)

    assert (first.text, second.text) == ("one\n", "two\n")


async def test_named_secrets_are_not_in_views(client: AsyncAgent) -> None:
    """§17 no. 15."""
    process = await client.start("echo it is $TOKEN", env={"TOKEN": "geheim"}, redact=["TOKEN"])

    assert "geheim" not in (await process.view(wait=DEADLINE)).text


async def test_limits_of_time_end_a_command(client: AsyncAgent) -> None:
    """And say which one it was."""
    late = await client.run("exec sleep 60", timeout=0.2)
    quiet = await client.run("echo x; exec sleep 60", idle_timeout=0.2)

    assert (late.exit.ended_by, late.exit.time_limit) == (EndedBy.TIME_LIMIT, TimeLimit.TIMEOUT)
    assert quiet.exit.time_limit is TimeLimit.IDLE_TIMEOUT


async def test_a_command_that_is_left_goes_on(client: AsyncAgent) -> None:
    """§17 no. 16."""
    with pytest.raises(StillRunning) as caught:
        await client.run("echo so far; exec sleep 60", detach_after=0.5)

    process = await client.attach(caught.value.process_id)
    assert process.info.state is ProcessState.RUNNING
    assert caught.value.output == b"so far\n"
    await process.cancel(wait=DEADLINE)


async def test_what_was_cancelled_never_starts(client: AsyncAgent) -> None:
    """Even if the start comes later."""
    key = Key.new()

    assert (await client.cancel(key)).fenced
    with pytest.raises(StartCanceled):
        await client.start(["true"], key=key)


async def test_an_ended_process_can_be_forgotten(client: AsyncAgent) -> None:
    """A running one cannot."""
    process = await client.start(["sleep", "60"])
    with pytest.raises(ProcessRunning):
        await process.remove()
    await process.cancel(wait=DEADLINE)
    await process.wait()
    await process.remove()

    with pytest.raises(ProcessNotFound):
        await client.attach(process.id)


async def test_processes_are_found_by_label(client: AsyncAgent) -> None:
    """And their use is told if one asks, and their end when it comes."""
    told = ""
    async with aclosing(client.watch(labels={"story": "label"})) as events:
        assert isinstance(await anext(events), Synced)
        process = await client.start(["sleep", "60"], labels={"story": "label"})
        [found] = (await client.list(labels={"story": "label"}, usage=True)).processes
        await process.cancel()
        async for event in events:
            if isinstance(event, Ended):
                told = event.process.process_id
                break

    assert (found.process_id, told) == (process.id, process.id)
    assert found.usage is not None
    assert found.usage.processes == 1


async def test_a_short_wait_ends_although_the_agent_says_nothing() -> None:
    """Whoever waits for a moment does not want to wait for an agent that hangs, either."""
    async with RunningAgent() as running, AsyncAgent(running.address) as client:
        process = await client.start(["sleep", "60"])
        os.kill(running.worker_pid, signal.SIGSTOP)
        try:
            with pytest.raises(StillRunning):
                await asyncio.wait_for(process.wait(0.1), DEADLINE)
        finally:
            os.kill(running.worker_pid, signal.SIGCONT)
        await process.cancel(wait=DEADLINE)
