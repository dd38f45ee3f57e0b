"""From the wire to the domain: requests are parsed into values that cannot be wrong."""

from collections.abc import Mapping

from google.protobuf.message import Message

from guyline.agent.v1 import process_pb2 as pb
from guyline.agent.v1 import process_service_pb2 as calls
from guyline.agentd.process.errors import JournalQuota
from guyline.agentd.process.listing.query import Filter, Place, Query, WantedLabels
from guyline.agentd.process.process import Process
from guyline.agentd.process.service.convert_privileges import to_privileges
from guyline.agentd.process.service.convert_process import STATES
from guyline.agentd.process.service.problems import Problems
from guyline.agentd.process.spec import DEFAULT_GRACE, Key, StartSpec, TimeLimits
from guyline.agentd.process.streams.follow import Role
from guyline.agentd.process.streams.input import InputMode
from guyline.agentd.system.terminal import Size
from guyline.errors import InvalidInput, Violation
from guyline.rpc.cursor import Cursor
from guyline.rpc.moments import to_moment

MAX_COMMAND_BYTES = 131_000
MAX_ARGUMENTS_BYTES = 1 << 20
MAX_DIRECTORY_BYTES = 4096
MAX_KEY_BYTES = 200
MAX_REDACTED = 64
LEAST_KEPT_BYTES = 1 << 20
MAX_LABELS = 32
MAX_LABEL_NAME_BYTES = 63
MAX_LABEL_BYTES = 255
MAX_PAGE = 1000
DEFAULT_MAX_ENDED = 10
_ID_BYTES = 36
DEFAULT_KEEPALIVE = 15.0
MAX_TERM_BYTES = 64
MOST_COLUMNS = 10_000
DEFAULT_SIZE = Size(80, 24)
DEFAULT_TERM = "xterm-256color"
LONGEST_LIMIT = 30 * 86400.0
LONGEST_WAIT = 600.0
LONGEST_POLL = 300.0
DEFAULT_WRITE_WAIT = 10.0

Placed = calls.GetOutputRequest | calls.PatternCondition
"""What begins somewhere in a process's output."""
Labelled = calls.ProcessFilter | calls.ProcessServiceWatchRequest
"""What asks for labels."""
Ending = calls.SignalRequest | calls.ProcessServiceCancelRequest
"""What ends a process step by step."""


def to_spec(request: calls.StartRequest, *, path: str, pause: bool, kept_bytes: int, most_kept_bytes: int) -> StartSpec:
    """Parses a start.

    Args:
        path: Where the message stands in the request, for messages: empty, or ending with a dot.
        pause: What an unspecified ``when_full`` means.
        kept_bytes: What a ``kept_bytes`` of zero means.
        most_kept_bytes: The agent's quota.

    Raises:
        InvalidInput: Says everything that is wrong.
        JournalQuota: More output is to be kept than the agent keeps in all.
    """
    problems = Problems()
    _check_program(problems, request, path)
    _check_env(problems, request, path)
    problems.check_text(f"{path}directory", request.directory, at_most=MAX_DIRECTORY_BYTES)
    problems.check_enum(f"{path}output_mode", request.output_mode, pb.OutputMode.values())
    problems.check_enum(f"{path}when_full", request.when_full, pb.WhenFull.values())
    terminal = _to_terminal(problems, request, path)
    time_limits = _to_time_limits(problems, request.time_limits, f"{path}time_limits.")
    if len(request.redact) > MAX_REDACTED:
        problems.add(f"{path}redact", f"has {len(request.redact)} names, at most {MAX_REDACTED} are allowed")
    if 0 < request.kept_bytes < LEAST_KEPT_BYTES:
        problems.add(f"{path}kept_bytes", f"{request.kept_bytes} is less than {LEAST_KEPT_BYTES}")
    _check_labels(problems, f"{path}labels", request.labels)
    key = _to_key(problems, request.key, f"{path}key") if request.HasField("key") else None
    privileges = to_privileges(request.privileges, f"{path}privileges.", problems.add)
    problems.raise_if_any()
    if request.kept_bytes > most_kept_bytes:
        raise JournalQuota(f"{path}kept_bytes", request.kept_bytes, most_kept_bytes)
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
        input_mode=_to_input_mode(request),
        terminal=terminal,
        term=request.terminal.term or DEFAULT_TERM,
        time_limits=time_limits,
        redact=tuple(request.redact),
        labels=dict(request.labels),
        privileges=privileges,
    )


def _check_program(problems: Problems, request: calls.StartRequest, path: str) -> None:
    if bool(request.command) == bool(request.argv):
        problems.add(f"{path}command", "give either a command line here, or a program and its arguments in argv")
    problems.check_text(f"{path}command", request.command, at_most=MAX_COMMAND_BYTES)
    if request.argv and not request.argv[0]:
        problems.add(f"{path}argv[0]", "is empty; it names the program")
    for index, argument in enumerate(request.argv):
        problems.check_text(f"{path}argv[{index}]", argument, at_most=MAX_COMMAND_BYTES)


def _check_env(problems: Problems, request: calls.StartRequest, path: str) -> None:
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


def _check_labels(problems: Problems, path: str, labels: Mapping[str, str]) -> None:
    if len(labels) > MAX_LABELS:
        problems.add(path, f"holds {len(labels)} labels, at most {MAX_LABELS} are allowed")
    for name, value in labels.items():
        _check_label_name(problems, path, name)
        problems.check_text(f"{path}[{name[:40]!r}]", value, at_most=MAX_LABEL_BYTES)


def _check_label_name(problems: Problems, path: str, name: str) -> None:
    if not name:
        problems.add(path, "holds a label without a name")
    problems.check_text(path, name, at_most=MAX_LABEL_NAME_BYTES)


def _to_key(problems: Problems, key: pb.IdempotencyKey, path: str) -> Key:
    problems.check_text(f"{path}.value", key.value, at_most=MAX_KEY_BYTES)
    if not key.value:
        problems.add(f"{path}.value", "is empty")
    if not key.HasField("created_at"):
        problems.add(f"{path}.created_at", "is missing: the agent must know how old the key is")
    return Key(key.value, to_moment(key.created_at))


def to_key(key: pb.IdempotencyKey) -> Key:
    """Raises InvalidInput."""
    problems = Problems()
    made = _to_key(problems, key, "key")
    problems.raise_if_any()
    return made


def to_query(request: calls.ProcessServiceListRequest) -> Query:
    """Which processes to list. Raises InvalidInput."""
    problems = Problems()
    wanted = request.filter
    labels = _to_wanted_labels(problems, wanted, "filter.")
    states = {number: state for state, number in STATES.items()}
    for index, state in enumerate(wanted.states):
        problems.check_enum(f"filter.states[{index}]", state, states)
    problems.check_text("filter.id_prefix", wanted.id_prefix, at_most=_ID_BYTES)
    if request.page_size > MAX_PAGE:
        problems.add("page_size", f"{request.page_size} is more than {MAX_PAGE}")
    problems.raise_if_any()
    return Query(
        filter=Filter(
            labels=labels,
            states=frozenset(states[state] for state in wanted.states),
            id_prefix=wanted.id_prefix,
        ),
        max_ended=request.max_ended if request.HasField("max_ended") else DEFAULT_MAX_ENDED,
        page_size=request.page_size or MAX_PAGE,
        after=Place.from_bytes(request.page_token) if request.page_token else None,
    )


def to_wanted_labels(request: calls.ProcessServiceWatchRequest) -> WantedLabels:
    """Labels that are asked for. Raises InvalidInput."""
    problems = Problems()
    labels = _to_wanted_labels(problems, request, "")
    problems.raise_if_any()
    return labels


def _to_wanted_labels(problems: Problems, wanted: Labelled, path: str) -> WantedLabels:
    _check_labels(problems, f"{path}labels", wanted.labels)
    field = f"{path}label_names"
    if len(wanted.label_names) > MAX_LABELS - min(len(wanted.labels), MAX_LABELS):
        asked = len(wanted.labels) + len(wanted.label_names)
        problems.add(field, f"makes {asked} labels with `labels`, at most {MAX_LABELS} are allowed")
    for name in wanted.label_names:
        _check_label_name(problems, field, name)
    return WantedLabels(values=dict(wanted.labels), names=frozenset(wanted.label_names))


def _to_input_mode(request: calls.StartRequest) -> InputMode:
    if request.HasField("terminal"):
        return InputMode.TERMINAL
    return InputMode.PIPE if request.input == pb.INPUT_MODE_PIPE else InputMode.NONE


def _to_terminal(problems: Problems, request: calls.StartRequest, path: str) -> Size | None:
    problems.check_enum(f"{path}input", request.input, pb.InputMode.values())
    if request.input == pb.INPUT_MODE_TERMINAL:
        problems.add(f"{path}input", "is only told; ask for a terminal by `terminal`")
    if not request.HasField("terminal"):
        return None
    if request.output_mode == pb.OUTPUT_MODE_SEPARATE:
        problems.add(f"{path}output_mode", "a terminal has one output; leave SEPARATE out")
    if request.input != pb.INPUT_MODE_UNSPECIFIED:
        problems.add(f"{path}input", "a terminal is the input; leave this out")
    problems.check_text(f"{path}terminal.term", request.terminal.term, at_most=MAX_TERM_BYTES)
    if not request.terminal.HasField("size"):
        return DEFAULT_SIZE
    return _to_size(problems, request.terminal.size, f"{path}terminal.size")


def to_size(request: calls.ResizeRequest) -> Size:
    """Raises InvalidInput."""
    problems = Problems()
    size = _to_size(problems, request.size, "size")
    problems.raise_if_any()
    return size


def _to_size(problems: Problems, size: pb.TerminalSize, path: str) -> Size:
    for name, value in (("columns", size.columns), ("rows", size.rows)):
        if not 1 <= value <= MOST_COLUMNS:
            problems.add(f"{path}.{name}", f"{value} is not between 1 and {MOST_COLUMNS}")
    return Size(size.columns, size.rows)


def _to_time_limits(problems: Problems, limits: pb.TimeLimits, path: str) -> TimeLimits:
    grace = problems.seconds(limits, f"{path}grace", least=0, most=LONGEST_WAIT)
    return TimeLimits(
        timeout=problems.seconds(limits, f"{path}timeout", least=0.001, most=LONGEST_LIMIT),
        idle_timeout=problems.seconds(limits, f"{path}idle_timeout", least=0.001, most=LONGEST_LIMIT),
        grace=DEFAULT_GRACE if grace is None else grace,
    )


def to_write_wait(request: calls.WriteInputRequest) -> float:
    """Seconds to wait for room. Raises InvalidInput."""
    wait = _to_seconds(request, "wait", most=LONGEST_POLL)
    return DEFAULT_WRITE_WAIT if wait is None else wait


def to_detach_after(request: calls.RunRequest | calls.AttachRequest) -> float | None:
    """Seconds after the process's start. Raises InvalidInput."""
    return _to_seconds(request, "detach_after", most=LONGEST_LIMIT)


def to_role(request: calls.AttachRequest) -> Role:
    """What the follower is to a process that waits for readers. Raises InvalidInput."""
    if request.paces and request.drains:
        raise InvalidInput(Violation("drains", "is said together with `paces`: the one waits, the other is waited for"))
    if request.paces and request.without_output:
        raise InvalidInput(Violation("paces", "is said together with `without_output`: there is nothing to wait for"))
    if request.drains:
        return Role.DRAINS
    return Role.PACES if request.paces else Role.ONLOOKER


def to_keepalive(request: calls.RunRequest | calls.AttachRequest | calls.ProcessServiceWatchRequest) -> float:
    """Seconds between keepalives. Raises InvalidInput."""
    keepalive = _to_seconds(request, "keepalive", least=0.1)
    return DEFAULT_KEEPALIVE if keepalive is None else keepalive


def to_position(process: Process, cursor: bytes) -> int:
    """Where in the output of a process its cursor points. Raises InvalidInput: it is none, or another process's."""
    given = Cursor.from_bytes(cursor)
    if given.incarnation != process.id_bytes:
        raise InvalidInput(Violation("cursor", "belongs to another process"))
    return given.position


def to_start(problems: Problems, process: Process, given: Placed, path: str = "") -> int:
    """Where in the output of a process a message's cursor points, or its offset."""
    try:
        return to_position(process, given.cursor) if given.cursor else given.from_offset
    except InvalidInput as why:
        problems.add(f"{path}cursor", why.violations[0].description)
        return 0


def to_grace_and_wait(request: Ending) -> tuple[float | None, float | None]:
    """Seconds, None where they are not set. Raises InvalidInput for anything but 0 to 10 minutes."""
    problems = Problems()
    grace = problems.seconds(request, "grace", least=0, most=LONGEST_WAIT)
    wait = problems.seconds(request, "wait", least=0, most=LONGEST_WAIT)
    problems.raise_if_any()
    return grace, wait


def to_signal(request: calls.SignalRequest) -> int:
    """The signal's number. Raises InvalidInput."""
    problems = Problems()
    if not 0 <= request.signal <= 64:
        problems.add("signal", f"{request.signal} is no signal; give a number from 1 to 64, 15 is SIGTERM")
    problems.check_enum("scope", request.scope, calls.SignalScope.values())
    problems.raise_if_any()
    return request.signal or 15


def _to_seconds(request: Message, field: str, *, least: float = 0.0, most: float = LONGEST_WAIT) -> float | None:
    problems = Problems()
    seconds = problems.seconds(request, field, least=least, most=most)
    problems.raise_if_any()
    return seconds
