"""Moving bytes between a process's descriptors and what the agent holds for it, so that a kill loses and repeats none.

Each moves inside the kernel, which also keeps the account: how far a file was passed on is its position, which all
duplicates of its descriptor share. Where the kernel cannot, bytes go through memory, and whoever is killed between two
steps loses or repeats up to `COPY_BYTES`.
"""

import contextlib
import errno
import os
import select

COPY_BYTES = 4096
"""What is taken at a time where bytes go through memory: a page, as a terminal gives at most."""

_UNSUPPORTED = {errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM}  # EPERM: a seccomp filter


def pass_on(file: int, sink: int, at_most: int) -> int:
    """Moves bytes from a file's position into a pipe or a terminal's master; returns how many.

    The sink must be non-blocking.

    Raises:
        BlockingIOError: The sink takes nothing now.
        OSError: Nobody reads it any more (EPIPE, EIO).
    """
    try:
        return os.sendfile(sink, file, None, at_most)  # None: from the file's position
    except BlockingIOError:
        raise
    except OSError as why:
        if why.errno not in _UNSUPPORTED:
            raise
    position = os.lseek(file, 0, os.SEEK_CUR)
    passed = os.write(sink, os.pread(file, min(at_most, COPY_BYTES), position))
    os.lseek(file, position + passed, os.SEEK_SET)
    return passed


def drain_terminal(master: int, pipe: int, at_most: int) -> int:
    """Moves what a terminal shows from its master into a pipe; returns how many bytes. Both must be non-blocking.

    Raises:
        BlockingIOError: Nothing is shown now, or the pipe is full.
        OSError: EIO: nobody has the terminal open any more.
    """
    try:
        return os.splice(master, pipe, at_most, flags=os.SPLICE_F_NONBLOCK)
    except BlockingIOError:
        raise
    except OSError as why:
        if why.errno not in _UNSUPPORTED:
            raise
    poll = select.poll()
    poll.register(pipe, select.POLLOUT)
    if not poll.poll(0):
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
    return os.write(pipe, os.read(master, min(at_most, COPY_BYTES)))  # a pipe that takes any takes a page


def why_no_transfer() -> str:
    """Tries both: says what goes through memory here, or nothing if both work inside the kernel."""
    with contextlib.ExitStack() as stack:

        def closed_later(*descriptors: int) -> tuple[int, ...]:
            for descriptor in descriptors:
                stack.callback(os.close, descriptor)
            return descriptors

        try:
            master, slave = closed_later(*os.openpty())
            reader, writer = closed_later(*os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC))
            (file,) = closed_later(os.memfd_create("guyline-trial"))
            os.write(file, b"?")
            os.write(slave, b"?")
            for sink in (writer, master):
                os.lseek(file, 0, os.SEEK_SET)
                os.sendfile(sink, file, None, 1)
            os.read(reader, 1)
            os.splice(master, writer, 1)
        except OSError as why:
            return f"input and terminals go through memory here: {why.strerror}"
    return ""
