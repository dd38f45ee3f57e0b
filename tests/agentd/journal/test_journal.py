"""A journal keeps what a process prints, as printed, at offsets that never change."""

import fcntl
import os
import stat
from pathlib import Path

import pytest

from guyline.agentd.journal.errors import OffsetOutOfRange
from guyline.agentd.journal.journal import Journal
from guyline.agentd.journal.piece import PIECE_BYTES, Piece
from guyline.agentd.journal.runs import Run, Stream
from tests.agentd.journal.journal_parts import MIB, Outlet, Shelf, everything, fill, noise, read


def test_what_was_printed_is_read_back_from_any_offset(journal: Journal, outlet: Outlet) -> None:
    """Binary output arrives as written, and a reader may begin in the middle."""
    data = bytes(range(256)) * 100
    outlet.print(data)

    taken = journal.take(outlet.reader)

    assert (taken, journal.size) == (len(data), len(data))
    assert read(journal, 12_345) == Piece(12_345, data[12_345:])


def test_an_empty_pipe_and_its_end_are_told_apart(journal: Journal, outlet: Outlet) -> None:
    """The caller stops watching a pipe at its end and at nothing else."""
    outlet.print(b"last words")
    journal.take(outlet.reader)

    with pytest.raises(BlockingIOError):
        journal.take(outlet.reader)
    outlet.end()
    assert journal.take(outlet.reader) == 0


@pytest.mark.parametrize("separate", [False, True])
def test_a_process_that_prints_nothing_has_no_file(shelf: Shelf, outlet: Outlet, separate: bool) -> None:
    """A thousand silent processes cost neither files nor descriptors."""
    shelf.separate = separate
    journal = shelf.open()

    with pytest.raises(BlockingIOError):
        journal.take(outlet.reader, Stream.STDERR)
    outlet.end()

    assert journal.take(outlet.reader, Stream.STDERR) == 0
    assert [path.name for path in shelf.folder.iterdir()] == ["pool"]
    assert read(journal, 0) == Piece(0, b"")


def test_a_take_moves_no_more_than_it_is_told(journal: Journal, outlet: Outlet) -> None:
    """One busy process must not keep the others waiting."""
    outlet.print(b"x" * 5000)

    assert journal.take(outlet.reader, at_most=1000) == 1000
    assert journal.size == 1000


def test_reading_beyond_the_end_is_an_error_that_names_both_offsets(journal: Journal, outlet: Outlet) -> None:
    """A cursor of some other process is found out, and not answered by silence."""
    fill(journal, outlet, b"four")

    assert read(journal, 4) == Piece(4, b"")
    with pytest.raises(OffsetOutOfRange) as error:
        journal.read(5)
    assert error.value.facts == {"offset": "5", "output_bytes": "4"}


def test_a_piece_is_never_larger_than_a_message_should_be(journal: Journal, outlet: Outlet) -> None:
    """Messages of 64 to 128 KiB are the fastest; a reader who asks for more gets more pieces."""
    fill(journal, outlet, noise(300_000))

    assert len(read(journal, 0, 10 * MIB).data) == PIECE_BYTES


def test_a_busy_pipe_is_enlarged_once(journal: Journal, outlet: Outlet) -> None:
    """Large pipes are scarce without root, so only those that were full get one."""
    fill(journal, outlet, b"quiet")
    quiet = pipe_size(outlet)
    fill(journal, outlet, noise(64 * 1024))

    assert (quiet, pipe_size(outlet)) == (64 * 1024, MIB)


def test_files_are_for_their_owner_only(shelf: Shelf, outlet: Outlet) -> None:
    """Output may hold secrets."""
    shelf.separate, outlet.stream = True, Stream.STDERR
    journal = shelf.open()
    fill(journal, outlet, b"secret")
    journal.close()

    modes = {stat.S_IMODE(path.stat().st_mode) for path in shelf.folder.glob("journal*")}
    assert modes == {0o600}


def test_a_link_in_place_of_the_file_is_not_followed(shelf: Shelf, journal: Journal, outlet: Outlet) -> None:
    """Nobody makes the agent write elsewhere."""
    elsewhere = shelf.folder / "elsewhere"
    elsewhere.touch()
    shelf.path.symlink_to(elsewhere)
    outlet.print(b"secret")

    taken = journal.take(outlet.reader)

    assert taken == len(b"secret"), "its process does not wait"
    assert journal.lost_between(0, taken) == taken
    assert journal.is_degraded
    assert elsewhere.read_bytes() == b""


def test_who_removes_the_directory_stops_no_process(shelf: Shelf, journal: Journal, outlet: Outlet) -> None:
    """A command that tidies up: until it is there again output is lost, and said to be."""
    away = shelf.folder.rename(shelf.folder.with_name("away"))
    outlet.print(b"lost")
    lost = journal.take(outlet.reader)
    away.rename(shelf.folder)
    outlet.print(b"kept")
    journal.take(outlet.reader)

    assert lost == len(b"lost")
    piece = journal.read(0)
    assert isinstance(piece, Piece)
    assert (piece.gap, piece.data) == ((0, 4), b"kept")


def test_a_closed_journal_holds_no_descriptor_and_opens_itself_again(shelf: Shelf, outlet: Outlet) -> None:
    """A thousand ended processes cost no descriptors, and can still be read."""
    shelf.separate, outlet.stream = True, Stream.STDERR
    before = descriptors()
    journal = shelf.open()
    fill(journal, outlet, b"text")
    assert len(descriptors()) == len(before) + 2

    journal.close()

    assert descriptors() == before
    assert read(journal, 0).runs == (Run(Stream.STDERR, 4),)
    fill(journal, outlet, b" and more")
    assert everything(journal) == b"text and more"
    journal.remove()
    assert descriptors() == before


def test_a_removed_journal_leaves_an_empty_file_to_the_next(shelf: Shelf, outlet: Outlet) -> None:
    """One process's output must never show up in another's."""
    shelf.separate, outlet.stream = True, Stream.STDERR
    first = shelf.open()
    fill(first, outlet, b"secret")

    first.remove()
    second = shelf.open()
    fill(second, outlet, b"x")

    assert shelf.kept_bytes == second.kept_bytes == 1 + 8
    assert everything(second) == b"x"
    second.close()


def test_cold_output_is_announced_and_can_be_warmed(journal: Journal, shelf: Shelf, outlet: Outlet) -> None:
    """The loop never waits for the disk: what is not in memory is fetched in a thread."""
    fill(journal, outlet, noise(MIB))
    drop_from_memory(shelf.path)

    cold_or_piece = journal.read(500_000)
    if isinstance(cold_or_piece, Piece):
        pytest.skip("this file system keeps everything in memory (tmpfs)")
    cold_or_piece.warm()

    assert read(journal, 500_000).data == noise(MIB)[500_000:][:PIECE_BYTES]


def test_warming_what_is_gone_does_no_harm(journal: Journal, shelf: Shelf, outlet: Outlet) -> None:
    """The process may be removed while a thread is on its way to the disk."""
    fill(journal, outlet, noise(MIB))
    drop_from_memory(shelf.path)
    cold = journal.read(0)
    journal.remove()

    if not isinstance(cold, Piece):
        cold.warm()


def pipe_size(outlet: Outlet) -> int:
    return fcntl.fcntl(outlet.reader, fcntl.F_GETPIPE_SZ)


def descriptors() -> set[str]:
    return {path.name for path in Path("/proc/self/fd").iterdir()}


def drop_from_memory(path: Path) -> None:
    file = os.open(path, os.O_RDONLY)
    os.fsync(file)
    os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(file)
