"""A pipe says what it holds, and grows if it may."""

import fcntl
import os
from collections.abc import Iterator

import pytest

from guyline.agentd.system.pipes import GROWN_BYTES, grow_pipe, ready_bytes


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    os.close(reader)
    os.close(writer)


def test_ready_bytes_are_counted_and_left(pipe: tuple[int, int]) -> None:
    """The count is what may be dropped, so it must be exact."""
    os.write(pipe[1], b"four")
    os.write(pipe[1], b" and more")

    assert ready_bytes(pipe[0]) == 13
    assert os.read(pipe[0], 100) == b"four and more"


def test_nothing_ready_and_the_end_are_told_apart() -> None:
    """Otherwise a quiet process would look ended, or an ended one quiet."""
    reader, writer = os.pipe()
    with pytest.raises(BlockingIOError):
        ready_bytes(reader)

    os.write(writer, b"last")
    os.close(writer)
    assert ready_bytes(reader) == 4
    os.read(reader, 4)
    assert ready_bytes(reader) == 0
    os.close(reader)


def test_a_pipe_grows(pipe: tuple[int, int]) -> None:
    """Fewer, larger moves make the output of a busy process nearly twice as fast."""
    assert grow_pipe(pipe[0])
    assert fcntl.fcntl(pipe[0], fcntl.F_GETPIPE_SZ) == GROWN_BYTES


def test_a_pipe_that_may_not_grow_stays_as_it_is(pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Without root there are 64 large pipes; the 65th process is slower and no worse. `fcntl` refuses by a fake."""

    def refuse(*_args: int) -> int:
        raise PermissionError

    monkeypatch.setattr(fcntl, "fcntl", refuse)
    assert not grow_pipe(pipe[0])
