"""What a caller wants started, and what is remembered of it."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from guyline.agentd.process.privileges import AS_THE_AGENT, Privileges


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
    privileges: Privileges = AS_THE_AGENT

    @property
    def arguments(self) -> tuple[str, ...]:
        """The program and its arguments."""
        return ("sh", "-c", self.command) if self.command else self.argv

    def fingerprint(self, salt: str) -> str:
        """Tells this start from another one under the same key. Salted, since the environment may hold secrets.

        How the output is kept is no part of it: Run and Start have different defaults, and may repeat each other.
        """
        essence: list[Any] = [self.command, self.argv, self.directory, sorted(self.env.items())]
        essence += [self.separate, self.background]
        if self.privileges != AS_THE_AGENT:
            essence.append({"privileges": self.privileges.essence()})
        return hashlib.blake2b(json.dumps(essence).encode(), key=salt.encode(), digest_size=16).hexdigest()


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
    user: str = ""  # as asked for; empty: the agent's own

    def to_json(self) -> str:
        return json.dumps(vars(self), separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Self:
        fields = json.loads(text)
        return cls(**{**fields, "argv": tuple(fields["argv"])})
