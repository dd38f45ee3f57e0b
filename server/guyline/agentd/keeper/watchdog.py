"""Frees a keeper that hangs in a spawn: it stops until the child executes, and one on a dead mount never does."""

import asyncio
import contextlib
import os
import signal
from pathlib import Path
from typing import NamedTuple

from guyline.agentd.system import proc
from guyline.daemon.logging import get_logger

UNFREEZE_AFTER = 2.0
"""Seconds of the keeper's silence, while a start waits, after which a child that hangs before its exec is killed."""

_LOOK_AGAIN = UNFREEZE_AFTER / 2
"""Seconds between two looks, over which such a child must not have moved: one may only have to wait for a CPU."""

_RUNS = "R"  # or would, on a machine with less to do

log = get_logger("keeper-watchdog")


class Watchdog:
    """Looks after the keeper while anybody waits for it, however many do."""

    def __init__(self, keeper_pid: int) -> None:
        self._keeper_pid = keeper_pid
        self._silent_since = 0.0  # loop time; what lies before the first wait does not matter
        self._timer: asyncio.TimerHandle | None = None
        self._still: dict[int, Stillness] = {}  # by pid, as of the look before

    def waits(self) -> None:
        """Somebody waits for the keeper."""
        if self._timer is None:
            self._look_in(_LOOK_AGAIN)

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
        if silent_for < _LOOK_AGAIN:
            self._look_in(_LOOK_AGAIN - silent_for)
            return
        before, self._still = self._still, _still_children(self._keeper_pid)
        for pid, stillness in self._still.items():
            if silent_for >= UNFREEZE_AFTER and before.get(pid) == stillness:
                log.warning("killing a child that hangs before its exec", child_pid=pid)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        self._look_in(_LOOK_AGAIN)


class Stillness(NamedTuple):
    """Two looks with the same result: in between the child has neither come to a CPU nor left one."""

    start_ticks: int
    switches: int


def _still_children(keeper: int) -> dict[int, Stillness]:
    """Children that wait for something before their exec: until then they have the keeper's command line."""
    command_line = _command_line_of(keeper)
    still = {}
    for pid in proc.children_of(keeper):
        stat, switches = proc.stat_of(pid), proc.switches_of(pid)
        if stat and stat.state != _RUNS and switches is not None and _command_line_of(pid) == command_line:
            still[pid] = Stillness(stat.start_ticks, switches)
    still.pop(os.getpid(), None)
    return still


def _command_line_of(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
