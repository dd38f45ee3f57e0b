"""Output as a person or a model wants to see it."""

from dataclasses import dataclass

from guyline.client.values import ProcessInfo


@dataclass(frozen=True)
class Omission:
    """The middle of a stretch of output, which a view does not show. ``output(from_offset=...)`` reads it."""

    from_offset: int
    to_offset: int
    lost_bytes: int
    """How many of its bytes are no longer kept."""


@dataclass(frozen=True)
class View:
    """A stretch of output made fit to be shown: its beginning, a note of what is left out, its end."""

    process: ProcessInfo
    """The process as it was when the view was made: if it has ended, the view is of all its output."""
    data: bytes
    """The whole view. Characters in UTF-8 are never cut in two."""
    from_offset: int
    """Where the stretch begins in all that the process has printed."""
    to_offset: int
    """Where it ends."""
    omission: Omission | None
    """What was left out between beginning and end."""
    cut_lines: int
    """How many lines were cut for their length."""
    cut_bytes: int
    """How many bytes these are short of."""
    redactions: int
    """How often a secret's value was replaced."""
    cursor: bytes
    """Where the view ends: give it to the next one to see what is new."""

    @property
    def text(self) -> str:
        """The view as text; what is no UTF-8 is replaced."""
        return self.data.decode(errors="replace")

    def __str__(self) -> str:
        return self.text
