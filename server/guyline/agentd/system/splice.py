"""From a pipe into a file, inside the kernel or, where that cannot be, through memory."""

import errno
import os
import tempfile
from pathlib import Path
from typing import NamedTuple

COPY_BYTES = 64 * 1024
"""What `copy` takes at a time: what a pipe holds unless it was enlarged."""

_UNSUPPORTED = {errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM}  # EPERM: a seccomp filter


class Moved(NamedTuple):
    """How many bytes left the pipe: first those that are in the file, then those that it did not take."""

    stored: int
    lost: int


def splice(pipe: int, file: int, offset: int, at_most: int) -> Moved:
    """Moves what is ready from a pipe to ``offset`` of a file; nothing moved is the end of the pipe.

    Whoever is killed meanwhile has either moved a byte or not: it is in the pipe or in the file. The file must not be
    open for appending.

    Raises:
        BlockingIOError: Nothing is ready, whether or not the pipe is in blocking mode.
        OSError: Nothing was moved, and what is in the pipe stays there.
    """
    return Moved(os.splice(pipe, file, at_most, offset_dst=offset, flags=os.SPLICE_F_NONBLOCK), lost=0)


def copy(pipe: int, file: int, offset: int, at_most: int) -> Moved:
    """Does by read and write what `splice` does; whoever is killed between the two loses up to `COPY_BYTES`.

    The pipe must be in non-blocking mode.

    Raises:
        BlockingIOError: Nothing is ready.
    """
    data = memoryview(os.read(pipe, min(at_most, COPY_BYTES)))
    stored = 0
    try:
        while stored < len(data):
            stored += os.pwrite(file, data[stored:], offset + stored)
    except OSError:
        pass  # whatever it is: what was read is in no pipe any more, and counts as lost
    return Moved(stored, lost=len(data) - stored)


def why_no_splice(directory: Path) -> str:
    """Tries `splice` in a directory: says why it does not work there, or nothing if it does.

    A disk that is full says nothing about it, so then it counts as working.
    """
    reader, writer = os.pipe()
    try:
        os.write(writer, b"?")
        with tempfile.TemporaryFile(dir=directory) as file:
            splice(reader, file.fileno(), 0, 1)
    except OSError as why:
        if why.errno in _UNSUPPORTED:
            return f"splice from a pipe to a file in {directory} fails: {why.strerror}"
    finally:
        os.close(reader)
        os.close(writer)
    return ""
