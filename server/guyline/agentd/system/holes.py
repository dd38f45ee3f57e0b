"""Giving back a file's middle: a punched range takes no room, reads as zeros, and leaves all offsets as they are."""

import ctypes
import errno
import os
import tempfile
from pathlib import Path

_KEEP_SIZE, _PUNCH_HOLE = 0x01, 0x02  # linux/falloc.h
_UNSUPPORTED = {errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM}  # EPERM: a seccomp filter

_libc = ctypes.CDLL(None, use_errno=True)
_fallocate = getattr(_libc, "fallocate64", None) or _libc.fallocate  # musl has only the latter, and it is 64 bits wide
_fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)


def punch_hole(file: int, start: int, end: int) -> None:
    """Frees the blocks that lie wholly between two offsets and zeroes the rest between them; idempotent.

    Raises:
        OSError: The file system cannot, or fails. What was there may or may not be freed.
    """
    if _fallocate(file, _KEEP_SIZE | _PUNCH_HOLE, start, end - start):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def has_data(file: int, start: int, end: int) -> bool:
    """Whether anything between two offsets may be no hole. Where the file system cannot tell, it is all data."""
    try:
        return os.lseek(file, start, os.SEEK_DATA) < end
    except OSError as why:
        if why.errno == errno.ENXIO:  # a hole up to the end
            return False
        raise


def why_no_holes(directory: Path) -> str:
    """Tries `punch_hole` in a directory: says why it does not work there, or nothing if it does.

    A disk that is full says nothing about it, so then it counts as working.
    """
    try:
        with tempfile.TemporaryFile(dir=directory) as file:
            return _why_not(file.fileno(), f"a file in {directory}")
    except OSError:
        return ""


def why_no_holes_in_memory() -> str:
    """The same for files in memory."""
    try:
        file = os.memfd_create("guyline-trial")
    except OSError:
        return ""
    try:
        return _why_not(file, "a file in memory")
    finally:
        os.close(file)


def _why_not(file: int, what: str) -> str:
    try:
        os.truncate(file, 8192)
        punch_hole(file, 0, 4096)
    except OSError as why:
        if why.errno in _UNSUPPORTED:
            return f"punching a hole into {what} fails: {why.strerror}"
    return ""
