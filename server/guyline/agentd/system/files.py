"""Files of ours alone: opened without following links, read without waiting for a disk."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_COPIED_AT_ONCE = 1024 * 1024
_FLAGS = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
_WANTS = {errno.ENFILE, errno.EMFILE, errno.ENOMEM}
_STORAGE_FAILURES = _WANTS | {
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EIO,
    errno.EFBIG,
    errno.EROFS,  # a file system that met an error turns read-only
}


def is_storage_failure(why: OSError) -> bool:
    """Whether an error says that there is no room or that the disk fails, rather than that the call was wrong.

    Descriptors and memory are room as well.
    """
    return why.errno in _STORAGE_FAILURES


def is_want(why: OSError) -> bool:
    """Whether an error says that no descriptor or no memory is left. It passes, and nothing is wrong with the file."""
    return why.errno in _WANTS


def open_private(path: Path) -> int:
    """Opens a file for reading and writing. The descriptor is the caller's to close.

    Raises:
        OSError: There is none, or it is a link (ELOOP).
    """
    return os.open(path, _FLAGS)


@contextmanager
def read_only(path: Path) -> Iterator[int]:
    """As `open_private`, also on a file system that has turned read-only (EROFS)."""
    file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        yield file
    finally:
        os.close(file)


def create_private(path: Path) -> int:
    """Creates a file that only its owner may touch. The descriptor is the caller's to close.

    Raises:
        FileExistsError: There is one, or a link.
        OSError: There is no room.
    """
    return os.open(path, _FLAGS | os.O_CREAT | os.O_EXCL, 0o600)


def make_private_directory(path: Path) -> None:
    """Makes sure of a directory that only its owner may enter.

    Raises:
        OSError: It cannot be made, or something else has the name: a file, a link, another user's directory.
    """
    path.mkdir(mode=0o700, exist_ok=True)
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fchmod(directory, 0o700)
    finally:
        os.close(directory)


def read_cached(file: int, offset: int, at_most: int, *, buffer: bytearray) -> bytes:
    """Reads what lies in memory from an offset on; less than asked for says nothing about the end of the file.

    ``buffer`` takes the bytes on their way, and may be used again and again: a new one would be zeroed each time.

    Where the file system cannot tell (tmpfs, which is memory) it reads as usual.

    Raises:
        BlockingIOError: The first byte has to come from the disk.
    """
    view = memoryview(buffer)[:at_most]
    try:
        length = os.preadv(file, [view], offset, os.RWF_NOWAIT)
    except OSError as why:
        if why.errno not in (errno.EOPNOTSUPP, errno.ENOSYS):
            raise
        length = os.preadv(file, [view], offset)
    return bytes(view[:length])


def copy_range(source: int, target: int, start: int, end: int) -> None:
    """Copies what a file holds between two offsets to the same offsets of another, or up to where it ends.

    Raises:
        OSError: There is no room, or the disk fails. Some of it may be copied.
    """
    while data := os.pread(source, min(end - start, _COPIED_AT_ONCE), start):
        start += os.pwrite(target, data, start)


def regular_files(folder: Path) -> list[Path]:
    """What lies in a folder and is a file; neither links nor directories, such as a volume's ``lost+found``."""
    with os.scandir(folder) as entries:
        return [Path(entry) for entry in entries if entry.is_file(follow_symlinks=False)]


def size_of(path: Path) -> int:
    """The size of a file in bytes; none if there is no file."""
    try:
        return os.lstat(path).st_size
    except FileNotFoundError:
        return 0


def written_at(path: Path) -> float:
    """When a file was last written, in seconds since the epoch; 0 if nobody can tell."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
