"""Limits of the commands' cgroups: how the agent comes by the kernel's controllers, and what is written to them."""

import contextlib
import errno
import os
from collections.abc import Mapping

from guyline.agentd.keeper.setup import Setup, SetupFailed

CONTROLLERS = {"memory_bytes": "memory", "cpus": "cpu", "pids": "pids"}
"""Which one is needed for a limit, by the limit's field in ``setup.Setup``."""

_PERIOD = 100_000
"""Microseconds in which a cgroup may use its share of the CPUs: the kernel's default."""


class Controllers:
    """Those that the children of a folder get, for limits.

    The kernel gives controllers to the children of a cgroup only if it has no members itself (but for the machine's
    root). So the agent, which is in ``base`` when it starts, moves into a leaf beside the folder, and stays there over
    upgrades and when its worker takes the keeper's place. Moving takes 5 to 25 ms, so it is done only where there are
    controllers to be had, and where nobody else would have to move.
    """

    def __init__(self, own: str, name: str, *, wanted: Mapping[str, str] = CONTROLLERS) -> None:
        """Does nothing yet.

        Args:
            own: The cgroup in which this process lives.
            name: The folder's, in the cgroup in which the agent was started.
            wanted: Names of controllers, by the limits that need them.
        """
        self._wanted = dict(wanted)
        leaf = f"{name}-agent"
        self.base = own.removesuffix(f"/{leaf}")
        self.folder = f"{self.base}/{name}"
        self._leaf = f"{self.base}/{leaf}"
        self._is_in_leaf = own == self._leaf

    def obtain(self) -> dict[str, str]:
        """Has them given to the folder's children. Returns for each limit why it cannot be had, empty if it can."""
        why = dict.fromkeys(self._wanted, "")
        try:
            present = _read(f"{self.base}/cgroup.controllers").split()
            why = {limit: "" if each in present else self._why_absent(each) for limit, each in self._wanted.items()}
            if all(why.values()):
                return why
            os.makedirs(self.folder, exist_ok=True)  # noqa: PTH103 - as everywhere in the keeper
            self._make_room()
        except OSError as problem:
            why_none = f"{problem.filename or self.base}: {problem.strerror}"
            return {limit: reason or why_none for limit, reason in why.items()}
        for limit, each in self._wanted.items():
            why[limit] = why[limit] or self._enable(each)
        if all(why.values()):
            self.give_back()
        return why

    def give_back(self) -> None:
        """Undoes it, as far as others let it."""
        if self._is_in_leaf:
            for path in (self.folder, self.base):
                for each in self._wanted.values():
                    with contextlib.suppress(OSError):
                        _write(f"{path}/cgroup.subtree_control", f"-{each}")
            with contextlib.suppress(OSError):
                _write(f"{self.base}/cgroup.procs", str(os.getpid()))
                self._is_in_leaf = False
                os.rmdir(self._leaf)  # noqa: PTH106 - as everywhere in the keeper

    def _why_absent(self, controller: str) -> str:
        return f"{self.base}/cgroup.controllers does not list {controller}"

    def _make_room(self) -> None:
        """Moves out of the way.

        Raises:
            OSError: Others live here too, or it is not allowed.
        """
        is_root = not os.path.exists(f"{self.base}/cgroup.type")  # noqa: PTH110 - as everywhere in the keeper
        if self._is_in_leaf or is_root:
            return
        members = _read(f"{self.base}/cgroup.procs").split()
        if members != [str(os.getpid())]:
            raise OSError(errno.EBUSY, "other processes live in the agent's own cgroup", self.base)
        os.makedirs(self._leaf, exist_ok=True)  # noqa: PTH103 - as everywhere in the keeper
        try:
            _write(f"{self._leaf}/cgroup.procs", str(os.getpid()))
        except OSError:
            os.rmdir(self._leaf)  # noqa: PTH106 - as everywhere in the keeper
            raise
        self._is_in_leaf = True

    def _enable(self, controller: str) -> str:
        """Returns why that is not possible; empty if it is done."""
        for path in (self.base, self.folder):
            try:
                _write(f"{path}/cgroup.subtree_control", f"+{controller}")
            except OSError as why:
                return f"{why.filename}: {why.strerror}"
        return ""


def limit(group: str, setup: Setup) -> None:
    """Writes the limits to a cgroup.

    Raises:
        SetupFailed: One of them cannot be set.
    """
    for part, file, value in (
        ("memory_bytes", "memory.max", setup.memory_bytes),
        ("cpus", "cpu.max", setup.cpus and f"{round(setup.cpus * _PERIOD)} {_PERIOD}"),
        ("pids", "pids.max", setup.pids),
    ):
        if value:
            try:
                _write(f"{group}/{file}", str(value))
            except OSError as why:
                raise SetupFailed(why.errno or errno.EINVAL, part) from why
    if setup.memory_bytes:
        with contextlib.suppress(FileNotFoundError):  # accounting of swap is an option of the kernel
            _write(f"{group}/memory.swap.max", "0")


def first_limit(setup: Setup) -> str:
    """The first of the limits that it asks for; empty: it asks for none."""
    return next((name for name in CONTROLLERS if getattr(setup, name)), "")


def _read(path: str) -> str:
    with open(path) as file:  # noqa: PTH123 - as everywhere in the keeper
        return file.read()


def _write(path: str, text: str) -> None:
    file = os.open(path, os.O_WRONLY | os.O_CLOEXEC)  # open() would make one: of what is missing, EACCES
    try:
        os.write(file, text.encode())
    except OSError as why:
        raise OSError(why.errno, why.strerror, path) from why
    finally:
        os.close(file)
