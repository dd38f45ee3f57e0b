"""When output was printed: remembered to the second, bounded, and never at the price of a byte."""

import errno
import itertools
import os
import tempfile
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from guyline.agentd.journal import times
from guyline.agentd.journal.filepool import FilePool
from guyline.agentd.journal.record_file import RecordFile
from guyline.agentd.journal.times import Mark, TimeLog
from tests.agentd.journal.journal_parts import STARTED_AT, Outlet, Shelf, everything

SECOND = 1.0
FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def print_each_second(shelf: Shelf, outlet: Outlet, count: int) -> None:
    """Prints a byte now and after each second, with one journal."""
    journal = shelf.open()
    for _ in range(count):
        outlet.print(b"x")
        journal.take(outlet.reader)
        shelf.time += SECOND
    journal.close()


class TimesMachine(RuleBasedStateMachine):
    """Times beside their model: of each byte, when it was printed. The clock is the test's, and may go back."""

    @initialize()
    def begin(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "times"
        self.pool = FilePool(Path(self.folder.name) / "pool", capacity=2)
        self.now = self.latest = STARTED_AT
        self.printed: list[float] = []
        self.times = self.open()

    def open(self) -> TimeLog:
        opened = TimeLog(self.path, self.pool, started_at=STARTED_AT, clock=lambda: self.now)
        opened.load(len(self.printed))
        return opened

    def teardown(self) -> None:
        self.times.close()
        self.folder.cleanup()

    @rule(length=st.integers(1, 5))
    def print(self, length: int) -> None:
        self.times.mark(len(self.printed))
        self.latest = max(self.latest, self.now)
        self.printed += [self.latest] * length

    @rule(seconds=st.sampled_from([-5, -0.5, 0.25, 0.5, 1, 3.5]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(lost=st.integers(0, 3), torn=st.binary(max_size=15))
    def reopen_as_after_a_crash(self, lost: int, torn: bytes) -> None:
        """The last bytes may have stayed in the pipe, and the last record may be torn."""
        self.times.close()
        del self.printed[max(0, len(self.printed) - lost) :]
        self.latest = max([STARTED_AT, *self.printed])
        if self.path.exists():
            with self.path.open("ab") as file:
                file.write(torn)
        self.times = self.open()

    @rule(seconds=st.integers(0, 40))
    def ask_since(self, seconds: int) -> None:
        moment = STARTED_AT + seconds / 2
        offset = self.times.since(moment)
        missed = self.printed[: len(self.printed) if offset is None else offset]
        assert all(printed_at < moment for printed_at in missed), "what is later is never left out"
        if offset and offset < len(self.printed):
            assert self.printed[offset] > moment - SECOND

    @invariant()
    def times_are_true_to_the_second(self) -> None:
        if not self.printed:
            return
        marks = self.times.between(0, len(self.printed))
        for before, after in itertools.pairwise(marks):
            assert before.offset < after.offset
            assert before.printed_at + SECOND <= after.printed_at, "no more records than are of use"
        for mark, end in zip(marks, [*(mark.offset for mark in marks[1:]), len(self.printed)], strict=True):
            assert all(0 <= printed_at - mark.printed_at < SECOND for printed_at in self.printed[mark.offset : end])


def test_times_say_what_a_plain_model_says() -> None:
    """Output, pauses, clocks that jump and crashes in any order: each byte has its time, to the second."""
    run_state_machine_as_test(TimesMachine, settings=settings(max_examples=100, stateful_step_count=30, deadline=None))


def test_what_is_printed_within_a_second_costs_no_file(shelf: Shelf, outlet: Outlet) -> None:
    """Most commands are that short, and must not pay."""
    journal = shelf.open()
    outlet.print(b"hello")
    journal.take(outlet.reader)

    assert journal.times_between(0, 5) == (Mark(0, STARTED_AT),)
    assert sorted(path.name for path in shelf.folder.iterdir()) == ["journal", "pool"]
    journal.close()


def test_the_end_of_the_output_costs_no_file_either(shelf: Shelf, outlet: Outlet) -> None:
    """However long after the last byte it comes."""
    print_each_second(shelf, outlet, 1)
    outlet.end()
    journal = shelf.open()

    assert journal.take(outlet.reader) == 0
    assert not shelf.path.with_name("journal.times").exists()
    journal.close()


def test_a_journal_begins_where_a_time_says(shelf: Shelf, outlet: Outlet) -> None:
    """Behind the last output there is nothing, before the first there is everything; also for the next worker."""
    print_each_second(shelf, outlet, 10)
    journal = shelf.open()

    assert [journal.offset_since(STARTED_AT + seconds) for seconds in (-60, 0, 1, 5.5, 9, 10, 60)] == [
        0, 0, 1, 5, 9, 10, 10,
    ]  # fmt: skip
    journal.close()


def test_a_pause_is_not_dated_to_what_came_before_it(shelf: Shelf, outlet: Outlet) -> None:
    """Who asks for the last minute does not want the hour before."""
    print_each_second(shelf, outlet, 1)
    shelf.time += 3600
    print_each_second(shelf, outlet, 1)

    journal = shelf.open()
    assert journal.offset_since(STARTED_AT + 1800) == 1
    journal.close()


def test_output_is_kept_where_its_time_cannot_be(shelf: Shelf, outlet: Outlet) -> None:
    """On a full disk, times are coarser, and that is all."""
    journal = shelf.open()
    shelf.time += 10 * SECOND
    outlet.print(b"precious")
    with mock.patch.object(RecordFile, "append", side_effect=FULL):
        journal.take(outlet.reader)

    assert everything(journal) == b"precious"
    assert journal.times_between(0, 8) == (Mark(0, STARTED_AT),)
    assert shelf.notes == []
    journal.close()


def test_times_that_cannot_be_read_are_given_up(shelf: Shelf, outlet: Outlet) -> None:
    """A bad block under them must not keep a new worker from the output."""
    print_each_second(shelf, outlet, 3)
    journal = shelf.open()
    with mock.patch.object(RecordFile, "load", side_effect=OSError(errno.EIO, "")):
        assert everything(journal) == b"xxx"

    assert journal.times_between(0, 3) == (Mark(0, STARTED_AT),)
    journal.close()


def test_times_are_bounded_and_old_ones_become_coarser(
    shelf: Shelf, outlet: Outlet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that prints for a year must not fill memory; what is later than asked for still comes, all of it."""
    monkeypatch.setattr(times, "MAX_MARKS", 8)
    print_each_second(shelf, outlet, 100)
    journal = shelf.open()

    assert everything(journal) == b"x" * 100
    assert shelf.path.with_name("journal.times").stat().st_size <= 8 * 16
    assert [mark.offset for mark in journal.times_between(0, 100)][-4:] == [96, 97, 98, 99]
    assert all(journal.offset_since(STARTED_AT + second) <= second for second in range(100))
    assert journal.offset_since(STARTED_AT + 97) == 97
    journal.close()


def test_nothing_more_is_marked_while_there_is_no_room_to_merge(
    shelf: Shelf, outlet: Outlet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bound holds on a full disk as well."""
    monkeypatch.setattr(times, "MAX_MARKS", 8)
    with mock.patch.object(FilePool, "replacing", side_effect=FULL):
        print_each_second(shelf, outlet, 50)

    assert shelf.path.with_name("journal.times").stat().st_size == 8 * 16
    journal = shelf.open()
    assert everything(journal) == b"x" * 50
    journal.close()


def test_times_go_with_the_output_that_they_date(shelf: Shelf, outlet: Outlet, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is given up needs no time; the head and what is left keep theirs."""
    monkeypatch.setattr(times, "_WORTH_REWRITING", 1)
    journal = shelf.open()
    for _ in range(20):
        outlet.print(b"x" * 4096)
        journal.take(outlet.reader)
        shelf.time += SECOND
    before = shelf.kept_bytes

    journal.shrink(8 * 4096)

    kept_from = journal.kept_from
    assert before - shelf.kept_bytes > 12 * 4096, "the records are gone as well, and counted"
    assert journal.times_between(kept_from, kept_from + 1) == (Mark(kept_from, STARTED_AT + kept_from / 4096),)
    assert journal.times_between(4096, 8192) == (Mark(4096, STARTED_AT + 1),)
    journal.close()


def test_times_are_removed_with_their_journal(shelf: Shelf, outlet: Outlet) -> None:
    """Nothing is left on disk, and nothing is counted."""
    print_each_second(shelf, outlet, 3)
    journal = shelf.open()
    assert shelf.kept_bytes == 3 + 2 * 16

    journal.remove()

    assert shelf.kept_bytes == 0
    assert [path.name for path in shelf.folder.iterdir()] == ["pool"]
