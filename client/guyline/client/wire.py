"""Between the wire's messages and plain values. The only module besides its neighbours that sees generated code."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from guyline.agent.v1 import agent_info_service_pb2 as info_pb
from guyline.agent.v1 import process_pb2 as process_pb
from guyline.agent.v1 import process_service_pb2 as pb
from guyline.client.errors import InvalidInput, Violation
from guyline.client.values import (
    AgentInfo,
    Chunk,
    Descendants,
    EndedBy,
    Exit,
    Feature,
    Gap,
    Key,
    OutputMode,
    OutputStream,
    ProcessInfo,
    ProcessState,
    Put,
    Removed,
    Reset,
    Signalled,
    Survivor,
    Synced,
    UnknownEnd,
    WatchEvent,
    WhenFull,
)


@dataclass(frozen=True)
class Update:
    """One message of an output stream."""

    info: ProcessInfo | None
    """The process as it is now, if the message says."""
    chunks: tuple[Chunk, ...]
    exit: Exit | None


def to_update(message: pb.RunResponse | pb.AttachResponse) -> Update:
    """What a message of Run or Attach says."""
    info = to_process_info(message.process) if message.HasField("process") else None
    exit_ = to_exit(message.exit) if message.HasField("exit") else info.exit if info else None
    return Update(info=info, chunks=tuple(_to_chunks(message)), exit=exit_)


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
    )


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
    )


def to_watch_events(message: pb.ProcessServiceWatchResponse) -> Iterator[WatchEvent]:
    """What a message of Watch says, in order."""
    signal = message.control.WhichOneof("signal")
    if signal == "reset":  # what the message brings is already the new state
        yield Reset()
    for event in message.events:
        if event.WhichOneof("event") in {"put", "ended"}:
            yield Put(to_process_info(event.put if event.HasField("put") else event.ended))
        elif event.WhichOneof("event") == "removed":
            yield Removed(event.removed)
    if signal == "synced":
        yield Synced()


def to_signalled(response: pb.SignalResponse) -> Signalled:
    """What came of a signal."""
    survivors = tuple(Survivor(pid=survivor.pid, name=survivor.name) for survivor in response.survivors)
    return Signalled(process=to_process_info(response.process), survivors=survivors)


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


def to_start_request(
    command: str | Sequence[str],
    *,
    directory: str,
    env: Mapping[str, str],
    output: OutputMode,
    when_full: WhenFull,
    kept_bytes: int,
    background: bool,
    key: Key,
) -> pb.StartRequest:
    """A start as the wire has it.

    Raises:
        InvalidInput: Something cannot even be written down: text that is no Unicode, a negative size.
    """
    try:
        return pb.StartRequest(
            command=command if isinstance(command, str) else "",
            argv=() if isinstance(command, str) else command,
            directory=directory,
            env=env,
            output_mode=process_pb.OutputMode.ValueType(output),
            when_full=process_pb.WhenFull.ValueType(when_full),
            kept_bytes=kept_bytes,
            background=background,
            key=process_pb.IdempotencyKey(value=key.value, created_at=to_timestamp(key.created_at)),
        )
    except (TypeError, ValueError):
        violation = Violation("start", "an argument is of the wrong type, no Unicode text, or out of range")
        # Without its cause: that quotes what it did not like, which may be the value of a variable.
        raise InvalidInput(f"{violation.field}: {violation.description}", violations=(violation,)) from None


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
