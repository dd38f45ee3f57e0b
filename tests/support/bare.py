"""A bare ProcessService: the least that starts a command and streams what it prints.

Support code is tested against it. It keeps nothing, resumes nothing and checks nothing.
"""

import asyncio
import tempfile
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from guyline.agent.v1.process_pb2 import PROCESS_STATE_EXITED, PROCESS_STATE_RUNNING, Exit, Process
from guyline.agent.v1.process_service_pb2 import (
    ProcessServiceListRequest,
    ProcessServiceListResponse,
    RunRequest,
    RunResponse,
    StartRequest,
    StartResponse,
)
from guyline.stream.v1.stream_pb2 import Ended, StreamControl

_CHUNK_BYTES = 64 * 1024


class BareProcesses:
    """Start, Run and List; every other method is unimplemented. A command ends with the call that started it."""

    def __init__(self) -> None:
        self.processes: list[Process] = []

    async def start(self, request: StartRequest, context: object) -> StartResponse:
        """Runs the command to its end; its output goes nowhere."""
        del context
        async with self._child(request, asyncio.subprocess.DEVNULL) as (process, child):
            await child.wait()
        return StartResponse(process_id=process.process_id, process=process)

    async def run(self, request: RunRequest, context: object) -> AsyncIterator[RunResponse]:
        """Runs the command and streams its output, then its exit."""
        del context
        async with self._child(request.start, asyncio.subprocess.PIPE) as (process, child):
            yield RunResponse(process=process)
            assert child.stdout is not None
            offset = 0
            while data := await child.stdout.read(_CHUNK_BYTES):
                yield RunResponse(offset=offset, data=data)
                offset += len(data)
            ended = Exit(code=await child.wait())
        process.MergeFrom(Process(state=PROCESS_STATE_EXITED, exit=ended, output_bytes=offset))
        yield RunResponse(control=StreamControl(ended=Ended()), process=process, offset=offset, exit=ended)

    async def list(self, request: ProcessServiceListRequest, context: object) -> ProcessServiceListResponse:
        """Lists everything, in the order of its start."""
        del request, context
        return ProcessServiceListResponse(processes=self.processes)

    @asynccontextmanager
    async def _child(
        self, request: StartRequest, output: int
    ) -> AsyncIterator[tuple[Process, asyncio.subprocess.Process]]:
        argv = list(request.argv) or ["sh", "-c", request.command]
        child = await asyncio.create_subprocess_exec(*argv, stdin=asyncio.subprocess.DEVNULL, stdout=output)
        process = Process(process_id=str(uuid.uuid4()), pid=child.pid, state=PROCESS_STATE_RUNNING)
        self.processes.append(process)
        try:
            yield process, child
        finally:
            if child.returncode is None:
                child.kill()
            await child.communicate()


@asynccontextmanager
async def bare_agent() -> AsyncIterator[Path]:
    """Serves ``BareProcesses`` on a Unix socket, whose path it gives, for the length of the block."""
    bare = BareProcesses()
    methods: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
        "Start": grpc.unary_unary_rpc_method_handler(
            bare.start, StartRequest.FromString, StartResponse.SerializeToString
        ),
        "Run": grpc.unary_stream_rpc_method_handler(bare.run, RunRequest.FromString, RunResponse.SerializeToString),
        "List": grpc.unary_unary_rpc_method_handler(
            bare.list, ProcessServiceListRequest.FromString, ProcessServiceListResponse.SerializeToString
        ),
    }
    server = grpc.aio.server()
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("guyline.agent.v1.ProcessService", methods)])
    with tempfile.TemporaryDirectory(prefix="gl-") as folder:
        path = Path(folder) / "agent.sock"
        server.add_insecure_port(f"unix:{path}")
        await server.start()
        try:
            yield path
        finally:
            await server.stop(grace=None)
