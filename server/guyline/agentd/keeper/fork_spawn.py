"""Spawning into a cgroup by a fork: slower than ``posix_spawn`` by a millisecond, but possible with every C library.

Moving there afterwards is no way: what the command forks before it has been moved would stay outside, and the first
move after a pause waits for a grace period of the kernel's RCU, 5 to 25 ms.
"""

import contextlib
import ctypes
import errno
import mmap
import os
import signal
import struct
from collections.abc import Callable, Iterable, Mapping
from typing import NoReturn

_SYS_CLONE3 = 435  # of every architecture with the common table: asm-generic/unistd.h
_CLONE_INTO_CGROUP = 0x200000000  # linux/sched.h, as the next
_CLONE_CLEAR_SIGHAND = 0x100000000
_CLONE_VFORK = 0x4000
_NUMBER_BYTES = 4
_CLONE_ARGS = struct.Struct("11Q")
"""flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid, set_tid_size, cgroup."""

_libc = ctypes.PyDLL(None, use_errno=True)  # not CDLL: the child must come back with the interpreter's lock held
_libc.syscall.restype = ctypes.c_long
_libc.syscall.argtypes = [ctypes.c_long, ctypes.c_char_p, ctypes.c_size_t]


def spawn_into(
    cgroup: int,
    program: str,
    argv: list[str],
    env: Mapping[str, str],
    *,
    descriptors: Mapping[int, int],
    default_signals: Iterable[int],
    terminal: str = "",
) -> int:
    """Spawns a child, in a session of its own, that is born in the cgroup; returns its pid once it has executed.

    Args:
        cgroup: A descriptor of its directory.
        descriptors: Which of ours (value) becomes which of the child's (key).
        terminal: What it opens as descriptors 0, 1 and 2, and controls it.

    Raises:
        OSError: The program cannot be executed, or nobody can be born there.
    """

    def execute() -> None:
        os.setsid()
        if terminal:
            _open_terminal(terminal)
        for theirs, ours in descriptors.items():
            os.dup2(ours, theirs)
        for each in default_signals:
            signal.signal(each, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        os.execve(program, argv, env)

    with mmap.mmap(-1, mmap.PAGESIZE) as shared:  # no pipe: there may be no room for its descriptors
        pid = clone_into(cgroup, then=lambda: _become(execute, shared))
        number = int.from_bytes(shared[:_NUMBER_BYTES])  # zero: it executes; or it was killed before
    if number:
        os.waitpid(pid, 0)
        raise OSError(number, os.strerror(number))
    return pid


def clone_into(cgroup: int, *, then: Callable[[], NoReturn]) -> int:
    """Makes a copy of this process (which has one thread), born in the cgroup, that does ``then``.

    Returns its pid once it executes another program, or has ended.

    Raises:
        OSError: Nobody can be born there.
    """
    flags = _CLONE_INTO_CGROUP | _CLONE_CLEAR_SIGHAND | _CLONE_VFORK
    arguments = _CLONE_ARGS.pack(flags, 0, 0, 0, signal.SIGCHLD, *[0] * 5, cgroup)
    # A signal to the child must not be written to this process's own pipe, which it has until it executes.
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        pid: int = _libc.syscall(_SYS_CLONE3, arguments, len(arguments))
        if pid == 0:
            then()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    if pid < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return pid


def _open_terminal(path: str) -> None:
    """What a session's leader opens first becomes its controlling terminal. Needs no free descriptor but 0."""
    with contextlib.suppress(OSError):
        os.close(0)
    assert os.open(path, os.O_RDWR) == 0
    os.set_inheritable(0, True)
    for theirs in (1, 2):
        os.dup2(0, theirs)


def _become(execute: Callable[[], None], shared: mmap.mmap) -> NoReturn:
    """Makes of the copy the program, or leaves word of why not."""
    number = errno.EINVAL  # a NUL in an argument or a variable
    try:
        execute()
    except OSError as why:
        number = why.errno or number
    finally:  # also of what nobody has thought of: there must never be two of the parent
        shared[:_NUMBER_BYTES] = number.to_bytes(_NUMBER_BYTES)
        os._exit(127)
