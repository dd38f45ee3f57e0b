"""A place for a Unix socket that nobody else can use, replace or take over.

gRPC binds a Unix socket with the mode that the umask leaves, and silently removes whatever was there, even a socket
that somebody serves. So both are settled here, before it binds.
"""

import errno
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class SocketNotUsable(Exception):
    """A socket cannot be made at the path. Says why, and what to do."""


def make_directory(path: Path) -> None:
    """Makes sure of a directory in which only we put sockets; a missing one is created, 0700. Blocks.

    Raises:
        SocketNotUsable: If it is not ours or others may change it.
    """
    try:
        _make_private(path)
        _demand_own_directory(path)
    except OSError as why:
        raise SocketNotUsable(f"cannot make the directory {str(path)!r}: {why.strerror or why}") from why


def make_way(path: Path) -> None:
    """Makes the path one to bind a socket to: its directory is created, 0700, if it is missing, and what a dead server
    left there is removed. Blocks.

    Raises:
        SocketNotUsable: If the directory is not ours or others may change it, if the path is something else than a
            socket of ours, or if somebody serves there.
    """
    make_directory(path.parent)
    try:
        _remove_stale(path)
    except OSError as why:
        raise SocketNotUsable(f"cannot make the socket {str(path)!r}: {why.strerror or why}") from why


@contextmanager
def private_mode() -> Iterator[None]:
    """Within the block sockets are made 0600. It must await nothing: the umask is the whole process's."""
    before = os.umask(0o177)
    try:
        yield
    finally:
        os.umask(before)


def _make_private(directory: Path) -> None:
    if not directory.exists():
        _make_private(directory.parent)
        directory.mkdir(mode=0o700, exist_ok=True)


def _demand_own_directory(directory: Path) -> None:
    status = directory.lstat()
    if not stat.S_ISDIR(status.st_mode):
        raise SocketNotUsable(f"{str(directory)!r} is no directory; give the socket another path")
    if status.st_uid != os.geteuid():
        raise SocketNotUsable(
            f"the socket's directory {str(directory)!r} belongs to user {status.st_uid}, not to us "
            f"({os.geteuid()}); give the socket another path"
        )
    if status.st_mode & 0o022 and not status.st_mode & stat.S_ISVTX:
        raise SocketNotUsable(f"others may write to the socket's directory {str(directory)!r}; chmod 700 it")


def _remove_stale(path: Path) -> None:
    try:
        status = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(status.st_mode) or status.st_uid != os.geteuid():
        raise SocketNotUsable(f"{str(path)!r} exists and is no socket of ours; remove it or give another path")
    if _is_served(path):
        raise SocketNotUsable(f"somebody serves at {str(path)!r}; stop it or give another path")
    path.unlink(missing_ok=True)


def _is_served(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
        # Without room for another connection (EAGAIN) there is somebody, too.
        return probe.connect_ex(str(path)) not in (errno.ECONNREFUSED, errno.ENOENT)
