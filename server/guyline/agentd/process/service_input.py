"""The calls that give a process something to read."""

from collections.abc import AsyncIterator

from guyline.agent.v1 import process_service_pb2 as pb
from guyline.agentd.process.processes import Processes
from guyline.errors import MethodUnknown
from guyline.rpc.caller import Context


class InputCalls:
    """The calls that give a process something to read."""

    def __init__(self, processes: Processes) -> None:
        self._processes = processes

    async def write(self, request: pb.WriteInputRequest, context: Context) -> pb.WriteInputResponse:
        del request, context
        raise MethodUnknown("WriteInput")

    async def write_stream(
        self, requests: AsyncIterator[pb.WriteInputStreamRequest], context: Context
    ) -> pb.WriteInputStreamResponse:
        del requests, context
        raise MethodUnknown("WriteInputStream")

    async def close(self, request: pb.CloseInputRequest, context: Context) -> pb.CloseInputResponse:
        del request, context
        raise MethodUnknown("CloseInput")

    async def resize(self, request: pb.ResizeRequest, context: Context) -> pb.ResizeResponse:
        del request, context
        raise MethodUnknown("Resize")
