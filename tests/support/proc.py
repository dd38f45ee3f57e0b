"""What the kernel says about processes: who lives, who is whose child, who carries a mark."""

import asyncio
import ctypes
import os
import resource
import select
import signal
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.support.clock import DEADLINE

_PR_SET_CHILD_SUBREAPER = 36
_ENVIRONMENT_END = 51 - 3  # env_end is field 51 in proc_pid_stat(5); what follows the name begins with the third


@dataclass(frozen=True)
class Status:
    """One line of ``/proc/PID/stat``."""

    pid: int
    name: str
    state: str  # one letter: R, S, D, T, Z (a zombie), ...
    parent: int
    group: int
    session: int
    cpu_seconds: float

    @property
    def is_zombie(self) -> bool:
        """Whether it has ended and only waits to be reaped."""
        return self.state in "ZX"


def status(pid: int) -> Status | None:
    """Returns what the kernel says of the process, or None if there is none."""
    try:
        line = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    head, _, tail = line.rpartition(")")  # the name may hold spaces and brackets
    fields = tail.split()
    ticks = int(fields[11]) + int(fields[12])
    return Status(
        pid=pid,
        name=head.partition("(")[2],
        state=fields[0],
        parent=int(fields[1]),
        group=int(fields[2]),
        session=int(fields[3]),
        cpu_seconds=ticks / os.sysconf("SC_CLK_TCK"),
    )


def everybody() -> list[Status]:
    """Returns all processes of the machine."""
    found = (status(int(entry.name)) for entry in Path("/proc").iterdir() if entry.name.isdigit())
    return [each for each in found if each is not None]


def children(pid: int) -> list[Status]:
    """Returns the living and the unreaped children of a process."""
    return [each for each in everybody() if each.parent == pid]


def is_alive(pid: int) -> bool:
    """Tells whether the process runs; a zombie does not."""
    found = status(pid)
    return found is not None and not found.is_zombie


def marked(mark: str) -> list[int]:
    """Returns the running processes that have ``mark`` (``NAME=value``) in the environment they were started with."""
    wanted = mark.encode()
    return [each.pid for each in everybody() if wanted in environment(each.pid)]


def environment(pid: int) -> list[bytes]:
    """Returns what it was started with, ``NAME=value`` each; nothing of who is gone or belongs to somebody else."""
    file = Path(f"/proc/{pid}/environ")
    latest = time.monotonic() + DEADLINE
    try:
        while not (found := file.read_bytes()) and time.monotonic() < latest:
            if not _is_executing(pid):  # any more: it may have been when its environment was read
                found = file.read_bytes()
                break
            os.sched_yield()
    except OSError:  # it went, is a zombie, or belongs to somebody else
        return []
    return found.split(b"\0")


def _is_executing(pid: int) -> bool:
    """Whether it is on its way from one program to the next: its environment is neither's then, but empty.

    Raises:
        OSError: It has no program: it is gone, a zombie, or the kernel's own.
    """
    Path(f"/proc/{pid}/exe").readlink()
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return fields[_ENVIRONMENT_END] == "0"


def ignores(pid: int, number: signal.Signals) -> bool:
    """Returns whether the process has the kernel drop this signal."""
    return _has_signal(pid, "SigIgn", number)


def catches(pid: int, number: signal.Signals) -> bool:
    """Returns whether the process does something of its own on this signal."""
    return _has_signal(pid, "SigCgt", number)


def _has_signal(pid: int, field: str, number: signal.Signals) -> bool:
    status = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return bool(int(status[field], 16) >> (number - 1) & 1)


def command_line(pid: int) -> str:
    """Returns how the process was started, for messages to people."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    return "?"


def descriptors(pid: int) -> list[str]:
    """Returns what each open descriptor of a process leads to."""
    found = []
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):  # closed meanwhile; so is the one that lists this folder
            found.append(str(entry.readlink()))
    return found


@contextmanager
def no_descriptor_left(pid: int) -> Iterator[None]:
    """A process that can open nothing more, for the length of the block, as when the machine has none left."""
    usual = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, usual[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, usual)


def adopt_orphans() -> None:
    """Makes orphans among this process's descendants its children, so that none can hide."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "PR_SET_CHILD_SUBREAPER")


def reap_adopted() -> None:
    """Reaps dead orphans that were adopted.

    They are told from this process's own children by their session: who starts a child of one's own in another session
    reaps it before calling this.
    """
    here = os.getsid(0)
    for child in children(os.getpid()):
        if child.is_zombie and child.session != here:
            with suppress(ChildProcessError):
                os.waitpid(child.pid, os.WNOHANG)


def kill(pids: Iterable[int]) -> None:
    """Sends SIGKILL to whoever of them is there."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def wait_until_dead(pid: int, seconds: float = DEADLINE) -> None:
    """Blocks until the process has ended, reaped or not.

    Raises:
        TimeoutError: It still runs after ``seconds``.
    """
    try:
        watch = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        poll = select.poll()
        poll.register(watch, select.POLLIN)
        if not poll.poll(seconds * 1000):
            raise TimeoutError(f"process {pid} ({command_line(pid)}) still runs after {seconds:g} s")
    finally:
        os.close(watch)


async def dead(pid: int, seconds: float = DEADLINE) -> None:
    """Waits until the process has ended, reaped or not; it need not be a child. Cancelling is safe.

    Raises:
        TimeoutError: It still runs after ``seconds``.
    """
    try:
        watch = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(watch, ended.set)
    try:
        async with asyncio.timeout(seconds):
            await ended.wait()
    finally:
        loop.remove_reader(watch)
        os.close(watch)


def uid(pid: int) -> int:
    """Whose it is."""
    return Path(f"/proc/{pid}").stat().st_uid


def has_capability(number: int) -> bool:
    """Whether this process has a capability, by its number in linux/capability.h."""
    status = Path("/proc/self/status").read_text()
    effective = next(line for line in status.splitlines() if line.startswith("CapEff:"))
    return bool(int(effective.split()[1], 16) >> number & 1)


def proportional_bytes(pid: int) -> int:
    """The memory that a process has for itself, with its share of what it has in common with others (PSS)."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
