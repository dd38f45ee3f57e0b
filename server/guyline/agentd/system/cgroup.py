"""cgroup v2: a directory in which all that comes of a command stays together, whatever sessions it makes.

Standard library only: the keeper uses it too.
"""

import contextlib
import errno
import os
from collections.abc import Iterator

_MOST_BELOW = 1000
"""So many cgroups below one are looked at: a command may make any number, and looking must not take for ever."""
_GONE = {errno.ENOENT, errno.ENODEV}  # not there; removed while it was open
_CANNOT_TELL = {*_GONE, errno.EACCES, errno.EOPNOTSUPP}  # its members have hidden it, or made it a threaded one


class Cgroup:
    """One cgroup, named by its directory, with those that its members have made below it."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __repr__(self) -> str:
        return f"<Cgroup {self.path}>"

    def members(self) -> set[int]:
        """The pids of all that live in it; zombies do not. Empty also if that cannot be told."""
        return {pid for path in self._tree() for pid in _pids_in(path)}

    def is_populated(self) -> bool:
        """Whether anybody lives in it, or below. False also if that cannot be told."""
        return b"populated 1" in _read(f"{self.path}/cgroup.events")

    def kill(self) -> bool:
        """Sends SIGKILL to all that live in it, and to what they fork meanwhile. Returns False if there is none.

        Raises:
            OSError: A member has made it one that cannot be killed as a whole.
        """
        try:
            with open(f"{self.path}/cgroup.kill", "wb", buffering=0) as file:  # noqa: PTH123 - as everywhere in the keeper
                file.write(b"1")
        except OSError as why:
            if why.errno not in _GONE:
                raise
            return False
        return True

    def remove(self) -> bool:
        """Removes it if nobody lives in it, and returns whether it is gone."""
        if _is_removed(self.path):
            return True
        found = [_is_removed(path) for path in reversed(list(self._tree()))]
        return all(found)

    def _tree(self) -> Iterator[str]:
        """This directory and those below it, each before its own."""
        waiting = [self.path]
        for _ in range(_MOST_BELOW):
            if not waiting:
                return
            path = waiting.pop()
            yield path
            with contextlib.suppress(FileNotFoundError, PermissionError), os.scandir(path) as found:
                waiting += [entry.path for entry in found if entry.is_dir(follow_symlinks=False)]


def own_cgroup() -> str | None:
    """The directory of this process's cgroup; None: there is no version 2, or it cannot be seen from here."""
    with open("/proc/self/cgroup") as file:  # noqa: PTH123 - as everywhere in the keeper
        path = next((line[3:] for line in file.read().splitlines() if line.startswith("0::")), None)
    if path is None:
        return None
    for root, mount_point in _mounts():
        # A container may be told the machine's path, and have its own cgroup mounted as the root.
        for candidate in (mount_point + path.removeprefix(root.rstrip("/")), mount_point):
            with contextlib.suppress(OSError):
                if os.getpid() in _pids_in(candidate):
                    return candidate.rstrip("/")
    return None


def _mounts() -> Iterator[tuple[str, str]]:
    """For each mount of version 2 (the hybrid layout has one, too): which directory of it is mounted where."""
    with open("/proc/self/mountinfo") as file:  # noqa: PTH123 - as everywhere in the keeper
        lines = file.read().splitlines()
    for line in lines:
        mount, _, kind = line.partition(" - ")
        if kind.startswith("cgroup2 "):
            fields = mount.split()
            yield fields[3], fields[4]


def _pids_in(path: str) -> set[int]:
    """Without those that the pid namespace of this process does not know, which are told as 0."""
    return {int(pid) for pid in _read(f"{path}/cgroup.procs").split()} - {0}


def _read(path: str) -> bytes:
    """Empty if it cannot be told."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - as everywhere in the keeper
            return file.read()
    except OSError as why:
        if why.errno in _CANNOT_TELL:
            return b""
        raise


def _is_removed(path: str) -> bool:
    try:
        os.rmdir(path)  # noqa: PTH106 - as everywhere in the keeper
    except OSError as why:
        return why.errno in _GONE
    return True
