"""``guyline.agent.v1.ProcessService``: unpack, ask the domain, pack."""

import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from typing import TypeVar

from guyline.agent.v1 import process_pb2
from guyline.agent.v1 import process_service_pb2 as pb
from guyline.agent.v1.process_service_pb2_grpc import ProcessServiceServicer
from guyline.agentd.process.errors import DirectoryNotUsable, SecretsNotUsable, UserUnknown
from guyline.agentd.process.exhaustion import exhaustion_told
from guyline.agentd.process.process import Process
from guyline.agentd.process.processes import Processes, Started
from guyline.agentd.process.service import convert
from guyline.agentd.process.service.convert_process import refresh, to_exit, to_process, to_runs, to_survivors, to_times
from guyline.agentd.process.service.ends import EndCalls
from guyline.agentd.process.service.inputs import InputCalls
from guyline.agentd.process.service.lists import ListCalls
from guyline.agentd.process.service.views import ViewCalls
from guyline.agentd.process.service.waits import WaitCalls
from guyline.agentd.process.streams.follow import Batch, Follower, Role
from guyline.agentd.process.streams.viewing import Views
from guyline.agentd.process.waiting.waits import Waits
from guyline.daemon.logging import bind_to_call
from guyline.rpc.caller import Context, caller_of
from guyline.rpc.cursor import Cursor
from guyline.rpc.encoded import with_bytes
from guyline.rpc.last import ends_with_last, last
from guyline.rpc.moments import to_duration, to_moment
from guyline.rpc.waiting import only_waits

MOST_EVENTS_BYTES = 1 << 20
"""What one message of Watch holds: many a gRPC client takes no more than 4 MiB."""

Response = TypeVar("Response", pb.RunResponse, pb.AttachResponse)


@dataclass(frozen=True, kw_only=True)
class OutputDefaults:
    """What a start gets that does not say, and may ask for."""

    kept_bytes: int
    most_kept_bytes: int


class ProcessService(ProcessServiceServicer):
    """Processes over RPC.

    Args:
        processes: The domain.
        waits: How it is waited for.
        views: How its output is looked at.
        instance_id: The keeper's life, for callers that must tell a restarted agent from the one they knew.
        defaults: How much output is kept.
        incarnation: 16 bytes that name this worker, to which the cursors of Watch belong.
    """

    def __init__(
        self,
        processes: Processes,
        *,
        waits: Waits,
        views: Views,
        instance_id: str,
        defaults: OutputDefaults,
        incarnation: bytes,
    ) -> None:
        self._processes = processes
        self._instance_id = instance_id
        self._defaults = defaults
        self._lists = ListCalls(processes, incarnation=incarnation)
        self._views = ViewCalls(processes, views)
        self._waits = WaitCalls(processes, waits)
        self._inputs = InputCalls(processes)
        self._ends = EndCalls(processes)

    async def Start(self, request: pb.StartRequest, context: Context) -> pb.StartResponse:
        started = await self._start(request, context, path="", pause=False)
        process = started.process
        return pb.StartResponse(
            process_id=process.process_id,
            process=to_process(process),
            attached=started.attached,
            age=to_duration(max(0.0, time.time() - process.started_at)),
            instance_id=self._instance_id,
        )

    @ends_with_last
    async def Run(self, request: pb.RunRequest, context: Context) -> AsyncIterator[pb.RunResponse]:
        keepalive, detach_after = convert.to_keepalive(request), convert.to_detach_after(request)
        with self._processes.seats.taken():
            started = await self._start(request.start, context, path="start.", pause=True)
            process = started.process
            first = pb.RunResponse(
                attached=started.attached,
                instance_id=self._instance_id,
                process=to_process(process),  # made while the command runs: what is waited for is its end
            )
            follower = Follower(
                process, 0, quiet=keepalive, role=Role.PACES, times=request.times, detach_after=detach_after
            )
            async with aclosing(follower.batches()) as batches:
                async for batch in batches:
                    response = _fill(first, process, batch)
                    yield last(response) if batch.exit or batch.detached else response
                    first = pb.RunResponse()

    async def Attach(self, request: pb.AttachRequest, context: Context) -> AsyncIterator[pb.AttachResponse]:
        process = self._processes.get(request.process_id, caller_of(context))
        bind_to_call(process_id=process.process_id)
        with self._processes.seats.taken():
            async with aclosing(_follower(process, request).batches()) as batches:
                async for batch in batches:
                    yield _fill(pb.AttachResponse(), process, batch)

    async def List(self, request: pb.ProcessServiceListRequest, context: Context) -> pb.ProcessServiceListResponse:
        return await self._lists.list(request, context)

    async def Watch(
        self, request: pb.ProcessServiceWatchRequest, context: Context
    ) -> AsyncIterator[pb.ProcessServiceWatchResponse]:
        async with aclosing(self._lists.watch(request, context)) as responses:
            async for response in responses:
                yield response

    async def Signal(self, request: pb.SignalRequest, context: Context) -> pb.SignalResponse:
        process = self._processes.get(request.process_id, caller_of(context))
        bind_to_call(process_id=process.process_id)
        number = convert.to_signal(request)
        grace, wait = convert.to_grace_and_wait(request)
        to_all = request.scope == pb.SIGNAL_SCOPE_ALL
        with exhaustion_told("finding all whom a signal is for", halfway=True):
            survivors = await self._processes.signals.end(process, number, to_all=to_all, grace=grace, wait=wait)
        return pb.SignalResponse(process=to_process(process), survivors=to_survivors(survivors))

    @only_waits
    async def GetOutput(self, request: pb.GetOutputRequest, context: Context) -> pb.GetOutputResponse:
        return await self._views.get_output(request, context)

    @only_waits
    async def Wait(self, request: pb.ProcessServiceWaitRequest, context: Context) -> pb.ProcessServiceWaitResponse:
        return await self._waits.wait(request, context)

    @only_waits  # for room; what was accepted by then is passed over when it is repeated with its offset
    async def WriteInput(self, request: pb.WriteInputRequest, context: Context) -> pb.WriteInputResponse:
        return await self._inputs.write(request, context)

    async def WriteInputStream(
        self, requests: AsyncIterator[pb.WriteInputStreamRequest], context: Context
    ) -> pb.WriteInputStreamResponse:
        return await self._inputs.write_stream(requests, context)

    async def CloseInput(self, request: pb.CloseInputRequest, context: Context) -> pb.CloseInputResponse:
        return await self._inputs.close(request, context)

    async def Resize(self, request: pb.ResizeRequest, context: Context) -> pb.ResizeResponse:
        return await self._inputs.resize(request, context)

    async def Cancel(
        self, request: pb.ProcessServiceCancelRequest, context: Context
    ) -> pb.ProcessServiceCancelResponse:
        return await self._ends.cancel(request, context)

    async def Remove(
        self, request: pb.ProcessServiceRemoveRequest, context: Context
    ) -> pb.ProcessServiceRemoveResponse:
        return await self._ends.remove(request, context)

    async def _start(self, request: pb.StartRequest, context: Context, *, path: str, pause: bool) -> Started:
        spec = convert.to_spec(
            request,
            path=path,
            pause=pause,
            kept_bytes=self._defaults.kept_bytes,
            most_kept_bytes=self._defaults.most_kept_bytes,
        )
        try:
            started = await self._processes.start(spec, caller_of(context))
        except (DirectoryNotUsable, SecretsNotUsable, UserUnknown) as why:
            raise why.below(path) from why
        bind_to_call(process_id=started.process.process_id)
        return started


def _follower(process: Process, request: pb.AttachRequest) -> Follower:
    quiet, detach_after = convert.to_keepalive(request), convert.to_detach_after(request)
    size = process.output.journal.size
    if request.cursor:
        position = convert.to_position(process, request.cursor)
    elif request.HasField("from_offset"):
        position = request.from_offset
    elif request.HasField("tail_bytes"):
        position = max(0, size - request.tail_bytes)
    elif request.HasField("since"):
        position = process.output.offset_since(to_moment(request.since))
    else:
        position = 0
    return Follower(
        process,
        position,
        quiet=quiet,
        snapshot=request.snapshot,
        role=convert.to_role(request),
        output=not request.without_output,
        times=request.times,
        detach_after=detach_after,
    )


def _fill(response: Response, process: Process, batch: Batch) -> Response:
    control = response.control
    control.cursor = Cursor(process.id_bytes, batch.position).to_bytes()
    response.offset = batch.offset
    if batch.data:
        response.runs.extend(to_runs(batch.runs))
        response.times.extend(to_times(batch.times))
    if batch.changed:
        if response.HasField("process"):
            refresh(response.process, process)
        else:
            response.process.CopyFrom(to_process(process))
    if batch.gap:
        setattr(control.gap, "from", batch.gap[0])
        control.gap.to = batch.gap[1]
    elif batch.exit:
        control.ended.SetInParent()
    elif batch.detached:
        response.limit = process_pb2.TIME_LIMIT_DETACH_AFTER
    elif not (batch.data or batch.changed):
        control.keep_alive.SetInParent()
    if batch.exit:
        response.exit.CopyFrom(response.process.exit if batch.changed else to_exit(batch.exit))
    return with_bytes(response, "data", batch.data) if batch.data else response
