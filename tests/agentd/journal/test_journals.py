"""All journals together: what they hold, what they leave, and what the file system lets them do."""

import errno
import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from guyline.agentd.journal import filepool
from guyline.agentd.journal.filepool import FilePool
from guyline.agentd.journal.journal import MAX_DESCRIPTORS, Journal
from guyline.agentd.journal.journals import MAX_OPEN_AT_REST, Journals
from guyline.agentd.journal.note import JournalNote
from guyline.agentd.journal.runs import Stream
from guyline.agentd.system import files
from tests.agentd.journal.journal_parts import MIB, Outlet, everything, noise, of_stream
from tests.support import proc


@pytest.fixture
def journals(tmp_path: Path) -> Iterator[Journals]:
    journals = Journals(tmp_path / "journals", quota_bytes=100_000, pooled_files=4)
    yield journals
    journals.close()


def no_note(_note: JournalNote) -> None:
    """Nothing is noted while nothing is lost."""
    raise AssertionError


def open_journal(journals: Journals, process_id: str, data: bytes = b"") -> Journal:
    """A journal with something on both streams, in this order: ``data``, then one byte of stderr."""
    journal = journals.open(process_id, bound=MIB, separate=True, started_at=time.time(), keep_note=no_note)
    with Outlet() as stdout, Outlet(Stream.STDERR) as stderr:
        for outlet, printed in ((stdout, data), (stderr, b"!")):
            if data:
                outlet.print(printed)
                journal.take(outlet.reader, outlet.stream)
    return journal


@contextmanager
def refusing_to_remove(monkeypatch: pytest.MonkeyPatch, names: set[Path]) -> Iterator[None]:
    """A disk that lets go none of these files, by fakes: for renames and removals it has to write."""

    def unless_refused(call: Callable[..., Path]) -> Callable[..., Path]:
        def refuse_or_call(path: Path, *args: Any, **named: Any) -> Path:
            if path in names:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return call(path, *args, **named)

        return refuse_or_call

    with monkeypatch.context() as patch:
        for name in ("unlink", "rename"):
            patch.setattr(Path, name, unless_refused(getattr(Path, name)))
        yield


def open_below(folder: Path, name: str = "") -> int:
    """How many files we have open of the journals in a folder, or of the one with this name."""
    found = (Path(path) for path in proc.descriptors(os.getpid()) if path.startswith(str(folder)))
    return sum(not name or path.stem == name for path in found)


def test_what_all_hold_is_counted_against_the_quota(journals: Journals) -> None:
    """The owner learns at once by how much to shrink, without looking at a thousand files."""
    open_journal(journals, "one", noise(60_000))
    assert journals.over_quota() == 0
    open_journal(journals, "two", noise(60_000))

    assert journals.kept_bytes == 2 * (60_000 + 1 + 8)
    assert journals.over_quota() == journals.kept_bytes - 100_000

    journals.remove("one")
    assert journals.kept_bytes == 60_009


def test_a_new_worker_counts_what_its_predecessor_left(tmp_path: Path, journals: Journals) -> None:
    """The quota holds over a crash, before anything is read or written."""
    open_journal(journals, "one", noise(60_000))
    journals.close()

    successor = Journals(tmp_path / "journals")
    journal = successor.open("one", bound=MIB, separate=True, started_at=time.time(), keep_note=no_note)

    assert successor.kept_bytes == 60_009
    assert everything(journal) == noise(60_000) + b"!"
    successor.close()


def test_names_on_disk_are_those_of_processes(journals: Journals) -> None:
    """What a lost agent left is found and removed, by the id that it belonged to; the pool is nobody's."""
    open_journal(journals, "one", b"text")
    open_journal(journals, "silent")
    journals.close()

    assert journals.names_on_disk() == {"one"}
    journals.remove("one")
    assert journals.names_on_disk() == set()


def test_of_complete_journals_only_the_last_used_are_open(tmp_path: Path, journals: Journals) -> None:
    """What has ended is read now and then, and there may be many more of them than descriptors."""
    most = MAX_OPEN_AT_REST * MAX_DESCRIPTORS
    growing = open_journal(journals, "growing", b"text")
    names = [str(number) for number in range(most + 10)]
    complete = [open_journal(journals, name, name.encode()) for name in names]
    assert open_below(tmp_path) >= 2 * len(names)

    for journal in complete:
        journal.complete()
    assert open_below(tmp_path) <= most + MAX_DESCRIPTORS

    for name, journal in [*zip(names, complete, strict=True), (names[0], complete[0])]:
        assert everything(journal) == name.encode() + b"!"
        assert of_stream(journal, Stream.STDERR) == b"!"
    assert open_below(tmp_path, "growing") > 0
    assert open_below(tmp_path, names[0]) > 0
    assert not open_below(tmp_path, names[1])
    assert everything(growing) == b"text!"


def test_a_journal_that_is_removed_leaves_its_place_among_the_open_ones(tmp_path: Path, journals: Journals) -> None:
    """Else the places would be taken by what is not there."""
    stay = [str(number) for number in range(MAX_OPEN_AT_REST)]
    for name in stay[1:]:
        open_journal(journals, name, b"text").complete()
        open_journal(journals, "leaves", b"text").complete()
        journals.remove("leaves")
    open_journal(journals, stay[0], b"text").complete()

    assert all(open_below(tmp_path, name) for name in stay)


def test_a_journal_is_removed_without_a_descriptor(journals: Journals, monkeypatch: pytest.MonkeyPatch) -> None:
    """Room is needed most when there is none left: a removal that fails then would end all forgetting."""
    open_journal(journals, "one", noise(60_000))

    def no_descriptor_left(_path: Path) -> int:
        raise OSError(errno.EMFILE, "too many open files")

    monkeypatch.setattr(filepool, "open_private", no_descriptor_left)
    journals.remove("one")

    assert journals.names_on_disk() == set()
    assert journals.kept_bytes == 0


def test_a_file_that_was_never_finished_is_removed_at_the_start(tmp_path: Path, journals: Journals) -> None:
    """A kill while a file was being replaced leaves a draft, which is worth nothing."""
    open_journal(journals, "one", b"text")
    (tmp_path / "journals" / "one.draft").write_bytes(b"half of it")

    Journals(tmp_path / "journals").close()

    assert not (tmp_path / "journals" / "one.draft").exists()
    assert journals.names_on_disk() == {"one"}


def test_a_file_that_cannot_be_removed_costs_only_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One bad block under what nobody needs any more must not keep a worker from its start, nor others' files there."""
    folder = tmp_path / "journals"
    (folder / "pool").mkdir(parents=True)
    for name in ("bad.draft", "good.draft", "pool/bad", "pool/good"):
        (folder / name).write_bytes(b"left")
    failing = {folder / name for name in ("bad.draft", "pool/bad")}

    with refusing_to_remove(monkeypatch, failing):
        Journals(folder, pooled_files=4).close()

    assert {path for path in folder.rglob("*") if path.is_file() and path.stat().st_size} == failing


def test_a_removal_that_the_disk_refuses_is_counted_and_tried_again(
    tmp_path: Path, journals: Journals, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else its bytes would count against the output of others, and its file stay, for as long as the worker lives."""
    for name in ("one", "two", "three"):
        open_journal(journals, name, noise(30_000))

    with refusing_to_remove(monkeypatch, {tmp_path / "journals" / name for name in ("one", "one.runs")}):
        journals.remove("one")
        journals.remove("two")
    assert journals.names_on_disk() == {"one", "three"}
    assert journals.kept_bytes == 30_000 + 1 + 8

    journals.remove("three")
    assert journals.names_on_disk() == set()
    assert journals.kept_bytes == 0


def test_what_the_disk_refused_to_remove_may_come_anew(
    tmp_path: Path, journals: Journals, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next attempt is not to take along what has the name by then."""
    journals.keep_secrets("one", {"TOKEN": b"old"})
    with refusing_to_remove(monkeypatch, {tmp_path / "journals" / "one.secrets"}):
        journals.remove("one")

    journals.keep_secrets("one", {"TOKEN": b"new"})
    journals.remove("another")

    assert journals.secrets("one") == {"TOKEN": b"new"}


def test_a_directory_among_the_files_is_left_alone(tmp_path: Path) -> None:
    """The volume may be one whose ``lost+found`` lies right here."""
    strange = [tmp_path / "journals" / name for name in ("lost+found", "one.draft", "pool/0", "pool/lost+found")]
    for directory in strange:
        directory.mkdir(parents=True)

    journals = Journals(tmp_path / "journals", pooled_files=4)

    assert everything(open_journal(journals, "one", b"text")) == b"text!"
    assert journals.names_on_disk() == {"one"}
    assert all(directory.is_dir() for directory in strange)
    journals.close()


def test_the_pool_is_bounded_and_its_files_are_empty(tmp_path: Path) -> None:
    """Recycling never hoards, and never hands on a byte."""
    journals = Journals(tmp_path / "journals", pooled_files=4)
    for number in range(10):
        open_journal(journals, str(number), b"secret")
    for number in range(10):
        journals.remove(str(number))

    files = list((tmp_path / "journals" / "pool").iterdir())
    assert [file.stat().st_size for file in files] == [0] * 4
    journals.close()


def test_a_file_in_the_pool_that_is_not_empty_is_not_used(tmp_path: Path) -> None:
    """Whatever put it there, its bytes would pass for a process's output."""
    pool = tmp_path / "journals" / "pool"
    pool.mkdir(parents=True)
    (pool / "7").write_bytes(b"foreign")

    journals = Journals(tmp_path / "journals", pooled_files=1)
    journal = open_journal(journals, "one", b"mine")

    assert everything(journal) == b"mine!"
    journals.close()


def test_a_pool_that_somebody_emptied_is_done_without(tmp_path: Path, journals: Journals) -> None:
    """A journal's first byte does not depend on a stock."""
    for path in (tmp_path / "journals" / "pool").iterdir():
        path.unlink()

    assert everything(open_journal(journals, "one", b"text")) == b"text!"


def test_a_file_that_finds_no_descriptor_leaves_nothing_in_the_way_of_the_next_attempt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With an empty stock it would have to be created where one is already, for as long as the worker lives."""
    pool = FilePool(tmp_path / "pool", capacity=1)
    pool.fill()
    (tmp_path / "file").write_bytes(b"old")

    with monkeypatch.context() as patch:
        refused = mock.Mock(side_effect=OSError(errno.EMFILE, os.strerror(errno.EMFILE)))
        patch.setattr(filepool, "open_private", refused)
        patch.setattr(filepool, "create_private", refused)
        for attempt in (pool.replacing(tmp_path / "file"), pool.replacing(tmp_path / "file")):
            with pytest.raises(OSError, match="Too many open files"), attempt:
                pass
        with pytest.raises(OSError, match="Too many open files"):
            pool.take(tmp_path / "new")
    names = {path.name for path in tmp_path.iterdir()}
    with pool.replacing(tmp_path / "file") as file:
        os.write(file, b"new")
    os.close(file)

    assert names == {"pool", "file"}
    assert (tmp_path / "file").read_bytes() == b"new"


def test_spare_files_that_cannot_be_opened_are_in_nobodys_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One bad file among the spare ones would otherwise cost the output of every process to come. It is a fake."""
    pool = FilePool(tmp_path / "pool", capacity=3)
    pool.fill()
    *good, bad = (tmp_path / "pool").iterdir()
    good[0].rename(tmp_path / "one less")
    really_open = files.open_private

    def open_unless_bad(path: Path) -> int:
        if path == bad:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return really_open(path)

    with monkeypatch.context() as patch:
        patch.setattr(filepool, "open_private", open_unless_bad)
        for name in "abc":
            os.close(pool.take(tmp_path / name))

    assert {path.name for path in tmp_path.iterdir()} == {"pool", "one less", *"abc"}
    assert not list((tmp_path / "pool").iterdir())


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM])
def test_want_of_descriptors_costs_no_spare_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """It passes, and nothing is wrong with the file."""
    pool = FilePool(tmp_path / "pool", capacity=2)
    pool.fill()
    before = {path.stat().st_ino for path in (tmp_path / "pool").iterdir()}

    with monkeypatch.context() as patch:
        patch.setattr(filepool, "open_private", mock.Mock(side_effect=OSError(number, os.strerror(number))))
        with pytest.raises(OSError, match=os.strerror(number)):
            pool.take(tmp_path / "file")
    for name in "ab":
        os.close(pool.take(tmp_path / name))

    assert {(tmp_path / name).stat().st_ino for name in "ab"} == before


def test_a_draft_that_could_not_be_removed_is_in_nobodys_way(tmp_path: Path) -> None:
    """As above; the disk refused to give it up after a replacement that failed."""
    pool = FilePool(tmp_path / "pool", capacity=0)
    (tmp_path / "file.draft").write_bytes(b"half of it")

    with pool.replacing(tmp_path / "file") as file:
        os.write(file, b"new")
    os.close(file)

    assert (tmp_path / "file").read_bytes() == b"new"


def test_the_folder_is_closed_to_others_even_if_it_was_open(tmp_path: Path) -> None:
    """Output may hold secrets."""
    folder = tmp_path / "journals"
    folder.mkdir(mode=0o755)

    Journals(folder).close()

    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_link_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    """Nobody makes the agent write elsewhere."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "journals").symlink_to("elsewhere")

    with pytest.raises(OSError, match=r"Not a directory|symbolic links"):
        Journals(tmp_path / "journals")


def test_features_say_what_works_here(journals: Journals) -> None:
    """GetInfo shows them; on the file systems that we test on both are there."""
    assert journals.features() == (("journal.splice", True, ""), ("journal.punch_hole", True, ""))


def test_a_feature_that_is_off_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody must be able to find out. `os.splice` fails by a fake, as it does in some sandboxes."""

    def unsupported(*_args: object, **_named: object) -> int:
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(os, "splice", unsupported)
    journals = Journals(tmp_path / "journals")

    splice = journals.features()[0]
    assert (splice.enabled, splice.reason.endswith("fails: Invalid argument")) == (False, True)
    assert everything(open_journal(journals, "one", b"and yet")) == b"and yet!"
    journals.close()


def test_secrets_lie_beside_a_journal_and_go_with_it(tmp_path: Path, journals: Journals) -> None:
    """They are kept before there is any output, found by the next worker, and taken for no journal."""
    values = {"TOKEN": b"any \xff\0 bytes\n", "OTHER": b"more"}
    journals.keep_secrets("one", values)
    journals.keep_secrets("never started", values)
    open_journal(journals, "one", noise(100))
    journals.close()

    successor = Journals(tmp_path / "journals")
    assert successor.names_on_disk() == {"one", "never started"}
    assert successor.secrets("one") == values
    assert stat.S_IMODE((tmp_path / "journals" / "one.secrets").stat().st_mode) == 0o600

    open_journal(successor, "one")
    successor.remove("one")
    successor.remove("never started")
    assert successor.names_on_disk() == set()
    assert successor.secrets("one") is None
    successor.close()
    pool = tmp_path / "journals" / "pool"
    assert not any(path.read_bytes() for path in pool.iterdir())


def test_secrets_that_find_no_room_leave_nothing(journals: Journals, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a value would let the other half be shown."""
    monkeypatch.setattr(os, "pwrite", lambda *_: 3)

    with pytest.raises(OSError, match="No space left"):
        journals.keep_secrets("one", {"TOKEN": b"value"})

    assert journals.names_on_disk() == set()
