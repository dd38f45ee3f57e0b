"""``guyline.agent.v1.ProcessService``: unpack, ask the domain, pack."""

import itertools
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from dataclasses import dataclass
from typing import TypeVar

from guyline.agent.v1 import process_service_pb2 as pb
from guyline.agent.v1.process_service_pb2_grpc import ProcessServiceServicer
from guyline.agentd.process import convert
from guyline.agentd.process.errors import DirectoryNotUsable, UserUnknown
from guyline.agentd.process.follow import Batch, Follower
from guyline.agentd.process.process import Process
from guyline.agentd.process.processes import Processes, Started
from guyline.agentd.process.service_end import EndCalls
from guyline.agentd.process.service_input import InputCalls
from guyline.agentd.process.service_view import ViewCalls
from guyline.agentd.process.service_wait import WaitCalls
from guyline.agentd.process.watch import WatchBatch, Watcher
from guyline.daemon.logging import bind_to_call
from guyline.errors import InvalidInput, Violation
from guyline.rpc.caller import Context, caller_of
from guyline.rpc.cursor import Cursor
from guyline.rpc.encoded import with_bytes
from guyline.rpc.last import ends_with_last, last
from guyline.rpc.moments import to_duration, to_moment
from guyline.stream.v1 import stream_pb2

DEFAULT_MAX_ENDED = 10
MOST_ENDED = 1000
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
        instance_id: The keeper's life, for callers that must tell a restarted agent from the one they knew.
        defaults: How much output is kept.
        incarnation: 16 bytes that name this worker, to which the cursors of Watch belong.
    """

    def __init__(self, processes: Processes, *, instance_id: str, defaults: OutputDefaults, incarnation: bytes) -> None:
        self._processes = processes
        self._instance_id = instance_id
        self._defaults = defaults
        self._incarnation = incarnation
        self._views = ViewCalls(processes)
        self._waits = WaitCalls(processes)
        self._inputs = InputCalls(processes)
        self._ends = EndCalls(processes)

    async def Start(self, request: pb.StartRequest, context: Context) -> pb.StartResponse:
        started = await self._start(request, context, path="", pause=False)
        process = started.process
        return pb.StartResponse(
            process_id=process.process_id,
            process=convert.to_process(process),
            attached=started.attached,
            age=to_duration(max(0.0, time.time() - process.started_at)),
            instance_id=self._instance_id,
        )

    @ends_with_last
    async def Run(self, request: pb.RunRequest, context: Context) -> AsyncIterator[pb.RunResponse]:
        keepalive = convert.to_keepalive(request)
        started = await self._start(request.start, context, path="start.", pause=True)
        process = started.process
        first = pb.RunResponse(
            attached=started.attached,
            instance_id=self._instance_id,
            process=convert.to_process(process),  # made while the command runs: what is waited for is its end
        )
        follower = Follower(process, 0, quiet=keepalive, paces=True, times=request.times)
        async with aclosing(follower.batches()) as batches:
            async for batch in batches:
                response = _fill(first, process, batch)
                yield last(response) if batch.exit else response
                first = pb.RunResponse()

    async def Attach(self, request: pb.AttachRequest, context: Context) -> AsyncIterator[pb.AttachResponse]:
        process = self._processes.get(request.process_id, caller_of(context))
        bind_to_call(process_id=process.process_id)
        async with aclosing(_follower(process, request).batches()) as batches:
            async for batch in batches:
                yield _fill(pb.AttachResponse(), process, batch)

    async def List(self, request: pb.ProcessServiceListRequest, context: Context) -> pb.ProcessServiceListResponse:
        seen = sorted(self._processes.seen_by(caller_of(context)), key=lambda process: -process.origin.sequence)
        running = [process for process in seen if process.is_running]
        ended = [process for process in seen if not process.is_running]
        at_most = min(request.max_ended, MOST_ENDED) if request.HasField("max_ended") else DEFAULT_MAX_ENDED
        return pb.ProcessServiceListResponse(
            processes=map(convert.to_listed_process, running + ended[:at_most]), ended_total=len(ended)
        )

    async def Watch(
        self, request: pb.ProcessServiceWatchRequest, context: Context
    ) -> AsyncIterator[pb.ProcessServiceWatchResponse]:
        quiet = convert.to_keepalive(request)
        position = self._position(request.cursor)
        watcher = Watcher(self._processes, caller_of(context), position, quiet=quiet)
        async with aclosing(watcher.batches()) as batches:
            async for batch in batches:
                cursor = Cursor(self._incarnation, batch.position)
                control = stream_pb2.StreamControl(cursor=cursor.to_bytes())
                if batch.reset:
                    yield pb.ProcessServiceWatchResponse(control=stream_pb2.StreamControl(reset=stream_pb2.Reset()))
                if batch.synced:
                    control.synced.SetInParent()
                elif batch.is_empty:
                    control.keep_alive.SetInParent()
                for events, is_last in _in_messages(batch):
                    yield pb.ProcessServiceWatchResponse(control=control if is_last else None, events=events)

    async def Signal(self, request: pb.SignalRequest, context: Context) -> pb.SignalResponse:
        process = self._processes.get(request.process_id, caller_of(context))
        bind_to_call(process_id=process.process_id)
        number = convert.to_signal(request)
        grace = convert.to_optional_seconds("grace", request.grace, is_set=request.HasField("grace"))
        wait = convert.to_optional_seconds("wait", request.wait, is_set=request.HasField("wait"))
        to_all = request.scope == pb.SIGNAL_SCOPE_ALL
        survivors = await self._processes.signals.end(process, number, to_all=to_all, grace=grace, wait=wait)
        return pb.SignalResponse(process=convert.to_process(process), survivors=convert.to_survivors(survivors))

    async def GetOutput(self, request: pb.GetOutputRequest, context: Context) -> pb.GetOutputResponse:
        return await self._views.get_output(request, context)

    async def Wait(self, request: pb.ProcessServiceWaitRequest, context: Context) -> pb.ProcessServiceWaitResponse:
        return await self._waits.wait(request, context)

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
        except (DirectoryNotUsable, UserUnknown) as why:
            raise why.below(path) from why
        bind_to_call(process_id=started.process.process_id)
        return started

    def _position(self, cursor: bytes) -> int | None:
        """Where a watcher goes on: 0 from the start, None if its cursor is of an earlier worker."""
        if not cursor:
            return 0
        given = Cursor.from_bytes(cursor)
        return given.position if given.incarnation == self._incarnation else None


def _follower(process: Process, request: pb.AttachRequest) -> Follower:
    quiet = convert.to_keepalive(request)
    size = process.output.journal.size
    if request.cursor:
        cursor = Cursor.from_bytes(request.cursor)
        if cursor.incarnation != process.id_bytes:
            raise InvalidInput(Violation("cursor", "belongs to another process"))
        position = cursor.position
    elif request.HasField("from_offset"):
        position = request.from_offset
    elif request.HasField("tail_bytes"):
        position = max(0, size - request.tail_bytes)
    elif request.HasField("since"):
        position = process.output.journal.offset_since(to_moment(request.since))
    else:
        position = 0
    return Follower(process, position, quiet=quiet, snapshot=request.snapshot, paces=request.paces, times=request.times)


def _in_messages(batch: WatchBatch) -> Iterator[tuple[list[pb.ProcessEvent], bool]]:
    """What each message holds, and whether it is the last one. A single event may be larger than the bound."""
    put = (pb.ProcessEvent(put=convert.to_listed_process(process)) for process in batch.put)
    removed = (pb.ProcessEvent(removed=process_id) for process_id in batch.removed)
    events: list[pb.ProcessEvent] = []
    size = 0
    for event in itertools.chain(put, removed):
        if events and size + event.ByteSize() > MOST_EVENTS_BYTES:
            yield events, False
            events, size = [], 0
        events.append(event)
        size += event.ByteSize()
    yield events, True


def _fill(response: Response, process: Process, batch: Batch) -> Response:
    control = response.control
    control.cursor = Cursor(process.id_bytes, batch.position).to_bytes()
    response.offset = batch.offset
    if batch.data:
        response.runs.extend(convert.to_runs(batch.runs))
        response.times.extend(convert.to_times(batch.times))
    if batch.changed:
        if response.HasField("process"):
            convert.refresh(response.process, process)
        else:
            response.process.CopyFrom(convert.to_process(process))
    if batch.gap:
        setattr(control.gap, "from", batch.gap[0])
        control.gap.to = batch.gap[1]
    elif batch.exit:
        control.ended.SetInParent()
    elif not (batch.data or batch.changed):
        control.keep_alive.SetInParent()
    if batch.exit:
        response.exit.CopyFrom(response.process.exit if batch.changed else convert.to_exit(batch.exit))
    return with_bytes(response, "data", batch.data) if batch.data else response
