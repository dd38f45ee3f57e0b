"""How the keeper spawns: by ``posix_spawn`` if it can, which costs a quarter of a fork with set-up in Python."""

import contextlib
import errno
import fcntl
import os
import resource
import signal
import time
from collections.abc import Iterator, Mapping
from typing import Any

from guyline.agentd.keeper import fork_spawn, native_spawn
from guyline.agentd.keeper.setup import NOTHING, Setup, SetupFailed

_PYTHON_IGNORES = {signal.SIGPIPE, signal.SIGXFSZ}

_SLOTS_FROM, _SLOTS = 10, 10
"""Descriptors that are kept free: beyond all numbers that children know, and enough for the worker, who gets most."""
_STANDARD = 2
"""The last of the numbers that a terminal takes."""
_SLOW = 0.5
"""Seconds after which it is doubted that a spawned child has executed its program."""
_PF_FORKNOEXEC = 0x40  # linux/sched.h


class OomScore:
    """Keeps this process the last that the kernel kills when memory runs out, and its children ordinary.

    Lowering the score needs a privilege (CAP_SYS_RESOURCE), unless a privileged process has allowed it before. Without
    it this process keeps its own, to which it may always return.
    """

    LOWEST = -1000

    def __init__(self, ordinary: int) -> None:
        self._ordinary = ordinary
        self._file = os.open("/proc/self/oom_score_adj", os.O_RDWR | os.O_CLOEXEC)
        self._now = self._protected = int(os.pread(self._file, 16, 0))
        with contextlib.suppress(PermissionError):
            self._write(self.LOWEST)
            self._protected = self.LOWEST

    def be_ordinary(self, score: int | None = None) -> None:
        """Until ``be_protected``: what is spawned meanwhile has this score, or the ordinary one.

        Raises:
            SetupFailed: It is lower than this process may go.
        """
        try:
            self._write(self._ordinary if score is None else score)
        except PermissionError as why:
            raise SetupFailed(why.errno or errno.EACCES, "oom_score") from why

    def be_protected(self) -> None:
        self._write(self._protected)

    def _write(self, score: int) -> None:
        if score != self._now:
            os.pwrite(self._file, b"%d" % score, 0)
            self._now = score


class Spawner:
    """Spawns commands, each in a session of its own.

    This process may have more descriptors than its children (as many as the system allows), and is protected from the
    OOM killer: for each spawn it turns ordinary, since what the caller is is passed on. ``posix_spawn`` then takes no
    descriptor beyond the child's limit, so such a one is copied to a low number that is kept for that.
    """

    def __init__(self, *, descriptor_limit: int, oom_score: int) -> None:
        self._home = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self._null = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
        self._slots = [fcntl.fcntl(self._null, fcntl.F_DUPFD_CLOEXEC, _SLOTS_FROM) for _ in range(_SLOTS)]
        self._oom = OomScore(oom_score)
        self._descriptors = descriptor_limit
        _, self._most_descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._limit_descriptors(self._most_descriptors)
        # A command starts with every signal at its default. What is ignored would be inherited; handlers are not.
        self._reset = [*_PYTHON_IGNORES, *filter(_is_ignored, signal.Signals)]

    def spawn(
        self,
        program: str,
        argv: list[str],
        env: Mapping[str, str],
        *,
        descriptors: Mapping[int, int],
        directory: int | None = None,
        cgroup: int | None = None,
        setup: Setup = NOTHING,
    ) -> int:
        """Returns the pid.

        Args:
            program: An absolute path; nothing is looked up here.
            descriptors: Which of ours (value) becomes which of the child's (key); up to 10. Without 0, and without a
                terminal, it reads /dev/null.
            directory: A descriptor of the working directory; None: ``/``.
            cgroup: A descriptor of the cgroup's directory; None: this process's own.
            setup: What it says of the cgroup has been done.

        Raises:
            SetupFailed: The set-up is not possible, or not allowed.
            OSError: The program cannot be executed, or the system has no room for another process. ETIMEDOUT: it lies
                where nobody answers, and the child was killed while it waited (by the worker: this thread waits too).
            ValueError: There is a NUL in an argument or a variable.
        """
        began = time.monotonic()
        wanted = descriptors if setup.terminal else {0: self._null, **descriptors}
        with self._in_slots(wanted) as slots, self._as_children_are(directory, setup.oom_score):
            if setup.wants_fork or (cgroup is not None and not native_spawn.IS_POSSIBLE):
                pid = fork_spawn.spawn(
                    program, argv, env, descriptors=slots, default_signals=self._reset, setup=setup, cgroup=cgroup
                )
            elif cgroup is None:
                actions: list[Any] = [(os.POSIX_SPAWN_DUP2, slot, theirs) for theirs, slot in slots.items()]
                if setup.terminal:
                    actions[:0] = _open_terminal(setup.terminal)
                pid = os.posix_spawn(
                    program, argv, env, file_actions=actions, setsid=True, setsigmask=(), setsigdef=self._reset
                )
            else:
                pid = native_spawn.spawn_into(
                    cgroup,
                    program,
                    argv,
                    env,
                    descriptors=slots,
                    default_signals=self._reset,
                    terminal=setup.terminal,
                )
        if time.monotonic() - began > _SLOW:
            _demand_executed(pid)
        return pid

    @contextlib.contextmanager
    def _in_slots(self, descriptors: Mapping[int, int]) -> Iterator[dict[int, int]]:
        free = iter(self._slots)
        usable = range(max({_STANDARD, *descriptors}) + 1, self._descriptors)
        placed = {theirs: ours if ours in usable else next(free) for theirs, ours in descriptors.items()}
        moved = [(ours, placed[theirs]) for theirs, ours in descriptors.items() if placed[theirs] != ours]
        try:
            for ours, slot in moved:
                os.dup2(ours, slot, inheritable=False)
            yield placed
        finally:
            for _, slot in moved:
                os.dup2(self._null, slot, inheritable=False)

    @contextlib.contextmanager
    def _as_children_are(self, directory: int | None, oom_score: int | None) -> Iterator[None]:
        self._oom.be_ordinary(oom_score)
        self._limit_descriptors(self._descriptors)
        try:
            if directory is not None:
                os.fchdir(directory)
            yield
        finally:
            if directory is not None:
                os.fchdir(self._home)
            self._limit_descriptors(self._most_descriptors)
            self._oom.be_protected()

    def _limit_descriptors(self, limit: int) -> None:
        if self._descriptors != self._most_descriptors:
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, self._most_descriptors))


def _open_terminal(path: str) -> list[tuple[Any, ...]]:
    """What a session's leader opens first becomes its controlling terminal. Needs no free descriptor but 0."""
    copies = [(os.POSIX_SPAWN_DUP2, 0, theirs) for theirs in (1, 2)]
    return [(os.POSIX_SPAWN_OPEN, 0, path, os.O_RDWR, 0), *copies]


def _is_ignored(number: signal.Signals) -> bool:
    return signal.getsignal(number) is signal.SIG_IGN


def _demand_executed(pid: int) -> None:
    """A child that was killed before its exec looks like a success. Reaps such a one, and raises."""
    with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123 - as everywhere in the keeper
        flags = int(file.read(1024).rpartition(b")")[2].split()[6])
    if flags & _PF_FORKNOEXEC:
        os.waitpid(pid, 0)
        raise OSError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))
