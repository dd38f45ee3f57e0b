"""Finding a program and a directory without ever hanging on a dead network mount."""

import asyncio
import contextlib
import errno
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from guyline.agentd.process.errors import CommandNotRunnable, DirectoryNotUsable, LookupTimedOut, SystemExhausted
from guyline.agentd.process.starting.users import AGENT, Identity
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

    async def find(self, program: str, directory: str, env: Mapping[str, str], identity: Identity = AGENT) -> Found:
        """Finds ``program`` on the PATH of ``env``, as ``identity`` may run it, and ``directory``.

        Raises:
            CommandNotRunnable: There is no such program, or it may not be executed.
            DirectoryNotUsable: The directory is missing, is none, or may not be entered.
            LookupTimedOut: The file system did not answer.
            SystemExhausted: No descriptor is left, or no thread.
        """
        if not self._mounts.may_hang():
            return self._find(program, directory, env, identity)
        search = self._ask(self._find, program, directory, env, identity)
        try:
            async with asyncio.timeout(self._timeout):
                return await asyncio.shield(search)
        except (TimeoutError, asyncio.CancelledError) as why:
            search.add_done_callback(_close_late_result)
            if isinstance(why, TimeoutError):
                raise LookupTimedOut(program, directory, self._timeout) from why
            raise

    def _find(self, program: str, directory: str, env: Mapping[str, str], identity: Identity) -> Found:
        descriptor, path = self._open_directory(directory)
        try:
            found = _find_program(program, path, env.get("PATH", _DEFAULT_PATH), identity)
            return Found(found, descriptor, path)
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


def _find_program(program: str, directory: str, search_path: str, identity: Identity) -> str:
    """As execvp does it: a name with a slash is a path from the directory, any other is searched for.

    What another user may not run does not hide what comes behind it. If that is all there is, the attempt will tell.
    """
    if "/" in program:
        return _executable(os.path.join(directory, program), program)  # noqa: PTH118 - keeps "./" and links as they are
    refused = None
    closed = None
    for folder in search_path.split(":"):
        try:
            found = _executable(os.path.join(directory, folder, program), program)  # noqa: PTH118 - as above
        except CommandNotRunnable as why:
            if why.facts["errno"] == "EACCES":
                refused = why
            continue
        if _is_open_to(identity, found):
            return found
        closed = closed or found
    if closed:
        return closed
    raise refused or CommandNotRunnable(program, errno.ENOENT)


def _is_open_to(identity: Identity, path: str) -> bool:
    try:
        return identity.may_run(path)
    except OSError:  # it went a moment ago
        return False


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
