"""Frees a keeper that hangs in a spawn: it stops until the child executes, and one on a dead mount never does."""

import asyncio
import contextlib
import os
import signal
from pathlib import Path

from guyline.agentd.system import proc
from guyline.daemon.logging import get_logger

UNFREEZE_AFTER = 2.0
"""Seconds of the keeper's silence, while a start waits, after which a child that hangs before its exec is killed."""

_HUNG_FOR = UNFREEZE_AFTER / 2
"""Seconds of life of such a child: the keeper may have been silent for the sake of an earlier one."""

log = get_logger("keeper-watchdog")


class Watchdog:
    """Looks after the keeper while anybody waits for it, however many do."""

    def __init__(self, keeper_pid: int) -> None:
        self._keeper_pid = keeper_pid
        self._silent_since = 0.0  # loop time; what lies before the first wait does not matter
        self._timer: asyncio.TimerHandle | None = None

    def waits(self) -> None:
        """Somebody waits for the keeper."""
        if self._timer is None:
            self._look_in(UNFREEZE_AFTER)

    def heard(self) -> None:
        """The keeper has said something."""
        self._silent_since = asyncio.get_running_loop().time()

    def rests(self) -> None:
        """Nobody waits any more."""
        if self._timer:
            self._timer.cancel()
            self._timer = None

    def _look_in(self, seconds: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(seconds, self._look)

    def _look(self) -> None:
        silent_for = asyncio.get_running_loop().time() - self._silent_since
        if silent_for < UNFREEZE_AFTER:
            self._look_in(UNFREEZE_AFTER - silent_for)
            return
        for pid in _unexecuted_children(self._keeper_pid):
            log.warning("killing a child that hangs before its exec", child_pid=pid)
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._look_in(UNFREEZE_AFTER)


def _unexecuted_children(keeper: int) -> list[int]:
    """Children that have hung before their exec for long: until then they have the keeper's command line.

    One that was spawned only now, because another had kept the keeper waiting, is left alone.
    """
    command_line = _command_line_of(keeper)
    latest_start = proc.ticks_since_boot() - _HUNG_FOR * os.sysconf("SC_CLK_TCK")
    children = {pid: stat for pid in proc.children_of(keeper) if pid != os.getpid() and (stat := proc.stat_of(pid))}
    return [
        pid
        for pid, stat in children.items()
        if stat.start_ticks <= latest_start and _command_line_of(pid) == command_line
    ]


def _command_line_of(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
