"""A journal keeps what a process prints, as printed, at offsets that never change."""

import errno
import fcntl
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from guyline.agentd.journal.errors import OffsetOutOfRange
from guyline.agentd.journal.filepool import FilePool
from guyline.agentd.journal.journal import PIECE_BYTES, Journal, Piece, Support
from guyline.agentd.journal.note import HEAD_BYTES, JournalNote
from guyline.agentd.journal.runs import Run, Stream
from tests.agentd.journal.journal_parts import MIB, Outlet, Shelf, everything, noise, of_stream, pieces, read


@pytest.fixture
def outlet() -> Iterator[Outlet]:
    with Outlet() as outlet:
        yield outlet


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path)


@pytest.fixture
def journal(shelf: Shelf) -> Iterator[Journal]:
    journal = shelf.open()
    yield journal
    journal.close()


def fill(journal: Journal, outlet: Outlet, data: bytes) -> None:
    """Prints through the pipe and takes it, in pieces that the pipe holds."""
    for start in range(0, len(data), 64 * 1024):
        part = data[start : start + 64 * 1024]
        outlet.print(part)
        left = len(part)
        while left:
            left -= journal.take(outlet.reader, outlet.stream)


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
    on_disk = shelf.path.stat().st_blocks * 512
    assert on_disk <= journal.kept_bytes + 64 * 1024
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
    assert shelf.path.stat().st_blocks * 512 <= 64 * 1024


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
    assert shelf.path.stat().st_blocks * 512 <= 2 * MIB + HEAD_BYTES + 64 * 1024
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


def test_separate_streams_share_one_offset_and_are_told_apart(tmp_path: Path) -> None:
    """A client that resumes needs one number, and still gets stdout and stderr apart."""
    journal = Shelf(tmp_path, separate=True).open()
    with Outlet() as stdout, Outlet(Stream.STDERR) as stderr:
        fill(journal, stdout, b"one ")
        fill(journal, stderr, b"oh no ")
        fill(journal, stdout, b"two ")
        fill(journal, stdout, b"three")

    assert read(journal, 2).runs == (Run(Stream.STDOUT, 2), Run(Stream.STDERR, 6), Run(Stream.STDOUT, 9))
    assert of_stream(journal, Stream.STDERR) == b"oh no "
    journal.close()


def test_runs_survive_the_worker_and_a_torn_record(tmp_path: Path) -> None:
    """What a power cut or a full disk leaves of a record, and records of bytes that never came, change nothing."""
    shelf = Shelf(tmp_path, separate=True)
    with Outlet() as stdout, Outlet(Stream.STDERR) as stderr:
        first = shelf.open()
        fill(first, stdout, b"out")
        fill(first, stderr, b"err")
        first.close()
        records = shelf.path.with_name("journal.runs")
        records.write_bytes(records.read_bytes() + (1000 << 1).to_bytes(8, "little") + b"torn")

        second = shelf.open()
        fill(second, stderr, b" again")
        fill(second, stdout, b"!")

    assert of_stream(second, Stream.STDERR) == b"err again"
    assert of_stream(second, Stream.STDOUT) == b"out!"
    second.close()


def test_a_record_whose_bytes_never_came_does_not_claim_the_next(tmp_path: Path) -> None:
    """Killed between the record and the splice, the successor may first hear from the other pipe."""
    shelf = Shelf(tmp_path, separate=True)
    with Outlet() as stdout:
        first = shelf.open()
        fill(first, stdout, b"out")
        first._runs.mark(3, Stream.STDERR)  # type: ignore[union-attr]  # it has runs: it is separate
        first.close()

        second = shelf.open()
        fill(second, stdout, b" and out")
        second.close()

    third = shelf.open()
    assert read(third, 0) == Piece(0, b"out and out", (Run(Stream.STDOUT, 11),))
    third.close()


def test_the_record_of_runs_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that changes streams at every byte costs some of its oldest output, not memory and disk without end."""
    monkeypatch.setattr("guyline.agentd.journal.runs.MAX_RUNS", 2048)
    monkeypatch.setattr("guyline.agentd.journal.runs.HEAD_BYTES", 64)
    monkeypatch.setattr("guyline.agentd.journal.journal.HEAD_BYTES", 64)
    monkeypatch.setattr("guyline.agentd.journal.note.HEAD_BYTES", 64)
    shelf = Shelf(tmp_path, separate=True)
    journal = shelf.open()
    with Outlet() as stdout, Outlet(Stream.STDERR) as stderr:
        for _ in range(4096):
            fill(journal, stdout, b"o")
            fill(journal, stderr, b"e")

    assert shelf.path.with_name("journal.runs").stat().st_size <= 2048 * 8
    assert journal.size - journal.kept_from >= 1024
    assert set(of_stream(journal, Stream.STDERR)) == set(b"e")
    assert len(of_stream(journal, Stream.STDOUT)) == 32 + (journal.size - journal.kept_from) // 2
    journal.close()


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

    with pytest.raises(OSError, match="symbolic links"):
        journal.take(outlet.reader)
    assert elsewhere.read_bytes() == b""


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
    assert journal.read_blocking(0, 100) == Piece(0, noise(MIB)[:100])


def test_warming_what_is_gone_does_no_harm(journal: Journal, shelf: Shelf, outlet: Outlet) -> None:
    """The process may be removed while a thread is on its way to the disk."""
    fill(journal, outlet, noise(MIB))
    drop_from_memory(shelf.path)
    cold = journal.read(0)
    journal.remove()

    if not isinstance(cold, Piece):
        cold.warm()


class failing:  # noqa: N801 - reads as the function that it stands for
    """A call that fails, and counts how often."""

    def __init__(self, number: int) -> None:
        self.calls = 0
        self._number = number

    def __call__(self, *_args: object, **_named: object) -> int:
        self.calls += 1
        raise OSError(self._number, os.strerror(self._number))


def pipe_size(outlet: Outlet) -> int:
    return fcntl.fcntl(outlet.reader, fcntl.F_GETPIPE_SZ)


def descriptors() -> set[str]:
    return {path.name for path in Path("/proc/self/fd").iterdir()}


def drop_from_memory(path: Path) -> None:
    file = os.open(path, os.O_RDONLY)
    os.fsync(file)
    os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(file)
