"""Forks: in the child of a process that had a channel open, gRPC stands still for ever."""

import os
import weakref
from collections import Counter

_open: Counter[int] = Counter()
"""How many channels each process has opened and not closed. Of the whole process, as gRPC itself is; a child has what
was open in its parent when it forked.
"""


def opened(channel: object) -> "weakref.finalize[[int], object]":
    """Counts the channel; call what this returns once it is closed. One that is forgotten counts as closed."""
    pid = os.getpid()
    _open[pid] += 1
    closed = weakref.finalize(channel, _closed, pid)
    closed.atexit = False
    return closed


def check() -> None:
    """Raises RuntimeError where gRPC would stand still."""
    own = os.getpid()
    if any(count for pid, count in _open.items() if pid != own):
        raise RuntimeError(
            "an agent was open in the parent process when it forked, and gRPC does not work after that: close agents "
            "before a fork, or have processes started by 'spawn' or 'forkserver'"
        )


def _closed(pid: int) -> None:
    if os.getpid() == pid:  # in a child the parent's channels stay as they were
        _open[pid] -= 1
