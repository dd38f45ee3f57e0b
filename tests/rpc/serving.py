"""Real servers for the tests of the call chain, and a service that does as it is told."""

# ruff: noqa: N802 (handlers are named as the RPCs are)

import asyncio
import json
import os
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import structlog
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status

from guyline.agent.v1 import process_service_pb2 as pb
from guyline.agent.v1.process_service_pb2_grpc import (
    ProcessServiceStub,
    add_ProcessServiceServicer_to_server,
)
from guyline.daemon.address import UnixAddress
from guyline.daemon.logging import configure_logging
from guyline.rpc.access_log import AccessLog
from guyline.rpc.authentication import Authentication, LocalAuthentication
from guyline.rpc.call import CallObserver
from guyline.rpc.caller import Context
from guyline.rpc.server import RpcServer
from guyline.rpc.waiting import only_waits
from tests.support.clock import DEADLINE
from tests.support.servicer import PartOfProcesses

Handle = Callable[[Context], Awaitable[None]]
Stream = Callable[[Context], AsyncIterator[bytes]]


async def _nothing(_context: Context) -> None:
    """Succeeds at once."""


async def _no_data(_context: Context) -> AsyncIterator[bytes]:
    no_data: tuple[bytes, ...] = ()
    for data in no_data:
        yield data


class Puppet(PartOfProcesses):
    """Its unary calls do what ``handle`` does, its streams send what ``stream`` yields."""

    def __init__(self, *, handle: Handle = _nothing, stream: Stream = _no_data) -> None:
        self._handle = handle
        self._stream = stream

    async def Start(self, _request: pb.StartRequest, context: Context) -> pb.StartResponse:
        await self._handle(context)
        return pb.StartResponse(process_id="p")

    async def List(self, _request: pb.ProcessServiceListRequest, context: Context) -> pb.ProcessServiceListResponse:
        await self._handle(context)
        return pb.ProcessServiceListResponse()

    async def Signal(self, _request: pb.SignalRequest, context: Context) -> pb.SignalResponse:
        await self._handle(context)
        return pb.SignalResponse()

    @only_waits
    async def Wait(self, _request: pb.ProcessServiceWaitRequest, context: Context) -> pb.ProcessServiceWaitResponse:
        await self._handle(context)
        return pb.ProcessServiceWaitResponse()

    async def WriteInputStream(
        self, _requests: AsyncIterator[pb.WriteInputStreamRequest], context: Context
    ) -> pb.WriteInputStreamResponse:
        await self._handle(context)
        return pb.WriteInputStreamResponse()

    async def Attach(self, _request: pb.AttachRequest, context: Context) -> AsyncIterator[pb.AttachResponse]:
        async for data in self._stream(context):
            yield pb.AttachResponse(data=data)

    async def Run(self, _request: pb.RunRequest, context: Context) -> AsyncIterator[pb.RunResponse]:
        async for data in self._stream(context):
            yield pb.RunResponse(data=data)

    async def Watch(
        self, _request: pb.ProcessServiceWatchRequest, context: Context
    ) -> AsyncIterator[pb.ProcessServiceWatchResponse]:
        async for _ in self._stream(context):
            yield pb.ProcessServiceWatchResponse()


class Served:
    """A server, and ways to it."""

    def __init__(self, server: RpcServer, channel: grpc.aio.Channel) -> None:
        self.server = server
        self.channel = channel
        self.processes = ProcessServiceStub(channel)

    async def call(self, rpc: str, data: bytes = b"") -> bytes:
        """Calls any method with any bytes."""
        method: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = self.channel.unary_unary(f"/{rpc}")
        return await method(data)


@asynccontextmanager
async def serving(
    puppet: Puppet | None = None,
    *,
    authentication: Authentication | None = None,
    observers: tuple[CallObserver, ...] = (),
    **options: Any,
) -> AsyncIterator[Served]:
    """A server on a Unix socket with the puppet on it."""
    with tempfile.TemporaryDirectory(prefix="gl-") as folder:
        address = UnixAddress(Path(folder) / "s" / "rpc.sock")
        server = RpcServer(
            address,
            authentication=authentication or LocalAuthentication(),
            observers=(AccessLog(), *observers),
            **options,
        )
        server.add(add_ProcessServiceServicer_to_server, puppet or Puppet())
        options_of_channel = [("grpc.use_local_subchannel_pool", 1)]
        async with server, grpc.aio.insecure_channel(str(address), options=options_of_channel) as channel:
            yield Served(server, channel)


class Log:
    """What was logged, as it comes."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._buffer = b""
        self.lines: list[dict[str, Any]] = []

    async def find(self, event: str, **fields: object) -> dict[str, Any]:
        """The first line with this event and these fields, once it is there."""
        async with asyncio.timeout(DEADLINE):
            seen = 0
            while True:
                for line in self.lines[seen:]:
                    seen += 1
                    if line["event"] == event and fields.items() <= line.items():
                        return line
                await self._read_more()

    def text(self) -> str:
        """Everything that is there by now."""
        self._take()
        return "\n".join(json.dumps(line) for line in self.lines)

    async def _read_more(self) -> None:
        readable = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_reader(self._descriptor, readable.set)
        try:
            await readable.wait()
        finally:
            loop.remove_reader(self._descriptor)
        self._take()

    def _take(self) -> None:
        try:
            self._buffer += os.read(self._descriptor, 1 << 20)
        except BlockingIOError:
            return
        *whole, self._buffer = self._buffer.split(b"\n")
        self.lines += map(json.loads, whole)


@asynccontextmanager
async def logged() -> AsyncIterator[Log]:
    """Logs into a pipe for the length of the block."""
    reading, writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    sink = configure_logging(log_format="json", level="info", descriptor=writing)
    try:
        yield Log(reading)
    finally:
        structlog.reset_defaults()
        sink.close()
        os.close(reading)
        os.close(writing)


def details(error: grpc.aio.AioRpcError) -> tuple[Status, ErrorInfo]:
    """The status in the error's trailers, and its ErrorInfo."""
    [serialized] = [value for key, value in error.trailing_metadata() if key == "grpc-status-details-bin"]
    status = Status.FromString(serialized)
    info = ErrorInfo()
    assert status.details[0].Unpack(info)
    return status, info
