"""What is left of a journal that was given up: how long it was."""

from pathlib import Path

from guyline.agentd.journal.errors import OffsetOutOfRange
from guyline.agentd.journal.piece import PIECE_BYTES, Piece
from guyline.agentd.journal.times import Mark


class GoneJournal:
    """Reads as one gap. The process has ended, so it never grows."""

    kept_bytes = 0
    is_degraded = False
    written_at = 0.0

    def __init__(self, process_id: str, size: int) -> None:
        self.path = Path(process_id)
        self.size = size

    @property
    def kept_from(self) -> int:
        return self.size

    def read(self, offset: int, _at_most: int = PIECE_BYTES) -> Piece:
        if offset > self.size:
            raise OffsetOutOfRange(offset, self.size)
        return Piece(self.size, b"", gap=(offset, self.size) if offset < self.size else None)

    def lost_between(self, start: int, end: int) -> int:
        return end - start  # both lie within what was printed

    def offset_since(self, _moment: float) -> int:
        return 0  # nobody knows when any of it was printed, so all of it is announced as gone

    def times_between(self, _start: int, _end: int) -> tuple[Mark, ...]:
        return ()

    def close(self) -> None:
        """There is nothing to close."""
