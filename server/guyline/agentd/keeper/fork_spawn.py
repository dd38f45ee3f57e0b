"""Spawning by a fork: slower than ``posix_spawn`` by a millisecond or two, but everything can be set up in the child.

A child is also born in its cgroup, with every C library. Moving there afterwards is no way: what the command forks
before it has been moved would stay outside, and the first move after a pause waits for a grace period of the kernel's
RCU, 5 to 25 ms.
"""

import contextlib
import ctypes
import errno
import mmap
import os
import resource
import signal
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import NoReturn

from guyline.agentd.keeper.native_spawn import Strings, to_strings, to_text
from guyline.agentd.keeper.setup import Limit, Setup, SetupFailed

_SYS_CLONE = {"x86_64": 56, "aarch64": 220, "riscv64": 220}.get(os.uname().machine)
"""Not clone3 where no cgroup is asked for: containers without privileges mostly have it forbidden."""
_SYS_CLONE3 = 435  # of every architecture with the common table: asm-generic/unistd.h
_CLONE_INTO_CGROUP = 0x200000000  # linux/sched.h, as the next
_CLONE_VFORK = 0x4000
_CLONE_ARGS = struct.Struct("11Q")
"""flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid, set_tid_size, cgroup."""
_REPORT = struct.Struct("i28s")
"""What a child leaves that could not execute: its errno, and the part of the set-up that failed."""

_Step = tuple[str, Callable[[], object]]
"""What a child does before it executes, and which part of the set-up it is; empty: none."""

_libc = ctypes.PyDLL(None, use_errno=True)  # not CDLL: the child must come back with the interpreter's lock held
_libc.syscall.restype = ctypes.c_long
_libc.syscall.argtypes = [ctypes.c_long, *[ctypes.c_void_p] * 5]


def spawn(
    program: str,
    argv: list[str],
    env: Mapping[str, str],
    *,
    descriptors: Mapping[int, int],
    default_signals: Iterable[int],
    setup: Setup,
    cgroup: int | None,
) -> int:
    """Spawns a child, in a session of its own, as the set-up says; returns its pid once it has executed.

    Args:
        descriptors: Which of ours (value) becomes which of the child's (key).
        setup: All but its OOM score, and what it says of the cgroup.
        cgroup: A descriptor of the directory of the cgroup in which it is born; None: this process's own.

    Raises:
        SetupFailed: The set-up is not possible, or not allowed.
        OSError: The program cannot be executed, or nobody can be born there.
        ValueError: There is a NUL in an argument or a variable.
    """
    # Made here, since under a limit to its memory the child may have no room for it.
    programs = [to_text(each) for each in (program, *setup.programs)]
    image = to_strings(argv), to_strings([f"{name}={value}" for name, value in env.items()])
    steps: list[_Step] = [
        ("", os.setsid),
        *_steps_to_terminal(setup),
        ("", partial(_place, descriptors)),
        *_steps_to(setup),
        ("", partial(_reset_signals, default_signals)),
        ("", partial(_execute, programs, *image)),
    ]
    with mmap.mmap(-1, mmap.PAGESIZE) as shared:  # no pipe: there may be no room for its descriptors
        pid = _clone(cgroup, then=lambda: _become(steps, shared))
        number, failed = _REPORT.unpack_from(shared)  # zero: it executes; or it was killed before
    if number:
        os.waitpid(pid, 0)
        part = failed.rstrip(b"\0").decode()
        raise SetupFailed(number, part) if part else OSError(number, os.strerror(number))
    return pid


def demand_births_in(cgroup: int) -> None:
    """Raises:
    OSError: Nobody can be born there.
    """
    os.waitpid(_clone(cgroup, then=lambda: os._exit(0)), 0)


def _clone(cgroup: int | None, *, then: Callable[[], NoReturn]) -> int:
    """Makes a copy of this process (which has one thread), born in the cgroup, that does ``then``.

    Returns its pid once it executes another program, or has ended.

    Raises:
        OSError: Nobody can be born there.
    """
    call: list[object]
    if cgroup is None:
        if _SYS_CLONE is None:
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
        call = [_SYS_CLONE, _CLONE_VFORK | signal.SIGCHLD, 0, 0, 0, 0]
    else:
        flags = _CLONE_INTO_CGROUP | _CLONE_VFORK
        arguments = _CLONE_ARGS.pack(flags, 0, 0, 0, signal.SIGCHLD, *[0] * 5, cgroup)
        call = [_SYS_CLONE3, arguments, len(arguments), 0, 0, 0]
    # A signal to the child must not be written to this process's own pipe, which it has until it executes.
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        pid: int = _libc.syscall(*call)
        if pid == 0:
            then()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    if pid < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return pid


def _become(steps: Iterable[_Step], shared: mmap.mmap) -> NoReturn:
    """Makes of the copy the program, or leaves word of why not."""
    part, number = "", errno.EINVAL
    try:
        for part, take in steps:  # noqa: B007 - it is told where this ends
            take()
    except OSError as why:
        number = why.errno or number
    except MemoryError:
        number = errno.ENOMEM
    finally:  # also of what nobody has thought of: there must never be two of the parent
        shared[: _REPORT.size] = _REPORT.pack(number, part.encode())
        os._exit(127)


def _steps_to(setup: Setup) -> Iterator[_Step]:
    """The user comes last: another one may do none of the rest. Before it the limits: room may be one of them."""
    if setup.nice is not None:
        yield "nice", partial(os.setpriority, os.PRIO_PROCESS, 0, setup.nice)
    if setup.umask is not None:
        yield "umask", partial(os.umask, setup.umask)
    if setup.groups is not None:
        yield "groups", partial(os.setgroups, setup.groups)
    if setup.gid is not None:
        yield "gid", partial(os.setgid, setup.gid)
    for name, limit in setup.limits.items():
        yield "limits", partial(_limit, getattr(resource, name), _to_rlimit(name, limit))
    if setup.uid is not None:
        yield "uid", partial(os.setuid, setup.uid)


def _limit(number: int, limit: tuple[int, int]) -> None:
    try:
        resource.setrlimit(number, limit)
    except ValueError as why:  # which is what Python makes of EPERM
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM)) from why


def _to_rlimit(name: str, limit: Limit) -> tuple[int, int]:
    """Of descriptors the kernel takes no "without limit", not even from root."""
    endless = resource.RLIM_INFINITY
    if name == "RLIMIT_NOFILE" and None in limit:
        with open("/proc/sys/fs/nr_open", "rb") as file:  # noqa: PTH123 - as everywhere in the keeper
            endless = int(file.read())
    soft, hard = (endless if each is None else each for each in limit)
    return soft, hard


def _steps_to_terminal(setup: Setup) -> Iterator[_Step]:
    if setup.terminal:
        yield "terminal", partial(_open_terminal, setup.terminal)
        if setup.uid is not None:  # so that the command may open it again, by its name
            yield "terminal", partial(os.fchown, 0, setup.uid, -1)


def _open_terminal(path: str) -> None:
    """What a session's leader opens first becomes its controlling terminal. Needs no free descriptor but 0."""
    with contextlib.suppress(OSError):
        os.close(0)
    assert os.open(path, os.O_RDWR) == 0
    os.set_inheritable(0, True)
    for theirs in (1, 2):
        os.dup2(0, theirs)


def _place(descriptors: Mapping[int, int]) -> None:
    for theirs, ours in descriptors.items():
        os.dup2(ours, theirs)


def _reset_signals(ignored: Iterable[int]) -> None:
    """Before any can come, since a handler is still the parent's."""
    for each in (*ignored, *(each for each in signal.valid_signals() if callable(signal.getsignal(each)))):
        signal.signal(each, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _execute(programs: Iterable[bytes], argv: Strings, env: Strings) -> None:
    """As execvp does it: one that may not be executed does not hide the next."""
    number = errno.EACCES
    for program in programs:
        _libc.execve(program, argv, env)
        number = ctypes.get_errno()
        if number != errno.EACCES:
            break
    raise OSError(number, os.strerror(number))
