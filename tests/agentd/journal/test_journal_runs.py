"""Of two streams in one journal it stays known which printed what."""

import errno
import os
from pathlib import Path
from unittest import mock

import pytest

from guyline.agentd.journal.piece import Piece
from guyline.agentd.journal.runs import Run, Stream
from tests.agentd.journal.journal_parts import Outlet, Shelf, fill, of_stream, read


def few_runs_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """2048, and a head of 64 bytes."""
    monkeypatch.setattr("guyline.agentd.journal.runs.MAX_RUNS", 2048)
    for module in ("runs", "journal", "note"):
        monkeypatch.setattr(f"guyline.agentd.journal.{module}.HEAD_BYTES", 64)


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


def failing_reads(number: int) -> mock.Mock:
    """Stands for `os.pread`, by which records are read, and nothing else that is in memory."""
    return mock.Mock(side_effect=OSError(number, os.strerror(number)))


def test_records_that_cannot_be_read_now_are_read_the_next_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither is what they describe lost by then, nor is all of it from one stream."""
    shelf = Shelf(tmp_path, separate=True)
    journal = shelf.open()
    with Outlet() as stdout, Outlet(Stream.STDERR) as stderr:
        fill(journal, stdout, b"out ")
        fill(journal, stderr, b"err")
    right = read(journal, 0)
    journal.close()

    with monkeypatch.context() as patch:
        patch.setattr(os, "pread", failing_reads(errno.ENOMEM))
        with pytest.raises(OSError, match=os.strerror(errno.ENOMEM)):
            read(journal, 0)

    assert read(journal, 0) == right
    assert right.runs == (Run(Stream.STDOUT, 4), Run(Stream.STDERR, 3))
    assert not shelf.notes
    journal.close()


def test_output_whose_records_the_disk_cannot_read_is_read_without_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its bytes are fine, and of a process that has ended nobody would ever see them again. The disk may recover."""
    shelf = Shelf(tmp_path, separate=True)
    journal = shelf.open()
    with Outlet() as stdout, Outlet(Stream.STDERR) as stderr:
        fill(journal, stdout, b"out ")
        fill(journal, stderr, b"err")
    right = read(journal, 0)

    with monkeypatch.context() as patch:
        patch.setattr(os, "pread", failing_reads(errno.EIO))
        for _ in range(2):
            journal.close()
            assert read(journal, 0) == Piece(0, b"out err", (Run(Stream.STDOUT, 7),))
    journal.close()

    assert read(journal, 0) == right
    assert capsys.readouterr().out.count("which stream printed what cannot be read") == 1
    assert not shelf.notes
    journal.close()


def test_records_that_could_not_be_read_claim_nothing_that_comes_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody reads under the next worker, then the process prints on; by the third the disk is well again."""
    shelf = Shelf(tmp_path, separate=True)
    with Outlet() as stdout, Outlet(Stream.STDERR) as stderr:
        first = shelf.open()
        fill(first, stdout, b"out ")
        fill(first, stderr, b"err ")
        first.close()
        second = shelf.open()
        with monkeypatch.context() as patch:
            patch.setattr(os, "pread", failing_reads(errno.EIO))
            read(second, 0)
            fill(second, stdout, b"out ")
            fill(second, stderr, b"err")
        second.close()

    third = shelf.open()
    assert read(third, 0) == Piece(0, b"out err out err", (Run(Stream.STDOUT, 12), Run(Stream.STDERR, 3)))
    third.close()


def test_records_that_the_disk_lost_cost_no_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process goes on printing under the next worker: which stream was which before that is all that is lost."""
    shelf = Shelf(tmp_path, separate=True)
    with Outlet() as stdout, Outlet(Stream.STDERR) as stderr:
        first = shelf.open()
        fill(first, stderr, b"err ")
        fill(first, stdout, b"out ")
        first.close()
        second = shelf.open()
        with monkeypatch.context() as patch:
            patch.setattr(os, "pread", failing_reads(errno.EIO))
            fill(second, stderr, b"err")

    assert read(second, 0) == Piece(0, b"err out err", (Run(Stream.STDOUT, 8), Run(Stream.STDERR, 3)))
    assert not shelf.notes
    second.close()


def test_the_record_of_runs_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that changes streams at every byte costs some of its oldest output, not memory and disk without end."""
    few_runs_are_kept(monkeypatch)
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


def test_who_is_few_changes_behind_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """PAUSE keeps its reader that near: how often the streams change behind it has to be told right, trimmed or not."""
    few_runs_are_kept(monkeypatch)
    journal = Shelf(tmp_path, separate=True).open()
    seen = bytearray()
    with Outlet() as stdout, Outlet(Stream.STDERR) as stderr:
        for _ in range(4096):
            fill(journal, stdout, b"o")
            fill(journal, stderr, b"e")
            assert journal.changes_since(len(seen)) in (journal.size - len(seen), journal.size - len(seen) - 1)
            while journal.changes_since(len(seen)) > 512:
                piece = read(journal, len(seen), 200)
                assert not piece.gap
                seen += piece.data

    assert journal.kept_from > 64
    assert seen == b"oe" * (len(seen) // 2)
    journal.close()
