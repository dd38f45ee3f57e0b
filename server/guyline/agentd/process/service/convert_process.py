"""Processes as the wire has them."""

from collections.abc import Iterable

from guyline.agent.v1 import process_pb2 as pb
from guyline.agent.v1 import process_service_pb2 as calls
from guyline.agentd.journal.runs import Run, Stream
from guyline.agentd.journal.times import Mark
from guyline.agentd.process.ending.signals import Survivor
from guyline.agentd.process.exit import EndedBy, Exit, State, TimeLimit, state_of
from guyline.agentd.process.listing.usage import Usage
from guyline.agentd.process.process import Process
from guyline.agentd.process.spec import TimeLimits
from guyline.agentd.process.streams.input import InputMode
from guyline.rpc.moments import to_duration, to_timestamp

_ENDED_BY = {
    EndedBy.NOT_KNOWN: pb.ENDED_BY_UNSPECIFIED,
    EndedBy.ITSELF: pb.ENDED_BY_ITSELF,
    EndedBy.CALLER: pb.ENDED_BY_CALLER,
    EndedBy.TIME_LIMIT: pb.ENDED_BY_TIME_LIMIT,
    EndedBy.AGENT: pb.ENDED_BY_AGENT,
    EndedBy.OOM_KILLER: pb.ENDED_BY_OOM_KILLER,
}
_TIME_LIMITS = {
    TimeLimit.TIMEOUT: pb.TIME_LIMIT_TIMEOUT,
    TimeLimit.IDLE_TIMEOUT: pb.TIME_LIMIT_IDLE_TIMEOUT,
}
_INPUT_MODES = {
    InputMode.NONE: pb.INPUT_MODE_NONE,
    InputMode.PIPE: pb.INPUT_MODE_PIPE,
    InputMode.TERMINAL: pb.INPUT_MODE_TERMINAL,
}
_DESCENDANTS = {
    "group": pb.DESCENDANTS_GROUP,
    "session": pb.DESCENDANTS_SESSION,
    "cgroup": pb.DESCENDANTS_CGROUP,
}
_STREAMS = {Stream.STDOUT: pb.OUTPUT_STREAM_STDOUT, Stream.STDERR: pb.OUTPUT_STREAM_STDERR}
_LISTED_CHARACTERS = 1024
STATES = {
    State.RUNNING: pb.PROCESS_STATE_RUNNING,
    State.EXITED: pb.PROCESS_STATE_EXITED,
    State.UNKNOWN: pb.PROCESS_STATE_UNKNOWN,
}


def to_listed_process(process: Process, usage: Usage | None = None) -> pb.Process:
    """The same, short enough to stand among a thousand others, with what it uses if that is known."""
    message = to_process(process)
    if usage:
        message.usage.CopyFrom(
            pb.Usage(cpu=to_duration(usage.cpu), memory_bytes=usage.memory_bytes, processes=usage.processes)
        )
    if len(message.command) + sum(map(len, message.argv)) > _LISTED_CHARACTERS:
        message.abridged = True
        message.command = message.command[:_LISTED_CHARACTERS]
        message.argv[:] = [] if message.command else [" ".join(message.argv)[:_LISTED_CHARACTERS]]
    return message


def to_process(process: Process) -> pb.Process:
    """The process as it is now."""
    origin = process.origin
    message = pb.Process(
        process_id=origin.process_id,
        command=origin.command,
        argv=origin.argv,
        directory=origin.directory,
        chat_id=origin.chat_id or "",
        background=origin.background,
        output_mode=pb.OUTPUT_MODE_SEPARATE if origin.separate else pb.OUTPUT_MODE_MERGED,
        pid=process.pid or 0,
        sequence=origin.sequence,
        user=origin.user,
        started_at=to_timestamp(process.started_at),
        labels=origin.labels,
        time_limits=_to_limits(origin.time_limits),
    )
    refresh(message, process)
    return message


def refresh(message: pb.Process, process: Process) -> None:
    """Brings an earlier message of the process up to date."""
    journal = process.output.journal
    message.state = STATES[state_of(process.exit)]
    message.when_full = pb.WHEN_FULL_PAUSE if process.is_paced else pb.WHEN_FULL_DROP_OLDEST
    message.output_bytes = journal.size
    message.kept_from = journal.kept_from
    message.output_open = process.output.is_open
    message.journal_degraded = journal.is_degraded
    message.input.CopyFrom(_to_input(process))
    if process.terminal and (size := process.terminal.size):
        message.terminal.CopyFrom(pb.TerminalSize(columns=size.columns, rows=size.rows))
    if process.note.struck:
        message.struck = _TIME_LIMITS[process.note.struck]
    if process.exit:
        message.exit.CopyFrom(to_exit(process.exit))


def _to_input(process: Process) -> pb.Input:
    given = process.input
    mode = _INPUT_MODES[process.origin.input_mode]
    if given is None:
        return pb.Input(mode=mode)
    return pb.Input(mode=mode, next_offset=given.next_offset, passed_bytes=given.passed_bytes, is_open=given.is_open)


def _to_limits(limits: TimeLimits) -> pb.TimeLimits | None:
    if limits.timeout is None and limits.idle_timeout is None:
        return None
    return pb.TimeLimits(
        timeout=to_duration(limits.timeout) if limits.timeout else None,
        idle_timeout=to_duration(limits.idle_timeout) if limits.idle_timeout else None,
        grace=to_duration(limits.grace),
    )


def to_exit(exit_: Exit) -> pb.Exit:
    message = pb.Exit(
        ended_by=_ENDED_BY[exit_.ended_by],
        ended_at=to_timestamp(exit_.ended_at),
        user_cpu=to_duration(exit_.user_cpu),
        system_cpu=to_duration(exit_.system_cpu),
        peak_memory_bytes=exit_.peak_memory_bytes,
        core_dumped=exit_.core_dumped,
        descendants_left=[_DESCENDANTS[place] for place in exit_.left_in],
        time_limit=_TIME_LIMITS[exit_.time_limit] if exit_.time_limit else pb.TIME_LIMIT_UNSPECIFIED,
    )
    if exit_.code is not None:
        message.code = exit_.code
    elif exit_.signal is not None:
        message.signal = exit_.signal
    else:
        message.unknown = pb.UnknownEnd.Value(f"UNKNOWN_END_{exit_.unknown}")
    return message


def to_runs(runs: Iterable[Run]) -> list[pb.OutputRun]:
    return [pb.OutputRun(stream=_STREAMS[run.stream], length_bytes=run.length_bytes) for run in runs]


def to_times(marks: Iterable[Mark]) -> list[pb.OutputTime]:
    return [pb.OutputTime(offset=mark.offset, printed_at=to_timestamp(mark.printed_at)) for mark in marks]


def to_survivors(survivors: Iterable[Survivor]) -> list[calls.Survivor]:
    return [calls.Survivor(pid=survivor.pid, name=survivor.name) for survivor in survivors]
