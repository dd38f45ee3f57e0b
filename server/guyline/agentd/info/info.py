"""What the agent says of itself."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Feature:
    """Something that an agent may have or not, such as ``journal.splice``."""

    name: str
    enabled: bool
    reason: str = ""
    """Why it is not there; empty if it is."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The bounds in force; durations in seconds."""

    max_processes: int
    journal_bytes: int
    journal_quota_bytes: int
    ended_retention: float
    key_retention: float
    max_request_bytes: int
    max_chunk_bytes: int
    shutdown_grace: float
    max_ended: int
    max_keys: int
    max_chat_processes: int
    max_followers: int
    input_bytes: int
    input_quota_bytes: int


@dataclass(frozen=True, kw_only=True)
class DiskUse:
    """What lies in the state directory, and how much room is left on its file system."""

    journal_bytes: int
    record_bytes: int
    free_bytes: int


@dataclass(frozen=True, kw_only=True)
class Description:
    """The agent as it is now; times in seconds since the epoch."""

    agent_id: str
    """Empty until a control plane has given one."""

    store_id: str
    instance_id: str
    version: str
    features: tuple[Feature, ...]
    limits: Limits
    keeper_pid: int
    worker_pid: int
    started_at: float
    worker_started_at: float
    disk_use: DiskUse
    running_processes: int
    journal_degraded: bool


@dataclass(frozen=True, kw_only=True)
class Upgrade:
    """Which version gives way to which."""

    from_version: str
    to_version: str
