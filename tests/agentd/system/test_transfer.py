"""Bytes between descriptors: the kernel keeps the account, and where it cannot, memory does."""

import errno
import os
from collections.abc import Iterator
from contextlib import ExitStack
from unittest import mock

import pytest

from guyline.agentd.system.terminal import Size, is_end, open_terminal, set_size, size_of, why_no_terminals
from guyline.agentd.system.transfer import COPY_BYTES, drain_terminal, pass_on, why_no_transfer

REFUSED = mock.Mock(side_effect=OSError(errno.EINVAL, "not here"))


@pytest.fixture(params=["in the kernel", "through memory"])
def way(request: pytest.FixtureRequest) -> Iterator[str]:
    """Both ways, the second as on a kernel that lacks the first."""
    if request.param == "in the kernel":
        yield request.param
        return
    with mock.patch.object(os, "sendfile", REFUSED), mock.patch.object(os, "splice", REFUSED):
        yield request.param


@pytest.fixture
def closing() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def pipe(closing: ExitStack) -> tuple[int, int]:
    ends = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    for end in ends:
        closing.callback(os.close, end)
    return ends


def memory_file(closing: ExitStack, data: bytes) -> int:
    file = os.memfd_create("test")
    closing.callback(os.close, file)
    os.pwrite(file, data, 0)
    return file


def test_a_file_is_passed_on_from_its_position(way: str, closing: ExitStack) -> None:
    """Which all duplicates of its descriptor share: whoever goes on goes on there."""
    reader, writer = pipe(closing)
    file = memory_file(closing, b"0123456789")
    first = pass_on(file, writer, 4)
    duplicate = os.dup(file)
    closing.callback(os.close, duplicate)
    rest = pass_on(duplicate, writer, 100)

    assert (first, rest, way != "") == (4, 6, True)
    assert os.read(reader, 100) == b"0123456789"
    assert pass_on(file, writer, 100) == 0


def test_a_full_pipe_takes_nothing_and_moves_no_position(way: str, closing: ExitStack) -> None:
    """What did not go is still to be passed on."""
    reader, writer = pipe(closing)
    file = memory_file(closing, bytes(1 << 20))
    while fits(file, writer):
        pass
    passed = os.lseek(file, 0, os.SEEK_CUR)

    assert 0 < passed < 1 << 20, way
    assert len(os.read(reader, 1 << 20)) == passed


def fits(file: int, writer: int) -> bool:
    """Passes on what the pipe takes, if it takes anything."""
    try:
        return pass_on(file, writer, 1 << 20) > 0
    except BlockingIOError:
        return False


def test_nobody_who_reads_is_an_error(way: str, closing: ExitStack) -> None:
    """As a shell's writer gets it."""
    reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    closing.callback(os.close, writer)
    os.close(reader)
    with pytest.raises(BrokenPipeError):
        pass_on(memory_file(closing, b"x"), writer, 1)
    assert way


def test_a_terminal_is_drained_into_a_pipe_to_its_end(way: str, closing: ExitStack) -> None:
    """What was shown last is there, then the end is told."""
    terminal = open_terminal(Size(80, 24))
    closing.callback(os.close, terminal.master)
    reader, writer = pipe(closing)
    os.write(terminal.slave, b"shown\n")
    moved = drain_terminal(terminal.master, writer, COPY_BYTES)
    with pytest.raises(BlockingIOError):
        drain_terminal(terminal.master, writer, COPY_BYTES)
    os.close(terminal.slave)
    with pytest.raises(OSError, match="Input/output error") as at_end:
        drain_terminal(terminal.master, writer, COPY_BYTES)

    assert os.read(reader, 100) == b"shown\r\n"
    assert moved == len(b"shown\r\n"), way
    assert is_end(at_end.value)


def test_a_full_pipe_leaves_what_is_shown_in_the_terminal(way: str, closing: ExitStack) -> None:
    """Nothing is read for which there is no room."""
    terminal = open_terminal(Size(80, 24))
    for descriptor in (terminal.master, terminal.slave):
        closing.callback(os.close, descriptor)
    reader, writer = pipe(closing)
    filled = os.write(writer, bytes(1 << 20))
    os.write(terminal.slave, b"later")
    with pytest.raises(BlockingIOError):
        drain_terminal(terminal.master, writer, COPY_BYTES)
    while filled > 0:
        filled -= len(os.read(reader, filled))
    drain_terminal(terminal.master, writer, COPY_BYTES)

    assert os.read(reader, 100) == b"later", way


def test_what_the_kernel_lacks_is_said() -> None:
    """GetInfo passes it on."""
    assert why_no_transfer() == why_no_terminals() == ""
    with mock.patch.object(os, "splice", REFUSED):
        assert "not here" in why_no_transfer()
    with mock.patch.object(os, "openpty", mock.Mock(side_effect=OSError(errno.ENOSPC, "no more"))):
        assert "no more" in why_no_terminals()


def test_a_terminal_has_the_size_that_it_was_given(closing: ExitStack) -> None:
    """At first, and whenever it gets another."""
    terminal = open_terminal(Size(101, 33))
    for descriptor in (terminal.master, terminal.slave):
        closing.callback(os.close, descriptor)
    at_first = size_of(terminal.slave)
    set_size(terminal.master, Size(80, 24))

    assert (at_first, size_of(terminal.slave)) == (Size(101, 33), Size(80, 24))
