"""How the keeper spawns: by ``posix_spawn``, which costs a quarter of a fork with set-up in Python."""

import contextlib
import os
import resource
import signal
from collections.abc import Iterator, Mapping

_RESET = [number for number in signal.Signals if number not in {signal.SIGKILL, signal.SIGSTOP}]
"""A command starts with every signal at its default: Python ignores some, and an ignored one would be inherited."""


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
            OSError: The program cannot be executed, or the system has no room for another process.
            ValueError: There is a NUL in an argument or a variable.
        """
        actions: list[tuple[int, int, int] | tuple[int, int, str, int, int]] = []
        if 0 not in descriptors:
            actions.append((os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0))
        actions += [(os.POSIX_SPAWN_DUP2, ours, theirs) for theirs, ours in descriptors.items()]
        if directory is not None:
            os.fchdir(directory)
        try:
            with self._ordinary():
                return os.posix_spawn(
                    program, argv, env, file_actions=actions, setsid=True, setsigmask=(), setsigdef=_RESET
                )
        finally:
            if directory is not None:
                os.fchdir(self._home)

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
