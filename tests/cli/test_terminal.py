"""On a terminal: tables, Ctrl-C, and a window that is closed."""

import asyncio
import os
import re
import signal
from pathlib import Path

import pytest

from tests.cli.command import Command
from tests.cli.terminal import terminal
from tests.support import proc
from tests.support.agent import RunningAgent
from tests.support.clock import DEADLINE

_CTRL_C = b"\x03"


def test_a_table_is_drawn_with_colours(shared_agent: RunningAgent) -> None:
    """People see at a glance what failed."""
    with terminal(shared_agent, "exec", "-c", "exit 3") as screen:
        assert screen.code() == 3
    with terminal(shared_agent, "ps", "-n", "1000") as screen:
        screen.until(b"exit 3")

    assert b"\x1b[31mexit 3" in screen.shown


def test_on_a_narrow_terminal_the_command_is_cut_and_nothing_else(shared_agent: RunningAgent) -> None:
    """How it ended matters more than the end of a long line; the beginning of an id is enough for any command."""
    with terminal(shared_agent, "exec", "-c", f"exit 3 # {'long ' * 50}") as screen:
        assert screen.code() == 3
    with terminal(shared_agent, "ps", "-n", "1", columns=70) as screen:
        assert screen.code() == 0
    lines = [re.sub(rb"\x1b\[[0-9;]*m", b"", line).decode() for line in screen.shown.splitlines()]
    heading, row = lines[0], next(line for line in lines if "exit 3 #" in line)

    assert heading.split() == ["ID", "STATE", "PID", "AGE", "OUTPUT", "CHAT", "COMMAND"]
    assert re.match(r"[0-9a-f]{8} +exit 3 +- +[0-9]+s +0 B +- +exit 3 # .*…", row)


def test_top_gives_the_terminal_back(shared_agent: RunningAgent) -> None:
    """It shows a screen of its own, which goes with it; Ctrl-C is how everybody leaves it."""
    with terminal(shared_agent, "top", "--interval", "50ms") as screen:
        screen.until(b"\x1b[?1049h")
        screen.until(b"COMMAND")
        screen.type(_CTRL_C)
        screen.until(b"\x1b[?1049l")

        assert screen.code() == 0
    assert screen.shown.count(b"\x1b[?25l") == screen.shown.count(b"\x1b[?25h"), "the cursor is there again"


def test_control_c_reaches_the_command(shared_agent: RunningAgent) -> None:
    """The terminal interrupts `guyline`, and `guyline` the command."""
    line = "trap 'echo tidy; exit 5' INT; echo ready; while :; do sleep 0.01; done"
    with terminal(shared_agent, "exec", "-c", line) as screen:
        screen.until(b"ready")
        screen.type(_CTRL_C)
        screen.until(b"tidy")

        assert screen.code() == 5


def test_closing_the_window_hangs_up(shared_agent: RunningAgent, tmp_path: Path) -> None:
    """The command gets the hang-up that it would have got in the terminal itself."""
    witness = tmp_path / "witness"
    os.mkfifo(witness)
    line = f"trap 'echo hung up > {witness}; exit' HUP; echo ready; while :; do sleep 0.01; done"
    with terminal(shared_agent, "exec", "-c", line) as screen:
        screen.until(b"ready")
        screen.close()

        assert witness.read_text() == "hung up\n"
        assert screen.code() == 128 + signal.SIGHUP


async def test_a_long_absence_of_the_agent_is_said(agent: RunningAgent, tmp_path: Path) -> None:
    """Whoever waits wants to know for what, and that the command has not stopped with the agent."""
    go = tmp_path / "go"
    line = f"echo before; until [ -e {go} ]; do sleep 0.01; done; exit 6"
    with terminal(agent, "exec", "-c", line) as screen:
        await asyncio.to_thread(screen.until, b"before")
        os.kill(agent.keeper_pid, signal.SIGSTOP)  # so that nobody replaces the worker
        try:
            os.kill(agent.worker_pid, signal.SIGKILL)
            await asyncio.to_thread(screen.until, b"does not answer")
        finally:
            os.kill(agent.keeper_pid, signal.SIGCONT)
        await asyncio.to_thread(screen.until, b"is back")
        go.touch()

        assert await asyncio.to_thread(screen.code) == 6


def test_top_can_be_stopped_and_goes_on(shared_agent: RunningAgent) -> None:
    """Ctrl-Z gives the shell a usable terminal; `fg` shows the screen again."""
    shell = "set -m; $GUYLINE top --interval 50ms; echo stopped; read line; fg; echo over $?"
    with terminal(shared_agent, shell=shell) as screen:
        screen.until(b"COMMAND")
        screen.type(b"\x1a")
        screen.until(b"stopped\r\n")
        given_back, screen.shown = screen.shown, b""
        screen.type(b"\n")
        screen.until(b"\x1b[?1049h")
        screen.until(b"COMMAND")
        screen.type(_CTRL_C)
        screen.until(b"over 0")
    assert b"\x1b[?1049l" in given_back
    assert given_back.count(b"\x1b[?25l") == given_back.count(b"\x1b[?25h"), "the cursor is there while it is stopped"
    assert screen.shown.count(b"\x1b[?25l") == screen.shown.count(b"\x1b[?25h"), "and after it"


def test_top_does_not_stop_where_nobody_could_have_it_go_on(shared_agent: RunningAgent) -> None:
    """As by `ssh -t host guyline top`, where it leads its session: the terminal would be lost."""
    with terminal(shared_agent, "top", "--interval", "50ms") as screen:
        screen.until(b"COMMAND")
        screen.type(b"\x1a")
        screen.until(b"\x1b[?1049l")
        screen.shown = b""
        screen.until(b"COMMAND")
        screen.type(_CTRL_C)

        assert screen.code() == 0


def test_quitting_top_gives_the_terminal_back(shared_agent: RunningAgent) -> None:
    """Ctrl-\\, as any other way out."""
    with terminal(shared_agent, "top", "--interval", "50ms") as screen:
        screen.until(b"COMMAND")
        screen.type(b"\x1c")
        screen.until(b"\x1b[?1049l")

        assert screen.code() == 128 + signal.SIGQUIT


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 0)])
def test_top_can_be_ended_although_its_terminal_is_stopped(
    shared_agent: RunningAgent, number: signal.Signals, code: int
) -> None:
    """By Ctrl-S, and then from elsewhere."""
    with terminal(shared_agent, "top", "--interval", "50ms") as screen:
        screen.until(b"COMMAND")
        screen.type(b"\x13")
        screen.until_full()
        os.kill(screen.child.pid, number)

        assert screen.child.wait(DEADLINE) == code


async def test_one_interrupt_ends_who_only_looks(shared_agent: RunningAgent, guyline: Command) -> None:
    """Although the screen is stuck: `timeout -s INT` sends no second one."""
    started = await guyline("exec", "-d", "-c", "yes | head -c 1000000; exec sleep 1000")
    with terminal(shared_agent, "logs", "-f", started.out.strip()) as screen:
        await asyncio.to_thread(screen.until, b"y")
        await asyncio.to_thread(screen.until_full)
        os.kill(screen.child.pid, signal.SIGINT)

        assert await asyncio.to_thread(screen.child.wait, DEADLINE) == 130


def test_top_ignores_what_was_ignored_before(shared_agent: RunningAgent) -> None:
    """Whoever has had a signal ignored means what is started then."""
    with terminal(shared_agent, shell="trap '' HUP TSTP; exec $GUYLINE top --interval 50ms") as screen:
        screen.until(b"COMMAND")
        is_ignored = [proc.ignores(screen.child.pid, number) for number in (signal.SIGHUP, signal.SIGTSTP)]
        screen.type(_CTRL_C)

        assert (screen.code(), is_ignored) == (0, [True, True])


def test_top_shortens_ids_as_ps_does(shared_agent: RunningAgent) -> None:
    """Else nothing is left of the commands on 80 columns."""
    with terminal(shared_agent, "exec", "-c", "echo ready; exec sleep 1000") as running:
        running.until(b"ready")
        with terminal(shared_agent, "top", "--once", columns=80) as screen:
            assert screen.code() == 0
        running.type(_CTRL_C)
        running.code()

    assert not re.search(rb"[0-9a-f]{8}-[0-9a-f]{4}", screen.shown)
    assert re.search(rb"[0-9a-f]{8} +[0-9]+ ", screen.shown)


def test_what_is_said_on_a_terminal_that_is_lent_begins_its_lines(shared_agent: RunningAgent) -> None:
    """A raw terminal takes a line feed for nothing more, and the next prompt would stand anywhere."""
    with terminal(shared_agent, "exec", "-t", "--timeout", "200ms", "-c", "exec sleep 1000") as struck:
        assert struck.code() == 124
    with terminal(shared_agent, "exec", "-t", "--detach-after", "200ms", "-c", "exec sleep 5") as left:
        assert left.code() == 124

    assert re.search(rb"ended by its timeout [^\n]*\r\n", struck.shown)
    assert re.search(rb"still running, id [^\n]*\r\n", left.shown)
