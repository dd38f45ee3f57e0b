"""From plain values to the wire's requests."""

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

from google.protobuf.duration_pb2 import Duration

from guyline.agent.v1 import process_pb2 as process_pb
from guyline.agent.v1 import process_service_pb2 as pb
from guyline.client.argument import invalid, to_timeout
from guyline.client.enums import InputMode, OutputMode, ProcessState, SignalScope, WhenFull
from guyline.client.options import OutputRange, Privileges, ResourceLimit, StartOptions, Terminal, or_default
from guyline.client.values import Key
from guyline.client.wire import to_duration, to_timestamp

_MOST_SECONDS = 315_576_000_000
"""What a protobuf Duration holds: ten thousand years."""


def to_start_request(command: str | Sequence[str], options: StartOptions, *, when_full: WhenFull) -> pb.StartRequest:
    """A start as the wire has it; ``when_full`` holds unless the options say otherwise.

    Raises:
        InvalidInput: Something cannot even be written down: text that is no Unicode, a negative size.
    """
    with written_down("start", lambda: _texts_of(command, options)):
        request = pb.StartRequest(
            command=command if isinstance(command, str) else "",
            argv=() if isinstance(command, str) else command,
            directory=_directory(options),
            env=options.get("env") or {},
            output_mode=process_pb.OutputMode.ValueType(or_default(options.get("output"), OutputMode.MERGED)),
            when_full=process_pb.WhenFull.ValueType(or_default(options.get("when_full"), when_full)),
            kept_bytes=or_default(options.get("kept_bytes"), 0),
            background=or_default(options.get("background"), False),
            key=to_key(options.get("key") or Key.new()),
            input=process_pb.InputMode.ValueType(or_default(options.get("stdin"), InputMode.UNSPECIFIED)),
            labels=options.get("labels") or {},
            redact=or_default(options.get("redact"), ()),
        )
        limits = {name: limit for name in _LIMITS if (limit := _to_duration(name, options.get(name))) is not None}
        if limits:
            request.time_limits.CopyFrom(process_pb.TimeLimits(**limits))
        if (terminal := options.get("terminal")) is not None:
            request.terminal.CopyFrom(_to_terminal(terminal))
        if (privileges := options.get("privileges")) is not None:
            request.privileges.CopyFrom(_to_privileges(privileges))
        return request


def _directory(options: StartOptions) -> str:
    directory = options.get("directory")
    return "" if directory is None else os.fspath(directory)


def _texts_of(command: str | Sequence[str], options: StartOptions) -> Iterator[tuple[str, object]]:
    """The texts of a start, each with the field that it stands in."""
    if isinstance(command, str):
        yield "command", command
    else:
        yield from ((f"argv[{index}]", argument) for index, argument in enumerate(command))
    yield "directory", _directory(options)
    for field, pairs in (("env", options.get("env")), ("labels", options.get("labels"))):
        for name, value in (pairs or {}).items():
            yield field, name
            yield f"{field}[{name[:40]!r}]", value
    yield from ((f"redact[{index}]", name) for index, name in enumerate(options.get("redact") or ()))
    if (terminal := options.get("terminal")) is not None:
        yield "terminal.term", terminal.term
    if (privileges := options.get("privileges")) is not None:
        yield "privileges.user", privileges.user
        yield "privileges.group", privileges.group


_LIMITS = ("timeout", "idle_timeout", "grace")


def _to_duration(argument: str, given: object) -> Duration | None:
    """A length of time as the wire has it; None stays None."""
    seconds = to_timeout(argument, given)
    if seconds is not None and abs(seconds) > _MOST_SECONDS:
        raise invalid(argument, f"is {seconds:g}, more seconds than anything may take; leave it out to have no limit")
    with written_down(argument):
        return None if seconds is None else to_duration(seconds)


def _to_terminal(terminal: Terminal) -> pb.Terminal:
    return pb.Terminal(
        size=process_pb.TerminalSize(columns=terminal.columns, rows=terminal.rows),
        term=terminal.term,
    )


def _to_privileges(privileges: Privileges) -> process_pb.Privileges:
    group_limits = privileges.group_limits
    return process_pb.Privileges(
        user=privileges.user,
        group=privileges.group,
        umask=privileges.umask,
        nice=privileges.nice,
        oom_score=privileges.oom_score,
        resource_limits=map(_to_resource_limit, privileges.resource_limits),
        group_limits=process_pb.GroupLimits(
            memory_bytes=group_limits.memory_bytes, cpus=group_limits.cpus, pids=group_limits.pids
        )
        if group_limits
        else None,
    )


def _to_resource_limit(limit: ResourceLimit) -> process_pb.ResourceLimit:
    return process_pb.ResourceLimit(
        resource=process_pb.Resource.ValueType(limit.resource), soft=limit.soft, hard=limit.hard
    )


def to_key(key: Key) -> process_pb.IdempotencyKey:
    """A key as the wire has it."""
    return process_pb.IdempotencyKey(value=key.value, created_at=to_timestamp(key.created_at))


def to_list_request(
    *,
    labels: Mapping[str, str | None],
    states: Collection[ProcessState],
    id_prefix: str,
    usage: bool,
    max_ended: int,
) -> pb.ProcessServiceListRequest:
    """Which processes to list.

    Raises:
        InvalidInput: As for a start.
    """
    with written_down("list"):
        request = pb.ProcessServiceListRequest(max_ended=max_ended, usage=usage)
        if labels or states or id_prefix:
            wanted = [process_pb.ProcessState.ValueType(state) for state in states]
            values, names = to_wanted_labels(labels)
            request.filter.CopyFrom(
                pb.ProcessFilter(labels=values, label_names=names, states=wanted, id_prefix=id_prefix)
            )
        return request


def to_wanted_labels(labels: Mapping[str, str | None]) -> tuple[dict[str, str], list[str]]:
    """Those that are wanted with their values, and the names of those that are wanted whatever their values."""
    values = {name: value for name, value in labels.items() if value is not None}
    return values, [name for name, value in labels.items() if value is None]


def to_run_request(start: pb.StartRequest, *, detach_after: float | None) -> pb.RunRequest:
    """A start that is followed.

    Raises:
        InvalidInput: As for a start.
    """
    return pb.RunRequest(start=start, detach_after=_to_duration("detach_after", detach_after))


def to_attach_request(
    process_id: str, where: OutputRange, *, times: bool = False, without_output: bool = False
) -> pb.AttachRequest:
    """Which part of the output to follow, if any.

    Raises:
        InvalidInput: As for a start.
    """
    with written_down("output"):
        since = where.get("since")
        return pb.AttachRequest(
            process_id=process_id,
            from_offset=where.get("from_offset"),
            tail_bytes=where.get("tail_bytes"),
            since=to_timestamp(since) if since else None,
            snapshot=where.get("snapshot", False),
            times=times,
            without_output=without_output,
        )


def to_signal_request(
    process_id: str, number: int | None, scope: SignalScope, *, grace: float | None, wait: float | None
) -> pb.SignalRequest:
    """A signal.

    Raises:
        InvalidInput: As for a start; or the signal is 0, by which nothing would be sent: the wire takes it for SIGTERM.
    """
    if number is None:  # the wire would take it for left out
        raise invalid("signal", "is None, where a number is expected")
    if number == 0:
        raise invalid("signal", "is 0, which sends nothing; `wait` and `list` say whether a process is there")
    with written_down("signal"):
        return pb.SignalRequest(
            process_id=process_id,
            signal=number,
            scope=pb.SignalScope.ValueType(scope),
            grace=_to_duration("grace", grace),
            wait=_to_duration("wait", wait),
        )


def to_cancel_request(target: str | Key, *, grace: float | None, wait: float | None) -> pb.ProcessServiceCancelRequest:
    """What to end: a process, by its id, or what a key starts.

    Raises:
        InvalidInput: As for a start.
    """
    with written_down("cancel"):
        return pb.ProcessServiceCancelRequest(
            process_id="" if isinstance(target, Key) else target,
            key=to_key(target) if isinstance(target, Key) else None,
            grace=_to_duration("grace", grace),
            wait=_to_duration("wait", wait),
        )


@contextmanager
def written_down(what: str, texts: Callable[[], Iterable[tuple[str, object]]] = tuple) -> Iterator[None]:
    """Turns what cannot even be written down into InvalidInput. One of the ``texts`` is named by its field."""
    try:
        yield
    except (TypeError, ValueError, OverflowError, AttributeError):
        # Without its cause: that quotes what it did not like, which may be the value of a variable.
        if (field := _not_text(texts)) is not None:
            raise invalid(field, "is no Unicode text") from None
        raise invalid(what, "an argument is of the wrong type, no Unicode text, or out of range") from None


def _not_text(texts: Callable[[], Iterable[tuple[str, object]]]) -> str | None:
    with suppress(TypeError, AttributeError):  # what should hold texts is something else
        return next((field for field, text in texts() if not _is_text(text)), None)
    return None


def _is_text(text: object) -> bool:
    try:
        if isinstance(text, bytes):
            text.decode()
        elif isinstance(text, str):
            text.encode()
        else:
            return False
    except UnicodeError:
        return False
    return True
