"""Between the wire and the domain: requests are parsed into values that cannot be wrong, processes are packed."""

from collections.abc import Iterable

from google.protobuf.duration_pb2 import Duration

from guyline.agent.v1 import process_pb2 as pb
from guyline.agent.v1 import process_service_pb2 as calls
from guyline.agentd.journal.runs import Run, Stream
from guyline.agentd.journal.times import Mark
from guyline.agentd.process.convert_privileges import to_privileges
from guyline.agentd.process.exit import EndedBy, Exit
from guyline.agentd.process.process import Process
from guyline.agentd.process.signals import Survivor
from guyline.agentd.process.spec import Key, StartSpec
from guyline.errors import InvalidInput, Violation
from guyline.rpc.moments import to_duration, to_moment, to_seconds, to_timestamp

MAX_COMMAND_BYTES = 131_000
MAX_ARGUMENTS_BYTES = 1 << 20
MAX_DIRECTORY_BYTES = 4096
MAX_KEY_BYTES = 200
LEAST_KEPT_BYTES = 1 << 20
_LISTED_CHARACTERS = 1024
DEFAULT_KEEPALIVE = 15.0

_ENDED_BY = {
    EndedBy.NOT_KNOWN: pb.ENDED_BY_UNSPECIFIED,
    EndedBy.ITSELF: pb.ENDED_BY_ITSELF,
    EndedBy.CALLER: pb.ENDED_BY_CALLER,
    EndedBy.TIME_LIMIT: pb.ENDED_BY_TIME_LIMIT,
    EndedBy.AGENT: pb.ENDED_BY_AGENT,
    EndedBy.OOM_KILLER: pb.ENDED_BY_OOM_KILLER,
}
_DESCENDANTS = {
    "group": pb.DESCENDANTS_GROUP,
    "session": pb.DESCENDANTS_SESSION,
    "cgroup": pb.DESCENDANTS_CGROUP,
}
_STREAMS = {Stream.STDOUT: pb.OUTPUT_STREAM_STDOUT, Stream.STDERR: pb.OUTPUT_STREAM_STDERR}


class _Problems:
    """Collects everything that is wrong with a request, so that the caller hears of all of it at once."""

    def __init__(self) -> None:
        self._found: list[Violation] = []

    def add(self, field: str, description: str) -> None:
        self._found.append(Violation(field, description))

    def check_text(self, field: str, text: str, *, at_most: int) -> None:
        if "\0" in text:
            self.add(field, "holds a NUL byte")
        if (length := len(text.encode())) > at_most:
            self.add(field, f"has {length} bytes, at most {at_most} are allowed")

    def check_enum(self, field: str, value: int, known: Iterable[int]) -> None:
        if value not in known:
            self.add(field, f"{value} is no value of its enum")

    def raise_if_any(self) -> None:
        if self._found:
            raise InvalidInput(*self._found)


def to_spec(request: calls.StartRequest, *, path: str, pause: bool, kept_bytes: int, most_kept_bytes: int) -> StartSpec:
    """Parses a start.

    Args:
        path: Where the message stands in the request, for messages: empty, or ending with a dot.
        pause: What an unspecified ``when_full`` means.
        kept_bytes: What a ``kept_bytes`` of zero means.
        most_kept_bytes: The agent's quota.

    Raises:
        InvalidInput: Says everything that is wrong.
    """
    problems = _Problems()
    _check_program(problems, request, path)
    _check_env(problems, request, path)
    problems.check_text(f"{path}directory", request.directory, at_most=MAX_DIRECTORY_BYTES)
    problems.check_enum(f"{path}output_mode", request.output_mode, pb.OutputMode.values())
    problems.check_enum(f"{path}when_full", request.when_full, pb.WhenFull.values())
    if request.kept_bytes and not LEAST_KEPT_BYTES <= request.kept_bytes <= most_kept_bytes:
        problems.add(
            f"{path}kept_bytes", f"{request.kept_bytes} is not between {LEAST_KEPT_BYTES} and {most_kept_bytes}"
        )
    key = _to_key(problems, request, path)
    privileges = to_privileges(request.privileges, f"{path}privileges.", problems.add)
    problems.raise_if_any()
    return StartSpec(
        command=request.command,
        argv=tuple(request.argv),
        directory=request.directory,
        env=dict(request.env),
        separate=request.output_mode == pb.OUTPUT_MODE_SEPARATE,
        pause=pause if request.when_full == pb.WHEN_FULL_UNSPECIFIED else request.when_full == pb.WHEN_FULL_PAUSE,
        kept_bytes=request.kept_bytes or kept_bytes,
        background=request.background,
        key=key,
        privileges=privileges,
    )


def _check_program(problems: _Problems, request: calls.StartRequest, path: str) -> None:
    if bool(request.command) == bool(request.argv):
        problems.add(f"{path}command", "give either a command line here, or a program and its arguments in argv")
    problems.check_text(f"{path}command", request.command, at_most=MAX_COMMAND_BYTES)
    if request.argv and not request.argv[0]:
        problems.add(f"{path}argv[0]", "is empty; it names the program")
    for index, argument in enumerate(request.argv):
        problems.check_text(f"{path}argv[{index}]", argument, at_most=MAX_COMMAND_BYTES)


def _check_env(problems: _Problems, request: calls.StartRequest, path: str) -> None:
    for name, value in request.env.items():
        if not name or "=" in name or "\0" in name:
            problems.add(f"{path}env", f"{name[:40]!r} is no name of a variable: empty, or with '=' or NUL in it")
        else:  # the kernel's limit is for the two together
            problems.check_text(f"{path}env[{name[:40]!r}]", f"{name}={value}", at_most=MAX_COMMAND_BYTES)
    total = sum(len(text.encode()) + 1 for pair in request.env.items() for text in pair)
    total += sum(len(argument.encode()) + 1 for argument in request.argv)
    if total > MAX_ARGUMENTS_BYTES:
        problems.add(
            f"{path}env", f"arguments and environment have {total} bytes, at most {MAX_ARGUMENTS_BYTES} are allowed"
        )


def _to_key(problems: _Problems, request: calls.StartRequest, path: str) -> Key | None:
    if not request.HasField("key"):
        return None
    value = request.key.value
    problems.check_text(f"{path}key.value", value, at_most=MAX_KEY_BYTES)
    if not value:
        problems.add(f"{path}key.value", "is empty")
    if not request.key.HasField("created_at"):
        problems.add(f"{path}key.created_at", "is missing: the agent must know how old the key is")
    return Key(value, to_moment(request.key.created_at))


def to_keepalive(request: calls.RunRequest | calls.AttachRequest | calls.ProcessServiceWatchRequest) -> float:
    """Seconds between keepalives. Raises InvalidInput."""
    if not request.HasField("keepalive"):
        return DEFAULT_KEEPALIVE
    return _to_seconds("keepalive", request.keepalive, least=0.1)


def to_optional_seconds(field: str, duration: Duration, *, is_set: bool) -> float | None:
    """None if it is not set. Raises InvalidInput for anything but 0 to 10 minutes."""
    return _to_seconds(field, duration, least=0.0) if is_set else None


def to_signal(request: calls.SignalRequest) -> int:
    """The signal's number. Raises InvalidInput."""
    problems = _Problems()
    if not 0 <= request.signal <= 64:
        problems.add("signal", f"{request.signal} is no signal; give a number from 1 to 64, 15 is SIGTERM")
    problems.check_enum("scope", request.scope, calls.SignalScope.values())
    problems.raise_if_any()
    return request.signal or 15


def _to_seconds(field: str, duration: Duration, *, least: float) -> float:
    seconds = to_seconds(duration)
    if not least <= seconds <= 600:
        raise InvalidInput(Violation(field, f"{seconds:g} s is not between {least:g} s and 10 min"))
    return seconds


def to_listed_process(process: Process) -> pb.Process:
    """The same, short enough to stand among a thousand others."""
    message = to_process(process)
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
    )
    refresh(message, process)
    return message


def refresh(message: pb.Process, process: Process) -> None:
    """Brings an earlier message of the process up to date."""
    journal = process.output.journal
    message.state = _to_state(process.exit)
    message.when_full = pb.WHEN_FULL_PAUSE if process.is_paced else pb.WHEN_FULL_DROP_OLDEST
    message.output_bytes = journal.size
    message.kept_from = journal.kept_from
    message.output_open = process.output.is_open
    message.journal_degraded = journal.is_degraded
    if process.exit:
        message.exit.CopyFrom(to_exit(process.exit))


def _to_state(exit_: Exit | None) -> pb.ProcessState.ValueType:
    if exit_ is None:
        return pb.PROCESS_STATE_RUNNING
    return pb.PROCESS_STATE_UNKNOWN if exit_.unknown else pb.PROCESS_STATE_EXITED


def to_exit(exit_: Exit) -> pb.Exit:
    message = pb.Exit(
        ended_by=_ENDED_BY[exit_.ended_by],
        ended_at=to_timestamp(exit_.ended_at),
        user_cpu=to_duration(exit_.user_cpu),
        system_cpu=to_duration(exit_.system_cpu),
        peak_memory_bytes=exit_.peak_memory_bytes,
        core_dumped=exit_.core_dumped,
        descendants_left=[_DESCENDANTS[place] for place in exit_.left_in],
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
