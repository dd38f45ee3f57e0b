"""Input goes on where it stopped: every byte arrives, once and in order."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from guyline.agent.v1 import process_service_pb2 as pb
from guyline.client import AgentUnreachable, AsyncAgent, AsyncProcess, InputClosed, InputConflict, OutOfRange, writing
from guyline.client.writing import PIECE_BYTES, SEGMENT_BYTES
from tests.client.scripted import PROCESS_ID, Context, ScriptedAgent, breaks, fails, gives, process
from tests.support.clock import MS, until


class Reader:
    """The input of the script's process: takes what is written, as the contract says."""

    def __init__(self) -> None:
        self.taken = b""

    def takes(self, *, at_most: int | None = None, then_breaks: bool = False) -> Any:
        """A play of WriteInput or WriteInputStream: takes up to so much of it, and answers unless it breaks."""

        async def play(request: Any, context: Context) -> AsyncIterator[Any]:
            left = at_most
            try:
                if isinstance(request, pb.WriteInputRequest) and request.compare:
                    left = 0
                async for offset, piece, first_try in _placed(request, len(self.taken)):
                    left = self._take(offset, piece, left, first_try=first_try)
                    if left == 0:
                        break
            except _Conflict as conflict:
                await anext(conflict.play(request, context))
            if then_breaks:
                await context.abort(grpc.StatusCode.UNAVAILABLE)
            answer = pb.WriteInputResponse if isinstance(request, pb.WriteInputRequest) else pb.WriteInputStreamResponse
            yield answer(next_offset=len(self.taken))

        return play

    def _take(self, offset: int, data: bytes, at_most: int | None, *, first_try: bool) -> int | None:
        assert offset <= len(self.taken), "nothing is missing before it"
        there = self.taken[offset : offset + len(data)]
        common = 0 if first_try else next((at for at in range(len(there)) if there[at] != data[at]), len(there))
        if common < len(there):
            raise _Conflict(offset + common, len(self.taken))
        new = data[len(there) :][:at_most]
        self.taken += new
        return None if at_most is None else at_most - len(new)


class _Conflict(Exception):
    """Others were there first."""

    def __init__(self, offset: int, next_offset: int) -> None:
        self.play = fails(
            grpc.StatusCode.ALREADY_EXISTS, "INPUT_CONFLICT", offset=str(offset), next_offset=str(next_offset)
        )


async def _placed(request: Any, end: int) -> AsyncIterator[tuple[int, bytes, bool]]:
    """The pieces of a call: where each belongs, and whether it is new."""
    if isinstance(request, pb.WriteInputRequest):
        yield request.offset if request.HasField("offset") else end, request.data, request.first_try
        return
    offset, first_try = None, False
    async for piece in request:
        offset, first_try = (piece.offset, piece.first_try) if offset is None else (offset, first_try)
        yield offset, piece.data, first_try
        offset += len(piece.data)


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
    """Unless the agent has it already: where the input is, and what stands before that, tells."""
    scripted.plays(reader.takes(), reader.takes(at_most=2, then_breaks=True), *[reader.takes()] * 3)

    await handle.write(b"once")

    assert reader.taken == b"once"
    _, _, position, compared, rest = scripted.calls
    assert (position.data, compared.data, compared.compare, rest.data) == (b"", b"on", True, b"ce")


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
    """Only what is missing is sent again after a break, and the end of what is there: that might be another's."""
    data = bytes(range(256)) * (SEGMENT_BYTES // 256) + b"the rest of it" * PIECE_BYTES
    cut = reader.takes(at_most=3 * PIECE_BYTES + 5, then_breaks=True)
    scripted.plays(reader.takes(), cut, *[reader.takes()] * 4)

    await handle.write(data)

    assert reader.taken == data
    _, _, position, end, _, _ = scripted.calls
    assert (position.data, end.offset + len(end.data)) == (b"", 3 * PIECE_BYTES + 5)


async def test_an_agent_that_only_ever_breaks_is_given_up(scripted: ScriptedAgent) -> None:
    """Patience is for getting nowhere, with input as with output."""
    reader = Reader()
    scripted.plays(gives(pb.StartResponse(process=process())), *[breaks()] * 1000)

    async with AsyncAgent(scripted.address, patience=0.2) as agent:
        handle = await agent.start(["cat"])
        with pytest.raises(AgentUnreachable):
            await handle.write(b"x" * SEGMENT_BYTES)

    assert reader.taken == b""


@pytest.mark.parametrize("size", [5, 2 * PIECE_BYTES])
async def test_a_reader_that_is_waited_for_is_no_absence_of_the_agent(
    scripted: ScriptedAgent, reader: Reader, size: int
) -> None:
    """Two workers that die minutes apart are two short breaks, and not one that is longer than patience."""
    long_after = breaks(after=1500 * MS)
    scripted.plays(gives(pb.StartResponse(process=process())))
    scripted.plays(breaks(), long_after, reader.takes())  # the question where the input is: behind another writer
    scripted.plays(breaks(), reader.takes(), long_after, reader.takes(), reader.takes())

    async with AsyncAgent(scripted.address, patience=1000 * MS) as agent:
        handle = await agent.start(["cat"])
        await handle.write(b"x" * size)

    assert reader.taken == b"x" * size


async def test_an_input_that_is_full_is_no_absence_of_the_agent(scripted: ScriptedAgent, reader: Reader) -> None:
    """It says so every half a minute, for as long as the process does not read."""
    full = fails(grpc.StatusCode.RESOURCE_EXHAUSTED, "INPUT_FULL", after=500 * MS)
    scripted.plays(gives(pb.StartResponse(process=process())), reader.takes())
    scripted.plays(breaks(), reader.takes(), full, full, full, breaks(), reader.takes(), reader.takes())

    async with AsyncAgent(scripted.address, patience=1000 * MS) as agent:
        handle = await agent.start(["cat"])
        await handle.write(b"slowly")

    assert reader.taken == b"slowly"


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
    """Nothing of ours was taken, and whoever writes should know; also if what is there looks just like it."""
    scripted.plays(reader.takes(), reader.takes())
    await handle.write(b"ours")
    reader.taken += b"more"
    scripted.plays(reader.takes())

    with pytest.raises(InputConflict):
        await handle.write(b"more")

    assert reader.taken == b"oursmore"


async def test_who_shares_an_input_goes_on_behind_the_others(
    scripted: ScriptedAgent, handle: AsyncProcess, reader: Reader
) -> None:
    """As at the keyboards of one terminal: no key is lost, whoever was first."""
    scripted.plays(reader.takes(), reader.takes())
    await handle.write(b"ours", shared=True)
    reader.taken += b" and theirs"
    scripted.plays(reader.takes(), reader.takes())

    await handle.write(b" again", shared=True)

    assert reader.taken == b"ours and theirs again"


@pytest.mark.parametrize("theirs", [b"theirs" * PIECE_BYTES, bytes(range(5)) + b"as ours began"])
@pytest.mark.parametrize("accepted", [0, PIECE_BYTES, 3 * PIECE_BYTES])
async def test_after_a_break_what_others_wrote_meanwhile_is_not_taken_for_ours(
    scripted: ScriptedAgent, handle: AsyncProcess, reader: Reader, accepted: int, theirs: bytes
) -> None:
    """Else as many bytes of ours would be left out, or, of a segment that had come in part, that part come twice.

    What they have written may begin as ours does.
    """
    ours = bytes(range(256)) * (4 * PIECE_BYTES // 256)

    async def others_write(request: Any, context: Context) -> AsyncIterator[Any]:
        async for _ in reader.takes(at_most=accepted)(request, context):
            reader.taken += theirs
        async for message in breaks()(request, context):
            yield message

    scripted.plays(reader.takes(), others_write, *[reader.takes()] * 100)

    await handle.write(ours, shared=True)

    assert reader.taken == ours[:accepted] + theirs + ours[accepted:]


async def test_a_write_after_a_break_says_that_others_came_between(
    scripted: ScriptedAgent, handle: AsyncProcess, reader: Reader
) -> None:
    """Where nobody else is to write."""
    scripted.plays(reader.takes(), reader.takes())
    await handle.write(b"before")

    async def others_write(request: Any, context: Context) -> AsyncIterator[Any]:
        reader.taken += b"theirs"
        async for message in breaks()(request, context):
            yield message

    scripted.plays(others_write, *[reader.takes()] * 100)

    with pytest.raises(InputConflict):
        await handle.write(b"x" * 4 * PIECE_BYTES)

    assert reader.taken == b"beforetheirs"


async def test_a_place_that_is_not_known_any_more_is_asked_for_until_it_holds(
    scripted: ScriptedAgent, handle: AsyncProcess, reader: Reader
) -> None:
    """After a write that was cancelled: its last piece may be accepted after the question where the input is."""

    async def comes_behind(request: Any, context: Context) -> AsyncIterator[Any]:
        reader.taken += b"the last piece"
        async for answer in reader.takes()(request, context):
            yield answer

    scripted.plays(reader.takes(), comes_behind, reader.takes())

    await handle.write(b", and more")

    assert reader.taken == b"the last piece, and more"


async def test_of_one_s_own_line_nothing_is_left_out_though_another_s_begins_alike(
    scripted: ScriptedAgent, handle: AsyncProcess, reader: Reader
) -> None:
    """The connection broke before it arrived, and the other one was faster."""
    scripted.plays(reader.takes(), reader.takes())
    await handle.write(b"[", shared=True)

    async def others_write(request: Any, context: Context) -> AsyncIterator[Any]:
        reader.taken += b'{"id": 2}\n'
        async for message in breaks()(request, context):
            yield message

    scripted.plays(others_write, *[reader.takes()] * 5)
    await handle.write(b'{"id": 1}\n', shared=True)

    assert reader.taken == b'[{"id": 2}\n{"id": 1}\n'


async def test_who_reads_slowly_is_waited_for_as_long_as_the_agent_is_there(
    scripted: ScriptedAgent, handle: AsyncProcess, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stream that was cut for its age was taken for a broken one."""
    monkeypatch.setattr(writing, "_SILENT_SECONDS", 0.05)
    asked = len(scripted.greetings)

    async def reads_slowly(request: Any, context: Context) -> AsyncIterator[Any]:
        await until(lambda: len(scripted.greetings) >= asked + 3)
        async for answer in reader.takes()(request, context):
            yield answer

    scripted.plays(reader.takes(), reads_slowly)

    await handle.write(bytes(4 * PIECE_BYTES))

    assert len(scripted.calls) == 2
    assert len(reader.taken) == 4 * PIECE_BYTES
