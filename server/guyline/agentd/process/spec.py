"""What a caller wants started, and what is remembered of it."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from guyline.agentd.process.starting.privileges import AS_THE_AGENT, Privileges
from guyline.agentd.process.streams.input import InputMode
from guyline.agentd.system.terminal import Size

DEFAULT_GRACE = 5.0
"""Seconds between SIGTERM and SIGKILL unless a start says otherwise."""


@dataclass(frozen=True, kw_only=True)
class TimeLimits:
    """When a process is ended; in seconds."""

    timeout: float | None = None  # after its start
    idle_timeout: float | None = None  # after it printed something last
    grace: float = DEFAULT_GRACE  # from SIGTERM to SIGKILL


@dataclass(frozen=True)
class Key:
    """A caller's name for a start, so that repeating it never starts anything twice."""

    value: str
    created_at: float  # seconds since the epoch, by the caller's clock


@dataclass(frozen=True, kw_only=True)
class StartSpec:
    """A start, checked: exactly one of ``command`` and ``argv`` is not empty."""

    command: str = ""
    argv: tuple[str, ...] = ()
    directory: str = ""  # as asked for: empty, absolute, relative, or beginning with ~
    env: Mapping[str, str] = field(default_factory=dict)
    separate: bool = False
    pause: bool = False
    kept_bytes: int
    background: bool = False
    key: Key | None = None
    input_mode: InputMode = InputMode.NONE
    terminal: Size | None = None
    term: str = ""  # of a terminal: what TERM is, unless ``env`` has it
    time_limits: TimeLimits = TimeLimits()
    redact: tuple[str, ...] = ()  # names of variables
    labels: Mapping[str, str] = field(default_factory=dict)
    privileges: Privileges = AS_THE_AGENT

    @property
    def arguments(self) -> tuple[str, ...]:
        """The program and its arguments."""
        return ("sh", "-c", self.command) if self.command else self.argv

    @property
    def requested_env(self) -> Mapping[str, str]:
        """The variables to set, with the terminal's own."""
        return {"TERM": self.term, **self.env} if self.terminal else self.env

    def fingerprint(self, salt: str) -> str:
        """Tells this start from another one under the same key. Salted, since the environment may hold secrets.

        How the output is kept is no part of it: Run and Start have different defaults, and may repeat each other.
        """
        essence: list[Any] = [
            self.command,
            self.argv,
            self.directory,
            sorted(self.env.items()),
            self.separate,
            self.background,
        ]
        # What a start leaves out is no part of it: what is new here changes nothing of keys that are remembered.
        essence += [{name: value} for name, value in self._extras().items() if value]
        return hashlib.blake2b(json.dumps(essence).encode(), key=salt.encode(), digest_size=16).hexdigest()

    def _extras(self) -> dict[str, Any]:
        return {
            "input": self.input_mode is InputMode.PIPE,
            "terminal": self.terminal and [self.terminal, self.term],
            "time_limits": self.time_limits != TimeLimits() and list(vars(self.time_limits).values()),
            "redact": sorted(set(self.redact)),
            "labels": sorted(self.labels.items()),
            "privileges": self.privileges != AS_THE_AGENT and self.privileges.essence(),
        }


@dataclass(frozen=True, kw_only=True)
class Origin:
    """What is remembered of a start for as long as anything is; the environment is not."""

    process_id: str
    sequence: int
    command: str
    argv: tuple[str, ...]
    directory: str  # absolute
    chat_id: str | None
    background: bool
    separate: bool
    pause: bool
    kept_bytes: int
    created_at: float  # seconds since the epoch, by the agent's clock
    boot_id: str  # process ids mean nothing after another boot
    key: str | None = None
    key_created_at: float = 0.0
    fingerprint: str = ""
    input_mode: InputMode = InputMode.NONE
    time_limits: TimeLimits = TimeLimits()
    redact: tuple[str, ...] = ()  # names of variables, whose values lie beside the journal
    began_at: float = 0.0  # by CLOCK_MONOTONIC, which stands still while the machine sleeps, and never jumps
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_fence(self) -> bool:
        """Whether this stands for a start that was canceled before it came."""
        return not self.argv

    @classmethod
    def of_fence(cls, key: Key, *, process_id: str, chat_id: str | None, created_at: float, boot_id: str) -> Self:
        """What is remembered of a start that will never be."""
        return cls(
            process_id=process_id,
            sequence=0,
            command="",
            argv=(),
            directory="",
            chat_id=chat_id,
            background=False,
            separate=False,
            pause=False,
            kept_bytes=0,
            created_at=created_at,
            boot_id=boot_id,
            key=key.value,
            key_created_at=key.created_at,
        )

    user: str = ""  # as asked for; empty: the agent's own

    def to_json(self) -> str:
        plain = {"input_mode": self.input_mode.value, "time_limits": vars(self.time_limits)}
        return json.dumps({**vars(self), **plain}, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Self:
        fields = json.loads(text)
        fields["argv"] = tuple(fields["argv"])
        fields["redact"] = tuple(fields.get("redact", ()))
        fields["input_mode"] = InputMode(fields.get("input_mode", "none"))
        fields["time_limits"] = TimeLimits(**fields.get("time_limits", {}))
        return cls(**fields)
