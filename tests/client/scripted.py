"""An agent that does what a test tells it: a real gRPC server on a real socket, with a script in place of processes."""

import asyncio
import tempfile
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import grpc
import grpc.aio
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from guyline.agent.v1 import agent_info_service_pb2 as info_pb
from guyline.agent.v1 import agent_info_service_pb2_grpc as info_grpc
from guyline.agent.v1 import process_pb2, process_service_pb2_grpc
from guyline.agent.v1 import process_service_pb2 as pb
from guyline.agent.v1.process_service_pb2_grpc import ProcessServiceServicer
from guyline.stream.v1.stream_pb2 import Ended, StreamControl
from tests.support.clock import moment

Context = grpc.aio.ServicerContext[Any, Any]
Play = Callable[[Any, Context], AsyncIterator[Any]]

PROCESS_ID = "00000000-0000-4000-8000-000000000001"


class ScriptedAgent(ProcessServiceServicer, info_grpc.AgentInfoServiceServicer):
    """Answers each call but GetInfo with the next play of its script. ``calls`` has the requests, in order."""

    def __init__(self) -> None:
        self.address = ""
        self.store_id = "store-1"
        self.calls: list[Any] = []
        self.metadata: list[dict[str, str | bytes]] = []
        self.greetings: list[dict[str, str | bytes]] = []
        """What came with each GetInfo."""
        self._script: deque[Play] = deque()

    def plays(self, *plays: Play) -> None:
        """Adds to the script."""
        self._script.extend(plays)

    async def GetInfo(self, request: info_pb.GetInfoRequest, context: Context) -> info_pb.GetInfoResponse:  # noqa: N802 (the RPC's name)
        """Says who this is; no play is needed."""
        del request
        self.greetings.append(dict(context.invocation_metadata() or ()))
        return info_pb.GetInfoResponse(store_id=self.store_id, instance_id="instance-1", version="0.1.0")

    async def _stream(self, request: Any, context: Context) -> AsyncIterator[Any]:
        self._note(request, context)
        async for message in self._script.popleft()(request, context):
            yield message

    async def _unary(self, request: Any, context: Context) -> Any:
        self._note(request, context)
        return await anext(aiter(self._script.popleft()(request, context)))

    def _note(self, request: Any, context: Context) -> None:
        self.calls.append(request)
        self.metadata.append(dict(context.invocation_metadata() or ()))

    Run = Attach = Watch = _stream
    Start = Signal = List = Upgrade = GetOutput = Wait = WriteInput = CloseInput = Resize = Cancel = Remove = _unary

    async def WriteInputStream(  # noqa: N802 (the RPC's name)
        self, request_iterator: AsyncIterator[pb.WriteInputStreamRequest], context: Context
    ) -> pb.WriteInputStreamResponse:
        """Plays with the stream of requests."""
        self._note("WriteInputStream", context)
        return cast(
            "pb.WriteInputStreamResponse", await anext(aiter(self._script.popleft()(request_iterator, context)))
        )


@asynccontextmanager
async def scripted_agent() -> AsyncIterator[ScriptedAgent]:
    """Serves a scripted agent on a Unix socket for the length of the block."""
    with tempfile.TemporaryDirectory(prefix="gl-") as folder:
        socket = Path(folder) / "agent.sock"
        server, agent = _server()
        agent.address = f"unix:{socket}"
        server.add_insecure_port(agent.address)
        async with _serving(server):
            await asyncio.to_thread(socket.chmod, 0o600)
            yield agent


@asynccontextmanager
async def scripted_agent_on_tcp(host: str, credentials: grpc.ServerCredentials) -> AsyncIterator[ScriptedAgent]:
    """Serves a scripted agent with TLS on a port of its own for the length of the block."""
    server, agent = _server()
    agent.address = f"tcp://{host}:{server.add_secure_port(f'{host}:0', credentials)}"
    async with _serving(server):
        yield agent


def _server() -> tuple[grpc.aio.Server, ScriptedAgent]:
    server, agent = grpc.aio.server(), ScriptedAgent()
    process_service_pb2_grpc.add_ProcessServiceServicer_to_server(agent, server)
    info_grpc.add_AgentInfoServiceServicer_to_server(agent, server)
    return server, agent


@asynccontextmanager
async def _serving(server: grpc.aio.Server) -> AsyncIterator[None]:
    await server.start()
    try:
        yield
    finally:
        await server.stop(grace=None)


def gives(*messages: Any) -> Play:
    """Answers with these messages, and ends in order."""

    async def play(request: Any, context: Context) -> AsyncIterator[Any]:
        del request, context
        for message in messages:
            yield message

    return play


def breaks(*messages: Any, after: float = 0.0) -> Play:
    """Answers with these messages; then, so many seconds later, the connection breaks, which says nothing."""

    async def play(request: Any, context: Context) -> AsyncIterator[Any]:
        del request
        for message in messages:
            yield message
        await moment(after)
        await context.abort(grpc.StatusCode.UNAVAILABLE)

    return play


def lasts(*messages: Any, until: asyncio.Event) -> Play:
    """Answers with these messages; the connection breaks when it is said."""

    async def play(request: Any, context: Context) -> AsyncIterator[Any]:
        del request
        for message in messages:
            yield message
        await until.wait()
        await context.abort(grpc.StatusCode.UNAVAILABLE)

    return play


def fails(
    code: grpc.StatusCode,
    reason: str,
    *messages: Any,
    outcome: str = "NOT_STARTED",
    retry_after: float | None = None,
    after: float = 0.0,
    **facts: str,
) -> Play:
    """Answers with these messages; then, so many seconds later, with an error as an agent makes it."""
    status = Status(code=code.value[0], message=f"it failed: {reason}")
    facts |= {"outcome": outcome, "hop": "AGENT", "fact": "value"}
    status.details.add().Pack(ErrorInfo(domain="guyline", reason=reason, metadata=facts))
    if retry_after is not None:
        delay = Duration()
        delay.FromNanoseconds(int(retry_after * 1e9))
        status.details.add().Pack(RetryInfo(retry_delay=delay))

    async def play(request: Any, context: Context) -> AsyncIterator[Any]:
        del request
        for message in messages:
            yield message
        await moment(after)
        trailer = (("grpc-status-details-bin", status.SerializeToString()),)
        await context.abort(code, status.message, trailer)

    return play


def process(**fields: Any) -> process_pb2.Process:
    """The process that the script is about."""
    return process_pb2.Process(process_id=PROCESS_ID, state=process_pb2.PROCESS_STATE_RUNNING, **fields)


def began(cursor: bytes = b"0") -> pb.RunResponse:
    """The first message of a Run, without output."""
    return pb.RunResponse(process=process(), control=StreamControl(cursor=cursor))


def printed(data: bytes, *, offset: int) -> pb.AttachResponse:
    """Output; its cursor is the offset behind it, in decimal."""
    cursor = str(offset + len(data)).encode()
    return pb.AttachResponse(data=data, offset=offset, control=StreamControl(cursor=cursor))


def attached() -> pb.AttachResponse:
    """The first message of an Attach, with output."""
    message = printed(b"x", offset=0)
    message.process.CopyFrom(process())
    return message


def ended(code: int = 0) -> pb.AttachResponse:
    """The last message."""
    return pb.AttachResponse(exit=process_pb2.Exit(code=code), control=StreamControl(ended=Ended()))


def as_run(message: pb.AttachResponse) -> pb.RunResponse:
    """The same as a message of Run."""
    return pb.RunResponse.FromString(message.SerializeToString())
