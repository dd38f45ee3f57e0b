"""The commands: spawned, watched, signalled and reaped here, each step in the record log before anybody is told."""

import errno
import os
import resource
import signal
import time
from collections.abc import Callable, Iterable

from guyline.agentd.keeper import messages as m
from guyline.agentd.keeper.cgroups import Cgroups
from guyline.agentd.keeper.log import KeeperLog
from guyline.agentd.keeper.oom import OomWatch
from guyline.agentd.keeper.records import RecordLog
from guyline.agentd.keeper.setup import Setup
from guyline.agentd.keeper.spawn import Spawner
from guyline.agentd.keeper.table import INPUT_NAMES, Asked, Entry, Exit
from guyline.agentd.system import proc

KEEPER_LOST = "KEEPER_LOST"
AGENT_LOST = "AGENT_LOST"

_ASK_TO_END = {signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGKILL}


class Commands:
    """All commands of this store, by id.

    Everything here happens in one thread and without waiting, so reaping and signalling can never cross: a signal goes
    out only while the number is certain to be the command's.
    """

    def __init__(
        self,
        entries: Iterable[Entry],
        *,
        log: RecordLog,
        spawner: Spawner,
        cgroups: Cgroups,
        report: KeeperLog,
        tell: Callable[[m.Message], None],
    ) -> None:
        self.entries = {entry.process_id: entry for entry in entries}
        self._by_pid = {entry.pid: entry for entry in self.entries.values() if entry.is_running and entry.pid}
        self._log = log
        self._report = report
        self._spawner = spawner
        self.cgroups = cgroups
        self._tell = tell
        self._oom = OomWatch(cgroups.folder)
        for entry in self.running:
            cgroups.runs(entry.process_id)
        self._tidy()

    @property
    def running(self) -> list[Entry]:
        return list(self._by_pid.values())

    def start(self, request: m.Start, descriptors: list[int]) -> None:
        """Spawns, or answers with what is known if the id was used before. Takes the descriptors over."""
        known = self.entries.get(request.process_id)
        if known:
            m.close_all(descriptors)
            self._answer(known)
            return
        entry = self.entries[request.process_id] = Entry(request.process_id, request.info)
        self._log.append("start", entry.process_id, entry.info)
        directory, *rest = descriptors
        child, kept = rest[: len(request.child)], rest[len(request.child) :]
        try:
            self._spawn(entry, request, directory, child)
        finally:
            m.close_all([directory, *child])
            if entry.pid is None:
                m.close_all(kept)
            else:
                entry.kept = dict(zip(request.kept, kept, strict=True))
        self._answer(entry)

    def answer_failed(self, message: m.Message, number: int) -> None:
        """Tells the worker that what it asked for has failed, if it waits for an answer to that."""
        match message:
            case m.Start(process_id) | m.Fence(process_id):
                entry = self.entries.get(process_id)
                if entry is None:
                    self._tell(m.Failed(process_id, number, ""))
                    return
                if entry.pid is None and entry.errno is None:  # else the next worker would take it for one that runs
                    entry.errno = number
                    self._log.append("failed", process_id, number, "")
                self._answer(entry)
            case m.Signal(asked):
                self._tell(m.Signalled(asked, number))

    def handle(self, message: m.Message) -> bool:
        """Does what the worker asks about a command that was started; returns whether it was something of the kind."""
        match message:
            case m.Fence():
                self.fence(message)
            case m.Note():
                self.note(message)
            case m.Signal():
                self.signal(message)
            case m.Release(process_ids):
                self.release(process_ids)
            case m.LetGo():
                self.let_go(message)
            case m.Forget(process_id):
                self.forget(process_id)
            case _:
                return False
        return True

    def fence(self, request: m.Fence) -> None:
        """Records a start that will never be, as one that has failed."""
        entry = self.entries.setdefault(request.process_id, Entry(request.process_id, request.info))
        entry.errno = errno.ECANCELED
        self._log.append("entry", entry.to_json())  # one record: half of it would be a start whose end is unknown
        self._answer(entry)

    def signal(self, request: m.Signal) -> None:
        """Sends a signal to the command's group, unless it has been reaped: its number may by then be another's.

        Nor if it waits for that: a signal would count as what brought its end about.
        """
        entry = self.entries.get(request.process_id)
        failure = errno.ESRCH
        if entry and entry.is_running and not _is_to_be_reaped(entry):
            failure = self.kill_group(entry, request.signal, request.cause, to_all=request.to_all)
        self._tell(m.Signalled(request.number, failure))

    def kill_group(self, entry: Entry, number: int, cause: str, *, to_all: bool) -> int:
        """Returns zero or the errno. Whom nobody here may signal SIGKILL reaches by its cgroup, if it is for all."""
        assert entry.pid
        try:
            if not entry.is_child and not proc.is_alive(entry.pid, entry.start_ticks):
                return errno.ESRCH
            os.killpg(entry.pid, number)
            failure = 0
        except OSError as why:
            failure = why.errno or errno.EINVAL
        is_for_cgroup = failure == errno.EPERM and number == signal.SIGKILL and to_all
        if failure and not (is_for_cgroup and self.cgroups.kill_one(entry.process_id)):
            return failure
        asked = Asked(number, cause, time.time())
        if number in _ASK_TO_END:
            entry.asked = asked
        else:
            entry.told = asked
        return 0

    def note(self, request: m.Note) -> None:
        if entry := self.entries.get(request.process_id):
            entry.note = request.note
            self._log.append("note", entry.process_id, entry.note)

    def release(self, process_ids: list[str]) -> None:
        for entry in filter(None, map(self.entries.get, process_ids)):
            entry.released = True
            self._drop_descriptors(entry)

    def let_go(self, request: m.LetGo) -> None:
        if entry := self.entries.get(request.process_id):
            m.close_all([entry.kept.pop(name) for name in request.names if name in entry.kept])

    def forget(self, process_id: str) -> None:
        entry = self.entries.get(process_id)
        if entry and not entry.is_running:
            del self.entries[process_id]
            entry.close_kept()
            self._log.append("forget", process_id)

    def reap(self) -> list[tuple[int, int]]:
        """Reaps every child that has ended, records the commands' exits and tells the worker.

        Returns the pids and wait statuses of those that are no commands: the worker, and orphans that came here.
        """
        others = []
        ended: list[tuple[Entry, Exit]] = []
        while zombie := _first_zombie():
            pid = zombie.si_pid
            entry = self._by_pid.get(pid)
            oom_killed = entry is not None and self._is_out_of_memory_known(entry, zombie)
            _, status, usage = os.wait4(pid, 0)
            self._by_pid.pop(pid, None)
            if entry is None:
                others.append((pid, status))
            else:
                ended.append((entry, _to_exit(status, usage, oom_killed=oom_killed, asked=_asked(entry, status))))
        if ended:
            self._record(ended)
        if others:
            self._tidy()  # orphans come here: one may have been the last of its cgroup
        return others

    def _tidy(self) -> None:
        try:
            self.cgroups.tidy()
        except OSError as why:  # the keeper does so from time to time anyway
            self._report.warning("cgroups cannot be looked through", error=str(why))

    def end_unseen(self, entry: Entry, why: str) -> None:
        """Says of a command that nobody can wait for that it has ended, nobody knows how."""
        self._by_pid.pop(entry.pid or 0, None)
        self._remove_cgroup(entry)
        self._ended(entry, Exit(ended_at=time.time(), unknown=why, asked=entry.asked))

    def _spawn(self, entry: Entry, request: m.Start, directory: int, child: list[int]) -> None:
        cgroup = None
        not_before = proc.ticks_since_boot()
        try:
            setup = Setup.from_json(request.setup)
            cgroup = self.cgroups.make(entry.process_id, setup)
            entry.pid = self._spawner.spawn(
                request.program,
                request.argv,
                request.env,
                descriptors=dict(zip(request.child, child, strict=True)),
                directory=directory,
                cgroup=cgroup,
                setup=setup,
            )
        except (OSError, ValueError) as why:  # ValueError: a NUL where none can be, no set-up
            entry.errno = getattr(why, "errno", None) or errno.EINVAL
            entry.failed_part = getattr(why, "part", "")
            self._log.append("failed", entry.process_id, entry.errno, entry.failed_part)
            self._remove_cgroup(entry)
            return
        finally:
            if cgroup is not None:
                os.close(cgroup)
        entry.started_at = time.time()
        entry.start_ticks = _start_ticks(entry.pid, not_before)
        self._by_pid[entry.pid] = entry
        self._log.append("spawned", entry.process_id, entry.pid, entry.start_ticks, entry.started_at)

    def _remove_cgroup(self, entry: Entry) -> None:
        try:
            self.cgroups.over(entry.process_id)
        except OSError as why:  # it is looked at again with the others that are left
            self._report.warning("a cgroup cannot be removed", process_id=entry.process_id, error=str(why))

    def _answer(self, entry: Entry) -> None:
        if entry.pid is None:
            self._tell(m.Failed(entry.process_id, entry.errno or errno.EINVAL, entry.failed_part))
        else:
            self._tell(m.Started(entry.process_id, entry.pid, entry.start_ticks, entry.started_at))
            if entry.exit:
                self._tell(m.Exited(entry.process_id, list(entry.exit)))

    def _record(self, ended: list[tuple[Entry, Exit]]) -> None:
        strangers = self._strangers()
        for entry, exit_ in ended:
            self._ended(entry, exit_._replace(left_in=self._left_in(entry, strangers)))

    def _strangers(self) -> list[int]:
        """Children of this process that are no commands; none if that cannot be told."""
        try:
            return [pid for pid in proc.own_children() if pid not in self._by_pid]
        except OSError as why:
            self._report.warning("orphans cannot be looked for", error=str(why))
            return []

    def _left_in(self, entry: Entry, strangers: list[int]) -> tuple[str, ...]:
        """Where its descendants are left over, as far as that can be told: the end itself must not be lost with it."""
        assert entry.pid
        found = ("group",) if _is_group_left(entry.pid) else ()
        try:
            members = self.cgroups.over(entry.process_id)
            return found + _left_outside_group(entry.pid, strangers, members)
        except OSError as why:
            self._report.warning("descendants cannot be looked for", process_id=entry.process_id, error=str(why))
            return found

    def _is_out_of_memory_known(self, entry: Entry, zombie: os.waitid_result) -> bool:
        try:
            return self._was_out_of_memory(entry, zombie)
        except Exception as why:  # noqa: BLE001 - this is a detail, for which neither its end nor another's may be lost
            self._report.error("why a command was killed is not known", process_id=entry.process_id, error=repr(why))
            return False

    def _was_out_of_memory(self, entry: Entry, zombie: os.waitid_result) -> bool:
        """Asked while it is a zombie: its cgroup can then still be read."""
        was_killed = zombie.si_code != os.CLD_EXITED and zombie.si_status == signal.SIGKILL
        if not was_killed or (entry.asked and entry.asked.signal == signal.SIGKILL):
            return False
        return self._oom.has_killed_in(entry.process_id) or self._oom.has_killed(zombie.si_pid)

    def _ended(self, entry: Entry, exit_: Exit) -> None:
        entry.exit = self._log.append_exit(entry.process_id, exit_)
        self._drop_descriptors(entry)
        self._tell(m.Exited(entry.process_id, list(entry.exit)))

    @staticmethod
    def _drop_descriptors(entry: Entry) -> None:
        if entry.released and not entry.is_running:
            entry.close_kept(but=INPUT_NAMES)


def _start_ticks(pid: int, not_before: int) -> int:
    """When a child was born that was spawned since then. Mostly that is certain without a look at it, which would hold
    it up: it is just executing its program.
    """
    if proc.ticks_since_boot() == not_before:
        return not_before
    try:
        stat = proc.stat_of(pid)  # at worst a zombie: nobody else reaps it
    except OSError:  # no descriptor is to be had: most likely it was at once
        return not_before
    return stat.start_ticks if stat else 0


def _is_to_be_reaped(entry: Entry) -> bool:
    assert entry.pid
    return entry.is_child and os.waitid(os.P_PID, entry.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _first_zombie() -> os.waitid_result | None:
    try:
        return os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return None


def _to_exit(status: int, usage: "resource.struct_rusage", *, oom_killed: bool, asked: Asked | None) -> Exit:
    by_signal = os.WIFSIGNALED(status)
    return Exit(
        ended_at=time.time(),
        code=None if by_signal else os.WEXITSTATUS(status),
        signal=os.WTERMSIG(status) if by_signal else None,
        core_dumped=os.WCOREDUMP(status),
        user_cpu=usage.ru_utime,
        system_cpu=usage.ru_stime,
        peak_memory_bytes=usage.ru_maxrss * 1024,
        oom_killed=oom_killed,
        asked=asked,
    )


def _asked(entry: Entry, status: int) -> Asked | None:
    """The signal that may have brought the end about. What came after one that asks to end (a new size of the terminal,
    say) does not hide that.
    """
    is_by_other = entry.told and os.WIFSIGNALED(status) and os.WTERMSIG(status) == entry.told.signal
    return entry.told if is_by_other else entry.asked


def _is_group_left(leader: int) -> bool:
    """Asked for by signal 0, since members of it may hang below others than this process."""
    try:
        os.killpg(leader, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody is there, under another user
        return True
    return True


def _left_outside_group(leader: int, strangers: list[int], members: set[int]) -> tuple[str, ...]:
    """Where else descendants of a command that was reaped a moment ago are left over.

    Its orphans are among the strangers: children of this process that are no commands. Whoever is in the session but
    not in the group came that way. ``members`` are those of its cgroup.
    """
    found = []
    if any(_is_in_session_alone(pid, leader) for pid in strangers):
        found.append("session")
    if any(_is_in_another_session(pid, leader) for pid in members):
        found.append("cgroup")
    return tuple(found)


def _is_in_session_alone(pid: int, leader: int) -> bool:
    try:
        is_in_session = os.getsid(pid) == leader != os.getpgid(pid)
    except ProcessLookupError:
        return False
    return is_in_session and (stat := proc.stat_of(pid)) is not None and stat.is_alive


def _is_in_another_session(pid: int, leader: int) -> bool:
    try:
        return os.getsid(pid) != leader
    except ProcessLookupError:
        return False
