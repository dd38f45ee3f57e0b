"""How the keeper spawns: by ``posix_spawn``, which costs a quarter of a fork with set-up in Python."""

import contextlib
import errno
import os
import resource
import signal
import time
from collections.abc import Iterator, Mapping

_PYTHON_IGNORES = {signal.SIGPIPE, signal.SIGXFSZ}

_SLOW = 0.5
"""Seconds after which it is doubted that a spawned child has executed its program."""
_PF_FORKNOEXEC = 0x40  # linux/sched.h


class OomScore:
    """Keeps this process the last that the kernel kills when memory runs out, and its children ordinary.

    Lowering the score needs a privilege (CAP_SYS_RESOURCE); without it nothing changes.
    """

    LOWEST = -1000

    def __init__(self, ordinary: int) -> None:
        self._ordinary = ordinary
        self._file: int | None = os.open("/proc/self/oom_score_adj", os.O_RDWR | os.O_CLOEXEC)
        if not self._write(self.LOWEST):
            os.close(self._file)
            self._file = None

    def be_ordinary(self) -> None:
        """Until ``be_protected``: what is spawned meanwhile has the ordinary score."""
        self._write(self._ordinary)

    def be_protected(self) -> None:
        self._write(self.LOWEST)

    def _write(self, score: int) -> bool:
        if self._file is None:
            return False
        try:
            os.pwrite(self._file, b"%d" % score, 0)
        except PermissionError:
            return False
        return True


class Spawner:
    """Spawns commands, each in a session of its own.

    This process may have more descriptors than its children (as many as the system allows), and is protected from the
    OOM killer: for each spawn it turns ordinary, since ``posix_spawn`` passes on what the caller is.
    """

    def __init__(self, *, descriptor_limit: int, oom_score: int) -> None:
        self._home = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
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
    ) -> int:
        """Returns the pid.

        Args:
            program: An absolute path; nothing is looked up here.
            descriptors: Which of ours (value) becomes which of the child's (key). Without 0 it reads /dev/null.
            directory: A descriptor of the working directory; None: ``/``.

        Raises:
            OSError: The program cannot be executed, or the system has no room for another process. ETIMEDOUT: it lies
                where nobody answers, and the child was killed while it waited (by the worker: this thread waits too).
            ValueError: There is a NUL in an argument or a variable.
        """
        actions: list[tuple[int, int, int] | tuple[int, int, str, int, int]] = []
        if 0 not in descriptors:
            actions.append((os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0))
        actions += [(os.POSIX_SPAWN_DUP2, ours, theirs) for theirs, ours in descriptors.items()]
        if directory is not None:
            os.fchdir(directory)
        began = time.monotonic()
        try:
            with self._ordinary():
                pid = os.posix_spawn(
                    program, argv, env, file_actions=actions, setsid=True, setsigmask=(), setsigdef=self._reset
                )
        finally:
            if directory is not None:
                os.fchdir(self._home)
        if time.monotonic() - began > _SLOW:
            _demand_executed(pid)
        return pid

    @contextlib.contextmanager
    def _ordinary(self) -> Iterator[None]:
        self._oom.be_ordinary()
        self._limit_descriptors(self._descriptors)
        try:
            yield
        finally:
            self._limit_descriptors(self._most_descriptors)
            self._oom.be_protected()

    def _limit_descriptors(self, limit: int) -> None:
        if self._descriptors != self._most_descriptors:
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, self._most_descriptors))


def _is_ignored(number: signal.Signals) -> bool:
    return signal.getsignal(number) is signal.SIG_IGN


def _demand_executed(pid: int) -> None:
    """``posix_spawn`` takes a child that was killed before its exec for a success. Reaps such a one, and raises."""
    with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123 - as everywhere in the keeper
        flags = int(file.read(1024).rpartition(b")")[2].split()[6])
    if flags & _PF_FORKNOEXEC:
        os.waitpid(pid, 0)
        raise OSError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))
