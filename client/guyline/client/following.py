"""Streams that survive their connections. The loop is written once, here, for every kind of stream."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from typing import Generic, Protocol, TypeVar, cast

import grpc.aio
from google.protobuf.duration_pb2 import Duration

from guyline.agent.v1 import process_service_pb2 as pb
from guyline.agent.v1.process_pb2 import TIME_LIMIT_DETACH_AFTER
from guyline.client.connection import Connection, Line, was_asked_to_cancel
from guyline.client.errors import PASSING, GuylineError, NotFound, Outcome, StoreChanged
from guyline.client.pacing import Pacing
from guyline.client.patience import Outage
from guyline.client.requests import to_wanted_labels, written_down
from guyline.client.status import unreachable
from guyline.client.wire import to_duration

OutputMessage = pb.RunResponse | pb.AttachResponse
Message = TypeVar("Message", pb.RunResponse | pb.AttachResponse, pb.ProcessServiceWatchResponse)
Message_co = TypeVar("Message_co", covariant=True)

_SILENT_INTERVALS = 2.5
"""So many keepalive intervals without a message, and the connection counts as dead."""


class StreamCall(Protocol[Message_co]):
    """What is needed of gRPC's call objects."""

    def __aiter__(self) -> AsyncIterator[Message_co]: ...

    def cancel(self) -> bool:
        """Ends the call; does nothing to one that has ended."""


class Followed(ABC, Generic[Message]):
    """What is followed, and how far one has come. ``keepalive`` is in seconds."""

    def __init__(self, *, keepalive: float) -> None:
        self.keepalive = keepalive
        self.ended = False
        """Whether nothing can follow. A call that ends before is resumed."""
        self.is_called_off = False
        """Whether the call under way was ended here, for another to go on in its place."""
        self._under_way: StreamCall[Message] | None = None
        self._cursor = b""

    @abstractmethod
    def call(self, line: Line) -> StreamCall[Message]:
        """Calls for what has not come yet."""

    def begin(self, line: Line) -> StreamCall[Message]:
        """Makes a call, which is under way until it is ``over``."""
        self.is_called_off = False
        self._under_way = self.call(line)
        return self._under_way

    def over(self) -> None:
        """Ends the call, if that has not happened yet."""
        if self._under_way is not None:
            self._under_way.cancel()
            self._under_way = None

    def call_anew(self) -> None:
        """Goes on with another call, if one is under way."""
        if self._under_way is not None:
            self.is_called_off = True
            self._under_way.cancel()

    def take(self, message: Message) -> bool:
        """Remembers how far the message goes; returns whether the stream got anywhere by it."""
        self._cursor = message.control.cursor or self._cursor
        signal = message.control.WhichOneof("signal")
        self.ended = signal == "ended"
        return signal is not None

    def call_ended(self) -> None:
        """The agent has ended the call, and in order."""

    def meaning(self, error: GuylineError) -> GuylineError:
        """What an error of the call means at this point."""
        return error


class FollowedOutput(Followed[OutputMessage]):
    """The output of one process, opened by starting it or by attaching to it. ``pacing`` says of each call whether it
    is to pace the process.
    """

    def __init__(self, opening: pb.RunRequest | pb.AttachRequest, *, pacing: Pacing, keepalive: float) -> None:
        super().__init__(keepalive=keepalive)
        self._opening = opening
        self._opening.keepalive.CopyFrom(to_duration(keepalive))
        self._pacing = pacing
        self._snapshot = isinstance(opening, pb.AttachRequest) and opening.snapshot
        self._without_output = isinstance(opening, pb.AttachRequest) and opening.without_output
        self._process_id = ""

    @property
    def detach_after(self) -> Duration | None:
        """How long after the process's start the stream ends. None: with the process."""
        return self._opening.detach_after if self._opening.HasField("detach_after") else None

    def call(self, line: Line) -> StreamCall[OutputMessage]:
        """Repeats the opening until a first message has come; from then on resumes with Attach."""
        if self._process_id:
            return line.processes.Attach(self._resumption(), metadata=line.metadata)
        if isinstance(self._opening, pb.RunRequest):
            self._pacing.asked(self)
            return line.processes.Run(self._opening, metadata=line.metadata)
        self._opening.paces, self._opening.drains = self._pacing.asks(self)
        return line.processes.Attach(self._opening, metadata=line.metadata)

    def take(self, message: OutputMessage) -> bool:
        """As above; output is what such a stream is after, and the exit comes last."""
        self._process_id = self._process_id or message.process.process_id
        is_progress = super().take(message) or bool(message.data)
        self.ended = self.ended or message.HasField("exit") or message.limit == TIME_LIMIT_DETACH_AFTER
        return is_progress

    def call_ended(self) -> None:
        """A snapshot ends without a word."""
        self.ended = self.ended or self._snapshot

    def meaning(self, error: GuylineError) -> GuylineError:
        """A process that was there and is not known any more went with its store."""
        if not self._process_id or not isinstance(error, NotFound):
            return error
        return StoreChanged(
            f"the agent does not know process {self._process_id} any more; how it went on cannot be said",
            facts={"process_id": self._process_id},
            outcome=Outcome.MAY_HAVE_RUN,
            hop=error.hop,
        )

    def begun_anew(self) -> "FollowedOutput":
        """The same from its beginning, after something of it was dropped that is wanted after all."""
        opening = pb.AttachRequest(process_id=self._process_id, detach_after=self.detach_after)
        return FollowedOutput(opening, pacing=self._pacing, keepalive=self.keepalive)

    def _resumption(self) -> pb.AttachRequest:
        asked = self._pacing.asks(self)
        return pb.AttachRequest(
            process_id=self._process_id,
            cursor=self._cursor,
            snapshot=self._snapshot,
            paces=asked.paces,
            drains=asked.drains,
            without_output=self._without_output,
            keepalive=self._opening.keepalive,
            times=self._opening.times,
            detach_after=self.detach_after,
        )


class FollowedList(Followed[pb.ProcessServiceWatchResponse]):
    """The list of processes as it changes; only those with all of these labels, None being any value."""

    def __init__(self, *, labels: Mapping[str, str | None], keepalive: float) -> None:
        super().__init__(keepalive=keepalive)
        self._labels, self._label_names = to_wanted_labels(labels)

    def call(self, line: Line) -> StreamCall[pb.ProcessServiceWatchResponse]:
        """Goes on at the cursor; without one, everything comes first."""
        keepalive = to_duration(self.keepalive)
        with written_down("watch"):
            request = pb.ProcessServiceWatchRequest(
                cursor=self._cursor, keepalive=keepalive, labels=self._labels, label_names=self._label_names
            )
        return line.processes.Watch(request, metadata=line.metadata)

    def take(self, message: pb.ProcessServiceWatchResponse) -> bool:
        """As above; changes are what such a stream is after."""
        return super().take(message) or bool(message.events)


async def follow(connection: Connection, followed: Followed[Message]) -> AsyncGenerator[Message, None]:
    """Gives the messages of a stream until it has ended, over as many connections as that takes. Close it after use.

    Raises:
        AgentUnreachable: The agent did not come back within the connection's patience.
        StoreChanged: What was followed is not there any more.
        GuylineError: The agent refused.
    """
    outage = Outage(connection.patience)
    clock = asyncio.get_running_loop().time
    with outage.all_tries_told():
        while not followed.ended:
            since, heard = clock(), None
            try:
                async with connection.line() as line, aclosing(_one_call(connection, line, followed)) as messages:
                    async for message in messages:
                        if followed.take(message):
                            outage.progress()
                        yield message
                        heard = clock()
            except PASSING as error:
                if heard is not None:  # so long it was there, at the most; and if nothing came, nobody knows
                    outage.waited(min(clock(), heard + followed.keepalive) - since)
                if not followed.ended:
                    await connection.wait_out(outage, error)


async def _one_call(connection: Connection, line: Line, followed: Followed[Message]) -> AsyncGenerator[Message, None]:
    """Gives the messages of one call. However it ends before the stream has ended, it raises, unless the stream goes on
    with another call.
    """
    address = str(connection.address)
    call = followed.begin(line)
    replies = cast("AsyncGenerator[Message, None]", aiter(call))  # its type says less than it is
    try:
        async with aclosing(replies):
            while (message := await _next(replies, within=_SILENT_INTERVALS * followed.keepalive)) is not None:
                yield message
    except grpc.aio.AioRpcError as failure:
        raise followed.meaning(connection.meaning(failure)) from None  # users never meet gRPC's exceptions
    except TimeoutError:
        connection.drop(line)
        raise unreachable(address, "it has fallen silent") from None
    except asyncio.CancelledError:
        if was_asked_to_cancel():
            raise
        if followed.is_called_off:
            return
        raise followed.meaning(connection.cut_short(line)) from None
    finally:
        followed.over()
    followed.call_ended()
    if not followed.ended:
        raise unreachable(address, "the stream ended too early")


async def _next(replies: AsyncGenerator[Message, None], *, within: float) -> Message | None:
    async with asyncio.timeout(within):
        return await anext(replies, None)
