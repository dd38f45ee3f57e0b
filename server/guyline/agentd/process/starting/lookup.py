"""Finding a program and a directory without ever hanging on a dead network mount."""

import asyncio
import contextlib
import errno
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from guyline.agentd.keeper.setup import MOST_PROGRAMS
from guyline.agentd.process.errors import CommandNotRunnable, DirectoryNotUsable, LookupTimedOut, SystemExhausted
from guyline.agentd.process.threads import OwnThreads
from guyline.agentd.system.files import is_want
from guyline.agentd.system.mounts import Mounts

_THREADS = 16
"""So many look-ups may hang at once; the next ones then wait, and time out."""
_DEFAULT_PATH = "/usr/local/bin:/usr/bin:/bin"


@dataclass(frozen=True)
class Found:
    """Where a command will run. ``directory`` is a descriptor that the receiver closes."""

    program: str  # absolute
    others: tuple[str, ...]  # the next ones of that name on the PATH
    directory: int
    directory_path: str  # absolute


class Lookup(OwnThreads):
    """Looks programs and directories up; ``close`` ends it.

    Where a file system is mounted that may hang, it does so in threads with a deadline; a thread costs as much as half
    a spawn, so not elsewhere.

    A thread that hangs in the kernel is left behind when the deadline passes; what it opens later it closes itself.
    """

    def __init__(self, *, timeout: float, default_directory: Path | None, home: Path) -> None:
        super().__init__("lookup", threads=_THREADS)
        self._timeout = timeout  # seconds
        self._default = default_directory
        self._home = home
        self._mounts = Mounts()

    def close(self) -> None:
        super().close()
        self._mounts.close()

    async def find(self, program: str, directory: str, env: Mapping[str, str], *, with_others: bool = False) -> Found:
        """Finds ``program`` on the PATH of ``env``, and ``directory``.

        Args:
            program: A name, or a path from the directory.
            directory: Empty: the default one, or the home directory.
            env: The command's.
            with_others: The command's user may not be allowed to execute what the agent finds first.

        Raises:
            CommandNotRunnable: There is no such program, or it may not be executed.
            DirectoryNotUsable: The directory is missing, is none, or may not be entered.
            LookupTimedOut: The file system did not answer.
            SystemExhausted: No descriptor is left, or no thread.
        """
        most = 1 + MOST_PROGRAMS if with_others else 1
        if not self._mounts.may_hang():
            return self._find(program, directory, env, most)
        search = self._ask(self._find, program, directory, env, most)
        try:
            async with asyncio.timeout(self._timeout):
                return await asyncio.shield(search)
        except (TimeoutError, asyncio.CancelledError) as why:
            search.add_done_callback(_close_late_result)
            if isinstance(why, TimeoutError):
                raise LookupTimedOut(program, directory, self._timeout) from why
            raise

    def _find(self, program: str, directory: str, env: Mapping[str, str], most: int) -> Found:
        descriptor, path = self._open_directory(directory)
        try:
            found, *others = _find_programs(program, path, env.get("PATH", _DEFAULT_PATH), most)
            return Found(found, tuple(others), descriptor, path)
        except BaseException:
            os.close(descriptor)
            raise

    def _open_directory(self, directory: str) -> tuple[int, str]:
        if directory:
            return _open(self._absolute(directory))
        for candidate in (self._default, self._home):
            if candidate:
                with contextlib.suppress(DirectoryNotUsable):
                    return _open(str(candidate))
        return _open("/")

    def _absolute(self, directory: str) -> str:
        if directory == "~" or directory.startswith("~/"):
            return str(self._home / directory[2:])
        base = self._default if self._default and self._default.is_dir() else self._home
        return os.path.normpath(base / directory)


def _open(directory: str) -> tuple[int, str]:
    try:
        descriptor = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as why:
        if is_want(why):
            raise SystemExhausted(why.errno or errno.EMFILE) from why
        raise DirectoryNotUsable(directory, why.errno or errno.EINVAL) from why
    if not os.access(directory, os.X_OK):
        os.close(descriptor)
        raise DirectoryNotUsable(directory, errno.EACCES)
    return descriptor, directory


def _find_programs(program: str, directory: str, search_path: str, most: int) -> list[str]:
    """As execvp does it: a name with a slash is a path from the directory, any other is searched for."""
    if "/" in program:
        return [_executable(os.path.join(directory, program), program)]  # noqa: PTH118 - keeps "./" and links as they are
    found: list[str] = []
    refused = None
    for folder in dict.fromkeys(search_path.split(":")):
        if len(found) == most:
            break
        try:
            found.append(_executable(os.path.join(directory, folder, program), program))  # noqa: PTH118 - as above
        except CommandNotRunnable as why:
            if why.facts["errno"] == "EACCES":
                refused = why
    if not found:
        raise refused or CommandNotRunnable(program, errno.ENOENT)
    return found


def _executable(path: str, program: str) -> str:
    try:
        is_file = os.stat(path).st_mode & 0o170000 == 0o100000  # noqa: PTH116 - one call, no object
    except OSError as why:
        raise CommandNotRunnable(program, why.errno or errno.ENOENT) from why
    if not is_file or not os.access(path, os.X_OK):
        raise CommandNotRunnable(program, errno.EACCES)
    return path


def _close_late_result(search: asyncio.Future[Found]) -> None:
    if not search.cancelled() and search.exception() is None:
        os.close(search.result().directory)
