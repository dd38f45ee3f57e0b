"""What a disk does not take is a gap; the process goes on."""

import errno
import os
from pathlib import Path

import pytest

from guyline.agentd.journal.filepool import FilePool
from guyline.agentd.journal.note import JournalNote
from guyline.agentd.journal.piece import Piece
from guyline.agentd.journal.runs import Run, Stream
from tests.agentd.journal.journal_parts import STARTED_AT, Outlet, Shelf, everything, fill, noise, pieces, read


def test_a_disk_that_fails_drops_bytes_and_says_so(
    shelf: Shelf, outlet: Outlet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process goes on; its reader learns what is missing, and all that came before and after is exact.

    `os.splice` fails by a fake, for one call.
    """
    journal = shelf.open()
    fill(journal, outlet, b"before ")

    with monkeypatch.context() as patch:
        patch.setattr(os, "splice", failing(errno.EIO))
        outlet.print(b"lost ")
        assert journal.take(outlet.reader) == 5
    fill(journal, outlet, b"after")

    assert list(pieces(journal)) == [Piece(0, b"before "), Piece(12, b"after", gap=(7, 12))]
    assert journal.is_degraded
    assert journal.kept_bytes == shelf.kept_bytes == 12
    journal.close()


def test_a_failing_disk_is_not_asked_for_every_take(
    shelf: Shelf, outlet: Outlet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each attempt may cost milliseconds, and the loop serves all processes."""
    journal = shelf.open()
    journal._clock = lambda: 1.0
    monkeypatch.setattr(os, "splice", splice := failing(errno.ENOSPC))

    for _ in range(10):
        fill(journal, outlet, b"lost")

    assert splice.calls == 1
    assert journal.size == 40
    journal.close()


def test_the_loss_is_noted_before_the_bytes_are_dropped(
    shelf: Shelf, outlet: Outlet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker killed between the two has lost nothing; its successor takes the bytes behind the gap."""
    journal = shelf.open()
    monkeypatch.setattr(os, "splice", failing(errno.ENOSPC))
    outlet.print(b"lost")

    def note_and_die(note: JournalNote) -> None:
        shelf.note = note
        raise ConnectionError

    journal._keep_note = note_and_die
    with pytest.raises(ConnectionError):
        journal.take(outlet.reader)
    monkeypatch.undo()
    journal.close()

    successor = shelf.open()
    successor.take(outlet.reader)
    assert read(successor, 0) == Piece(4, b"lost", gap=(0, 4))
    successor.close()


def test_a_process_whose_file_cannot_even_be_made_goes_on(
    shelf: Shelf, outlet: Outlet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a file there are still offsets: the note alone tells the next worker how much was lost.

    `FilePool.take` fails by a fake.
    """
    journal = shelf.open()
    monkeypatch.setattr(FilePool, "take", failing(errno.ENOSPC))

    fill(journal, outlet, noise(100_000))

    successor = shelf.open()
    assert successor.size == journal.size == 100_000
    assert read(successor, 1) == Piece(100_000, b"", gap=(1, 100_000))


def test_gaps_that_never_end_are_told_as_fewer(shelf: Shelf, outlet: Outlet, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that is full every other moment makes no note that grows for ever."""
    journal = shelf.open()
    for number in range(200):
        fill(journal, outlet, b"stored")
        with monkeypatch.context() as patch:
            patch.setattr(os, "splice", failing(errno.ENOSPC))
            fill(journal, outlet, b"lost!")
        assert journal.size == (number + 1) * 11

    assert len(shelf.note.gaps) == 64
    assert everything(journal) == b"stored" * 64
    journal.close()


def test_what_somebody_cut_off_is_a_gap_and_not_a_wait(shelf: Shelf, outlet: Outlet) -> None:
    """A file that is shorter than it was does not leave its readers waiting for bytes that never come."""
    journal = shelf.open()
    fill(journal, outlet, noise(10_000))
    os.truncate(shelf.path, 4_000)

    assert list(pieces(journal)) == [Piece(0, noise(10_000)[:4_000]), Piece(10_000, b"", gap=(4_000, 10_000))]
    assert journal.kept_bytes == shelf.kept_bytes == 4_000
    journal.close()


def test_a_file_that_is_gone_at_a_start_is_a_gap(shelf: Shelf, outlet: Outlet) -> None:
    """After a power cut the note may be newer than the file."""
    shelf.note = JournalNote(kept_from=50_000)

    journal = shelf.open()
    fill(journal, outlet, b"on")

    assert read(journal, 0) == Piece(50_000, b"on", gap=(0, 50_000))
    journal.close()


def test_what_was_printed_is_readable_on_a_file_system_that_turned_read_only(
    shelf: Shelf, outlet: Outlet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As ext4 does at an error: nothing can be stored or removed, and all that is there is intact. It is a fake."""
    shelf.separate = True
    journal = shelf.open()
    outlet.stream = Stream.STDERR
    fill(journal, outlet, b"err")
    journal.close()
    really_open = os.open

    def open_unless_to_write(path: Path, flags: int, mode: int = 0o777) -> int:
        if flags & os.O_RDWR and Path(path).exists():
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return really_open(path, flags, mode)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", open_unless_to_write)
        read_only = list(pieces(journal))
        since = journal.offset_since(STARTED_AT)
    fill(journal, outlet, b" again")

    assert (read_only, since) == ([Piece(0, b"err", (Run(Stream.STDERR, 3),))], 0)
    assert everything(journal) == b"err again"
    assert not shelf.notes
    journal.close()


class failing:  # noqa: N801 - reads as the function that it stands for
    """A call that fails, and counts how often."""

    def __init__(self, number: int) -> None:
        self.calls = 0
        self._number = number

    def __call__(self, *_args: object, **_named: object) -> int:
        self.calls += 1
        raise OSError(self._number, os.strerror(self._number))
