"""What the agent tells, as words and as JSON."""

import dataclasses
import shlex
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime

from guyline.client.enums import EndedBy, WireEnum
from guyline.client.values import AgentInfo, Exit, ProcessInfo

_MINUTE, _HOUR, _DAY = 60, 3600, 86400


def to_json(value: object) -> object:
    """Values as JSON has them: enums by name, times as ISO 8601, sets as sorted lists."""
    match value:
        case WireEnum():
            said: object = value.label
        case datetime():
            said = value.isoformat()
        case frozenset():
            said = sorted(str(to_json(item)) for item in value)
        case tuple():
            said = [to_json(item) for item in value]
        case Mapping():
            said = {str(key): to_json(item) for key, item in value.items()}
        case _ if dataclasses.is_dataclass(value):
            said = {item.name: to_json(getattr(value, item.name)) for item in dataclasses.fields(value)}
        case _:
            said = value
    return said


def exit_to_json(ended: Exit) -> dict[str, object]:
    """An exit, with what a shell would say besides."""
    said = to_json(ended)
    assert isinstance(said, dict), "a dataclass"
    return said | {"shell_code": ended.shell_code}


def to_result(process_id: str, ended: Exit | None) -> dict[str, object]:
    """What `exec` and `attach` say at last; no exit: it was left running."""
    return {"process_id": process_id, "exit": exit_to_json(ended) if ended is not None else None}


def to_row(process: ProcessInfo) -> tuple[str, ...]:
    """A process as a line of `guyline ps`."""
    return (
        process.process_id,
        to_state(process),
        str(process.pid) if process.exit is None and process.pid else "-",
        to_age(process.started_at),
        to_size(process.output_bytes),
        process.chat_id or "-",
        to_command(process),
    )


def usage_row(process: ProcessInfo) -> tuple[str, str]:
    """CPU time and memory of a process as it runs."""
    if process.usage is None:
        return "-", "-"
    return to_length(process.usage.cpu), to_size(process.usage.memory_bytes)


COLUMNS = ("ID", "STATE", "PID", "AGE", "OUTPUT", "CHAT", "COMMAND")
SHORT = 8
"""So many characters of an id mostly tell it from others: the first group of a UUID."""


def shortened(rows: Sequence[tuple[str, ...]], columns: Sequence[str] = COLUMNS) -> list[tuple[str, ...]]:
    """Rows with no more of their ids than tells them apart."""
    ids = [column for column, name in enumerate(columns) if name in {"ID", "CHAT"}]
    lengths = {column: _distinct({row[column] for row in rows}) for column in ids}
    return [tuple(cell[: lengths.get(column)] for column, cell in enumerate(row)) for row in rows]


def _distinct(ids: Collection[str]) -> int:
    """How many characters tell these ids apart."""
    length = SHORT
    while len({each[:length] for each in ids}) < len(ids):
        length += 1
    return length


def to_state(process: ProcessInfo) -> str:
    """Where a process stands, and how it ended; in brackets why, if neither it nor a caller wanted that."""
    ended = process.exit
    if ended is None:
        return process.state.label
    if ended.code is not None:
        status = f"exit {ended.code}"
    else:
        status = f"signal {ended.signal}" if ended.signal is not None else "unknown"
    return f"{status} ({why})" if (why := _why(ended)) else status


def _why(ended: Exit) -> str:
    if ended.ended_by is EndedBy.TIME_LIMIT:
        return ended.time_limit.label.replace("_", " ")
    return "out of memory" if ended.ended_by is EndedBy.OOM_KILLER else ""


def to_command(process: ProcessInfo) -> str:
    """What was started, on one line and without what a terminal would act on."""
    return on_one_line(process.command or shlex.join(process.argv))


def to_labels(process: ProcessInfo) -> str:
    """Its labels, on one line and without what a terminal would act on."""
    return on_one_line(" ".join(f"{name}={value}" for name, value in sorted(process.labels.items())))


def on_one_line(text: str) -> str:
    """Text without what a terminal would act on."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)


def to_age(moment: datetime) -> str:
    """How long ago, in at most two units."""
    return to_length(max(0.0, (datetime.now(UTC) - moment).total_seconds()))


def to_length(length: float) -> str:
    """A length of time, in at most two units."""
    seconds = int(length)
    if seconds < _MINUTE:
        return f"{seconds}s"
    if seconds < _HOUR:
        return f"{seconds // _MINUTE}m{seconds % _MINUTE:02}s"
    if seconds < _DAY:
        return f"{seconds // _HOUR}h{seconds % _HOUR // _MINUTE:02}m"
    return f"{seconds // _DAY}d{seconds % _DAY // _HOUR:02}h"


def to_size(size: float) -> str:
    """Bytes in the unit that fits."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" or size >= 10 else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def to_facts(info: AgentInfo) -> tuple[tuple[str, str], ...]:
    """An agent as names and values, for people."""
    return (
        ("version", info.version),
        ("agent id", info.agent_id or "none yet"),
        ("store id", info.store_id),
        ("instance id", info.instance_id),
        ("keeper", f"pid {info.keeper_pid}, for {to_age(info.started_at)}"),
        ("worker", f"pid {info.worker_pid}, for {to_age(info.worker_started_at)}"),
        ("processes", f"{info.running_processes} running"),
        *((f"disk: {name.replace('_', ' ')}", to_size(size)) for name, size in info.disk_use.items()),
        *((f"limit: {name.replace('_', ' ')}", _to_limit(name, limit)) for name, limit in info.limits.items()),
        *(
            (f"feature: {name}", "on" if feature.enabled else f"off: {feature.reason}")
            for name, feature in info.features.items()
        ),
        *((("warning", "output was lost: the disk was full or failed"),) if info.journal_degraded else ()),
    )


def _to_limit(name: str, limit: float) -> str:
    if name.endswith("_bytes"):
        return to_size(limit)
    return f"{limit:g}" if name.startswith("max_") else f"{limit:g} s"
