"""The stream that an opened handle holds, until somebody reads it."""

import asyncio
from contextlib import aclosing

import pytest

from guyline.agent.v1 import process_service_pb2 as pb
from guyline.client import AsyncAgent, Exited, GuylineError, NotMet, Printed
from guyline.client.process import AsyncProcess
from tests.client.scripted import ScriptedAgent, as_run, attached, began, ended, gives, lasts, printed, process
from tests.support.agent import RunningAgent
from tests.support.clock import DEADLINE, until

MUCH = 48 << 20
LEAST_PAUSING = 16 << 20  # of which half may be unsent


async def _all(handle: AsyncProcess) -> bytes:
    return b"".join([chunk.data async for chunk in handle.output()])


async def test_a_stream_that_was_opened_first_takes_the_pacing_back(
    scripted: ScriptedAgent, client: AsyncAgent
) -> None:
    """Something was looked up in the output before it is read."""
    never = asyncio.Event()
    scripted.plays(lasts(began(), until=never), gives(printed(b"x", offset=0), ended()), gives(ended()))
    handle = await client.open(["make"])
    async with aclosing(handle.output(tail_bytes=1)) as chunks:
        await anext(chunks)

    await _all(handle)

    assert [call.paces for call in scripted.calls[1:]] == [True, True]


async def test_a_stream_that_is_not_read_yet_takes_the_pacing_back(scripted: ScriptedAgent, client: AsyncAgent) -> None:
    """Nobody had it any more, and once its patience was over the process dropped what was to be read."""
    never = asyncio.Event()
    scripted.plays(lasts(began(), until=never), lasts(attached(), until=never))
    scripted.plays(gives(attached(), printed(b"y", offset=1), ended()))
    handle = await client.open(["make"])
    async with aclosing(handle.output(from_offset=0)) as chunks:
        await anext(chunks)
    reopening = handle._streams._reopening
    assert reopening is not None
    await asyncio.wait({reopening}, timeout=DEADLINE)

    assert await _all(handle) == b"xy"
    assert [(call.paces, call.HasField("from_offset")) for call in scripted.calls[1:]] == [(True, True), (True, False)]


async def test_a_handle_that_is_closed_takes_nothing_back(scripted: ScriptedAgent, client: AsyncAgent) -> None:
    """Else the process would wait for what nobody can read any more."""
    never = asyncio.Event()
    scripted.plays(lasts(began(), until=never), lasts(attached(), until=never), lasts(until=never))
    handle = await client.open(["make"])
    async with aclosing(handle.output(tail_bytes=1)) as chunks:
        await anext(chunks)
    await until(lambda: len(scripted.calls) == 3)

    await handle.aclose()

    assert [task for task in asyncio.all_tasks() if "_reopen" in repr(task)] == []
    assert "0 readers" in repr(handle._streams._pacing)


async def test_a_wait_takes_the_pacing_from_nobody_and_keeps_it_for_the_output(
    scripted: ScriptedAgent, client: AsyncAgent
) -> None:
    """A stream of its own would take it from a reader elsewhere, and with it the process's patience would begin."""
    never = asyncio.Event()
    met = pb.ProcessServiceWaitResponse(process=process(), met=0)
    scripted.plays(lasts(began(), as_run(printed(b"x", offset=0)), until=never), gives(met), gives(met))
    handle = await client.open(["make"], detach_after=60)

    await handle.wait_for(Exited(), timeout=DEADLINE)
    await handle.wait_for(Exited(), timeout=DEADLINE)
    calls_of_waits = list(scripted.calls)
    scripted.plays(gives(printed(b"x", offset=0), ended()))
    again = await _all(handle)

    assert [type(call) for call in calls_of_waits] == [pb.RunRequest] + [pb.ProcessServiceWaitRequest] * 2
    assert again == b"x", "what the waits have dropped is read after all"
    last = scripted.calls[-1]
    assert (last.paces, last.cursor, last.detach_after.seconds) == (True, b"", 60)


async def test_output_after_a_wait_that_dropped_nothing_comes_from_the_stream_that_is_there(
    scripted: ScriptedAgent, client: AsyncAgent
) -> None:
    """A wait of no time drops nothing."""
    scripted.plays(gives(began(), as_run(printed(b"x", offset=0)), as_run(ended())))
    handle = await client.open(["make"])
    scripted.plays(gives(pb.ProcessServiceWaitResponse(process=process(), met=0)))

    await handle.wait_for(Exited(), timeout=0)

    assert await _all(handle) == b"x"
    assert [type(call) for call in scripted.calls] == [pb.RunRequest, pb.ProcessServiceWaitRequest]


async def test_a_handle_that_is_closed_within_a_wait_leaves_nothing_behind(
    scripted: ScriptedAgent, client: AsyncAgent
) -> None:
    """The stream is being read at that moment."""
    never = asyncio.Event()
    scripted.plays(lasts(began(), until=never), lasts(until=never))
    handle = await client.open(["make"])
    waiting = asyncio.create_task(handle.wait_for(Exited()))
    await until(lambda: len(scripted.calls) > 1)

    await handle.aclose()
    waiting.cancel()
    await asyncio.wait({waiting})

    assert [task for task in asyncio.all_tasks() if "_drop" in repr(task)] == []


@pytest.mark.parametrize("is_over", [False, True], ids=["during it", "just after it"])
async def test_a_wait_has_its_process_go_on_over_a_break(
    scripted: ScriptedAgent, client: AsyncAgent, *, is_over: bool
) -> None:
    """Otherwise it would stand still for a minute. A reader that has begun elsewhere meanwhile keeps the pacing; only
    after the wait the process waits for this one again.
    """
    cut, never = asyncio.Event(), asyncio.Event()
    met = [pb.ProcessServiceWaitResponse(process=process(), met=0)] * is_over
    scripted.plays(lasts(began(), until=cut), lasts(*met, until=never), *[lasts(attached(), until=never)] * 2)
    handle = await client.open(["make"])
    waiting = asyncio.create_task(handle.wait_for(Exited()))
    await until(lambda: len(scripted.calls) > 1)

    cut.set()
    await until(lambda: len(scripted.calls) > 2)
    waiting.cancel()
    await until(lambda: len(scripted.calls) > 3)

    run, wait, *attaches = scripted.calls
    assert (type(run), type(wait)) == (pb.RunRequest, pb.ProcessServiceWaitRequest)
    assert [(call.paces, call.drains) for call in attaches] == [(False, True), (True, False)]


async def test_output_after_a_wait_beyond_the_time_of_the_call_is_all_there(shared_agent: RunningAgent) -> None:
    """The time that has passed ends the stream, and takes nothing of it away."""
    async with AsyncAgent(shared_agent.address, patience=DEADLINE) as agent:
        handle = await agent.open("echo hello; exec sleep 60", detach_after=0.3)
        await handle.wait_for(Printed("hello"), timeout=DEADLINE)
        with pytest.raises(NotMet):
            await handle.wait_for(Exited(), timeout=0.4)

        assert await _all(handle) == b"hello\n"
        assert handle.detached
        await handle.signal()


@pytest.mark.parametrize("steps", range(6))
async def test_an_opened_stream_is_closed_though_that_is_cancelled(shared_agent: RunningAgent, steps: int) -> None:
    """Whoever waits shortly cancels itself: the stream stayed open, and the process waited for it for ever."""
    async with AsyncAgent(shared_agent.address, patience=DEADLINE) as agent:
        handle = await agent.open(f"head -c {MUCH} /dev/zero", kept_bytes=LEAST_PAUSING)
        waiting = asyncio.create_task(handle.wait_for(Exited(), timeout=DEADLINE))
        for _ in range(steps):
            await asyncio.sleep(0)
        closing = asyncio.create_task(handle.wait(0))
        for _ in range(steps):
            await asyncio.sleep(0)
        closing.cancel()
        await asyncio.wait({closing})

        met = await waiting

    assert met.process.exit is not None
    assert met.process.exit.succeeded


async def test_a_block_that_is_left_in_haste_hangs_up_nevertheless(shared_agent: RunningAgent) -> None:
    """Ctrl-C, or the end of a time, while the streams are being closed."""
    async with AsyncAgent(shared_agent.address, patience=DEADLINE) as agent:
        handle = await agent.open(f"echo x; head -c {MUCH} /dev/zero", kept_bytes=LEAST_PAUSING)
        await handle.wait_for(Printed("x"), timeout=DEADLINE)
        leaving = asyncio.create_task(agent.__aexit__(None, None, None))
        await asyncio.sleep(0)
        leaving.cancel()
        await asyncio.wait({leaving})
        with pytest.raises(GuylineError, match="closed by this program"):
            await agent.info()
    async with AsyncAgent(shared_agent.address) as other:
        await other.cancel(handle.id, wait=DEADLINE)
