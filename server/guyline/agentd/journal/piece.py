"""What reading a journal gives."""

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from guyline.agentd.journal.runs import Run
from guyline.agentd.system.files import read_only

PIECE_BYTES = 128 * 1024
"""The most that one `Journal.read` returns."""


@dataclass(frozen=True)
class Piece:
    """A stretch of output, of one part that is kept."""

    offset: int
    """Where ``data`` begins."""

    data: bytes
    """Up to `PIECE_BYTES`; empty at the end of what there is."""

    runs: tuple[Run, ...] = ()
    """How ``data`` divides into streams, in order; empty where they are merged."""

    gap: tuple[int, int] | None = None
    """From and to where, right before ``data``, nothing is there any more, or ever was."""


@dataclass(frozen=True)
class Cold:
    """What was asked for has to come from the disk: run `warm` in a thread, then read again."""

    path: Path
    offset: int
    length: int

    def warm(self) -> None:
        """Brings it into memory; takes as long as the disk does. The only call here that is safe in any thread.

        It has a descriptor of its own and returns no bytes: whatever becomes of the journal meanwhile, the next
        read decides anew.
        """
        with suppress(OSError), read_only(self.path) as file:  # the next read meets the same and tells it
            os.pread(file, self.length, self.offset)
