"""Parses what a start says of privileges."""

from collections.abc import Callable, Sequence
from typing import Literal

from guyline.agent.v1 import process_pb2 as pb
from guyline.agentd.keeper.setup import Limit
from guyline.agentd.process.starting.privileges import Privileges

MAX_NAME_BYTES = 256
LEAST_MEMORY_BYTES = 1 << 20
LEAST_CPUS, MOST_CPUS = 0.01, 10_000.0
"""The kernel counts a cgroup's time in periods of 0.1 s, of which it gives no less than 1 ms."""
MOST_PIDS = 1 << 22
"""PID_MAX_LIMIT of the kernel."""
MOST_LIMIT = (1 << 63) - 1

_RESOURCES = {
    pb.RESOURCE_CPU: "RLIMIT_CPU",
    pb.RESOURCE_FILE_SIZE: "RLIMIT_FSIZE",
    pb.RESOURCE_DATA: "RLIMIT_DATA",
    pb.RESOURCE_STACK: "RLIMIT_STACK",
    pb.RESOURCE_CORE: "RLIMIT_CORE",
    pb.RESOURCE_OPEN_FILES: "RLIMIT_NOFILE",
    pb.RESOURCE_ADDRESS_SPACE: "RLIMIT_AS",
    pb.RESOURCE_PROCESSES: "RLIMIT_NPROC",
    pb.RESOURCE_LOCKED_MEMORY: "RLIMIT_MEMLOCK",
}

_Number = Literal["umask", "nice", "oom_score"]
_BOUNDS: dict[_Number, tuple[int, int]] = {"umask": (0, 0o777), "nice": (-20, 19), "oom_score": (-1000, 1000)}

Problem = Callable[[str, str], None]
"""Takes note of what is wrong: the field, and why."""


def to_privileges(message: pb.Privileges, path: str, problem: Problem) -> Privileges:
    """Parses them; what is wrong goes to ``problem``.

    Args:
        path: Where the message stands in the request, ending with a dot.
    """
    for name, text in (("user", message.user), ("group", message.group)):
        if "\0" in text or len(text.encode()) > MAX_NAME_BYTES:
            problem(f"{path}{name}", f"holds a NUL, or more than {MAX_NAME_BYTES} bytes")
    group = message.group_limits
    if group.memory_bytes and not LEAST_MEMORY_BYTES <= group.memory_bytes <= MOST_LIMIT:
        problem(f"{path}group_limits.memory_bytes", f"{group.memory_bytes} is less than 1 MiB, or more than 2^63-1")
    if group.cpus and not LEAST_CPUS <= group.cpus <= MOST_CPUS:
        problem(f"{path}group_limits.cpus", f"{group.cpus:g} is not between {LEAST_CPUS:g} and {MOST_CPUS:g}")
    if group.pids > MOST_PIDS:
        problem(f"{path}group_limits.pids", f"{group.pids} is more than {MOST_PIDS}")
    return Privileges(
        user=message.user,
        group=message.group,
        umask=_to_number(message, "umask", path, problem),
        nice=_to_number(message, "nice", path, problem),
        oom_score=_to_number(message, "oom_score", path, problem),
        limits=_to_limits(message.resource_limits, f"{path}resource_limits", problem),
        memory_bytes=group.memory_bytes,
        cpus=group.cpus,
        pids=group.pids,
    )


def _to_number(message: pb.Privileges, name: _Number, path: str, problem: Problem) -> int | None:
    if not message.HasField(name):
        return None
    value: int = getattr(message, name)
    least, most = _BOUNDS[name]
    if not least <= value <= most:
        problem(f"{path}{name}", f"{value} is not between {least} and {most}")
    return value


def _to_limits(messages: Sequence[pb.ResourceLimit], path: str, problem: Problem) -> dict[str, Limit]:
    limits: dict[str, Limit] = {}
    for index, each in enumerate(messages):
        name = _RESOURCES.get(each.resource)
        if name is None:
            problem(f"{path}[{index}].resource", f"{each.resource} is no resource")
        elif name in limits:
            problem(f"{path}[{index}].resource", "has a limit already")
        else:
            limits[name] = _to_limit(each, f"{path}[{index}]", problem)
    return limits


def _to_limit(message: pb.ResourceLimit, path: str, problem: Problem) -> Limit:
    soft = message.soft if message.HasField("soft") else None
    hard = message.hard if message.HasField("hard") else None
    for name, value in (("soft", soft), ("hard", hard)):
        if value is not None and value > MOST_LIMIT:
            problem(f"{path}.{name}", f"{value} is more than 2^63-1; leave it unset for no limit")
    if hard is not None and (soft is None or soft > hard):
        problem(f"{path}.soft", f"{'no limit' if soft is None else soft} is more than the hard limit, {hard}")
    return soft, hard
