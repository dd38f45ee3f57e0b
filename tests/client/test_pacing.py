"""Which stream of a handle the process waits for, if it is slow."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from pathlib import Path

import pytest

from guyline.client import AsyncAgent, Exit, Exited, InputMode, NotMet, StillRunning, WhenFull
from guyline.client.process import AsyncProcess
from tests.client.scripted import ScriptedAgent, as_run, attached, began, breaks, ended, gives, lasts, printed
from tests.support.agent import RunningAgent
from tests.support.clock import DEADLINE, until

MUCH = 48 << 20
MUCH_LATER = f"echo ready; read go; exec head -c {MUCH} /dev/zero"
LEAST_PAUSING = 16 << 20  # of which half may be unsent


async def _wait(handle: AsyncProcess) -> Exit | None:
    return await handle.wait(DEADLINE)


async def _wait_for(handle: AsyncProcess) -> Exit | None:
    return (await handle.wait_for(Exited(), timeout=DEADLINE)).process.exit


async def _view(handle: AsyncProcess) -> Exit | None:
    return (await handle.view(wait=DEADLINE)).process.exit


WAITS = [_wait, _wait_for, _view]


async def _all(handle: AsyncProcess) -> bytes:
    return b"".join([chunk.data async for chunk in handle.output()])


async def _read(handle: AsyncProcess, began: asyncio.Event) -> None:
    async for _ in handle.output():
        began.set()


async def test_whoever_paced_a_process_paces_it_after_a_break(scripted: ScriptedAgent, client: AsyncAgent) -> None:
    """Otherwise a slow reader would lose output only because its connection once broke."""
    scripted.plays(breaks(began()), gives(ended()), breaks(began()), gives(ended()))

    await _all(await client.open(["make"]))
    await _all(await client.open(["make"], when_full=WhenFull.DROP_OLDEST))

    assert [call.paces for call in scripted.calls[1::2]] == [True, False]


async def test_who_waits_lets_the_reader_pace_after_a_break(scripted: ScriptedAgent, client: AsyncAgent) -> None:
    """Whoever came back last would have the pacing; and who only waits drains, past a slow reader."""
    cut = asyncio.Event()
    scripted.plays(lasts(began(), until=cut), lasts(attached(), until=cut))
    scripted.plays(gives(ended()), gives(ended()))
    handle = await client.open(["make"])
    waiter = asyncio.create_task(handle.wait())
    await until(lambda: handle._streams._opened is None)
    reader = asyncio.create_task(_read(handle, reading := asyncio.Event()))
    await reading.wait()

    cut.set()
    await asyncio.gather(waiter, reader)

    assert scripted.calls[1].paces, "the reader came later, and yet goes first"
    assert {call.cursor: call.paces for call in scripted.calls[2:]} == {b"0": False, b"1": True}


async def test_who_waits_goes_on_when_the_reader_has_left(scripted: ScriptedAgent, client: AsyncAgent) -> None:
    """Otherwise the process would wait for a minute, for a reader that does not come back."""
    never = asyncio.Event()
    scripted.plays(lasts(began(), until=never), lasts(attached(), until=never), gives(ended(3)))
    handle = await client.open(["make"])
    waiter = asyncio.create_task(handle.wait())
    await until(lambda: handle._streams._opened is None)
    async with aclosing(handle.output()) as chunks:
        await anext(chunks)

    assert (await waiter).code == 3
    assert [(call.cursor, call.paces, call.drains) for call in scripted.calls[2:]] == [(b"0", False, True)]


async def test_no_stream_that_is_not_read_yet_takes_the_pacing_from_a_reader(
    scripted: ScriptedAgent, client: AsyncAgent
) -> None:
    """Another one still reads, and is waited for."""
    never = asyncio.Event()
    scripted.plays(lasts(began(), until=never), *[lasts(attached(), until=never)] * 3)
    handle = await client.open(["make"])
    async with aclosing(handle.output(tail_bytes=1)) as first, aclosing(handle.output(tail_bytes=2)) as second:
        await anext(first)
        await anext(second)
        await first.aclose()
        reading = asyncio.ensure_future(anext(second))
        await until(lambda: len(scripted.calls) == 4)

        assert [(call.tail_bytes, call.cursor, call.paces) for call in scripted.calls[1:]] == [
            (1, b"", True),
            (2, b"", False),
            (0, b"1", True),
        ]
        await reading


async def test_the_reader_that_remains_is_waited_for(shared_agent: RunningAgent, tmp_path: Path) -> None:
    """The one that has left took the pacing with it, and the process printed no more for a minute."""
    go = tmp_path / "go"
    command = f"echo ready; until test -e {go}; do sleep 0.02; done; head -c {MUCH} /dev/zero"
    async with AsyncAgent(shared_agent.address, patience=DEADLINE) as agent:
        handle = await agent.open(command)
        async with aclosing(handle.output()) as first, aclosing(handle.output()) as second:
            await anext(first)
            await anext(second)
            await first.aclose()
            go.touch()
            rest = [(len(chunk.data), chunk.gap) async for chunk in second]

    assert sum(size for size, _ in rest) == MUCH
    assert not any(gap for _, gap in rest)


async def test_looking_and_waiting_take_no_pace_from_a_reader(scripted: ScriptedAgent, client: AsyncAgent) -> None:
    """The agent would run ahead of the slow reader, which then loses output."""
    scripted.plays(
        lasts(began(), as_run(attached()), until=asyncio.Event()), gives(printed(b"x", offset=0)), gives(ended())
    )
    handle = await client.open(["make"])
    reader = asyncio.create_task(_read(handle, reading := asyncio.Event()))
    await reading.wait()

    looked = [chunk.data async for chunk in handle.output(snapshot=True)]
    await handle.wait()

    reader.cancel()
    await asyncio.wait({reader})
    assert looked == [b"x"]
    assert [call.paces for call in scripted.calls[1:]] == [False, False]


@pytest.mark.parametrize("wait", [_wait_for, _view])
async def test_who_waits_without_reading_holds_no_process_up(
    shared_agent: RunningAgent, wait: Callable[[AsyncProcess], Awaitable[Exit | None]]
) -> None:
    """A handle just opened has a stream that nobody reads: the process stood still, and the wait never ended."""
    async with AsyncAgent(shared_agent.address, patience=DEADLINE) as agent:
        handle = await agent.open(f"head -c {MUCH} /dev/zero", kept_bytes=1 << 20)

        exit_ = await wait(handle)
        chunks = [chunk async for chunk in handle.output()]

    assert exit_ is not None
    assert chunks[0].offset == 0
    gaps = sum(chunk.gap.stop - chunk.gap.start for chunk in chunks if chunk.gap)
    assert sum(len(chunk.data) for chunk in chunks) + gaps == MUCH


async def _left_early(agent: AsyncAgent) -> AsyncProcess:
    handle = await agent.open(MUCH_LATER, stdin=InputMode.PIPE, kept_bytes=LEAST_PAUSING)
    async with aclosing(handle.output()) as chunks:
        await anext(chunks)
    return handle


async def _started(agent: AsyncAgent) -> AsyncProcess:
    return await agent.start(MUCH_LATER, stdin=InputMode.PIPE, kept_bytes=LEAST_PAUSING, when_full=WhenFull.PAUSE)


async def _attached_to(agent: AsyncAgent) -> AsyncProcess:
    return await agent.attach((await _started(agent)).id, paces=True)


async def _waited_too_shortly(agent: AsyncAgent) -> AsyncProcess:
    handle = await agent.open(MUCH_LATER, stdin=InputMode.PIPE, kept_bytes=LEAST_PAUSING)
    with pytest.raises(StillRunning):
        await handle.wait(timeout=0.05)
    return handle


async def _detached(agent: AsyncAgent) -> AsyncProcess:
    handle = await agent.open(MUCH_LATER, stdin=InputMode.PIPE, kept_bytes=LEAST_PAUSING, detach_after=0.05)
    with pytest.raises(NotMet):
        await handle.wait_for(Exited(), timeout=0.1)
    return handle


@pytest.mark.parametrize("handle_of", [_left_early, _started, _attached_to, _waited_too_shortly, _detached])
@pytest.mark.parametrize("wait", WAITS)
async def test_who_waits_on_a_handle_that_nobody_reads_has_the_process_go_on(
    shared_agent: RunningAgent,
    handle_of: Callable[[AsyncAgent], Awaitable[AsyncProcess]],
    wait: Callable[[AsyncProcess], Awaitable[Exit | None]],
) -> None:
    """It stood still once it had printed what is kept, for the minute in which its reader may come back."""
    async with AsyncAgent(shared_agent.address, patience=DEADLINE) as agent:
        handle = await handle_of(agent)
        await handle.write(b"go\n", eof=True)

        exit_ = await wait(handle)

    assert exit_ is not None
    assert exit_.succeeded


async def test_who_waits_takes_the_pacing_from_no_reader(shared_agent: RunningAgent) -> None:
    """Not even one of another program; the slow reader gets every byte."""
    async with (
        AsyncAgent(shared_agent.address, patience=DEADLINE) as agent,
        AsyncAgent(shared_agent.address, patience=DEADLINE) as elsewhere,
    ):
        started = await _started(agent)
        reader = (await elsewhere.attach(started.id, paces=True)).output()
        await started.write(b"go\n", eof=True)
        async with aclosing(reader) as chunks:
            sizes, gaps = [len((await anext(chunks)).data)], []
            waiting = asyncio.create_task(started.wait_for(Exited()))
            with pytest.raises(NotMet):  # as long as nobody reads
                await (await agent.attach(started.id)).wait_for(Exited(), timeout=0.5)
            async for chunk in chunks:
                sizes.append(len(chunk.data))
                gaps.append(chunk.gap)
        await waiting

    assert sum(sizes) == MUCH + len("ready\n")
    assert not any(gaps)


@pytest.mark.parametrize("other", [_wait, _view, _all, AsyncProcess.aclose], ids=["wait", "view", "output", "aclose"])
async def test_what_is_done_at_once_with_a_handle_just_opened_leaves_no_stream_behind(
    shared_agent: RunningAgent, other: Callable[[AsyncProcess], Awaitable[object]]
) -> None:
    """One that was taken away before it flowed was never closed: it held the process up for ever."""
    async with AsyncAgent(shared_agent.address, patience=DEADLINE) as agent:
        handle = await agent.open(f"head -c {MUCH} /dev/zero", kept_bytes=LEAST_PAUSING)

        ended, _ = await asyncio.gather(_wait_for(handle), other(handle))

    assert ended is not None
    assert ended.succeeded
