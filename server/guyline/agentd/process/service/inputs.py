"""The calls that give a process something to read."""

from collections.abc import AsyncIterator

from guyline.agent.v1 import process_service_pb2 as pb
from guyline.agentd.process.errors import NoInput, NoTerminal, TerminalHasNoEnd
from guyline.agentd.process.process import Process
from guyline.agentd.process.processes import Processes
from guyline.agentd.process.service import convert
from guyline.agentd.process.streams.input import Input, InputMode
from guyline.daemon.logging import bind_to_call
from guyline.errors import InvalidInput, Violation
from guyline.rpc.caller import Context, caller_of


class InputCalls:
    """Input over RPC: unpack, ask the domain, pack."""

    def __init__(self, processes: Processes) -> None:
        self._processes = processes

    async def write(self, request: pb.WriteInputRequest, context: Context) -> pb.WriteInputResponse:
        at_most = convert.to_write_wait(request)
        given = _input_of(self._process(request.process_id, context), eof=request.eof)
        offset = request.offset if request.HasField("offset") else None
        if request.compare:
            next_offset = await given.compare(request.data, offset=request.offset, at_most=at_most)
            return pb.WriteInputResponse(next_offset=next_offset, passed_bytes=given.passed_bytes)
        next_offset = await given.write(
            request.data, offset=offset, eof=request.eof, at_most=at_most, first_try=request.first_try
        )
        return pb.WriteInputResponse(next_offset=next_offset, passed_bytes=given.passed_bytes)

    async def write_stream(
        self, requests: AsyncIterator[pb.WriteInputStreamRequest], context: Context
    ) -> pb.WriteInputStreamResponse:
        process: Process | None = None
        position: int | None = None
        first_try = False
        async for request in requests:
            if process is None:
                process, first_try = self._process(request.process_id, context), request.first_try
            elif request.process_id:
                raise InvalidInput(Violation("process_id", "is for the first message of a stream only"))
            if request.HasField("offset"):
                position = request.offset
            await _input_of(process, eof=request.eof).write(
                request.data, offset=position, eof=request.eof, at_most=None, first_try=first_try
            )
            position = None if position is None else position + len(request.data)
            if request.eof:
                break
        if process is None:
            raise InvalidInput(Violation("process_id", "no message came; the first one names the process"))
        given = _input_of(process)
        return pb.WriteInputStreamResponse(next_offset=given.next_offset, passed_bytes=given.passed_bytes)

    async def close(self, request: pb.CloseInputRequest, context: Context) -> pb.CloseInputResponse:
        given = _input_of(self._process(request.process_id, context), eof=True)
        offset = request.offset if request.HasField("offset") else None
        return pb.CloseInputResponse(next_offset=given.end(offset))

    async def resize(self, request: pb.ResizeRequest, context: Context) -> pb.ResizeResponse:
        size = convert.to_size(request)
        process = self._process(request.process_id, context)
        if process.terminal is None:
            raise NoTerminal(process.process_id)
        process.terminal.resize(process.process_id, size)
        return pb.ResizeResponse()

    def _process(self, process_id: str, context: Context) -> Process:
        process = self._processes.get(process_id, caller_of(context))
        bind_to_call(process_id=process.process_id)
        return process


def _input_of(process: Process, *, eof: bool = False) -> Input:
    if process.input is None:
        raise NoInput(process.process_id)
    if eof and process.input.mode is InputMode.TERMINAL:
        raise TerminalHasNoEnd(process.process_id)
    return process.input
