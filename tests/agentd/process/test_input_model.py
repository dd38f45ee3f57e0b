"""Input under any loss: whatever is repeated, divided, cut short or handed to the next worker, it is read once."""

import asyncio
import errno
import fcntl
import os
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guyline.agentd.process.errors import InputClosed, InputFull, InputOffsetOutOfRange, SystemExhausted
from guyline.agentd.process.streams import input as inputs
from guyline.agentd.process.streams import input_room
from guyline.agentd.process.streams.input import Input, InputDescriptors, InputMode
from guyline.agentd.process.streams.input_room import InputNotFreed, InputRoom
from tests.support.clock import until

BOUND = 64 * 1024
GIVEN = random.Random(1).randbytes(512 * 1024)
"""What a writer has to write: half a MiB, eight times what may wait."""


class Side:
    """A process that reads, and the agent's side of its input, over any number of workers."""

    def __init__(self, room: InputRoom) -> None:
        self.reader, sink = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._kept = InputDescriptors(
            file=os.memfd_create("test", os.MFD_ALLOW_SEALING), sink=sink
        )  # as the keeper does
        self.ends_at: int | None = None
        self.read = b""
        self.has_ended = False
        self.room = room
        self.input = self._taken_up()

    def _taken_up(self) -> Input:
        descriptors = InputDescriptors(file=os.dup(self._kept.file), sink=os.dup(self._kept.sink))
        return Input(
            descriptors,
            mode=InputMode.PIPE,
            ends_at=self.ends_at,
            bound=BOUND,
            room=self.room,
            ending=self._ending,
            closed=lambda _accepted, _passed: os.close(self._kept.sink),
        )

    def _ending(self, offset: int) -> None:
        self.ends_at = offset

    def worker_dies(self) -> None:
        """Whatever the worker knew is gone; the keeper's descriptors and the note are not."""
        if self.input.is_open or self.input.passed_bytes < self.input.next_offset:
            self.input.close()
            self.room = InputRoom(4 * BOUND)
            self.input = self._taken_up()
            self.input.resume()

    def reads(self, at_most: int) -> None:
        with suppress(BlockingIOError):
            data = os.read(self.reader, at_most)
            self.read += data
            self.has_ended = not data

    def has_no_more_memory(self) -> None:
        """As if the machine had none: the file cannot grow."""
        fcntl.fcntl(self._kept.file, fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW)

    def close(self) -> None:
        self.input.discard()
        os.close(self.reader)
        os.close(self._kept.file)


@contextmanager
def side(room: InputRoom | None = None) -> Iterator[Side]:
    both = Side(room or InputRoom(4 * BOUND))
    try:
        yield both
    finally:
        both.close()


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.integers(0, 3 * BOUND), st.integers(0, 1000)),  # how much; how far back to begin
        st.tuples(st.just("read"), st.integers(1, 2 * BOUND), st.just(0)),
        st.tuples(st.just("die"), st.just(0), st.just(0)),
    ),
    max_size=60,
)


@given(steps=STEPS)
def test_a_reader_gets_what_was_written_once_and_in_order(steps: list[tuple[str, int, int]]) -> None:
    """The writer knows only the last answer that reached it, and may begin anywhere before it."""

    async def story() -> None:
        with side() as both:
            answered = 0
            for kind, amount, back in steps:
                if kind == "write":
                    offset = max(0, answered - back)
                    data = GIVEN[offset : offset + amount]
                    with suppress(InputFull):
                        answered = await both.input.write(data, offset=offset, eof=False, at_most=0)
                elif kind == "read":
                    both.reads(amount)
                else:
                    both.worker_dies()
                await asyncio.sleep(0)
                assert both.input.next_offset - both.input.passed_bytes <= BOUND
                assert both.room.used_bytes == both.input.next_offset - both.input.passed_bytes
                assert answered <= both.input.next_offset
            await finish(both)

    asyncio.run(story())


async def finish(both: Side) -> None:
    """Whatever happened: the writer asks where to go on, and says all of the rest."""
    while both.ends_at is None:
        offset = both.input.next_offset
        with suppress(InputFull):
            await both.input.write(GIVEN[offset:], offset=offset, eof=True, at_most=0)
        both.reads(BOUND)
    async with asyncio.timeout(10):
        while not both.has_ended:
            both.reads(BOUND)
            await asyncio.sleep(0)
    assert both.read == GIVEN


@given(offset=st.integers(1, 100), data=st.binary(max_size=10))
def test_nothing_is_accepted_behind_a_hole(offset: int, data: bytes) -> None:
    """Or the process would read what nobody wrote."""

    async def story() -> None:
        with side() as both:
            with pytest.raises(InputOffsetOutOfRange) as refused:
                await both.input.write(data, offset=offset, eof=True, at_most=0)
            assert refused.value.facts["next_offset"] == "0"
            assert both.input.is_open

    asyncio.run(story())


@asynccontextmanager
async def full() -> AsyncIterator[Side]:
    """A side on which no byte more is taken."""
    with side() as both:
        await both.input.write(bytes(4 * BOUND), offset=0, eof=False, at_most=0)
        yield both


async def test_whoever_waits_goes_on_as_the_process_reads() -> None:
    """Without being asked, and without a tick of any clock."""
    async with full() as both:
        accepted = both.input.next_offset
        waiting = asyncio.ensure_future(both.input.write(b"x" * 10, offset=accepted, eof=False, at_most=None))
        await asyncio.sleep(0)
        assert not waiting.done()
        both.reads(4 * BOUND)
        assert await waiting == accepted + 10


async def test_a_writer_that_is_cancelled_leaves_the_way_free() -> None:
    """And what was accepted of it stays."""
    async with full() as both:
        accepted = both.input.next_offset
        waiting = asyncio.ensure_future(both.input.write(bytes(8 * BOUND), offset=accepted, eof=True, at_most=None))
        await asyncio.sleep(0)
        both.reads(4 * BOUND)
        await until(lambda: both.input.next_offset > accepted)
        waiting.cancel()
        await asyncio.wait([waiting])

        assert both.input.is_open
        with pytest.raises(InputFull):
            await both.input.write(b"y", offset=both.input.next_offset, eof=False, at_most=0)


async def test_the_end_is_final() -> None:
    """For what is new; what was said before may be said again."""
    with side() as both:
        assert await both.input.write(b"all", offset=0, eof=True, at_most=0) == 3
        assert await both.input.write(b"all", offset=0, eof=True, at_most=0) == 3
        assert both.input.end(3) == 3
        with pytest.raises(InputClosed):
            await both.input.write(b"more", offset=3, eof=False, at_most=0)


async def test_without_memory_nothing_is_accepted_and_nothing_lost() -> None:
    """The writer hears of it, and knows from where on to try again."""
    with side() as both:
        await both.input.write(b"before", offset=0, eof=False, at_most=1.0)
        both.has_no_more_memory()
        with pytest.raises(SystemExhausted, match="no room for more input"):
            await both.input.write(b"before, and more", offset=0, eof=True, at_most=1.0)
        both.reads(100)

        assert (both.read, both.input.next_offset, both.input.is_open) == (b"before", 6, True)


async def test_the_memory_of_what_was_read_is_given_back() -> None:
    """However much goes through, no more than the bound is held."""
    with side() as both:
        for _ in range(200):
            offset = both.input.next_offset
            await both.input.write(bytes(BOUND), offset=offset, eof=False, at_most=0)
            both.reads(2 * BOUND)
        held = os.fstat(both._kept.file).st_blocks * 512

    assert both.input.next_offset > 100 * BOUND
    assert held < 16 * BOUND


@pytest.fixture
def no_holes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Memory cannot be given back, as under a seccomp filter. Holds one item for each time that it was tried."""
    tried: list[int] = []

    def refuse(file: int, _start: int, _end: int) -> None:
        tried.append(file)
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(inputs, "punch_hole", refuse)
    return tried


async def test_input_goes_on_where_its_memory_cannot_be_given_back(no_holes: list[int]) -> None:
    """All of it arrives, the writer hears of nothing, and what was passed on does not count as waiting."""
    with side() as both:
        await finish(both)

        assert both.read == GIVEN
        assert both.room.used_bytes == 0
    assert len(no_holes) == 1


async def feed_for_ever(both: Side, *, with_offset: bool) -> None:
    """A writer that never ends, and a process that reads all of it."""
    while True:
        offset = both.input.next_offset if with_offset else None
        await both.input.write(bytes(BOUND // 2), offset=offset, eof=False, at_most=0)
        both.reads(BOUND)


@pytest.mark.parametrize("with_offset", [False, True], ids=["all or none", "as much as fits"])
async def test_memory_that_cannot_be_given_back_is_bounded(
    no_holes: list[int], monkeypatch: pytest.MonkeyPatch, *, with_offset: bool
) -> None:
    """Nobody waits for room that never comes, not under a later worker either, and the end can still be said."""
    most = 8 * BOUND
    monkeypatch.setattr(input_room, "_MOST_UNFREED_BYTES", most)
    with side() as both:
        for _ in range(2):
            with pytest.raises(InputNotFreed, match=f"together may take {most} bytes"):
                await feed_for_ever(both, with_offset=with_offset)
            both.worker_dies()
            assert both.input.next_offset <= most + inputs._FREE_BYTES + inputs.COMPARABLE_BYTES + BOUND
        await both.input.write(b"", offset=None, eof=True, at_most=0)
        both.reads(BOUND)

        assert both.has_ended
    assert len(no_holes) == 3  # each worker has tried it once


async def test_inputs_together_are_bounded_where_memory_cannot_be_given_back(
    no_holes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bound for each would let a crowd take the machine's memory. Who closes an input makes room for others."""
    most = 16 * BOUND
    monkeypatch.setattr(input_room, "_MOST_UNFREED_BYTES", most)
    room = InputRoom(4 * BOUND)
    with side(room) as first, side(room) as second, side(room) as third:
        for both in (first, second):
            with pytest.raises(InputNotFreed):
                await feed_for_ever(both, with_offset=False)
        held = sum(inputs._held_bytes(both._kept.file) for both in (first, second))
        first.input.discard()
        await finish(third)

        assert held <= most + inputs._FREE_BYTES + inputs.COMPARABLE_BYTES + 2 * BOUND
        assert third.read == GIVEN
    assert len(no_holes) == 3
    assert room.unfreed_bytes == 0


async def test_what_was_not_given_back_counts_under_the_next_worker(
    no_holes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else each worker would let the others take as much again."""
    monkeypatch.setattr(input_room, "_MOST_UNFREED_BYTES", 8 * BOUND)
    with side() as both:
        with pytest.raises(InputNotFreed):
            await feed_for_ever(both, with_offset=False)
        both.worker_dies()

        assert both.room.unfreed_bytes >= 7 * BOUND
    assert len(no_holes) == 2
