"""Input for a process, which survives the connection as its output does."""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator

from guyline.agent.v1 import process_service_pb2 as pb
from guyline.client.argument import check_data
from guyline.client.connection import ANSWER_WITHIN, Connection
from guyline.client.errors import PASSING, InputConflict, InputFull, OutOfRange
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
_STREAM_SECONDS = 60.0  # then a stream that may hang is given up, and goes on where it had got to
_FULL_PAUSE = 0.05


class Writer:
    """Writes the input of one process. Every byte has its offset, so that repeating a call does no harm.

    Several writers at once take turns.

    Args:
        connection: The way to the agent.
        process_id: Whose input.
        next_offset: Where its input is. None: the agent is asked at first use.
    """

    def __init__(self, connection: Connection, process_id: str, *, next_offset: int | None) -> None:
        self._connection = connection
        self._process_id = process_id
        self._next = next_offset
        self._turn = asyncio.Lock()

    async def write(self, data: Data, *, eof: bool, shared: bool = False) -> None:
        """Returns once the agent has accepted all of it. If it is cancelled, a part may have been.

        Where the input is ``shared``, what others have written meanwhile is no error.
        """
        check_data("data", data)
        async with self._turn:
            try:
                async for segment in _segments(data):
                    while not await self._sent(segment, shared=shared):
                        pass
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
        """How many bytes the agent has accepted."""
        async with self._turn:
            return await self._ask_position()

    async def _close(self) -> None:
        request = pb.CloseInputRequest(process_id=self._process_id, offset=self._next)
        response = await self._connection.ask(lambda line: line.processes.CloseInput, request, repeatable=True)
        if self._next is not None and response.next_offset < self._next:
            raise OutOfRange(
                f"the input of process {self._process_id} was not closed: of {self._next} bytes it has only "
                f"{response.next_offset}",
                facts={"process_id": self._process_id, "next_offset": str(response.next_offset)},
            )

    async def _sent(self, segment: bytes, *, shared: bool) -> bool:
        """Writes it; returns False if somebody else was there first, where that may be."""
        try:
            await self._send(segment)
        except InputConflict as error:
            if not shared:
                raise
            self._next = int(error.facts["next_offset"])
            return False
        return True

    async def _send(self, segment: bytes) -> None:
        start = await self._ask_position() if self._next is None else self._next
        end = start + len(segment)
        self._next = start
        outage = Outage(self._connection.patience)
        while self._next < end:
            before = self._next
            missing = segment[before - start :]
            self._next = await (
                self._stream(missing, outage) if len(missing) > PIECE_BYTES else self._call(missing, at=before)
            )
            if self._next > before:
                outage.progress()

    async def _ask_position(self) -> int:
        """Where the input is. Whoever else is writing comes first: until then that may change."""
        while (position := await self._asked(pb.WriteInputRequest(process_id=self._process_id))) is None:
            pass
        return position

    async def _call(self, data: bytes, *, at: int) -> int:
        """Writes in one call; returns where to go on. A process that does not read is waited for."""
        next_offset = await self._asked(pb.WriteInputRequest(process_id=self._process_id, offset=at, data=data))
        return at if next_offset is None else next_offset

    async def _asked(self, request: pb.WriteInputRequest) -> int | None:
        """The next offset. None: there was no room in the time, and it is to be asked again."""
        request.wait.CopyFrom(to_duration(_ROOM_WITHIN))
        try:
            response = await self._connection.ask(
                lambda line: line.processes.WriteInput,
                request,
                repeatable=True,
                answer_within=ANSWER_WITHIN + _ROOM_WITHIN,
            )
        except InputFull:
            await asyncio.sleep(_FULL_PAUSE)
            return None
        return response.next_offset

    async def _stream(self, data: bytes, outage: Outage) -> int:
        """Writes in a stream; returns where to go on, also after a break of it."""
        try:
            async with asyncio.timeout(_STREAM_SECONDS):
                response = await self._connection.ask_once(
                    lambda line: line.processes.WriteInputStream, self._pieces(data), answer_within=None
                )
                return response.next_offset
        except TimeoutError:
            pass  # it may be cut, or only wait for its reader: whoever answers knows
        except PASSING as error:
            await self._connection.wait_out(outage, error)
        return await self._ask_position()

    def _pieces(self, data: bytes) -> Iterator[pb.WriteInputStreamRequest]:
        for start in range(0, len(data), PIECE_BYTES):
            piece = pb.WriteInputStreamRequest(data=data[start : start + PIECE_BYTES])
            if not start:
                piece.process_id = self._process_id
                piece.offset = self._next or 0
            yield piece


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
