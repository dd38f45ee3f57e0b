"""Input goes on where it stopped: every byte arrives, once and in order."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from guyline.agent.v1 import process_service_pb2 as pb
from guyline.client import AgentUnreachable, AsyncAgent, AsyncProcess, InputClosed, InputConflict, OutOfRange
from guyline.client.writing import PIECE_BYTES, SEGMENT_BYTES
from tests.client.scripted import PROCESS_ID, Context, ScriptedAgent, breaks, fails, gives, process


class Reader:
    """The input of the script's process: takes what is written, as the contract says."""

    def __init__(self) -> None:
        self.taken = b""

    def takes(self, *, at_most: int | None = None, then_breaks: bool = False) -> Any:
        """A play of WriteInput or WriteInputStream: takes up to so much of it, and answers unless it breaks."""

        async def play(request: Any, context: Context) -> AsyncIterator[Any]:
            left = at_most
            if isinstance(request, pb.WriteInputRequest):
                self._take(request.offset if request.HasField("offset") else len(self.taken), request.data, left)
            else:
                offset = None
                async for piece in request:
                    offset = piece.offset if offset is None else offset
                    left = self._take(offset, piece.data, left)
                    offset += len(piece.data)
                    if left == 0:
                        break
            if then_breaks:
                await context.abort(grpc.StatusCode.UNAVAILABLE)
            answer = pb.WriteInputResponse if isinstance(request, pb.WriteInputRequest) else pb.WriteInputStreamResponse
            yield answer(next_offset=len(self.taken))

        return play

    def _take(self, offset: int, data: bytes, at_most: int | None) -> int | None:
        assert offset <= len(self.taken), "nothing is missing before it"
        new = data[len(self.taken) - offset :][:at_most]
        self.taken += new
        return None if at_most is None else at_most - len(new)


@pytest.fixture
def reader() -> Reader:
    """What takes the input."""
    return Reader()


async def test_a_write_asks_once_where_to_go_on(scripted: ScriptedAgent, handle: AsyncProcess, reader: Reader) -> None:
    """The process may have been written to before; from then on the handle counts itself."""
    reader.taken = b"before "
    scripted.plays(reader.takes(), reader.takes(), reader.takes())

    await handle.write(b"one ")
    await handle.write(b"two")

    assert reader.taken == b"before one two"
    assert [(call.HasField("offset"), call.offset) for call in scripted.calls] == [(False, 0), (True, 7), (True, 11)]


async def test_a_write_whose_answer_was_lost_is_repeated(
    scripted: ScriptedAgent, handle: AsyncProcess, reader: Reader
) -> None:
    """Its offset says to the agent that it has it already."""
    scripted.plays(reader.takes(), reader.takes(then_breaks=True), reader.takes())

    await handle.write(b"once")

    assert reader.taken == b"once"


async def test_what_does_not_fit_is_written_later(
    scripted: ScriptedAgent, handle: AsyncProcess, reader: Reader
) -> None:
    """A process that does not read makes its writer wait, for as long as it takes."""
    full = fails(grpc.StatusCode.RESOURCE_EXHAUSTED, "INPUT_FULL")
    scripted.plays(reader.takes(), reader.takes(at_most=2), full, full, reader.takes())

    await handle.write(b"slowly")

    assert reader.taken == b"slowly"
    assert [call.data for call in scripted.calls[1:]] == [b"slowly", b"owly", b"owly", b"owly"]


async def test_who_comes_behind_another_writer_waits_as_well(
    scripted: ScriptedAgent, handle: AsyncProcess, reader: Reader
) -> None:
    """Already with the question where the input is: that one has the turn, and its process does not read."""
    full = fails(grpc.StatusCode.RESOURCE_EXHAUSTED, "INPUT_FULL")
    scripted.plays(full, full, reader.takes(), reader.takes())

    await handle.write(b"patient")

    assert reader.taken == b"patient"


async def test_much_goes_in_streams_that_resume(scripted: ScriptedAgent, handle: AsyncProcess, reader: Reader) -> None:
    """Only what is missing is sent again after a break."""
    data = bytes(range(256)) * (SEGMENT_BYTES // 256) + b"the rest of it" * PIECE_BYTES
    cut = reader.takes(at_most=3 * PIECE_BYTES + 5, then_breaks=True)
    scripted.plays(reader.takes(), cut, reader.takes(), reader.takes(), reader.takes())

    await handle.write(data)

    assert reader.taken == data


async def test_an_agent_that_only_ever_breaks_is_given_up(scripted: ScriptedAgent) -> None:
    """Patience is for getting nowhere, with input as with output."""
    reader = Reader()
    scripted.plays(gives(pb.StartResponse(process=process())), *[breaks()] * 1000)

    async with AsyncAgent(scripted.address, patience=0.2) as agent:
        handle = await agent.start(["cat"])
        with pytest.raises(AgentUnreachable):
            await handle.write(b"x" * SEGMENT_BYTES)

    assert reader.taken == b""


async def test_pieces_may_come_by_and_by(scripted: ScriptedAgent, handle: AsyncProcess, reader: Reader) -> None:
    """From any iterable; what an async one gives is passed on as it comes."""
    gate = asyncio.Event()

    async def typed() -> AsyncIterator[bytes]:
        yield b"a"
        assert reader.taken == b"xyza", "passed on before the next one"
        gate.set()
        yield b"b"

    scripted.plays(*[reader.takes()] * 4)

    await handle.write([b"x", b"y", b"z"])
    await handle.write(typed())

    assert gate.is_set()
    assert reader.taken == b"xyzab"


async def test_writers_on_one_handle_take_turns(scripted: ScriptedAgent, handle: AsyncProcess, reader: Reader) -> None:
    """Their bytes do not mix, and none takes the other's offset."""
    scripted.plays(*[reader.takes(at_most=2)] * 7)

    await asyncio.gather(handle.write(b"one-"), handle.write(b"two-"), handle.write(b"six-"))

    assert reader.taken == b"one-two-six-"


async def test_the_end_of_the_input_stands_behind_all_of_it(
    scripted: ScriptedAgent, handle: AsyncProcess, reader: Reader
) -> None:
    """The offset goes with it; a lost answer does no harm."""
    closed = gives(pb.CloseInputResponse(next_offset=4))
    scripted.plays(reader.takes(), reader.takes(), breaks(), closed, closed)

    await handle.write(b"data", eof=True)
    await handle.close_input()

    assert [(call.process_id, call.offset) for call in scripted.calls[2:]] == [(PROCESS_ID, 4)] * 3


async def test_an_input_that_was_not_closed_is_said(
    scripted: ScriptedAgent, handle: AsyncProcess, reader: Reader
) -> None:
    """What the agent does not have any more cannot be ended behind."""
    scripted.plays(reader.takes(), reader.takes(), gives(pb.CloseInputResponse(next_offset=1)))

    with pytest.raises(OutOfRange, match="was not closed"):
        await handle.write(b"data", eof=True)


async def test_a_closed_input_is_an_error(scripted: ScriptedAgent, handle: AsyncProcess) -> None:
    """The process reads no more, and whoever writes on should know."""
    scripted.plays(fails(grpc.StatusCode.FAILED_PRECONDITION, "INPUT_CLOSED"))

    with pytest.raises(InputClosed):
        await handle.write(b"data")


async def test_another_writer_is_noticed(scripted: ScriptedAgent, handle: AsyncProcess, reader: Reader) -> None:
    """The agent holds other bytes where ours belong: nothing of ours was taken, and whoever writes should know."""
    scripted.plays(reader.takes(), reader.takes())
    await handle.write(b"ours")
    scripted.plays(fails(grpc.StatusCode.ALREADY_EXISTS, "INPUT_CONFLICT", next_offset="15"))

    with pytest.raises(InputConflict):
        await handle.write(b"more")


async def test_who_shares_an_input_goes_on_behind_the_others(
    scripted: ScriptedAgent, handle: AsyncProcess, reader: Reader
) -> None:
    """As at the keyboards of one terminal: no key is lost, whoever was first."""
    scripted.plays(reader.takes(), reader.takes())
    await handle.write(b"ours", shared=True)
    reader.taken += b" and theirs"
    scripted.plays(fails(grpc.StatusCode.ALREADY_EXISTS, "INPUT_CONFLICT", next_offset="15"), reader.takes())

    await handle.write(b" again", shared=True)

    assert reader.taken == b"ours and theirs again"
