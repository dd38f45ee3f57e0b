"""What a pipe holds, and how much it can."""

import errno
import fcntl
import os
import select
import struct
import termios

GROWN_BYTES = 1024 * 1024
"""What `grow_pipe` asks for: the most that Linux gives to anybody by default."""

_INT = struct.Struct("i")


def ready_bytes(pipe: int) -> int:
    """How many bytes can be read at once from the pipe with this read end; none at the end of the pipe.

    Raises:
        BlockingIOError: Nothing is ready, and somebody still holds the write end.
    """
    poll = select.poll()
    poll.register(pipe, select.POLLIN)
    happened = sum(events for _, events in poll.poll(0))
    if happened & select.POLLIN:
        ready: int = _INT.unpack(fcntl.ioctl(pipe, termios.FIONREAD, _INT.pack(0)))[0]
        return ready
    if happened & select.POLLHUP:
        return 0
    raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))


def grow_pipe(pipe: int) -> bool:
    """Enlarges a pipe to `GROWN_BYTES`; tells whether it did.

    Worth it for busy pipes only: without root a user may have 64 such pipes, and gets no for the next.
    """
    try:
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, GROWN_BYTES)
    except PermissionError:
        return False
    return True
