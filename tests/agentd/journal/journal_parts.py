"""What the tests of journals share: a pipe with a process's output in it, and a journal that can be reopened."""

import json
import os
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from guyline.agentd.journal.filepool import FilePool
from guyline.agentd.journal.journal import Journal
from guyline.agentd.journal.note import NOTHING_LOST, JournalNote
from guyline.agentd.journal.piece import Cold, Piece
from guyline.agentd.journal.runs import Stream
from guyline.agentd.journal.support import Support

MIB = 1024 * 1024
EVERYTHING = Support()
STARTED_AT = 1_800_000_000.0
"""When the process of a journal was started, in seconds since the epoch."""


class Outlet:
    """A pipe as a process would print to; the read end does not block."""

    def __init__(self, stream: Stream = Stream.STDOUT) -> None:
        self.stream = stream
        self.reader, self._writer = os.pipe()
        os.set_blocking(self.reader, False)

    def print(self, data: bytes) -> None:
        assert os.write(self._writer, data) == len(data)

    def end(self) -> None:
        os.close(self._writer)
        self._writer = -1

    def close(self) -> None:
        os.close(self.reader)
        if self._writer >= 0:
            self.end()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


@dataclass
class Shelf:
    """A place for one journal, and the keeper's part: the last note."""

    folder: Path
    bound: int = MIB
    separate: bool = False
    support: Support = EVERYTHING
    note: JournalNote = NOTHING_LOST
    kept_bytes: int = 0
    now: float = 0.0
    time: float = STARTED_AT
    notes: list[JournalNote] = field(default_factory=list)

    @property
    def path(self) -> Path:
        return self.folder / "journal"

    def open(self) -> Journal:
        """A journal as a new worker opens it: from the file and from the note as it comes over the wire."""
        self.kept_bytes = 0
        pool = FilePool(self.folder / "pool", capacity=2)
        pool.fill()
        return Journal(
            path=self.path,
            pool=pool,
            bound=self.bound,
            separate=self.separate,
            started_at=STARTED_AT,
            note=JournalNote.from_json(json.loads(json.dumps(self.note.to_json()))),
            keep_note=self._keep,
            kept_changed=self._kept_changed,
            support=self.support,
            clock=self._clock,
            wall_clock=lambda: self.time,
        )

    def _keep(self, note: JournalNote) -> None:
        self.note = note
        self.notes.append(note)

    def _kept_changed(self, change: int) -> None:
        self.kept_bytes += change

    def _clock(self) -> float:
        """Long enough between two calls for anything to be tried again."""
        self.now += 1
        return self.now


def noise(length: int, seed: int = 0) -> bytes:
    """Any bytes, the same for the same seed."""
    return random.Random(seed).randbytes(length)


def read(journal: Journal, offset: int, at_most: int = MIB) -> Piece:
    """Reads as a worker does: without waiting, and warming what is cold."""
    while isinstance(piece := journal.read(offset, at_most), Cold):
        piece.warm()
    return piece


def pieces(journal: Journal, offset: int = 0) -> Iterator[Piece]:
    """All that there is from an offset on."""
    while True:
        piece = read(journal, offset)
        if piece.data or piece.gap:
            yield piece
        if not piece.data:
            return
        offset = piece.offset + len(piece.data)


def everything(journal: Journal, offset: int = 0) -> bytes:
    """All that is kept from an offset on, gaps left out."""
    return b"".join(piece.data for piece in pieces(journal, offset))


def of_stream(journal: Journal, stream: Stream) -> bytes:
    """All that is kept of one stream."""
    found = bytearray()
    for piece in pieces(journal):
        offset = 0
        for run in piece.runs:
            if run.stream is stream:
                found += piece.data[offset : offset + run.length_bytes]
            offset += run.length_bytes
        assert offset == len(piece.data), "the runs cover the data"
    return bytes(found)


def fill(journal: Journal, outlet: Outlet, data: bytes) -> None:
    """Prints through the pipe and takes it, in pieces that the pipe holds."""
    for start in range(0, len(data), 64 * 1024):
        part = data[start : start + 64 * 1024]
        outlet.print(part)
        left = len(part)
        while left:
            left -= journal.take(outlet.reader, outlet.stream)
