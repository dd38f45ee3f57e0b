"""A journal keeps the head and the newest part, within its bound."""

import os
from contextlib import suppress
from pathlib import Path

import pytest

from guyline.agentd.journal.journal import Journal
from guyline.agentd.journal.note import HEAD_BYTES, JournalNote
from guyline.agentd.journal.piece import Piece
from guyline.agentd.journal.support import Support
from tests.agentd.journal.journal_parts import MIB, Outlet, Shelf, everything, fill, noise, read


def room(path: Path) -> int:
    """The bytes that a file takes: all that are no hole. Its blocks would count what XFS reserves beyond its end."""
    taken = end = 0
    with path.open("rb") as file, suppress(OSError):  # ENXIO: no more data
        while True:
            start = os.lseek(file.fileno(), end, os.SEEK_DATA)
            end = os.lseek(file.fileno(), start, os.SEEK_HOLE)
            taken += end - start
    return taken


def test_a_journal_stays_within_its_bound_and_keeps_head_and_tail(journal: Journal, outlet: Outlet) -> None:
    """Endless output fills no disk; what is dropped is said, and what is left is where it always was."""
    data = noise(4 * MIB)
    fill(journal, outlet, data)

    head, tail = read(journal, 0), read(journal, HEAD_BYTES)

    assert head == Piece(0, data[:HEAD_BYTES])
    assert tail.gap == (HEAD_BYTES, journal.kept_from)
    assert everything(journal, HEAD_BYTES) == data[journal.kept_from :]
    assert MIB <= journal.size - journal.kept_from <= MIB * 9 // 8 + 64 * 1024


def test_what_is_given_up_takes_no_room_on_disk(shelf: Shelf, journal: Journal, outlet: Outlet) -> None:
    """The hole is real, and so is the count of what is kept."""
    fill(journal, outlet, noise(4 * MIB))

    os.sync()
    assert room(shelf.path) <= journal.kept_bytes + 64 * 1024
    assert shelf.path.stat().st_size == 4 * MIB
    assert journal.kept_bytes == shelf.kept_bytes


def test_the_note_is_kept_before_the_hole_is_punched(shelf: Shelf, outlet: Outlet) -> None:
    """A worker killed between the two leaves bytes that nobody asks for, never a hole that passes for bytes."""
    journal = shelf.open()
    fill(journal, outlet, noise(MIB))

    def refuse(_note: JournalNote) -> None:
        raise ConnectionError

    journal._keep_note = refuse
    with pytest.raises(ConnectionError):
        journal.shrink(0)

    assert everything(journal) == noise(MIB)
    journal.close()


def test_a_new_worker_punches_what_its_predecessor_only_noted(shelf: Shelf, outlet: Outlet) -> None:
    """The room is freed, even if the kill came between the note and the hole."""
    first = shelf.open()
    fill(first, outlet, noise(MIB))
    first.close()
    shelf.note = JournalNote(kept_from=MIB - 4096)

    second = shelf.open()
    assert everything(second, MIB - 4096) == noise(MIB)[-4096:]
    second.close()

    os.sync()
    assert room(shelf.path) <= 64 * 1024


def test_reading_leaves_it_as_old_as_it_was(shelf: Shelf, outlet: Outlet) -> None:
    """Its age says when something was printed last: for limits on silence, and for what is forgotten when."""
    journal = shelf.open()
    fill(journal, outlet, noise(4 * MIB))
    journal.close()
    os.utime(shelf.path, (1000.0, 1000.0))

    successor = shelf.open()
    everything(successor)

    assert successor.kept_from > HEAD_BYTES
    assert successor.written_at == 1000.0
    successor.close()


@pytest.mark.parametrize("to_bytes", [0, 1, 20_000, 500_000])
def test_shrinking_keeps_the_newest(shelf: Shelf, journal: Journal, outlet: Outlet, to_bytes: int) -> None:
    """The quota takes from the oldest, and leaves the head to show how it began."""
    data = noise(MIB)
    fill(journal, outlet, data)

    journal.shrink(to_bytes)

    assert journal.kept_bytes == shelf.kept_bytes <= max(to_bytes, HEAD_BYTES)
    assert to_bytes - journal.kept_bytes < 4096
    assert everything(journal) == data[:HEAD_BYTES] + data[journal.kept_from :]


def test_output_goes_on_after_everything_was_given_up(journal: Journal, outlet: Outlet) -> None:
    """A quota that took all of a running process's output does not take what comes."""
    fill(journal, outlet, noise(100_001))

    journal.shrink(0)
    fill(journal, outlet, b"and on")

    assert read(journal, 50_000) == Piece(100_001, b"and on", gap=(50_000, 100_001))


def test_without_holes_the_bound_holds_by_replacing_the_file(tmp_path: Path, outlet: Outlet) -> None:
    """On a file system that cannot punch, offsets and content are the same; only the bound is coarser."""
    shelf = Shelf(tmp_path, support=Support(no_punch_hole="not here"))
    journal = shelf.open()
    data = noise(4 * MIB)
    fill(journal, outlet, data)

    os.sync()
    assert everything(journal, HEAD_BYTES) == data[journal.kept_from :]
    assert room(shelf.path) <= 2 * MIB + HEAD_BYTES + 64 * 1024
    assert shelf.path.stat().st_size == 4 * MIB
    journal.close()


def test_without_splice_bytes_are_copied(tmp_path: Path, outlet: Outlet) -> None:
    """Sandboxes whose kernel cannot splice still have journals."""
    shelf = Shelf(tmp_path, support=Support(no_splice="not here"))
    journal = shelf.open()
    data = noise(300_000)

    fill(journal, outlet, data)
    outlet.end()

    assert journal.take(outlet.reader) == 0
    assert everything(journal) == data
    journal.close()
