"""On a terminal: tables, Ctrl-C, and a window that is closed."""

import asyncio
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.cli.command import GUYLINE
from tests.support.agent import RunningAgent
from tests.support.clock import DEADLINE

_CTRL_C = b"\x03"


class Terminal:
    """A terminal in which one command runs in the foreground."""

    def __init__(self, master: int, child: subprocess.Popen[bytes]) -> None:
        self._master = master
        self.child = child
        self.shown = b""

    def type(self, keys: bytes) -> None:
        """As if somebody had typed it."""
        os.write(self._master, keys)

    def until(self, text: bytes) -> None:
        """Reads until the text is on the screen."""
        while text not in self.shown:
            self.shown += os.read(self._master, 4096)

    def close(self) -> None:
        """As if the window had been closed."""
        master, self._master = self._master, -1
        if master >= 0:
            os.close(master)

    def code(self) -> int:
        """Waits for the exit code."""
        return self.child.wait(DEADLINE)


@contextmanager
def _terminal(agent: RunningAgent, *arguments: str, columns: int = 200) -> Iterator[Terminal]:
    master, slave = os.openpty()
    # `setsid --ctty` makes the terminal the command's own, so that its keys become signals.
    child = subprocess.Popen(
        ["setsid", "--ctty", "--wait", *GUYLINE, "--address", agent.address, *arguments],
        stdin=slave, stdout=slave, stderr=slave, env=os.environ | {"TERM": "xterm-256color", "COLUMNS": str(columns)},
    )  # fmt: skip
    os.close(slave)
    terminal = Terminal(master, child)
    try:
        yield terminal
    finally:
        terminal.close()
        child.kill()
        child.wait()


def test_a_table_is_drawn_with_colours(shared_agent: RunningAgent) -> None:
    """People see at a glance what failed."""
    with _terminal(shared_agent, "exec", "-c", "exit 3") as terminal:
        assert terminal.code() == 3
    with _terminal(shared_agent, "ps", "-n", "1000") as terminal:
        terminal.until(b"exit 3")

    assert b"\x1b[31mexit 3" in terminal.shown


def test_on_a_narrow_terminal_the_command_is_cut_and_nothing_else(shared_agent: RunningAgent) -> None:
    """How it ended matters more than the end of a long line; the beginning of an id is enough for any command."""
    with _terminal(shared_agent, "exec", "-c", f"exit 3 # {'long ' * 50}") as terminal:
        assert terminal.code() == 3
    with _terminal(shared_agent, "ps", "-n", "1", columns=70) as terminal:
        terminal.until("…".encode())
    heading, row = [re.sub(rb"\x1b\[[0-9;]*m", b"", line).decode() for line in terminal.shown.splitlines()[:2]]

    assert heading.split() == ["ID", "STATE", "PID", "AGE", "OUTPUT", "CHAT", "COMMAND"]
    assert re.match(r"[0-9a-f]{8} +exit 3 +- +[0-9]+s +0 B +- +exit 3 # .*…", row)


def test_top_gives_the_terminal_back(shared_agent: RunningAgent) -> None:
    """It shows a screen of its own, which goes with it; Ctrl-C is how everybody leaves it."""
    with _terminal(shared_agent, "top", "--interval", "50ms") as terminal:
        terminal.until(b"\x1b[?1049h")
        terminal.until(b"COMMAND")
        terminal.type(_CTRL_C)
        terminal.until(b"\x1b[?1049l")

        assert terminal.code() == 0
    assert terminal.shown.count(b"\x1b[?25l") == terminal.shown.count(b"\x1b[?25h"), "the cursor is there again"


def test_control_c_reaches_the_command(shared_agent: RunningAgent) -> None:
    """The terminal interrupts `guyline`, and `guyline` the command."""
    line = "trap 'echo tidy; exit 5' INT; echo ready; while :; do sleep 0.01; done"
    with _terminal(shared_agent, "exec", "-c", line) as terminal:
        terminal.until(b"ready")
        terminal.type(_CTRL_C)
        terminal.until(b"tidy")

        assert terminal.code() == 5


def test_closing_the_window_hangs_up(shared_agent: RunningAgent, tmp_path: Path) -> None:
    """The command gets the hang-up that it would have got in the terminal itself."""
    witness = tmp_path / "witness"
    os.mkfifo(witness)
    line = f"trap 'echo hung up > {witness}; exit' HUP; echo ready; while :; do sleep 0.01; done"
    with _terminal(shared_agent, "exec", "-c", line) as terminal:
        terminal.until(b"ready")
        terminal.close()

        assert witness.read_text() == "hung up\n"
        assert terminal.code() == 128 + signal.SIGHUP


async def test_a_long_absence_of_the_agent_is_said(agent: RunningAgent, tmp_path: Path) -> None:
    """Whoever waits wants to know for what, and that the command has not stopped with the agent."""
    go = tmp_path / "go"
    line = f"echo before; until [ -e {go} ]; do sleep 0.01; done; exit 6"
    with _terminal(agent, "exec", "-c", line) as terminal:
        await asyncio.to_thread(terminal.until, b"before")
        os.kill(agent.keeper_pid, signal.SIGSTOP)  # so that nobody replaces the worker
        try:
            os.kill(agent.worker_pid, signal.SIGKILL)
            await asyncio.to_thread(terminal.until, b"does not answer")
        finally:
            os.kill(agent.keeper_pid, signal.SIGCONT)
        await asyncio.to_thread(terminal.until, b"is back")
        go.touch()

        assert await asyncio.to_thread(terminal.code) == 6
