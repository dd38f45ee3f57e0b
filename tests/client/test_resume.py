"""Streams and calls go on where they stopped, and nothing runs twice."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any

import grpc
import pytest

from guyline.agent.v1 import process_service_pb2 as pb
from guyline.client import (
    AgentUnreachable,
    AsyncAgent,
    Chunk,
    GuylineError,
    Outcome,
    OutputStream,
    Put,
    Removed,
    StoreChanged,
)
from guyline.client import Gap as LostOutput
from guyline.client import Reset as WasReset
from guyline.client import Synced as IsSynced
from guyline.client.process import AsyncProcess
from guyline.stream.v1.stream_pb2 import Gap, KeepAlive, Reset, StreamControl, Synced
from tests.client.scripted import (
    PROCESS_ID,
    ScriptedAgent,
    as_run,
    began,
    breaks,
    ended,
    fails,
    gives,
    printed,
    process,
)
from tests.support.clock import MS


async def _all(handle: AsyncProcess) -> bytes:
    return b"".join([chunk.data async for chunk in handle.output()])


async def test_a_run_without_an_answer_is_repeated_with_the_same_key(
    scripted: ScriptedAgent, client: AsyncAgent
) -> None:
    """Whether the command was started is known to the agent alone, and the key is how to ask."""
    scripted.plays(breaks(), breaks(), gives(began(), as_run(ended())))

    await client.open(["make"])

    first, second, third = scripted.calls
    assert first.start.key.value
    assert first == second == third


async def test_a_run_that_has_answered_is_resumed_by_attaching(scripted: ScriptedAgent, client: AsyncAgent) -> None:
    """A start is never repeated once the process is known; the cursor says what has come."""
    scripted.plays(breaks(began(), as_run(printed(b"one ", offset=0))), gives(printed(b"two", offset=4), ended()))

    output = await _all(await client.open(["make"]))

    assert output == b"one two"
    assert isinstance(scripted.calls[1], pb.AttachRequest)
    assert (scripted.calls[1].process_id, scripted.calls[1].cursor) == (PROCESS_ID, b"4")


async def test_times_come_after_a_break_as_well(scripted: ScriptedAgent, client: AsyncAgent) -> None:
    """A begin by time holds until something has come; from then on the cursor says where, exactly."""
    since = datetime(2026, 11, 21, 10, tzinfo=UTC)
    first, rest = printed(b"one ", offset=0), printed(b"two", offset=4)
    for message, minute in ((first, 1), (rest, 2)):
        message.times.add(offset=message.offset, printed_at=since.replace(minute=minute))
    first.process.CopyFrom(process())
    scripted.plays(gives(began()), breaks(), breaks(first), gives(rest, ended()))

    handle = await client.attach(PROCESS_ID)
    chunks = [chunk async for chunk in handle.output(since=since, times=True)]

    assert [(chunk.data, chunk.printed_at) for chunk in chunks] == [
        (b"one ", since.replace(minute=1)),
        (b"two", since.replace(minute=2)),
    ]
    repeated, resumed = scripted.calls[2:]
    assert (repeated.since.ToDatetime(UTC), repeated.times, repeated.cursor) == (since, True, b"")
    assert (resumed.HasField("since"), resumed.times, resumed.cursor) == (False, True, b"4")


async def test_a_stream_that_ends_too_early_is_resumed(scripted: ScriptedAgent, client: AsyncAgent) -> None:
    """Only the agent's word ends a stream: whatever stands in between may end a call in order."""
    scripted.plays(gives(began(), as_run(printed(b"a", offset=0))), gives(printed(b"b", offset=1), ended(3)))

    handle = await client.open(["make"])

    assert await _all(handle) == b"ab"
    assert (await handle.wait()).code == 3


async def test_any_number_of_breaks_is_borne_while_there_is_progress(scripted: ScriptedAgent) -> None:
    """Patience is for getting nowhere; a long stream over a bad line gets somewhere."""
    pieces = [breaks(printed(b"x", offset=offset)) for offset in range(1, 20)]
    scripted.plays(breaks(began(), as_run(printed(b"x", offset=0))), *pieces, gives(ended()))

    async with AsyncAgent(scripted.address, patience=0.2) as agent:
        assert await _all(await agent.open(["make"])) == b"x" * 20


@pytest.mark.parametrize("quiet", [[], [pb.AttachResponse(process=process())]], ids=["at once", "after a word"])
async def test_patience_ends(scripted: ScriptedAgent, quiet: list[pb.AttachResponse]) -> None:
    """An agent that stays away is said to be away, and so is one that is only there for moments."""
    scripted.plays(breaks(began()), *[breaks(*quiet)] * 1000)

    async with AsyncAgent(scripted.address, patience=0.2) as agent:
        handle = await agent.open(["make"])
        with pytest.raises(AgentUnreachable):
            await handle.wait()


async def test_breaks_far_apart_are_no_long_one_though_nothing_comes_in_between(scripted: ScriptedAgent) -> None:
    """The agent was there, and had nothing to tell: its worker was replaced twice within a quiet hour."""
    quiet = breaks(pb.AttachResponse(process=process()), after=1500 * MS)
    scripted.plays(breaks(began()), quiet, gives(ended(3)))

    async with AsyncAgent(scripted.address, patience=1000 * MS) as agent:
        handle = await agent.open(["make"])

        assert (await handle.wait()).code == 3


async def test_an_agent_that_makes_way_is_waited_for(scripted: ScriptedAgent, client: AsyncAgent) -> None:
    """It says so, and when it is back."""
    away = fails(grpc.StatusCode.UNAVAILABLE, "SHUTTING_DOWN", began(), retry_after=0.001)
    scripted.plays(away, gives(printed(b"on", offset=0), ended()))

    assert await _all(await client.open(["make"])) == b"on"


async def test_a_process_that_is_not_known_any_more_is_never_replayed(
    scripted: ScriptedAgent, client: AsyncAgent
) -> None:
    """What was kept is gone, and starting it again is not for the client to decide."""
    scripted.plays(breaks(began()), fails(grpc.StatusCode.NOT_FOUND, "PROCESS_NOT_FOUND"))
    handle = await client.open(["make"])

    with pytest.raises(StoreChanged):
        await handle.wait()

    assert [type(call) for call in scripted.calls] == [pb.RunRequest, pb.AttachRequest]


async def test_another_agent_at_the_address_is_not_given_the_command(
    scripted: ScriptedAgent, client: AsyncAgent
) -> None:
    """It cannot know the key, so it would run the command a second time."""
    scripted.plays(breaks())
    scripted.store_id = "store-2"

    with pytest.raises(StoreChanged) as caught:
        await client.open(["make"])

    assert caught.value.outcome is Outcome.MAY_HAVE_RUN
    assert len(scripted.calls) == 1


async def test_a_silent_connection_is_given_up(scripted: ScriptedAgent) -> None:
    """A peer that vanished without a word is noticed by its missing keepalives."""
    scripted.plays(_falls_silent, gives(ended()))

    async with AsyncAgent(scripted.address, keepalive=0.1) as agent:
        handle = await agent.open(["make"])
        await handle.wait()

    assert len(scripted.calls) == 2


async def _falls_silent(request: object, context: object) -> AsyncIterator[Any]:
    """A play: a little, and nothing more until the call is given up."""
    del request, context
    yield began()
    yield as_run(printed(b"x", offset=0))
    await asyncio.Event().wait()


async def test_keepalives_are_no_output(scripted: ScriptedAgent, client: AsyncAgent) -> None:
    """They keep the stream, and nobody sees them."""
    alive = pb.RunResponse(control=StreamControl(keep_alive=KeepAlive()))
    scripted.plays(gives(began(), alive, alive, as_run(printed(b"x", offset=0)), as_run(ended())))

    handle = await client.open(["make"])

    assert [chunk async for chunk in handle.output()] == [Chunk(0, b"x", OutputStream.MERGED)]


async def test_lost_output_is_said(scripted: ScriptedAgent, client: AsyncAgent) -> None:
    """A gap is never papered over: programs can tell it from output that was never printed."""
    lossy = printed(b"rest", offset=100)
    lossy.control.gap.MergeFrom(Gap(to=100, **{"from": 10}))
    scripted.plays(gives(began(), as_run(lossy), as_run(ended())))

    chunks = [chunk async for chunk in (await client.open(["make"])).output()]

    assert [(chunk.offset, chunk.gap) for chunk in chunks] == [(100, LostOutput(10, 100))]


async def test_a_lost_start_is_repeated_and_a_lost_signal_is_not(scripted: ScriptedAgent, client: AsyncAgent) -> None:
    """A start has a key. A second SIGINT means something else than one."""
    started = pb.StartResponse(process_id=PROCESS_ID, process=process(), attached=True)
    scripted.plays(breaks(), gives(started), breaks())

    handle = await client.start(["make"])
    with pytest.raises(AgentUnreachable):
        await handle.signal(2)

    assert not handle.attached, "the agent has attached the second try to the first: that is this start"
    assert [type(call) for call in scripted.calls] == [pb.StartRequest, pb.StartRequest, pb.SignalRequest]


async def test_a_signal_that_was_not_sent_is_sent_again(scripted: ScriptedAgent, client: AsyncAgent) -> None:
    """The agent itself says that nothing happened."""
    scripted.plays(
        gives(pb.StartResponse(process=process())),
        fails(grpc.StatusCode.UNAVAILABLE, "SHUTTING_DOWN", retry_after=0.001),
        gives(pb.SignalResponse(process=process())),
    )

    handle = await client.start(["make"])

    assert (await handle.signal(2)).process.process_id == PROCESS_ID


async def test_a_watch_goes_on_at_its_cursor(scripted: ScriptedAgent, client: AsyncAgent) -> None:
    """Changes during a break come after it; what was already said does not."""
    event = pb.ProcessServiceWatchResponse
    put = pb.ProcessEvent(put=process())
    scripted.plays(
        breaks(event(events=[put], control=StreamControl(cursor=b"1", synced=Synced()))),
        breaks(event(events=[pb.ProcessEvent(removed=PROCESS_ID)], control=StreamControl(cursor=b"2"))),
        gives(event(control=StreamControl(reset=Reset())), event(control=StreamControl(synced=Synced()))),
    )

    seen = []
    async with aclosing(client.watch()) as events:
        async for seen_event in events:
            seen.append(type(seen_event))
            if len(seen) == 5:
                break

    assert seen == [Put, IsSynced, Removed, WasReset, IsSynced]
    assert [call.cursor for call in scripted.calls] == [b"", b"1", b"2"]


async def test_the_chat_goes_with_every_call(scripted: ScriptedAgent) -> None:
    """Isolation is only worth something if no call forgets it."""
    scripted.plays(breaks(began()), gives(ended()))

    async with AsyncAgent(scripted.address, chat_id="chat-1") as agent:
        await (await agent.open(["make"])).wait()

    assert [metadata["coder-chat-id"] for metadata in scripted.metadata] == ["chat-1", "chat-1"]


async def test_a_handle_that_nobody_reads_is_let_go_with_the_agent(scripted: ScriptedAgent) -> None:
    """Leaving the block ends the stream; the process is not touched."""
    scripted.plays(_falls_silent)

    async with AsyncAgent(scripted.address) as agent:
        handle = await agent.open(["make"])

    assert handle._streams._opened is None


async def _read(handle: AsyncProcess, began: asyncio.Event) -> None:
    async for _ in handle.output():
        began.set()


async def test_a_stream_that_is_read_while_the_agent_is_left_says_so(scripted: ScriptedAgent) -> None:
    """Its reader was not cancelled, so it must not look as if it had been."""
    scripted.plays(_falls_silent)

    async with AsyncAgent(scripted.address) as agent:
        reader = asyncio.create_task(_read(await agent.open(["make"]), reading := asyncio.Event()))
        await reading.wait()

    with pytest.raises(GuylineError, match="closed by this program"):
        await reader
