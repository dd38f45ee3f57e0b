"""What is set up in a command before it executes: its terminal, as whom it runs, and how much it may take."""

import os
import resource
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

Limit = tuple[int | None, int | None]
"""Soft and hard limit of a resource; None: without limit."""

MOST_PROGRAMS = 32
"""Besides the first."""

_MOST_GROUPS = 65536  # NGROUPS_MAX of linux/limits.h
_MOST_NUMBER = (1 << 63) - 1  # that Python takes for a limit
_MOST_ID = (1 << 32) - 2  # of uid_t and gid_t: beyond it lies "leave it as it is"


class MalformedSetup(ValueError):
    """The worker asked for what is no set-up."""


class SetupFailed(OSError):
    """A part of the set-up was not possible, or not allowed."""

    def __init__(self, number: int, part: str) -> None:
        super().__init__(number, os.strerror(number))
        self.part = part  # a field of ``Setup``


class Setup(NamedTuple):
    """What a start asks for beyond its program. None, zero and nothing: as the keeper has it."""

    terminal: str = ""  # path of a pseudo-terminal's slave: it controls the session, and is descriptors 0, 1 and 2
    uid: int | None = None
    gid: int | None = None
    groups: tuple[int, ...] | None = None  # supplementary ones
    umask: int | None = None
    nice: int | None = None
    oom_score: int | None = None  # oom_score_adj
    limits: Mapping[str, Limit] = {}  # by their names in ``resource``, such as RLIMIT_CPU
    memory_bytes: int = 0  # this and the next two: of the command's cgroup
    cpus: float = 0.0
    pids: int = 0
    programs: tuple[str, ...] = ()  # where this user may not execute the start's own, the first of these that it may

    @property
    def wants_fork(self) -> bool:
        """Whether it asks for what ``posix_spawn`` cannot set up."""
        return bool(self.limits) or any(
            each is not None for each in (self.uid, self.gid, self.groups, self.umask, self.nice)
        )

    def to_json(self) -> dict[str, Any]:
        """Only what is set."""
        return {name: value for name, value in self._asdict().items() if value != self._field_defaults[name]}

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> "Setup":
        """Raises:
        MalformedSetup: It has a field that there is not, or a value that cannot be.
        """
        if wrong := [name for name, value in fields.items() if name not in _CHECKS or not _CHECKS[name](value)]:
            raise MalformedSetup(f"no set-up: {', '.join(wrong)[:80]}")
        values = dict(fields)
        if "groups" in values:
            values["groups"] = tuple(values["groups"])
        if "programs" in values:
            values["programs"] = tuple(values["programs"])
        if "limits" in values:
            values["limits"] = {name: (soft, hard) for name, (soft, hard) in values["limits"].items()}
        return cls(**values)


NOTHING = Setup()


def _is_number(value: object, least: int, most: int) -> bool:
    return type(value) is int and least <= value <= most


def _is_path(value: object) -> bool:
    return isinstance(value, str) and value.startswith("/") and "\0" not in value


def _is_id(value: object) -> bool:
    return _is_number(value, 0, _MOST_ID)


def _are_groups(value: object) -> bool:
    return isinstance(value, list | tuple) and len(value) <= _MOST_GROUPS and all(map(_is_id, value))


def _are_programs(value: object) -> bool:
    return isinstance(value, list | tuple) and len(value) <= MOST_PROGRAMS and all(map(_is_path, value))


def _are_limits(value: object) -> bool:
    return isinstance(value, dict) and all(_is_limit(name, limit) for name, limit in value.items())


def _is_limit(name: str, limit: object) -> bool:
    if not (name.startswith("RLIMIT_") and hasattr(resource, name)):
        return False
    endless = _MOST_NUMBER + 1
    if not (isinstance(limit, list | tuple) and len(limit) == 2):
        return False
    soft, hard = (endless if each is None else each for each in limit)
    return _is_number(soft, 0, endless) and _is_number(hard, 0, endless) and soft <= hard


_CHECKS: dict[str, Callable[[object], bool]] = {
    "terminal": _is_path,
    "uid": _is_id,
    "gid": _is_id,
    "groups": _are_groups,
    "umask": lambda value: _is_number(value, 0, 0o777),
    "nice": lambda value: _is_number(value, -20, 19),
    "oom_score": lambda value: _is_number(value, -1000, 1000),
    "limits": _are_limits,
    "memory_bytes": lambda value: _is_number(value, 1, _MOST_NUMBER),
    "cpus": lambda value: isinstance(value, int | float) and 0 < value < float("inf"),
    "programs": _are_programs,
    "pids": lambda value: _is_number(value, 1, 1 << 32),
}
