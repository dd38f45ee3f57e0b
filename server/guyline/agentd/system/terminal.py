"""Pseudo terminals: made, measured, and told another size."""

import errno
import fcntl
import os
import struct
import termios
from typing import NamedTuple

_WINSIZE = struct.Struct("4H")  # rows, columns, and two sizes in pixels that nobody uses


class Size(NamedTuple):
    """How large a terminal is, in characters."""

    columns: int
    rows: int


class Terminal(NamedTuple):
    """A terminal nobody has opened yet. Both descriptors are the receiver's to close.

    The slave must stay open until the process has opened it by its path: a master without a slave is at its end.
    """

    master: int  # non-blocking
    slave: int
    path: str


def open_terminal(size: Size) -> Terminal:
    """Raises OSError if the system has no more of them (ENOSPC), or no descriptor."""
    master, slave = os.openpty()
    try:
        set_size(master, size)
        os.set_blocking(master, False)
        return Terminal(master, slave, os.ttyname(slave))
    except BaseException:
        os.close(master)
        os.close(slave)
        raise


def set_size(terminal: int, size: Size) -> None:
    """Its foreground group gets SIGWINCH if that is a change. Raises OSError if it is no terminal any more."""
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, _WINSIZE.pack(size.rows, size.columns, 0, 0))


def size_of(terminal: int) -> Size:
    rows, columns, _, _ = _WINSIZE.unpack(fcntl.ioctl(terminal, termios.TIOCGWINSZ, bytes(_WINSIZE.size)))
    return Size(columns, rows)


def why_no_terminals() -> str:
    """Tries to make one: says why there are none, or nothing if there are."""
    try:
        terminal = open_terminal(Size(80, 24))
    except OSError as why:
        return f"no terminal can be made: {why.strerror}"
    os.close(terminal.master)
    os.close(terminal.slave)
    return ""


def is_end(why: OSError) -> bool:
    """Whether a failed read of a master says that nobody has the slave open any more."""
    return why.errno == errno.EIO
