"""Bytes go from a pipe to a file, and whatever does not is still in the pipe."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from guyline.agentd.system.splice import Moved, copy, splice, why_no_splice

Move = Callable[[int, int, int, int], Moved]


@pytest.fixture(params=[splice, copy])
def move(request: pytest.FixtureRequest) -> Move:
    chosen: Move = request.param
    return chosen


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    yield reader, writer
    os.close(reader)
    os.close(writer)


@pytest.fixture
def file(tmp_path: Path) -> Iterator[int]:
    file = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT, 0o600)
    yield file
    os.close(file)


def test_bytes_arrive_at_the_offset(move: Move, pipe: tuple[int, int], file: int) -> None:
    """Whatever the file's own position: offsets are the journal's."""
    os.write(pipe[1], b"text")

    assert move(pipe[0], file, 3, 100) == Moved(stored=4, lost=0)
    assert os.pread(file, 100, 0) == b"\0\0\0text"


def test_nothing_ready_is_no_end(move: Move, pipe: tuple[int, int], file: int) -> None:
    """A quiet process is not an ended one."""
    with pytest.raises(BlockingIOError):
        move(pipe[0], file, 0, 100)


def test_the_end_moves_nothing(move: Move, file: int) -> None:
    """That is how the end is told."""
    reader, writer = os.pipe()
    os.close(writer)

    assert move(reader, file, 0, 100) == Moved(stored=0, lost=0)
    os.close(reader)


def test_splice_never_waits_for_a_blocking_pipe(pipe: tuple[int, int], file: int) -> None:
    """A pipe whose flag somebody changed must not stop the loop."""
    os.set_blocking(pipe[0], True)

    with pytest.raises(BlockingIOError):
        splice(pipe[0], file, 0, 100)


def test_what_splice_cannot_store_stays_in_the_pipe(pipe: tuple[int, int]) -> None:
    """Nothing is lost by trying."""
    os.write(pipe[1], b"text")
    with Path("/dev/full").open("wb") as full, pytest.raises(OSError, match=r"No space|Invalid"):
        splice(pipe[0], full.fileno(), 0, 100)

    assert os.read(pipe[0], 100) == b"text"


def test_what_a_copy_cannot_store_is_counted(pipe: tuple[int, int]) -> None:
    """It has left the pipe, so that somebody must say that it is gone."""
    os.write(pipe[1], b"text")
    with Path("/dev/full").open("wb") as full:
        assert copy(pipe[0], full.fileno(), 0, 100) == Moved(stored=0, lost=4)


def test_the_trial_says_nothing_where_splice_works(tmp_path: Path) -> None:
    """An empty reason is what makes the feature enabled."""
    assert why_no_splice(tmp_path) == ""
    assert list(tmp_path.iterdir()) == []
