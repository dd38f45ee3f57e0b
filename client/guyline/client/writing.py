"""Input for a process, which survives the connection as its output does."""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator

from guyline.agent.v1 import process_service_pb2 as pb
from guyline.agent.v1.agent_info_service_pb2 import GetInfoRequest
from guyline.client.argument import check_data
from guyline.client.connection import ANSWER_WITHIN, Connection
from guyline.client.deadline import Deadline
from guyline.client.errors import PASSING, GuylineError, InputConflict, InputFull, Outcome, OutOfRange
from guyline.client.patience import Outage
from guyline.client.requests import written_down
from guyline.client.values import Bytes
from guyline.client.wire import to_duration

Data = Bytes | Iterable[Bytes] | AsyncIterable[Bytes]

PIECE_BYTES = 128 * 1024
"""One message of a stream; up to so much goes in a call of its own."""

SEGMENT_BYTES = 4 * 1024 * 1024
"""So much is under way at once, and kept here until the agent has it."""

_ROOM_WITHIN = 30.0  # seconds for which a call waits for room, before it asks again
_ANSWER_WITHIN = ANSWER_WITHIN + _ROOM_WITHIN
_SILENT_SECONDS = 60.0  # after which somebody asks whether the agent is there, for which a stream waits
_FULL_PAUSE = 0.05
_LOOK_WITHIN = 1.0
_COMPARED_BYTES = 16 * 1024  # enough to know what is one's own; less than what the agent can still compare


class Writer:
    """Writes the input of one process. Every byte has its offset, so that repeating a call does no harm.

    What is sent for the first time says so: what stands at its place by then is another writer's, whatever it is. Only
    what may have arrived already is taken for one's own where it is found, as far as the agent can still see it.
    Several writers at once take turns.

    Args:
        connection: The way to the agent.
        process_id: Whose input.
        next_offset: Where its input is. None: the agent is asked at first use.
        repeats: Everything may be sent by others as well, who repeat the same start.
    """

    def __init__(
        self, connection: Connection, process_id: str, *, next_offset: int | None, repeats: bool = False
    ) -> None:
        self._connection = connection
        self._process_id = process_id
        self._next = next_offset
        self._repeats = repeats
        self._first_try = not repeats  # of the segment that is being sent
        self._turn = asyncio.Lock()

    async def write(self, data: Data, *, eof: bool, shared: bool = False) -> None:
        """Returns once the agent has accepted all of it. If it is cancelled, a part may have been.

        Where the input is ``shared``, what others have written meanwhile is no error.
        """
        check_data("data", data)
        async with self._turn:
            try:
                async for segment in _segments(data):
                    await self._send(segment, shared=shared)
                if eof:
                    await self._close()
            except BaseException:
                self._next = None  # only the agent knows how much of it was accepted: it is asked before the next write
                raise

    async def close(self) -> None:
        """Ends the input behind what was written."""
        async with self._turn:
            await self._close()

    async def position(self) -> int:
        """How many bytes the agent has accepted. Waits for a moment for what was sent, and not for room."""
        request = pb.WriteInputRequest(process_id=self._process_id, wait=to_duration(_LOOK_WITHIN))
        try:
            response = await self._connection.ask(lambda line: line.processes.WriteInput, request, repeatable=True)
        except InputFull as full:  # somebody else waits with a write
            return int(full.facts["next_offset"])
        return response.next_offset

    async def _close(self) -> None:
        request = pb.CloseInputRequest(process_id=self._process_id, offset=self._next)
        response = await self._connection.ask(lambda line: line.processes.CloseInput, request, repeatable=True)
        if self._next is not None and response.next_offset < self._next:
            raise OutOfRange(
                f"the input of process {self._process_id} was not closed: of {self._next} bytes it has only "
                f"{response.next_offset}",
                facts={"process_id": self._process_id, "next_offset": str(response.next_offset)},
            )

    async def _send(self, segment: bytes, *, shared: bool) -> None:
        """Writes all of it. Where others were first it goes on behind them, if they may, or it had no place yet."""
        sent, has_place = 0, self._next is not None
        self._first_try = not self._repeats
        outage = Outage(self._connection.patience)
        with outage.all_tries_told():
            while sent < len(segment):
                at = await self._ask_position() if self._next is None else self._next
                missing = segment[sent:]
                try:
                    accepted = await (self._stream if len(missing) > PIECE_BYTES else self._call)(missing, at, outage)
                    self._next = at + accepted
                except InputConflict as error:
                    if (has_place and not shared) or "offset" not in error.facts:
                        raise
                    accepted = _whole_pieces(int(error.facts["offset"]) - at)
                    self._next = int(error.facts["next_offset"])
                    self._first_try = not self._repeats  # of the rest nothing was accepted
                if accepted:
                    outage.progress()
                    has_place = True
                sent += accepted

    async def _ask_position(self) -> int:
        """Where the input is. Whoever else is writing comes first: until then that may change."""
        return await self._ask()

    async def _ask(self, *, offset: int | None = None, data: bytes = b"", compare: bool = False) -> int:
        """As above, and whether something is there."""
        request = pb.WriteInputRequest(process_id=self._process_id, offset=offset, data=data, compare=compare)
        while True:
            deadline = Deadline(_ROOM_WITHIN, request.wait)
            try:
                response = await self._connection.ask(
                    lambda line: line.processes.WriteInput, request, repeatable=True, deadline=deadline
                )
            except InputFull:
                await asyncio.sleep(_FULL_PAUSE)
            else:
                return response.next_offset

    async def _call(self, data: bytes, at: int, outage: Outage) -> int:
        """Writes in one call; returns how much was accepted. A process that does not read is waited for."""
        request = pb.WriteInputRequest(
            process_id=self._process_id,
            offset=at,
            data=data,
            wait=to_duration(_ROOM_WITHIN),
            first_try=self._first_try,
        )
        while True:
            since = _now()
            try:
                response = await self._connection.ask_once(
                    lambda line: line.processes.WriteInput, request, answer_within=_ANSWER_WITHIN
                )
                return min(response.next_offset - at, len(data))
            except InputFull:
                outage.over()
                await asyncio.sleep(_FULL_PAUSE)
            except PASSING as error:
                outage.waited(min(_now() - since, _ROOM_WITHIN))
                return await self._after_break(error, data, at, outage)

    async def _stream(self, data: bytes, at: int, outage: Outage) -> int:
        """Writes in a stream; returns how much was accepted, also after a break of it."""
        since = _now()
        try:
            return min(await self._answer_to_stream(data, at) - at, len(data))
        except PASSING as error:
            outage.waited(_now() - since)
            return await self._after_break(error, data, at, outage)

    async def _after_break(self, error: GuylineError, data: bytes, at: int, outage: Outage) -> int:
        """Waits for the agent; returns how much was accepted before ``error``."""
        await self._connection.wait_out(outage, error)
        if error.outcome is Outcome.NOT_STARTED:
            return 0
        since = _now()
        try:
            return await self._accepted(data, at)
        finally:
            outage.waited(_now() - since)

    async def _answer_to_stream(self, data: bytes, at: int) -> int:
        """The next offset. That may take as long as its reader does: now and then the agent is asked whether it is
        there, on the same connection.
        """
        stream = asyncio.ensure_future(
            self._connection.ask_once(
                lambda line: line.processes.WriteInputStream, self._pieces(data, at), answer_within=None
            )
        )
        try:
            while not (await asyncio.wait({stream}, timeout=_SILENT_SECONDS))[0]:
                await self._ask_whether_agent_is_there()
            return (await stream).next_offset
        finally:
            stream.cancel()
            await asyncio.gather(stream, return_exceptions=True)

    async def _ask_whether_agent_is_there(self) -> None:
        try:
            await self._connection.ask_once(lambda line: line.info.GetInfo, GetInfoRequest())
        except PASSING as error:
            error.outcome = Outcome.MAY_HAVE_RUN  # of what the stream has carried, whatever became of the question
            raise

    async def _accepted(self, data: bytes, at: int) -> int:
        """How much was accepted of what was sent and not answered. Others may have written meanwhile: so the end of
        that is compared with what is there.

        Raises:
            InputConflict: They have; it says how far the data goes, if anybody can.
        """
        self._first_try = False  # the call that broke may still be at work, for as long as nobody has noticed
        end = min(await self._ask_position() - at, len(data))
        while end > 0 and not self._repeats:
            begin = max(0, end - _COMPARED_BYTES)
            try:
                await self._ask(offset=at + begin, data=data[begin:end], compare=True)
            except InputConflict as error:
                if begin == 0 or error.facts.get("offset") != str(at + begin):
                    raise
                end = begin  # none of that is from here
            else:
                break
        return end

    def _pieces(self, data: bytes, at: int) -> Iterator[pb.WriteInputStreamRequest]:
        for start in range(0, len(data), PIECE_BYTES):
            piece = pb.WriteInputStreamRequest(data=data[start : start + PIECE_BYTES])
            if not start:
                piece.process_id = self._process_id
                piece.offset = at
                piece.first_try = self._first_try
            yield piece


def _now() -> float:
    return asyncio.get_running_loop().time()


def _whole_pieces(length: int) -> int:
    """As much as was accepted: pieces are, or are not. What others have written may begin as the next one does."""
    return length // PIECE_BYTES * PIECE_BYTES


async def _segments(data: Data) -> AsyncIterator[bytes]:
    """The data in segments: what comes by and by is passed on as it comes."""
    if isinstance(data, Bytes):
        for segment in _cut(data):
            yield segment
    elif isinstance(data, AsyncIterable):
        async for item in data:
            for segment in _cut(item):
                yield segment
    else:
        gathered = bytearray()
        for item in data:
            with written_down("data"):
                gathered += item
            while len(gathered) >= SEGMENT_BYTES:
                yield bytes(gathered[:SEGMENT_BYTES])
                del gathered[:SEGMENT_BYTES]
        if gathered:
            yield bytes(gathered)


def _cut(data: Bytes) -> Iterator[bytes]:
    with written_down("data"):
        view = memoryview(data).cast("B")
    for start in range(0, len(view), SEGMENT_BYTES):
        yield bytes(view[start : start + SEGMENT_BYTES])
