"""What a process is given to read: in order, once, and as fast as it reads."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterable
from hashlib import sha256
from pathlib import Path
from uuid import uuid4

import grpc
import pytest

from guyline.agent.v1.process_pb2 import INPUT_MODE_NONE, INPUT_MODE_PIPE, Input, TerminalSize
from guyline.agent.v1.process_service_pb2 import (
    CloseInputRequest,
    ProcessServiceWatchRequest,
    ResizeRequest,
    WriteInputRequest,
    WriteInputStreamRequest,
)
from tests.agentd.process.process_parts import (
    MIB,
    attach,
    end,
    ended,
    in_chat,
    output_closed,
    printed,
    refusal,
    run,
    seconds,
    snapshot,
    started,
    to_start,
    write_input,
)
from tests.support import proc
from tests.support.agent import RunningAgent
from tests.support.clock import DEADLINE, MS, moment, until

BOUND = 1 * MIB
"""What may wait for one process, unless the settings say otherwise."""


async def pieces(
    process_id: str, data: Iterable[bytes], *, eof: bool = False
) -> AsyncIterator[WriteInputStreamRequest]:
    """The messages of a stream that begins at the beginning."""
    yield WriteInputStreamRequest(process_id=process_id, offset=0)
    for piece in data:
        yield WriteInputStreamRequest(data=piece)
    if eof:
        yield WriteInputStreamRequest(eof=True)


async def test_a_process_reads_what_it_is_given_and_sees_the_end(shared_agent: RunningAgent) -> None:
    """The whole of it in three calls, with the offsets that make each of them repeatable."""
    async with started(shared_agent, ["cat"], input=INPUT_MODE_PIPE) as cat:
        first = await write_input(shared_agent, cat.process_id, b"one ", offset=0)
        second = await write_input(shared_agent, cat.process_id, b"two", offset=4, eof=True)
        over = await attach(shared_agent, cat.process_id)

    assert (first.next_offset, second.next_offset) == (4, 7)
    assert over.data == b"one two"
    assert over.exit.code == 0


async def test_without_an_input_a_process_reads_the_end_at_once(shared_agent: RunningAgent) -> None:
    """Tools that wait on standard input would hang otherwise."""
    over = await run(shared_agent, ["cat"])
    refused = await refusal(write_input(shared_agent, over.process_id, b"x"))

    assert over.exit.code == 0
    assert over.process.input.mode == INPUT_MODE_NONE
    assert (refused.code, refused.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "NO_INPUT")


async def test_a_repeated_write_gives_nothing_twice(shared_agent: RunningAgent) -> None:
    """Whoever lost an answer says it again; what the agent has already is passed over, wherever the pieces lie."""
    async with started(shared_agent, ["cat"], input=INPUT_MODE_PIPE) as cat:
        writes = ((0, b"abc"), (0, b"abc"), (1, b"bcde"), (5, b""), (3, b"defg"))
        answers = [await write_input(shared_agent, cat.process_id, data, offset=offset) for offset, data in writes]
        await write_input(shared_agent, cat.process_id, b"h", offset=7, eof=True)
        again = await write_input(shared_agent, cat.process_id, b"h", offset=7, eof=True)
        over = await attach(shared_agent, cat.process_id)
        late = await write_input(shared_agent, cat.process_id, b"h", offset=7, eof=True)

    assert [answer.next_offset for answer in answers] == [3, 3, 5, 5, 7]
    assert again.next_offset == late.next_offset == 8
    assert over.data == b"abcdefgh"


async def test_a_hole_in_the_input_is_refused(shared_agent: RunningAgent) -> None:
    """And the refusal says where to go on."""
    async with started(shared_agent, ["cat"], input=INPUT_MODE_PIPE) as cat:
        await write_input(shared_agent, cat.process_id, b"abc", offset=0)
        refused = await refusal(write_input(shared_agent, cat.process_id, b"x", offset=4))
        not_closed = await refusal(
            shared_agent.processes.CloseInput(CloseInputRequest(process_id=cat.process_id, offset=4))
        )

    assert (refused.code, refused.reason) == (grpc.StatusCode.OUT_OF_RANGE, "OFFSET_OUT_OF_RANGE")
    assert refused.facts["next_offset"] == not_closed.facts["next_offset"] == "3"


async def test_an_input_can_be_closed_later_and_twice(shared_agent: RunningAgent) -> None:
    """By somebody else than the writer, too."""
    async with started(shared_agent, ["cat"], input=INPUT_MODE_PIPE) as cat:
        await write_input(shared_agent, cat.process_id, b"abc")
        closing = CloseInputRequest(process_id=cat.process_id)
        closed = [await shared_agent.processes.CloseInput(closing) for _ in range(2)]
        over = await attach(shared_agent, cat.process_id)
        refused = await refusal(write_input(shared_agent, cat.process_id, b"more"))

    assert [each.next_offset for each in closed] == [3, 3]
    assert over.data == b"abc"
    assert (refused.code, refused.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "INPUT_CLOSED")


async def test_a_writer_that_dies_leaves_the_input_open(shared_agent: RunningAgent) -> None:
    """A stream that breaks off looks just like one that ends; neither means that there is no more to come."""
    async with started(shared_agent, ["cat"], input=INPUT_MODE_PIPE) as cat:
        call = shared_agent.processes.WriteInputStream()
        await call.write(WriteInputStreamRequest(process_id=cat.process_id, data=b"first "))
        await attach(shared_agent, cat.process_id, until=printed(b"first "))
        call.cancel()
        ended_stream = await shared_agent.processes.WriteInputStream(pieces(cat.process_id, [b"first second "]))
        process = (await snapshot(shared_agent, cat.process_id)).process
        await write_input(shared_agent, cat.process_id, b"third", offset=ended_stream.next_offset, eof=True)
        over = await attach(shared_agent, cat.process_id)

    assert process.input.is_open
    assert over.data == b"first second third"


async def test_a_stream_ends_the_input_by_saying_so(shared_agent: RunningAgent) -> None:
    """And is answered at once, whether or not its sender is done."""
    async with started(shared_agent, ["sha256sum"], input=INPUT_MODE_PIPE) as command:
        data = bytes(range(256)) * 4096
        halves = [data[:700_001], data[700_001:]]
        answer = await shared_agent.processes.WriteInputStream(pieces(command.process_id, halves, eof=True))
        over = await attach(shared_agent, command.process_id)

    assert answer.next_offset == len(data)
    assert over.data.split()[0].decode() == sha256(data).hexdigest()


async def test_a_process_that_does_not_read_makes_its_writer_wait(shared_agent: RunningAgent) -> None:
    """Back-pressure: no more than the bound and a pipe waits, and what did not fit is not lost but named."""
    async with started(shared_agent, ["sleep", "60"], input=INPUT_MODE_PIPE) as lazy:
        data = bytes(3 * MIB)
        taken = await write_input(shared_agent, lazy.process_id, data, offset=0, wait=seconds(0))
        full = await refusal(
            write_input(shared_agent, lazy.process_id, data, offset=taken.next_offset, wait=seconds(20 * MS))
        )
        whole = await refusal(write_input(shared_agent, lazy.process_id, b"x", wait=seconds(0)))
        process = (await snapshot(shared_agent, lazy.process_id)).process

    assert BOUND <= taken.next_offset < len(data)
    assert taken.next_offset - taken.passed_bytes == BOUND
    for refused in (full, whole):
        assert (refused.code, refused.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "INPUT_FULL")
        assert refused.retry_after
        assert refused.facts["next_offset"] == str(taken.next_offset)
    assert process.input.next_offset == taken.next_offset


async def input_of(agent: RunningAgent, process_id: str) -> Input:
    return (await snapshot(agent, process_id)).process.input


async def accepted(agent: RunningAgent, process_id: str, length: int) -> None:
    """Waits until so much of the input was accepted."""
    async with asyncio.timeout(DEADLINE):
        while (await input_of(agent, process_id)).next_offset < length:
            await moment(MS)


async def test_a_waiting_stream_goes_on_once_the_process_reads(shared_agent: RunningAgent, tmp_path: Path) -> None:
    """It neither fails nor loses its place, however long the process takes."""
    go, data = tmp_path / "go", bytes(range(256)) * 16384
    os.mkfifo(go)
    command = f"read x < {go}; exec sha256sum"
    async with started(shared_agent, command, input=INPUT_MODE_PIPE) as reader:
        messages = pieces(reader.process_id, [data[at : at + 100_000] for at in range(0, len(data), 100_000)], eof=True)
        sending = asyncio.ensure_future(shared_agent.processes.WriteInputStream(messages))
        await accepted(shared_agent, reader.process_id, BOUND)
        waits = not sending.done()
        await asyncio.to_thread(go.write_bytes, b"\n")
        answer = await sending
        over = await attach(shared_agent, reader.process_id)

    assert waits
    assert answer.next_offset == len(data)
    assert over.data.split()[0].decode() == sha256(data).hexdigest()


async def test_more_than_can_wait_must_say_where_it_belongs(shared_agent: RunningAgent) -> None:
    """It is taken in parts, and without an offset nobody could say which part to repeat."""
    async with started(shared_agent, ["cat"], input=INPUT_MODE_PIPE) as cat:
        refused = await refusal(write_input(shared_agent, cat.process_id, bytes(BOUND + 1)))

    assert refused.code is grpc.StatusCode.INVALID_ARGUMENT
    assert refused.fields == ["data"]


async def test_a_process_that_closes_its_input_is_told_of(shared_agent: RunningAgent) -> None:
    """As a shell's writer gets EPIPE."""
    async with started(shared_agent, "exec <&-; echo closed; sleep 60", input=INPUT_MODE_PIPE) as command:
        await attach(shared_agent, command.process_id, until=printed(b"closed"))
        refused = await refusal(write_input(shared_agent, command.process_id, b"x", offset=0))
        is_open = (await input_of(shared_agent, command.process_id)).is_open

    assert refused.reason == "INPUT_CLOSED"
    assert not is_open


async def test_the_end_of_a_process_ends_its_input(shared_agent: RunningAgent) -> None:
    """Also while somebody waits for room, and for descendants that read on."""
    command = "exec 3<&0; (cat <&3 >/dev/null; echo over) & sleep 0.1"
    async with started(shared_agent, command, input=INPUT_MODE_PIPE) as leader:
        await ended(shared_agent, leader.process_id)
        refused = await refusal(write_input(shared_agent, leader.process_id, b"more"))
        closed = await output_closed(shared_agent, leader.process_id)
        printed_at_last = (await snapshot(shared_agent, leader.process_id)).data

    assert refused.reason == "INPUT_CLOSED"
    assert not closed.output_open
    assert printed_at_last == b"over\n"


async def test_the_end_of_a_process_frees_a_waiting_writer(shared_agent: RunningAgent) -> None:
    """Nobody would ever make room for it."""
    async with started(shared_agent, ["sleep", "60"], input=INPUT_MODE_PIPE) as lazy:
        waiting = asyncio.ensure_future(
            write_input(shared_agent, lazy.process_id, bytes(2 * BOUND), offset=0, wait=seconds(DEADLINE))
        )
        await accepted(shared_agent, lazy.process_id, BOUND)
        await end(shared_agent, lazy.process_id)
        refused = await refusal(waiting)

    assert refused.reason == "INPUT_CLOSED"


async def test_input_is_closed_to_other_chats(shared_agent: RunningAgent) -> None:
    """As everything else of a process."""
    chat, other = in_chat(uuid4()), in_chat(uuid4())
    async with started(shared_agent, ["cat"], input=INPUT_MODE_PIPE, metadata=chat) as cat:
        theirs = WriteInputRequest(process_id=cat.process_id, data=b"x")
        refused = [
            await refusal(call)
            for call in (
                shared_agent.processes.WriteInput(theirs, metadata=other),
                shared_agent.processes.WriteInputStream(pieces(cat.process_id, [b"x"]), metadata=other),
                shared_agent.processes.CloseInput(CloseInputRequest(process_id=cat.process_id), metadata=other),
                shared_agent.processes.Resize(
                    ResizeRequest(process_id=cat.process_id, size=TerminalSize(columns=80, rows=24)), metadata=other
                ),
            )
        ]
        own = await shared_agent.processes.WriteInput(theirs, metadata=chat)

    assert {each.reason for each in refused} == {"PROCESS_NOT_FOUND"}
    assert own.next_offset == 1


async def test_all_inputs_together_have_a_bound() -> None:
    """Processes that do not read cannot fill the agent's memory; one that ends makes room."""
    settings = {"input_bytes": 1 * MIB, "input_quota_bytes": 1 * MIB}
    async with (
        RunningAgent(settings=settings) as agent,
        started(agent, ["sleep", "60"], input=INPUT_MODE_PIPE) as second,
    ):
        async with started(agent, ["sleep", "60"], input=INPUT_MODE_PIPE) as first:
            await write_input(agent, first.process_id, bytes(2 * MIB), offset=0, wait=seconds(0))
            refused = await refusal(write_input(agent, second.process_id, bytes(2 * MIB), offset=0, wait=seconds(0)))
        taken = await write_input(agent, second.process_id, bytes(2 * MIB), offset=0, wait=seconds(0))

    assert refused.reason == "INPUT_FULL"
    assert taken.next_offset >= MIB


@pytest.mark.parametrize("death", ["worker", "keeper"])
async def test_input_goes_on_where_it_was_after_a_death(agent: RunningAgent, death: str) -> None:
    """What was accepted is passed on by the next worker, once, and so is the end."""
    data = bytes(range(256)) * 8192
    command = await agent.processes.Start(to_start("read x; echo $x; exec sha256sum", input=INPUT_MODE_PIPE))
    await write_input(agent, command.process_id, b"line\n", offset=0)
    await attach(agent, command.process_id, until=printed(b"line"))
    taken = await write_input(agent, command.process_id, data, offset=5, wait=seconds(0))
    await (agent.kill_worker() if death == "worker" else agent.kill_keeper())
    await agent.serves_again()

    asked = await write_input(agent, command.process_id, b"", offset=0)
    rest = data[asked.next_offset - 5 :]
    await agent.processes.WriteInputStream(pieces_from(command.process_id, asked.next_offset, rest))
    over = await attach(agent, command.process_id)

    assert asked.next_offset == taken.next_offset
    assert over.data.split()[1].decode() == sha256(data).hexdigest()


async def test_what_was_accepted_is_known_of_one_that_ended_while_no_worker_looked(
    agent: RunningAgent, tmp_path: Path
) -> None:
    """A repeat of an accepted write succeeds, also if the output had ended long before the process."""
    ending = tmp_path / "ending"
    os.mkfifo(ending)
    command = f"exec >/dev/null 2>&1; head -c 5; read x < '{ending}'; exit 7"
    start = await agent.processes.Start(to_start(command, input=INPUT_MODE_PIPE))
    before = await write_input(agent, start.process_id, b"hello", offset=0)
    await output_closed(agent, start.process_id)
    await run(agent, "true")  # meanwhile the keeper hears of the output's end
    os.kill(agent.worker_pid, signal.SIGSTOP)
    ending.write_text("x\n")
    await proc.dead(start.process.pid)
    await agent.kill_worker()
    await agent.serves_again()

    over = await attach(agent, start.process_id)
    again = await write_input(agent, start.process_id, b"hello", offset=0)

    assert over.exit.code == 7
    assert (before.next_offset, again.next_offset) == (5, 5)
    assert (await input_of(agent, start.process_id)).next_offset == 5
    await until(lambda: "/memfd:guyline-input (deleted)" not in proc.descriptors(agent.keeper_pid))


async def pieces_from(process_id: str, offset: int, data: bytes) -> AsyncIterator[WriteInputStreamRequest]:
    """What is left of an input, with its end."""
    yield WriteInputStreamRequest(process_id=process_id, offset=offset, data=data, eof=True)


async def test_an_end_that_was_asked_for_comes_after_the_worker_s_death(agent: RunningAgent) -> None:
    """What waits behind a slow reader is not the caller's business any more."""
    command = await agent.processes.Start(to_start(["sh", "-c", "read x; cat | wc -c"], input=INPUT_MODE_PIPE))
    before, size = -1, 0
    while size > before:
        answer = await write_input(agent, command.process_id, bytes(BOUND), offset=0, wait=seconds(0))
        before, size = size, answer.next_offset
    await agent.processes.CloseInput(CloseInputRequest(process_id=command.process_id))
    await agent.kill_worker()
    await agent.serves_again()
    over = await attach(agent, command.process_id)
    again = await write_input(agent, command.process_id, bytes(size), offset=0, eof=True)

    assert over.exit.code == 0
    assert again.next_offset == size


@pytest.mark.parametrize("waiting", [0, BOUND // 2])
async def test_a_watch_is_told_that_an_input_ends(shared_agent: RunningAgent, waiting: int) -> None:
    """Nobody can write from then on, whether or not the process has read what was written before."""
    labels = {"job": str(uuid4())}
    async with started(shared_agent, ["sleep", "60"], input=INPUT_MODE_PIPE, labels=labels) as start:
        await write_input(shared_agent, start.process_id, bytes(waiting))
        stream = shared_agent.processes.Watch(ProcessServiceWatchRequest(labels=labels))
        messages = aiter(stream)
        first = await anext(messages)
        await shared_agent.processes.CloseInput(CloseInputRequest(process_id=start.process_id))
        async with asyncio.timeout(DEADLINE):
            told = await anext(messages)
        stream.cancel()

    assert [[event.put.input.is_open for event in each.events] for each in (first, told)] == [[True], [False]]
