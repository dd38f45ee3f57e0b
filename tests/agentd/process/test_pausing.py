"""PAUSE: the one reader that paces a process may slow it down, as a pipeline would; nobody else can."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import grpc.aio
import pytest

from guyline.agent.v1.process_pb2 import (
    INPUT_MODE_PIPE,
    OUTPUT_MODE_SEPARATE,
    PROCESS_STATE_RUNNING,
    WHEN_FULL_DROP_OLDEST,
    WHEN_FULL_PAUSE,
)
from guyline.agent.v1.process_service_pb2 import (
    AttachRequest,
    AttachResponse,
    RunRequest,
    RunResponse,
    StartRequest,
    WriteInputRequest,
)
from guyline.agent.v1.process_service_pb2_grpc import ProcessServiceStub
from guyline.agentd.process.streams.pacing import MAX_UNSENT_CHANGES
from tests.agentd.process.process_parts import (
    MIB,
    Followed,
    Stream,
    assert_invalid,
    attach,
    changed,
    end,
    ended,
    follow,
    refusal,
    seconds,
    started,
    to_start,
)
from tests.support.agent import RunningAgent
from tests.support.clock import MS
from tests.support.program import program
from tests.support.programs import alternating, noise

SIZE = 48 * MIB
BOUND = 16 * MIB  # the least with PAUSE
IN_FLIGHT = MIB  # what a window of 64 KiB, a socket and a pipe may hold besides
FIXED_WINDOW = [("grpc.http2.bdp_probe", 0)]  # else gRPC takes ever more the longer a loaded machine needs to answer
NOISY = program("noise", 31, SIZE)
NOISY_START = to_start(NOISY, when_full=WHEN_FULL_PAUSE, kept_bytes=BOUND)
GATED = ["sh", "-c", f"read go; exec head -c {SIZE} /dev/zero"]
WHOLE = noise.digest(31, SIZE)


def digest(*parts: Followed) -> str:
    total = hashlib.sha256()
    for part in parts:
        for message in part.messages:
            total.update(message.data)
    return total.hexdigest()


async def bytes_until_quiet(agent: RunningAgent, process_id: str, *, at_least: int = BOUND // 2) -> int:
    """Follows without pacing until the process waits and nothing more comes; returns how much it had printed."""
    seen = await attach(
        agent,
        process_id,
        keepalive=seconds(200 * MS),
        until=lambda followed: _is_quiet(followed.messages[-1], at_least),
    )
    return seen.messages[-1].offset


def _is_quiet(message: AttachResponse | RunResponse, at_least: int) -> bool:
    """A pause before that is that of a process that was not given a processor yet."""
    return message.control.HasField("keep_alive") and message.offset >= at_least


class Stuck:
    """A stream of Run that has taken one message and that nobody reads, for now."""

    def __init__(self, stream: Stream, first: RunResponse) -> None:
        self.stream = stream
        self.first = first
        self.process_id = first.process.process_id

    async def rest(self) -> Followed:
        followed = await follow(self.stream)
        followed.messages.insert(0, self.first)
        return followed


@asynccontextmanager
async def stuck_reader(agent: RunningAgent, start: StartRequest = NOISY_START) -> AsyncIterator[Stuck]:
    """Starts a noisy process and leaves its output lying, on a connection of its own that holds little of it."""
    async with grpc.aio.insecure_channel(agent.address, FIXED_WINDOW) as channel:
        stream = ProcessServiceStub(channel).Run(RunRequest(start=start))
        yield Stuck(stream, await anext(aiter(stream)))


@pytest.fixture
async def paused(agent: RunningAgent) -> AsyncIterator[tuple[RunningAgent, Stuck]]:
    """A process that waits, since the reader that paces it has taken one message and no more."""
    async with stuck_reader(agent) as stuck:
        yield agent, stuck
    del stuck.stream  # pytest holds on to what a fixture has yielded, and a call to its connection
    await end(agent, stuck.process_id)


async def test_a_process_waits_for_the_reader_that_paces_it_and_goes_on_with_it(
    paused: tuple[RunningAgent, Stuck],
) -> None:
    """Another reader, who takes everything at once, changes nothing about it; and not a byte is lost."""
    agent, stuck = paused
    printed_while_stuck = await bytes_until_quiet(agent, stuck.process_id)

    over = await stuck.rest()

    assert BOUND // 2 <= printed_while_stuck <= BOUND // 2 + IN_FLIGHT
    assert not over.gaps
    assert digest(over) == WHOLE
    assert over.exit.code == 0


async def test_a_process_waits_as_well_when_its_outputs_alternate_often(shared_agent: RunningAgent) -> None:
    """The journal keeps only so many changes between the two, and gives up what lies before them, sent or not."""
    size, lines, in_flight = 1000, MAX_UNSENT_CHANGES + 4000, 2000
    noisy = to_start(program("alternating", lines, size), output_mode=OUTPUT_MODE_SEPARATE, kept_bytes=64 * MIB)
    async with stuck_reader(shared_agent, noisy) as stuck:
        printed_while_stuck = await bytes_until_quiet(
            shared_agent, stuck.process_id, at_least=MAX_UNSENT_CHANGES * size
        )

        over = await stuck.rest()

    assert printed_while_stuck <= (MAX_UNSENT_CHANGES + in_flight) * size
    assert not over.gaps
    assert over.data == b"".join(alternating.line(number, size) for number in range(lines))
    assert over.exit.code == 0


async def test_another_stream_may_take_over_the_pacing(paused: tuple[RunningAgent, Stuck]) -> None:
    """Whoever comes back with its cursor paces on, whatever became of the old connection."""
    agent, stuck = paused

    rest = await attach(agent, stuck.process_id, cursor=stuck.first.control.cursor, paces=True)

    assert not rest.gaps
    assert digest(Followed([stuck.first]), rest) == WHOLE
    assert rest.process.when_full == WHEN_FULL_PAUSE


async def test_a_reader_that_comes_back_in_time_finds_everything(paused: tuple[RunningAgent, Stuck]) -> None:
    """Its connection was cut; the process has waited for it."""
    agent, stuck = paused
    stuck.stream.cancel()
    printed = await bytes_until_quiet(agent, stuck.process_id)

    rest = await attach(agent, stuck.process_id, cursor=stuck.first.control.cursor, paces=True)

    assert printed < SIZE
    assert not rest.gaps
    assert digest(Followed([stuck.first]), rest) == WHOLE


async def test_while_somebody_drains_it_a_process_waits_for_nobody(agent: RunningAgent) -> None:
    """Who waits for its end and reads nothing: it would stand still until the patience is over. No output is sent."""
    async with started(agent, NOISY, when_full=WHEN_FULL_PAUSE, kept_bytes=BOUND) as start:
        drained = await attach(agent, start.process_id, drains=True, without_output=True)

    assert drained.exit.code == 0
    assert not drained.data
    assert not drained.gaps
    assert drained.process.when_full == WHEN_FULL_PAUSE, "and nobody has given up"


async def test_who_drains_leaves_the_pacing_to_the_stream_that_has_it(paused: tuple[RunningAgent, Stuck]) -> None:
    """Not a byte is lost to a slow reader because somebody else waits for the end."""
    agent, stuck = paused
    draining = asyncio.create_task(attach(agent, stuck.process_id, drains=True, without_output=True))
    printed_while_stuck = await bytes_until_quiet(agent, stuck.process_id)

    over = await stuck.rest()

    assert printed_while_stuck <= BOUND // 2 + IN_FLIGHT
    assert not over.gaps
    assert digest(over) == WHOLE
    assert (await draining).exit.code == 0


async def test_who_drains_takes_the_place_of_the_stream_that_leaves(paused: tuple[RunningAgent, Stuck]) -> None:
    """The process does not begin to wait for one that may come back."""
    agent, stuck = paused
    draining = asyncio.create_task(attach(agent, stuck.process_id, drains=True, without_output=True))
    await bytes_until_quiet(agent, stuck.process_id)

    stuck.stream.cancel()

    assert (await draining).exit.code == 0


async def test_once_nobody_drains_any_more_the_process_waits_again(agent: RunningAgent) -> None:
    """For the readers that it was started for; what was printed until then counts as taken."""
    async with started(agent, GATED, when_full=WHEN_FULL_PAUSE, kept_bytes=BOUND, input=INPUT_MODE_PIPE) as start:
        await attach(agent, start.process_id, drains=True, without_output=True, snapshot=True)
        await agent.processes.WriteInput(WriteInputRequest(process_id=start.process_id, data=b"go\n"))

        printed = await bytes_until_quiet(agent, start.process_id)

    assert printed <= BOUND // 2 + IN_FLIGHT


async def test_to_pace_and_to_drain_exclude_each_other(shared_agent: RunningAgent) -> None:
    """Nothing could be meant by it."""
    async with started(shared_agent, ["true"]) as start:
        refused = await refusal(attach(shared_agent, start.process_id, paces=True, drains=True))
        also = await refusal(attach(shared_agent, start.process_id, paces=True, without_output=True))

    assert_invalid(refused, "drains")
    assert_invalid(also, "paces")


@pytest.mark.parametrize("paces", [True, False])
async def test_a_stream_that_is_refused_takes_the_pacing_from_nobody(
    paused: tuple[RunningAgent, Stuck], paces: bool
) -> None:
    """The process printed on, and the reader that it had waited for lost output."""
    agent, stuck = paused
    await bytes_until_quiet(agent, stuck.process_id)
    refused = await refusal(attach(agent, stuck.process_id, from_offset=10 * SIZE, paces=paces, drains=not paces))
    printed_after = await bytes_until_quiet(agent, stuck.process_id)
    over = await stuck.rest()

    assert refused.code is grpc.StatusCode.OUT_OF_RANGE
    assert printed_after <= BOUND // 2 + IN_FLIGHT
    assert not over.gaps
    assert digest(over) == WHOLE


async def test_a_stream_without_output_is_silent_about_all_of_it(shared_agent: RunningAgent) -> None:
    """Also about what is not kept; and its cursors are as good as any."""
    gated = ["sh", "-c", f"head -c {4 * MIB} /dev/zero; read go"]
    async with started(shared_agent, gated, kept_bytes=MIB, input=INPUT_MODE_PIPE) as start:
        seen = await attach(
            shared_agent,
            start.process_id,
            without_output=True,
            keepalive=seconds(200 * MS),
            until=lambda followed: followed.messages[-1].offset == 4 * MIB,
        )
        await shared_agent.processes.WriteInput(WriteInputRequest(process_id=start.process_id, data=b"\n"))
        rest = await attach(shared_agent, start.process_id, cursor=seen.messages[-1].control.cursor)

    assert not seen.data
    assert not seen.gaps
    assert (rest.data, rest.exit.code) == (b"", 0)


@pytest.fixture
async def impatient() -> AsyncIterator[RunningAgent]:
    """An agent that waits 100 ms for a reader that has left."""
    async with RunningAgent(settings={"pause_patience": 100 * MS}) as agent:
        yield agent


async def test_a_reader_that_does_not_come_back_no_longer_holds_the_process_up(impatient: RunningAgent) -> None:
    """A laptop that was closed must not stop a build for ever: from then on the oldest output makes room."""
    async with stuck_reader(impatient) as stuck:
        stuck.stream.cancel()

    over = await ended(impatient, stuck.process_id)

    assert over.output_bytes == SIZE
    assert over.when_full == WHEN_FULL_DROP_OLDEST
    assert over.exit.code == 0
    late = await attach(impatient, stuck.process_id, cursor=stuck.first.control.cursor)
    [(_, resumed_at)] = late.gaps
    assert resumed_at == over.kept_from


async def test_a_paced_process_that_nobody_ever_follows_goes_on_as_well(impatient: RunningAgent) -> None:
    """It was started with PAUSE, and whoever wanted to follow it never came."""
    start = await impatient.processes.Start(NOISY_START)

    over = await ended(impatient, start.process_id)

    assert (over.output_bytes, over.exit.code) == (SIZE, 0)


async def test_a_watch_is_told_that_a_process_no_longer_waits(impatient: RunningAgent) -> None:
    """Who shows the list would go on saying that nothing of it is lost."""
    async with started(impatient, ["sleep", "60"], when_full=WHEN_FULL_PAUSE) as start:
        now = await changed(impatient, start.process_id, lambda seen: seen.when_full == WHEN_FULL_DROP_OLDEST)

    assert now.state == PROCESS_STATE_RUNNING


async def test_without_pause_a_reader_that_does_not_read_stops_nothing(shared_agent: RunningAgent) -> None:
    """Nor one that asks to pace what was not started with PAUSE. It gets a gap instead."""
    async with started(shared_agent, NOISY, when_full=WHEN_FULL_DROP_OLDEST, kept_bytes=MIB) as start:
        lazy = shared_agent.processes.Attach(AttachRequest(process_id=start.process_id, paces=True))
        await anext(aiter(lazy))
        over = await ended(shared_agent, start.process_id)
        rest = await follow(lazy)

    assert over.output_bytes == SIZE
    assert rest.gaps
    assert rest.exit.code == 0
