"""Whatever happens to a journal, in whatever order, it says what a plain model says."""

import errno
import itertools
import os
import tempfile
from pathlib import Path
from typing import ClassVar
from unittest import mock

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from guyline.agentd.journal.note import HEAD_BYTES
from guyline.agentd.journal.runs import Run, Stream
from guyline.agentd.journal.support import Support
from tests.agentd.journal.journal_parts import Outlet, Shelf, noise, read

BOUND = 32 * 1024
STREAMS = st.sampled_from(Stream)


class JournalMachine(RuleBasedStateMachine):
    """A journal beside its model: all that was printed, byte by byte with its stream, and which of it was lost."""

    support: ClassVar[Support] = Support()
    separate: ClassVar[bool] = True

    @initialize()
    def begin(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.shelf = Shelf(Path(self.folder.name), bound=BOUND, separate=self.separate, support=self.support)
        self.journal = self.shelf.open()
        self.outlets = {stream: Outlet(stream) for stream in Stream}
        self.waiting = dict.fromkeys(Stream, b"")
        self.printed = bytearray()
        self.origin = bytearray()  # of each byte: its stream
        self.lost = bytearray()  # of each byte: whether it is
        self.disk_is_full = False

    def teardown(self) -> None:
        offset = 0
        while offset < self.journal.size:
            offset = self.check_piece(offset, 50_000)
        self.journal.close()
        for outlet in self.outlets.values():
            outlet.close()
        self.folder.cleanup()

    @rule(stream=STREAMS, length=st.integers(1, 40) | st.integers(4_000, 40_000), seed=st.integers(0, 255))
    def print(self, stream: Stream, length: int, seed: int) -> None:
        if len(self.waiting[stream]) > 4096:
            return  # what else waits must not fill the pipe, in which a few bytes can take a page
        data = noise(length, seed)
        self.outlets[stream].print(data)
        self.waiting[stream] += data

    @rule(pieces=st.lists(st.tuples(STREAMS, st.integers(1, 9) | st.integers(10_000, 30_000)), min_size=5, max_size=30))
    def print_and_take(self, pieces: list[tuple[Stream, int]]) -> None:
        for number, (stream, length) in enumerate(pieces):
            self.print(stream, length, number)
            self.take(stream, 1 << 20)

    @rule(stream=STREAMS, at_most=st.just(1 << 20) | st.integers(1, 5_000))
    def take(self, stream: Stream, at_most: int) -> None:
        pipe = self.outlets[stream].reader
        if not self.waiting[stream]:
            with pytest.raises(BlockingIOError):
                self.journal.take(pipe, stream)
            return
        taken = self.take_now(pipe, stream, at_most)
        assert 0 < taken <= at_most
        self.printed += self.waiting[stream][:taken]
        self.waiting[stream] = self.waiting[stream][taken:]
        self.origin += bytes([stream is Stream.STDERR]) * taken
        self.lost += bytes([self.disk_is_full]) * taken
        assert self.kept_behind_the_head() >= min(BOUND, self.kept_before) or self.disk_is_full

    def take_now(self, pipe: int, stream: Stream, at_most: int) -> int:
        self.kept_before = self.kept_behind_the_head()
        if not self.disk_is_full:
            return self.journal.take(pipe, stream, at_most=at_most)
        full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        with mock.patch.object(self.journal, "_move", side_effect=full):
            return self.journal.take(pipe, stream, at_most=at_most)

    @rule(full=st.booleans())
    def fill_or_clear_disk(self, full: bool) -> None:
        self.disk_is_full = full

    @rule()
    def reopen_as_after_a_crash(self) -> None:
        self.journal.close()
        self.journal = self.shelf.open()

    @rule()
    def wait_a_second(self) -> None:
        self.shelf.time += 1

    @rule()
    def close(self) -> None:
        self.journal.close()

    @rule(to_bytes=st.integers(0, 2 * BOUND))
    def shrink(self, to_bytes: int) -> None:
        kept_from = self.journal.kept_from
        self.journal.shrink(to_bytes)
        if self.kept_behind_the_head() and self.journal.kept_from > kept_from:
            assert self.kept_in_model() <= to_bytes

    @rule(where=st.floats(0, 1), at_most=st.integers(1, 200_000))
    def read_anywhere(self, where: float, at_most: int) -> None:
        self.check_piece(int(where * self.journal.size), at_most)

    @precondition(lambda self: self.journal.size > 0)
    @rule(near=st.integers(-3, 3))
    def read_around_the_edge_of_what_is_kept(self, near: int) -> None:
        self.check_piece(min(max(self.journal.kept_from + near, 0), self.journal.size), 10)

    def check_piece(self, offset: int, at_most: int) -> int:
        """Reads and compares; returns where the piece ends."""
        piece = read(self.journal, offset, at_most)
        lost = self.lost_in_model()
        start = lost.find(0, offset) if 0 in lost[offset:] else len(self.printed)
        end = start + len(piece.data)

        assert piece.offset == start
        assert end <= len(self.printed)
        assert piece.gap == ((offset, start) if start > offset else None)
        assert piece.data == self.printed[start:end]
        assert len(piece.data) <= at_most
        assert piece.data or start == len(self.printed)
        assert not any(lost[start:end])
        if self.separate:
            groups = itertools.groupby(self.origin[start:end])
            assert piece.runs == tuple(Run(list(Stream)[which], len(list(group))) for which, group in groups)
        return end

    def lost_in_model(self) -> bytearray:
        """Of each byte that was printed: whether a reader may not get it."""
        lost = self.lost.copy()
        given_up = max(self.journal.kept_from - HEAD_BYTES, 0)
        lost[HEAD_BYTES : HEAD_BYTES + given_up] = b"\1" * given_up
        return lost

    def kept_in_model(self) -> int:
        return self.lost_in_model().count(0)

    def kept_behind_the_head(self) -> int:
        return self.lost[max(self.journal.kept_from, HEAD_BYTES) :].count(0)

    @invariant()
    def every_byte_is_counted(self) -> None:
        records = sum(path.stat().st_size for path in self.shelf.folder.glob("journal.*"))
        assert self.journal.size == len(self.printed)
        assert self.journal.kept_bytes == self.shelf.kept_bytes == self.kept_in_model() + records

    @invariant()
    def the_bound_holds(self) -> None:
        step = BOUND if self.support.no_punch_hole else BOUND // 8
        assert self.kept_behind_the_head() <= BOUND + step + HEAD_BYTES


class MergedJournalMachine(JournalMachine):
    separate = False


class PlainJournalMachine(JournalMachine):
    """Where the kernel offers neither splice nor holes."""

    support = Support(no_splice="not here", no_punch_hole="not here")


SETTINGS = settings(max_examples=100, stateful_step_count=25, deadline=None)


@pytest.mark.parametrize("machine", [JournalMachine, MergedJournalMachine, PlainJournalMachine])
def test_a_journal_says_what_a_plain_model_says(machine: type[JournalMachine], monkeypatch: pytest.MonkeyPatch) -> None:
    """Takes, losses, shrinking, crashes and reads in any order: each read byte is the printed one, each gap is real."""
    for module in ("runs", "times"):
        monkeypatch.setattr(f"guyline.agentd.journal.{module}._WORTH_REWRITING", 4)

    run_state_machine_as_test(machine, settings=SETTINGS)
