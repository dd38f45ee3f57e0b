"""What the keeper knows of each command: the table that it hands to every new worker."""

import json
import os
from collections.abc import Collection, Iterable, Iterator
from typing import Any, NamedTuple

INPUT_NAMES = ("stdin", "input")
"""The names of a command's input: where it goes, and the memory file that holds it. Its end is not that of the output.

Only the file says how much was accepted, so both are kept until the worker has noted that and lets them go by name.
"""


class Asked(NamedTuple):
    """A signal that somebody sent through the agent."""

    signal: int
    cause: str  # who: opaque to the keeper, but for its own "agent"
    at: float  # seconds since the epoch


class Exit(NamedTuple):
    """How a command ended. Exactly one of ``code``, ``signal`` and ``unknown`` is set."""

    ended_at: float  # seconds since the epoch
    code: int | None = None
    signal: int | None = None
    unknown: str | None = None  # KEEPER_LOST or AGENT_LOST
    core_dumped: bool = False
    user_cpu: float = 0.0  # seconds
    system_cpu: float = 0.0  # seconds
    peak_memory_bytes: int = 0
    oom_killed: bool = False
    left_in: tuple[str, ...] = ()  # "group", "session": where descendants were left over
    asked: Asked | None = None
    order: int = 0  # which of the ends of this store it is, from 1

    @classmethod
    def from_json(cls, fields: list[Any]) -> "Exit":
        exit_ = cls(*fields)
        return exit_._replace(left_in=tuple(exit_.left_in), asked=Asked(*exit_.asked) if exit_.asked else None)


class Entry:
    """One command, from the moment the keeper was asked to start it until the worker forgets it."""

    def __init__(self, process_id: str, info: str) -> None:
        self.process_id = process_id
        self.info = info  # what the worker wants to know again; opaque here
        self.note = ""  # the worker's own running notes; opaque here
        self.pid: int | None = None
        self.start_ticks = 0  # with the pid names a process for good: clock ticks since boot
        self.started_at = 0.0  # seconds since the epoch
        self.errno: int | None = None  # why it could not be spawned
        self.failed_part = ""  # of its set-up, if that was it; see ``setup.SetupFailed``
        self.exit: Exit | None = None
        self.asked: Asked | None = None  # the last of those signals by which a command is asked to end
        self.told: Asked | None = None  # the last of all others, which end it only if it does nothing about them
        self.kept: dict[str, int] = {}  # duplicates of descriptors that must not close, by name
        self.released = False  # the worker has seen the end of its output
        self.is_child = True  # whether its exit status can be waited for

    def __repr__(self) -> str:
        return f"<Entry {self.process_id} pid={self.pid} exit={self.exit}>"

    @property
    def is_running(self) -> bool:
        return self.pid is not None and self.exit is None

    def to_json(self) -> list[Any]:
        """All but ``is_child`` and ``told``, which are the keeper's own business, and with the descriptors' numbers."""
        return [
            self.process_id,
            self.info,
            self.note,
            self.pid,
            self.start_ticks,
            self.started_at,
            self.errno,
            self.exit,
            self.asked,
            self.kept,
            self.released,
            self.failed_part,
        ]

    @classmethod
    def from_json(cls, fields: list[Any]) -> "Entry":
        entry = cls(fields[0], fields[1])
        entry.note, entry.pid, entry.start_ticks, entry.started_at, entry.errno = fields[2:7]
        exit_, asked, kept, released, *rest = fields[7:]
        entry.exit = Exit.from_json(exit_) if exit_ else None
        entry.asked = Asked(*asked) if asked else None
        entry.kept = dict(kept)
        entry.released = released
        entry.failed_part = rest[0] if rest else ""  # a log may be older than this field
        return entry

    def close_kept(self, *, but: Collection[str] = ()) -> None:
        for name in self.kept.keys() - but:
            os.close(self.kept.pop(name))


def to_memory_file(entries: Iterable[Entry]) -> int:
    """Writes the entries into a memory file, which holds any number of them, and returns its descriptor.

    Raises:
        OSError: There is no room for one.
    """
    descriptor = os.memfd_create("guyline-table")
    try:
        with os.fdopen(descriptor, "w", closefd=False) as file:
            for entry in entries:
                json.dump(entry.to_json(), file, separators=(",", ":"))
                file.write("\n")
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def from_memory_file(descriptor: int) -> Iterator[Entry]:
    """Reads what ``to_memory_file`` wrote. The descriptor stays the caller's to close."""
    os.lseek(descriptor, 0, os.SEEK_SET)
    with os.fdopen(os.dup(descriptor)) as file:
        for line in file:
            yield Entry.from_json(json.loads(line))
