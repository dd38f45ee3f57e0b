"""The end of an agent: every process below it is told to go, then made to; then the worker ends."""

import contextlib
import os
import signal
import time

from guyline.agentd.keeper import messages as m
from guyline.agentd.keeper.commands import Commands
from guyline.agentd.keeper.log import KeeperLog
from guyline.agentd.keeper.table import Entry
from guyline.agentd.keeper.worker import Worker
from guyline.agentd.system import proc

_TERM_SHARE = 0.6
"""Of the grace: how long commands have after TERM. The rest is for KILL and for the worker's streams."""
_LOOK_AGAIN = 0.05
"""Seconds between looks for processes that were killed but have left others behind."""
_GIVE_UP_AFTER = 5.0
"""Seconds after the grace: what is alive by then hangs in the kernel, and waiting longer helps nobody."""


class Shutdown:
    """Goes on by ``advance``, which is called after every event and when ``due_at`` has come."""

    def __init__(self, commands: Commands, worker: Worker, *, grace: float, log: KeeperLog) -> None:
        self._log = log
        self._commands = commands
        self._worker = worker
        now = time.monotonic()
        self._ends_at = now + grace
        self._worker_was_stopped = False
        self.due_at = now + _TERM_SHARE * grace
        worker.tell(m.ShutDown(grace))
        self._send_all(signal.SIGTERM)

    def hurry(self) -> None:
        """Somebody asked twice: everything dies now, the worker too."""
        self._ends_at = self.due_at = time.monotonic()

    def advance(self) -> int | None:
        """Does what is next; returns the agent's exit code once it can end: 1 if something would not die."""
        now = time.monotonic()
        is_due = now >= self.due_at
        if self._is_any_command_left():
            if is_due:
                self._send_all(signal.SIGKILL)
                self.due_at = now + _LOOK_AGAIN
        elif self._worker.pid is None:
            return 0
        elif not self._worker_was_stopped:
            self._worker_was_stopped = True
            self._worker.tell(m.Stop())
            self.due_at = self._ends_at
        if now >= self._ends_at and is_due:
            self._worker.signal(signal.SIGKILL)
            self.due_at = now + _LOOK_AGAIN
        return 1 if now >= self._ends_at + _GIVE_UP_AFTER else None

    def _is_any_command_left(self) -> bool:
        try:
            return (
                bool(set(proc.own_children()) - {self._worker.pid})
                or self._commands.cgroups.is_anybody_left()
                or any(map(_is_lost_and_alive, self._commands.running))
            )
        except OSError:  # no descriptor is to be had just now: the next look will tell
            return True

    def _send_all(self, number: signal.Signals) -> None:
        for entry in self._commands.running:
            self._commands.kill_group(entry, number, "agent", to_all=True)
        if number == signal.SIGKILL:
            self._commands.cgroups.kill()  # also what forks faster than it can be listed
        groups = {entry.pid for entry in self._commands.running}
        try:
            others = self._below()
        except OSError as why:  # the groups have got it; the others are looked for again for SIGKILL
            self._log.warning("some processes cannot be looked for", error=str(why))
            return
        for pid, stat in others.items():
            if stat.group not in groups:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, number)

    def _below(self) -> dict[int, proc.Stat]:
        """Who lives below this process, but for the worker and its helpers, and what lost commands have left."""
        everybody = proc.all_processes()
        found = proc.descendants_of(os.getpid(), everybody)
        if self._worker.pid:
            found -= {self._worker.pid, *proc.descendants_of(self._worker.pid, everybody)}
        found.update(entry.pid for entry in self._commands.running if entry.pid and _is_lost_and_alive(entry))
        found |= self._commands.cgroups.members()
        return {pid: everybody[pid] for pid in found if pid in everybody and everybody[pid].is_alive}


def _is_lost_and_alive(entry: Entry) -> bool:
    return not entry.is_child and entry.pid is not None and proc.is_alive(entry.pid, entry.start_ticks)
