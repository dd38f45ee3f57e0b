"""The calls that list processes, and follow the list."""

from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing

from guyline.agent.v1 import process_pb2
from guyline.agent.v1 import process_service_pb2 as pb
from guyline.agentd.process.exhaustion import exhaustion_told
from guyline.agentd.process.listing.query import Item, Selection
from guyline.agentd.process.listing.watch import Interest, WatchBatch, WatchCursor, Watcher
from guyline.agentd.process.processes import Processes
from guyline.agentd.process.service import convert, convert_process
from guyline.rpc.caller import Context, caller_of
from guyline.stream.v1 import stream_pb2

MOST_BYTES = 1 << 20
"""What one message holds, but for its last process: many a gRPC client takes no more than 4 MiB."""


class ListCalls:
    """The calls that list processes, and follow the list.

    Args:
        processes: The domain.
        incarnation: 16 bytes that name this worker, to which the cursors of Watch belong.
    """

    def __init__(self, processes: Processes, *, incarnation: bytes) -> None:
        self._processes = processes
        self._incarnation = incarnation

    async def list(self, request: pb.ProcessServiceListRequest, context: Context) -> pb.ProcessServiceListResponse:
        query = convert.to_query(request)
        seen = self._processes.seen_by(caller_of(context))
        selection = Selection(seen, query, since=self._processes.ends.settled_up_to)
        most = selection.rest[: query.page_size]
        with exhaustion_told("finding out what processes use"):
            usage = await self._processes.usage.of([item.process for item in most]) if request.usage else {}
        page: list[Item] = []
        messages: list[process_pb2.Process] = []
        size = 0
        for item in most:
            if size > MOST_BYTES:
                break
            messages.append(convert_process.to_listed_process(item.process, usage.get(item.process.process_id)))
            size += messages[-1].ByteSize()
            page.append(item)
        has_more = len(page) < len(selection.rest)
        return pb.ProcessServiceListResponse(
            processes=messages,
            ended_total=selection.ended_total,
            next_page_token=selection.place_after(page).to_bytes() if has_more else b"",
        )

    async def watch(
        self, request: pb.ProcessServiceWatchRequest, context: Context
    ) -> AsyncGenerator[pb.ProcessServiceWatchResponse, None]:
        interest = Interest(caller=caller_of(context), labels=convert.to_wanted_labels(request))
        cursor = WatchCursor.from_bytes(request.cursor) if request.cursor else None
        quiet = convert.to_keepalive(request)
        watcher = Watcher(self._processes, interest, cursor, incarnation=self._incarnation, quiet=quiet)
        async with aclosing(watcher.batches()) as batches:
            async for batch in batches:
                for response in _to_responses(batch):
                    yield response


def _to_responses(batch: WatchBatch) -> Iterator[pb.ProcessServiceWatchResponse]:
    control = stream_pb2.StreamControl(cursor=batch.cursor.to_bytes())
    if batch.reset:
        yield pb.ProcessServiceWatchResponse(control=stream_pb2.StreamControl(reset=stream_pb2.Reset()))
    if batch.synced:
        control.synced.SetInParent()
    elif batch.is_empty:
        control.keep_alive.SetInParent()
    for events, is_last in _in_messages(batch):
        yield pb.ProcessServiceWatchResponse(control=control if is_last else None, events=events)


def _in_messages(batch: WatchBatch) -> Iterator[tuple[list[pb.ProcessEvent], bool]]:
    """What each message holds, and whether it is the last one. A single event may be larger than the bound."""
    events: list[pb.ProcessEvent] = []
    size = 0
    for event in _to_events(batch):
        if events and size + event.ByteSize() > MOST_BYTES:
            yield events, False
            events, size = [], 0
        events.append(event)
        size += event.ByteSize()
    yield events, True


def _to_events(batch: WatchBatch) -> Iterator[pb.ProcessEvent]:
    for process in batch.put:
        message = convert_process.to_listed_process(process)
        is_end = process.process_id in batch.ended
        yield pb.ProcessEvent(ended=message) if is_end else pb.ProcessEvent(put=message)
    for process_id in batch.removed:
        yield pb.ProcessEvent(removed=process_id)
