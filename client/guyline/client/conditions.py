"""What can be waited for, and what came of it."""

import os
from dataclasses import dataclass

from guyline.client.enums import WaitOver
from guyline.client.errors import GuylineError
from guyline.client.values import Bytes, ProcessInfo


@dataclass(frozen=True)
class Exited:
    """The process has ended, and all its output can be read."""


@dataclass(frozen=True)
class Printed:
    """The output holds a match of a regular expression in RE2's syntax.

    It is searched for in the bytes; ``^`` and ``$`` are the ends of lines, ``$`` also the end of what is printed by
    now. A match of more than 64 KiB may be missed. What was printed before the cursor or offset is not matched, but
    counts: no line or word begins at a cursor in its middle.
    """

    pattern: str
    from_offset: int | None = None
    """Search from here on instead of from the beginning."""
    cursor: Bytes = b""
    """Search what was printed since: of a view, or of an earlier match. Goes before ``from_offset``."""


@dataclass(frozen=True)
class PortOpen:
    """A program on the agent's machine accepts connections on a TCP port of its loopback addresses."""

    port: int


@dataclass(frozen=True)
class FileExists:
    """A file, or anything else, is there. A relative path begins at the process's directory."""

    path: str | os.PathLike[str]


Condition = Exited | Printed | PortOpen | FileExists


@dataclass(frozen=True)
class Match:
    """Where a pattern was found."""

    offset: int
    """Where the match begins in all that the process has printed."""
    data: bytes
    """What matched, its first 4 KiB, without named secrets."""
    cursor: bytes
    """Where it ends: for a next ``Printed`` or view."""


@dataclass(frozen=True)
class Met:
    """A condition that holds: the first of those that were given."""

    condition: Condition
    index: int
    """Which one it was, from zero."""
    process: ProcessInfo
    match: Match | None
    """Where the pattern was found, if it is a ``Printed``."""


class NotMet(GuylineError):
    """None of the conditions holds, and the time is over; or nothing will be printed any more, and only that was waited
    for.

    Attributes:
        over: Which of the two.
        process: The process as it was then.
    """

    def __init__(self, process: ProcessInfo, over: WaitOver) -> None:
        why = "its output has ended" if over is WaitOver.OUTPUT_ENDED else "the time is over"
        super().__init__(
            f"what process {process.process_id} was to do has not happened: {why}",
            facts={"process_id": process.process_id, "over": over.label},
        )
        self.process = process
        self.over = over
