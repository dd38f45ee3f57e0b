"""One way to tell a story to an agent, for each of the clients that are generated from the same protos."""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status
from grpclib.client import Channel
from grpclib.exceptions import GRPCError

from guyline.agent.v1 import process_pb2, process_service_pb2
from guyline.agent.v1.process_service_pb2_grpc import ProcessServiceStub
from guyline_betterproto.guyline.agent import v1 as better
from tests.support.agent import RunningAgent


@dataclass(frozen=True)
class Heard:
    """One message of Run or Attach."""

    process_id: str  # empty: it says nothing of the process
    offset: int
    data: bytes
    cursor: bytes
    code: int | None  # of the exit; only in the last message


@dataclass(frozen=True)
class Refused(Exception):
    """A call failed: the code's name, the reason, and what the text says."""

    code: str
    reason: str
    text: str


class Client(ABC):
    """What the stories need of a client."""

    @abstractmethod
    def run(self, argv: list[str]) -> AsyncIterator[Heard]:
        """Runs a program."""

    @abstractmethod
    async def start(self, argv: list[str], *, pipe: bool = False) -> str:
        """Starts a program, and returns its id."""

    @abstractmethod
    def attach(self, process_id: str, *, cursor: bytes = b"") -> AsyncIterator[Heard]:
        """Follows a process."""

    @abstractmethod
    async def write(self, process_id: str, data: bytes, *, offset: int, eof: bool = False) -> int:
        """Writes input; returns the next offset."""

    @abstractmethod
    async def stream(self, process_id: str, pieces: list[bytes], *, eof: bool) -> int:
        """The same as a stream of messages."""


class GoogleClient(Client):
    """grpc.aio with Google's protobuf."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = ProcessServiceStub(channel)

    async def run(self, argv: list[str]) -> AsyncIterator[Heard]:
        start = process_service_pb2.StartRequest(argv=argv)
        async for heard in self._heard(self._stub.Run(process_service_pb2.RunRequest(start=start))):
            yield heard

    async def start(self, argv: list[str], *, pipe: bool = False) -> str:
        mode = process_pb2.INPUT_MODE_PIPE if pipe else process_pb2.INPUT_MODE_NONE
        request = process_service_pb2.StartRequest(argv=argv, input=mode)
        try:
            return (await self._stub.Start(request)).process_id
        except grpc.aio.AioRpcError as why:
            raise _of_google(why) from why

    async def attach(self, process_id: str, *, cursor: bytes = b"") -> AsyncIterator[Heard]:
        request = process_service_pb2.AttachRequest(process_id=process_id, cursor=cursor)
        async for heard in self._heard(self._stub.Attach(request)):
            yield heard

    async def write(self, process_id: str, data: bytes, *, offset: int, eof: bool = False) -> int:
        request = process_service_pb2.WriteInputRequest(process_id=process_id, data=data, offset=offset, eof=eof)
        try:
            return (await self._stub.WriteInput(request)).next_offset
        except grpc.aio.AioRpcError as why:
            raise _of_google(why) from why

    async def stream(self, process_id: str, pieces: list[bytes], *, eof: bool) -> int:
        async def messages() -> AsyncIterator[process_service_pb2.WriteInputStreamRequest]:
            yield process_service_pb2.WriteInputStreamRequest(process_id=process_id, offset=0)
            for piece in pieces:
                yield process_service_pb2.WriteInputStreamRequest(data=piece)
            if eof:
                yield process_service_pb2.WriteInputStreamRequest(eof=True)

        return (await self._stub.WriteInputStream(messages())).next_offset

    async def _heard(
        self,
        call: AsyncIterable[process_service_pb2.RunResponse | process_service_pb2.AttachResponse],
    ) -> AsyncIterator[Heard]:
        try:
            async for message in call:
                code = message.exit.code if message.HasField("exit") else None
                yield Heard(message.process.process_id, message.offset, message.data, message.control.cursor, code)
        except grpc.aio.AioRpcError as why:
            raise _of_google(why) from why


class BetterClient(Client):
    """grpclib with betterproto's dataclasses."""

    def __init__(self, channel: Channel) -> None:
        self._stub = better.ProcessServiceStub(channel)

    async def run(self, argv: list[str]) -> AsyncIterator[Heard]:
        call = self._stub.run(better.RunRequest(start=better.StartRequest(argv=argv)))
        async for heard in self._heard(call):
            yield heard

    async def start(self, argv: list[str], *, pipe: bool = False) -> str:
        mode = better.InputMode.PIPE if pipe else better.InputMode.NONE
        try:
            return (await self._stub.start(better.StartRequest(argv=argv, input=mode))).process_id
        except GRPCError as why:
            raise _of_better(why) from why

    async def attach(self, process_id: str, *, cursor: bytes = b"") -> AsyncIterator[Heard]:
        call = self._stub.attach(better.AttachRequest(process_id=process_id, cursor=cursor))
        async for heard in self._heard(call):
            yield heard

    async def write(self, process_id: str, data: bytes, *, offset: int, eof: bool = False) -> int:
        request = better.WriteInputRequest(process_id=process_id, data=data, offset=offset, eof=eof)
        try:
            return (await self._stub.write_input(request)).next_offset
        except GRPCError as why:
            raise _of_better(why) from why

    async def stream(self, process_id: str, pieces: list[bytes], *, eof: bool) -> int:
        messages = [better.WriteInputStreamRequest(process_id=process_id, offset=0)]
        messages += [better.WriteInputStreamRequest(data=piece) for piece in pieces]
        if eof:
            messages.append(better.WriteInputStreamRequest(eof=True))
        return (await self._stub.write_input_stream(messages)).next_offset

    async def _heard(self, call: AsyncIterable[better.RunResponse | better.AttachResponse]) -> AsyncIterator[Heard]:
        try:
            async for message in call:
                code = message.exit.code if message.exit else None
                process_id = message.process.process_id if message.process else ""
                cursor = message.control.cursor if message.control else b""
                yield Heard(process_id, message.offset, message.data, cursor, code)
        except GRPCError as why:
            raise _of_better(why) from why


def _of_google(why: grpc.aio.AioRpcError) -> Refused:
    packed = next(value for key, value in why.trailing_metadata() or () if key == "grpc-status-details-bin")
    assert isinstance(packed, bytes)
    return Refused(why.code().name, _reason(Status.FromString(packed).details), why.details() or "")


def _of_better(why: GRPCError) -> Refused:
    return Refused(why.status.name, _reason(why.details or ()), why.message or "")


def _reason(details: Iterable[Any]) -> str:
    """From messages, packed or not: grpclib unpacks those it knows."""
    info = ErrorInfo()
    for detail in details:
        if isinstance(detail, ErrorInfo):
            info = detail
        elif isinstance(detail, Message) and hasattr(detail, "Unpack"):
            detail.Unpack(info)
    assert info.reason, "every failure has an ErrorInfo"
    return str(info.reason)


@asynccontextmanager
async def client_of(kind: str, agent: RunningAgent) -> AsyncIterator[Client]:
    """The client of this kind, connected."""
    if kind == "google":
        yield GoogleClient(agent.channel)
        return
    async with Channel(path=str(agent.process.socket)) as channel:
        yield BetterClient(channel)
