"""What the kernel says about processes, read from /proc. Standard library only: the keeper uses it too."""

import os
import time
from typing import NamedTuple

_PART_BYTES = 4096
_NOT_TO_BE_SEEN = (FileNotFoundError, ProcessLookupError, PermissionError)
"""Gone or, being another user's, hidden by the way /proc is mounted (hidepid)."""
_NANOSECONDS_A_TICK = 10**9 // os.sysconf("SC_CLK_TCK")
TICK = 1 / os.sysconf("SC_CLK_TCK")
"""Seconds in a clock tick."""
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class Stat(NamedTuple):
    """The fields of ``/proc/PID/stat`` that are of use here."""

    name: str
    state: str  # of its first thread; "Z": that has ended
    parent: int
    group: int
    session: int
    threads: int  # those that have ended and are not waited for count as well
    start_ticks: int  # clock ticks since boot: with the pid it names a process for good
    cpu_ticks: int  # in user mode and in the kernel
    resident_pages: int

    @property
    def is_alive(self) -> bool:
        """Whether it has not ended. Its first thread may have, alone, as by ``pthread_exit``."""
        return self.state not in {"Z", "X"} or self.threads > 1


def stat_of(pid: int) -> Stat | None:
    """None: there is no such process (any more), or it is hidden from this one."""
    try:
        line = _read(f"/proc/{pid}/stat")
    except _NOT_TO_BE_SEEN:
        return None
    name, _, rest = line.partition(b"(")[2].rpartition(b")")  # the name may hold blanks and parentheses
    fields = rest.split()
    return Stat(
        name=name.decode(errors="replace"),
        state=fields[0].decode(),
        parent=int(fields[1]),
        group=int(fields[2]),
        session=int(fields[3]),
        threads=int(fields[17]),
        start_ticks=int(fields[19]),
        cpu_ticks=int(fields[11]) + int(fields[12]),
        resident_pages=int(fields[21]),
    )


def switches_of(pid: int) -> int | None:
    """How often a process has left a CPU, of itself or not. What hangs does neither. None: as `stat_of`."""
    try:
        status = _read(f"/proc/{pid}/status")
    except _NOT_TO_BE_SEEN:
        return None
    return sum(int(line.split()[1]) for line in status.splitlines() if b"voluntary_ctxt_switches:" in line)


def ticks_since_boot() -> int:
    """The time, in the unit and by the clock of ``start_ticks``."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // _NANOSECONDS_A_TICK


def is_alive(pid: int, start_ticks: int) -> bool:
    """Whether exactly this process, and not a later one with its number, exists and has not ended."""
    stat = stat_of(pid)
    return stat is not None and stat.start_ticks == start_ticks and stat.is_alive


def all_processes() -> dict[int, Stat]:
    """Every process that can be seen, by pid. Takes some 20 µs for each."""
    pids = [int(name) for name in os.listdir("/proc") if name.isdecimal()]  # noqa: PTH208 - names, not paths
    return {pid: stat for pid in pids if (stat := stat_of(pid))}


def descendants_of(ancestor: int, processes: dict[int, Stat]) -> set[int]:
    """The pids below ``ancestor``, without it."""
    children: dict[int, list[int]] = {}
    for pid, stat in processes.items():
        children.setdefault(stat.parent, []).append(pid)
    found: set[int] = set()
    waiting = [ancestor]
    while waiting:
        below = children.get(waiting.pop(), [])
        found.update(below)
        waiting += below
    return found


def own_children() -> list[int]:
    """The pids of this process's children, zombies too, from its main thread's list (CONFIG_PROC_CHILDREN).

    Where the kernel lacks that list, all of /proc is read.
    """
    return children_of(os.getpid())


def children_of(parent: int) -> list[int]:
    """The same of another process."""
    try:
        return [int(pid) for pid in _read(f"/proc/{parent}/task/{parent}/children").split()]
    except FileNotFoundError:
        return [pid for pid, stat in all_processes().items() if stat.parent == parent]


def this_boot() -> str:
    """Names the time since the machine started: process ids mean nothing beyond it."""
    return _read("/proc/sys/kernel/random/boot_id").decode().strip()


def _read(path: str) -> bytes:
    """A quarter of the time of ``Path.read_bytes``: this is on the path of every start and every end."""
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        parts = []
        while part := os.read(file, _PART_BYTES):
            parts.append(part)
        return b"".join(parts)
    finally:
        os.close(file)
