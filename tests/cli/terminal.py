"""A terminal with a command in it: what is on the screen, and somebody who types."""

import fcntl
import os
import select
import shlex
import struct
import subprocess
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from tests.cli.command import GUYLINE
from tests.support.agent import RunningAgent
from tests.support.clock import DEADLINE


def set_size(terminal: int, columns: int, rows: int) -> None:
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))


def wait_until_full(descriptor: int) -> None:
    """Returns once what is written there would have to wait.

    Raises:
        TimeoutError: There is still room at the deadline.
    """
    latest = time.monotonic() + DEADLINE
    while select.select([], [descriptor], [], 0)[1]:
        if time.monotonic() > latest:
            raise TimeoutError("there is still room")
        os.sched_yield()


class Terminal:
    """A terminal in which one command runs in the foreground."""

    def __init__(self, master: int, name: str, child: subprocess.Popen[bytes]) -> None:
        self._master = master
        self._name = name  # of the file in /dev
        self.child = child
        self.shown = b""

    def type(self, keys: bytes) -> None:
        """As if somebody had typed it."""
        while keys:
            keys = keys[os.write(self._master, keys) :]

    def until(self, text: bytes) -> None:
        """Reads until the text is on the screen. Fails with what is there if it does not come."""
        latest = time.monotonic() + DEADLINE
        while text not in self.shown:
            readable, _, _ = select.select([self._master], [], [], max(0.0, latest - time.monotonic()))
            assert readable, f"{text!r} is not on the screen, but {self.shown[-2000:]!r}"
            self.shown += os.read(self._master, 4096)

    def until_full(self) -> None:
        """Reads nothing until the command cannot print any more, as if Ctrl-S had been typed."""
        slave = os.open(self._name, os.O_WRONLY | os.O_NOCTTY)
        try:
            wait_until_full(slave)
        finally:
            os.close(slave)

    def resize(self, columns: int, rows: int) -> None:
        """As if the window had been dragged to another size."""
        set_size(self._master, columns, rows)

    @property
    def is_raw(self) -> bool:
        """Whether keys reach the command as they are."""
        return not termios.tcgetattr(self._master)[3] & termios.ICANON

    @property
    def foreground(self) -> int:
        """The process group whose the keyboard is."""
        return os.tcgetpgrp(self._master)

    def close(self) -> None:
        """As if the window had been closed."""
        master, self._master = self._master, -1
        if master >= 0:
            os.close(master)

    def code(self) -> int:
        """Waits for the exit code, and reads on meanwhile: a screen that nobody reads would hold the command up."""
        with suppress(OSError):  # EIO: nobody has it open any more
            while self._master >= 0:
                self.shown += os.read(self._master, 4096)
        return self.child.wait(DEADLINE)


@contextmanager
def terminal(
    agent: RunningAgent, *arguments: str, columns: int = 200, rows: int = 50, shell: str = ""
) -> Iterator[Terminal]:
    """The command in a terminal of its own; with ``shell``, as a line of it in place of arguments."""
    master, slave = os.openpty()
    set_size(master, columns, rows)
    command = ["sh", "-c", shell] if shell else [*GUYLINE, *arguments]
    # `setsid --ctty` makes the terminal the command's own, so that its keys become signals.
    child = subprocess.Popen(
        ["setsid", "--ctty", "--wait", *command],
        stdin=slave, stdout=slave, stderr=slave, cwd=agent.process.folder,
        env=os.environ | {
            "TERM": "xterm-256color", "COLUMNS": str(columns), "GUYLINE_AGENT_ADDRESS": agent.address,
            "GUYLINE": shlex.join(GUYLINE),
        },
    )  # fmt: skip
    name = os.ttyname(slave)
    os.close(slave)
    screen = Terminal(master, name, child)
    try:
        yield screen
    finally:
        screen.close()
        child.kill()
        child.wait()
