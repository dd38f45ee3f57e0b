"""What the file system may not let a journal do."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Support:
    """Why this directory cannot do what a journal would like to use; empty where it can."""

    no_splice: str = ""
    """Bytes are then read and written, and up to 64 KiB are lost if the worker is killed between the two."""

    no_punch_hole: str = ""
    """The file is then replaced by a copy of what is kept, each time it holds twice its bound."""
