"""Between the wire's messages and plain values. The only module besides its neighbours that sees generated code."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from guyline.agent.v1 import agent_info_service_pb2 as info_pb
from guyline.agent.v1 import process_pb2 as process_pb
from guyline.agent.v1 import process_service_pb2 as pb
from guyline.client.enums import (
    Descendants,
    EndedBy,
    InputMode,
    OutputMode,
    OutputStream,
    ProcessState,
    TimeLimit,
    UnknownEnd,
    WhenFull,
)
from guyline.client.values import (
    NO_INPUT,
    AgentInfo,
    Canceled,
    Chunk,
    Ended,
    Exit,
    Feature,
    Gap,
    Input,
    ProcessInfo,
    Put,
    Removed,
    Reset,
    Signalled,
    Survivor,
    Synced,
    TerminalSize,
    TimeLimits,
    Usage,
    WatchEvent,
)


@dataclass(frozen=True)
class Update:
    """One message of an output stream."""

    info: ProcessInfo | None
    """The process as it is now, if the message says."""
    chunks: tuple[Chunk, ...]
    exit: Exit | None
    detached: bool
    """Whether the call ends here because it was to last no longer."""

    def of(self, before: ProcessInfo) -> ProcessInfo:
        """The process after it."""
        info = self.info or before
        if self.exit is None or info.exit is not None:
            return info
        state = ProcessState.UNKNOWN if self.exit.unknown is not None else ProcessState.EXITED
        return replace(info, exit=self.exit, state=state)


def to_update(message: pb.RunResponse | pb.AttachResponse) -> Update:
    """What a message of Run or Attach says."""
    info = to_process_info(message.process) if message.HasField("process") else None
    exit_ = to_exit(message.exit) if message.HasField("exit") else info.exit if info else None
    detached = message.limit == process_pb.TIME_LIMIT_DETACH_AFTER
    return Update(info=info, chunks=tuple(_to_chunks(message)), exit=exit_, detached=detached)


def _to_chunks(message: pb.RunResponse | pb.AttachResponse) -> Iterator[Chunk]:
    gap = None
    if message.control.WhichOneof("signal") == "gap":
        # `from` is a keyword, so the generated class cannot have it as an attribute.
        gap = Gap(start=getattr(message.control.gap, "from"), stop=message.control.gap.to)
    if not message.data:
        if gap:
            yield Chunk(offset=gap.stop, data=b"", stream=OutputStream.MERGED, gap=gap)
        return
    streams = dict(_streams(message)) or {0: OutputStream.MERGED}
    times = {time.offset - message.offset: to_datetime(time.printed_at) for time in message.times}
    stream, printed_at = streams[0], None
    starts = sorted(streams.keys() | times.keys())
    for start, stop in zip(starts, [*starts[1:], len(message.data)], strict=True):
        stream, printed_at = streams.get(start, stream), times.get(start, printed_at)
        yield Chunk(message.offset + start, message.data[start:stop], stream, gap, printed_at)
        gap = None


def _streams(message: pb.RunResponse | pb.AttachResponse) -> Iterator[tuple[int, OutputStream]]:
    """Where in the data another stream begins; nothing if they are merged."""
    start = 0
    for run in message.runs:
        yield start, OutputStream(run.stream)
        start += run.length_bytes


def to_process_info(process: process_pb.Process) -> ProcessInfo:
    """A process as a value."""
    return ProcessInfo(
        process_id=process.process_id,
        state=ProcessState(process.state),
        command=process.command,
        argv=tuple(process.argv),
        directory=process.directory,
        chat_id=process.chat_id,
        background=process.background,
        output_mode=OutputMode(process.output_mode),
        when_full=WhenFull(process.when_full),
        pid=process.pid,
        sequence=process.sequence,
        started_at=to_datetime(process.started_at),
        output_bytes=process.output_bytes,
        kept_from=process.kept_from,
        output_open=process.output_open,
        journal_degraded=process.journal_degraded,
        exit=to_exit(process.exit) if process.HasField("exit") else None,
        abridged=process.abridged,
        labels=dict(process.labels),
        input=_to_input(process.input) if process.HasField("input") else NO_INPUT,
        terminal=TerminalSize(process.terminal.columns, process.terminal.rows)
        if process.HasField("terminal")
        else None,
        time_limits=_to_time_limits(process.time_limits) if process.HasField("time_limits") else None,
        struck=TimeLimit(process.struck),
        user=process.user,
        usage=_to_usage(process.usage) if process.HasField("usage") else None,
    )


def _to_input(given: process_pb.Input) -> Input:
    return Input(InputMode(given.mode), given.next_offset, given.passed_bytes, given.is_open)


def _to_time_limits(limits: process_pb.TimeLimits) -> TimeLimits:
    return TimeLimits(
        timeout=to_seconds(limits.timeout) if limits.HasField("timeout") else None,
        idle_timeout=to_seconds(limits.idle_timeout) if limits.HasField("idle_timeout") else None,
        grace=to_seconds(limits.grace) if limits.HasField("grace") else None,
    )


def _to_usage(usage: process_pb.Usage) -> Usage:
    return Usage(cpu=to_seconds(usage.cpu), memory_bytes=usage.memory_bytes, processes=usage.processes)


def to_exit(exit_: process_pb.Exit) -> Exit:
    """How a process ended, as a value."""
    status = exit_.WhichOneof("status")
    return Exit(
        code=exit_.code if status == "code" else None,
        signal=exit_.signal if status == "signal" else None,
        unknown=None if status in {"code", "signal"} else UnknownEnd(exit_.unknown),
        ended_by=EndedBy(exit_.ended_by),
        ended_at=to_datetime(exit_.ended_at) if exit_.HasField("ended_at") else None,
        user_cpu=to_seconds(exit_.user_cpu),
        system_cpu=to_seconds(exit_.system_cpu),
        peak_memory_bytes=exit_.peak_memory_bytes,
        core_dumped=exit_.core_dumped,
        descendants_left=frozenset(map(Descendants, exit_.descendants_left)),
        time_limit=TimeLimit(exit_.time_limit),
    )


def to_watch_events(message: pb.ProcessServiceWatchResponse) -> Iterator[WatchEvent]:
    """What a message of Watch says, in order."""
    signal = message.control.WhichOneof("signal")
    if signal == "reset":  # what the message brings is already the new state
        yield Reset()
    for event in message.events:
        if event.WhichOneof("event") == "put":
            yield Put(to_process_info(event.put))
        elif event.WhichOneof("event") == "ended":
            yield Ended(to_process_info(event.ended))
        elif event.WhichOneof("event") == "removed":
            yield Removed(event.removed)
    if signal == "synced":
        yield Synced()


def to_signalled(response: pb.SignalResponse) -> Signalled:
    """What came of a signal."""
    survivors = tuple(Survivor(pid=survivor.pid, name=survivor.name) for survivor in response.survivors)
    return Signalled(process=to_process_info(response.process), survivors=survivors)


def to_canceled(response: pb.ProcessServiceCancelResponse) -> Canceled:
    """What came of a cancel."""
    process = to_process_info(response.process) if response.HasField("process") else None
    return Canceled(process=process, fenced=response.fenced)


def to_agent_info(info: info_pb.GetInfoResponse) -> AgentInfo:
    """Who an agent is."""
    return AgentInfo(
        agent_id=info.agent_id,
        store_id=info.store_id,
        instance_id=info.instance_id,
        version=info.version,
        keeper_pid=info.keeper_pid,
        worker_pid=info.worker_pid,
        started_at=to_datetime(info.started_at),
        worker_started_at=to_datetime(info.worker_started_at),
        running_processes=info.running_processes,
        journal_degraded=info.journal_degraded,
        features={feature.name: Feature(feature.enabled, feature.reason) for feature in info.features},
        limits=_to_limits(info.limits),
        disk_use={
            "journal_bytes": info.disk_use.journal_bytes,
            "record_bytes": info.disk_use.record_bytes,
            "free_bytes": info.disk_use.free_bytes,
        },
    )


def _to_limits(limits: info_pb.Limits) -> Mapping[str, float]:
    return {
        field.name: to_seconds(value) if isinstance(value, Duration) else value for field, value in limits.ListFields()
    }


def to_datetime(timestamp: Timestamp) -> datetime:
    """A point in time, in UTC."""
    return timestamp.ToDatetime(tzinfo=UTC)


def to_timestamp(moment: datetime) -> Timestamp:
    """A point in time as the wire has it."""
    timestamp = Timestamp()
    timestamp.FromDatetime(moment.astimezone(UTC))
    return timestamp


def to_seconds(duration: Duration) -> float:
    """A length of time in seconds."""
    return duration.seconds + duration.nanos / 1e9


def to_duration(seconds: float) -> Duration:
    """Seconds as the wire has them."""
    duration = Duration()
    duration.FromNanoseconds(round(seconds * 1e9))
    return duration
