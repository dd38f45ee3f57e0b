"""`exec -i`, `exec -t` and `attach`: a process elsewhere at one's own keyboard, screen and standard input."""

import asyncio
import json
import os
import re
import signal
import subprocess
from hashlib import sha256
from pathlib import Path

import pytest

from guyline.cli.console import Screen
from guyline.cli.keys import DetachKeys, to_keys
from guyline.client import AsyncAgent, InputMode
from tests.cli.command import GUYLINE, Command
from tests.cli.terminal import Terminal, terminal, wait_until_full
from tests.support.agent import RunningAgent
from tests.support.clock import DEADLINE

PROMPT = ("--env", "PS1=ready> ", "--", "bash", "--norc", "-i")
DETACH = b"\x10\x11"
FLOOD = "yes | head -c 1000000; exec sleep 1000"
"""Prints more than any terminal or pipe holds."""


def piped(agent: RunningAgent, *arguments: str, data: bytes) -> "subprocess.CompletedProcess[bytes]":
    """Runs `guyline` with this on its standard input."""
    command = [*GUYLINE, "--address", agent.address, *arguments]
    return subprocess.run(command, input=data, capture_output=True, timeout=DEADLINE, check=False)


def process_id(screen: Terminal) -> str:
    """What leaving a process says of it."""
    screen.until(b"comes back to it")
    match = re.search(rb"guyline attach ([0-9a-f]+)", screen.shown)
    assert match
    return match[1].decode()


def test_standard_input_reaches_the_command(shared_agent: RunningAgent) -> None:
    """As in any pipeline, byte by byte, with its end."""
    data = os.urandom(3_000_000)
    over = piped(shared_agent, "exec", "-i", "sha256sum", data=data)

    assert over.stdout.split()[0].decode() == sha256(data).hexdigest()
    assert over.returncode == 0


def test_standard_input_may_be_a_file(shared_agent: RunningAgent, tmp_path: Path) -> None:
    """An event loop cannot wait for one, so it goes another way."""
    file = tmp_path / "file"
    file.write_bytes(b"line\n" * 300_000)
    with file.open("rb") as given:
        command = [*GUYLINE, "--address", shared_agent.address, "exec", "-i", "wc", "-l"]
        out = subprocess.run(command, stdin=given, capture_output=True, timeout=DEADLINE, check=True).stdout

    assert out == b"300000\n"


def test_without_i_a_command_reads_nothing(shared_agent: RunningAgent) -> None:
    """And what was not for it is still there for the next one in the script."""
    over = piped(shared_agent, "exec", "cat", data=b"not for you")

    assert over.stdout == b""


def test_a_command_that_does_not_read_on_ends_the_pipeline(shared_agent: RunningAgent) -> None:
    """`yes | head`, with the head elsewhere."""
    line = f"yes | {' '.join(GUYLINE)} --address {shared_agent.address} exec -i head -n 2"
    over = subprocess.run(["sh", "-c", line], capture_output=True, timeout=DEADLINE, check=False)

    assert over.stdout == b"y\ny\n"
    assert over.returncode == 0
    assert over.stderr == b""


def test_yes_into_head_ends_elsewhere_too(shared_agent: RunningAgent) -> None:
    """Both of them there: the pipeline is the shell's, and ends as it does here."""
    over = piped(shared_agent, "exec", "-c", "yes | head -n 1000000 | tail -n 1", data=b"")

    assert over.stdout == b"y\n"


def test_a_terminal_without_a_keyboard_reads_a_script(shared_agent: RunningAgent) -> None:
    """`echo commands | guyline exec -t sh`: the end of the script is the terminal's Ctrl-D."""
    over = piped(shared_agent, "exec", "-t", "--", "cat", data=b"one\ntwo")

    assert over.stdout.replace(b"\r", b"").count(b"two") == 2
    assert over.returncode == 0


def test_a_shell_at_the_keyboard(shared_agent: RunningAgent) -> None:
    """Raw keys go there, also Ctrl-C; the exit code comes back, and the terminal is as it was."""
    with terminal(shared_agent, "exec", "-t", *PROMPT, columns=111, rows=37) as screen:
        screen.until(b"ready> ")
        assert screen.is_raw
        # One that prints has the terminal already: before that, Ctrl-C would still be the shell's own.
        screen.type(b"sh -c 'stty size; echo TERM is $TERM; exec sleep 1000'\r")
        screen.until(b"37 111")
        screen.until(b"TERM is xterm-256color")
        screen.type(b"\x03echo interr''upted\r")
        screen.until(b"interrupted")
        screen.type(b"exit 9\r")

        assert screen.code() == 9
        assert not screen.is_raw


def test_a_window_that_changes_its_size_is_followed(shared_agent: RunningAgent) -> None:
    """By the program in it, at once."""
    with terminal(
        shared_agent, "exec", "-t", "-c", "trap 'stty size' WINCH; echo on; while :; do sleep 0.01; done"
    ) as screen:
        screen.until(b"on\r\n")
        screen.resize(66, 22)
        screen.until(b"22 66")
        for columns in range(60, 160):
            screen.resize(columns, 40)
        screen.resize(88, 44)
        screen.until(b"44 88")
        screen.type(b"\x03")

        assert screen.code() == 128 + signal.SIGINT


def test_detaching_leaves_the_process_and_attaching_comes_back(shared_agent: RunningAgent) -> None:
    """Ctrl-P Ctrl-Q; a lone Ctrl-P is the process's own."""
    with terminal(shared_agent, "exec", "-t", *PROMPT) as screen:
        screen.until(b"ready> ")
        screen.type(b"x=kept\r" + DETACH)
        name = process_id(screen)
        assert screen.code() == 124
        assert not screen.is_raw
    with terminal(shared_agent, "attach", name) as screen:
        screen.until(b"ready> ")
        screen.type(b"echo it was $x\r")
        screen.until(b"it was kept")
        screen.type(b"echo time $((n += 1))\r")
        screen.until(b"time 1")
        screen.type(b"\x10")  # the line before
        screen.type(b"\r")
        screen.until(b"time 2")
        screen.type(b"exit 5\r")

        assert screen.code() == 5


def test_other_keys_may_detach(shared_agent: RunningAgent) -> None:
    """Whoever needs Ctrl-P often."""
    with terminal(shared_agent, "exec", "-t", "--detach-keys", "ctrl-],q", *PROMPT) as screen:
        screen.until(b"ready> ")
        screen.type(b"exec sle''ep 0; " + DETACH + b"\r\x1dq")

        assert process_id(screen)


def test_what_a_full_screen_program_did_to_the_screen_is_undone(shared_agent: RunningAgent) -> None:
    """Whoever leaves it there wants a usable terminal here; who comes back wants to see all of it."""
    with terminal(shared_agent, "exec", "-t", "--", "vim", "-u", "NONE", "-c", "set nocp") as screen:
        screen.until(b"\x1b[?1049h")
        screen.until(b"~")
        screen.type(DETACH)
        name = process_id(screen)
        assert screen.code() == 124
    undone = screen.shown.rpartition(b"~")[2]
    with terminal(shared_agent, "attach", name) as again:
        again.until(b"~")
        again.type(b":q!\r")
        assert again.code() == 0

    assert b"\x1b[?1049l" in undone


def test_only_a_screen_that_was_drawn_on_is_tidied_up(shared_agent: RunningAgent) -> None:
    """A file gets what the command printed and nothing else, and a line of JSON begins its line."""
    draw = ("--", "printf", r"\033[?1049hhi")
    kept = piped(shared_agent, "exec", "-t", *draw, data=b"")
    with terminal(shared_agent, "exec", "-t", "--json", *draw) as screen:
        assert screen.code() == 0
    *_, last = screen.shown.splitlines()

    assert kept.stdout == b"\x1b[?1049hhi"
    assert json.loads(last)["exit"]["code"] == 0


async def test_a_screen_that_is_gone_changes_no_exit_code(guyline: Command) -> None:
    """The command got SIGPIPE, and what it made of that is the answer."""
    line = r"trap 'exit 3' PIPE; printf '\033[?1049h\n'; while :; do sleep 0.01; echo more; done"
    result = await guyline.in_shell(f'{{ $GUYLINE exec -t -c "{line}"; echo $? >&2; }} | head -n 1')

    assert result.err == "3\n"


def test_two_keyboards_at_one_terminal(shared_agent: RunningAgent) -> None:
    """Both see everything, both may type, and no key is lost."""
    with terminal(shared_agent, "exec", "-t", "--label", "keyboards=two", *PROMPT) as one:
        one.until(b"ready> ")
        name = labelled(shared_agent, "keyboards=two")
        with terminal(shared_agent, "attach", name) as other:
            other.until(b"ready> ")
            other.type(b"echo from the o''ther\r")
            one.until(b"from the other")
            one.type(b"echo from the o''ne\r")
            other.until(b"from the one")
            one.type(b"exit\r")

            assert (one.code(), other.code()) == (0, 0)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_the_terminal_is_restored_when_a_signal_ends_the_command(
    shared_agent: RunningAgent, number: signal.Signals
) -> None:
    """From outside: `kill`, a session that ends."""
    with terminal(shared_agent, "exec", "-t", "-c", "echo on; exec sleep 1000") as screen:
        screen.until(b"on\r\n")
        assert screen.is_raw
        guyline = screen.child.pid
        os.kill(guyline, number)

        assert screen.code() == 128 + number
        assert not screen.is_raw


def test_a_stopped_command_gives_the_terminal_back_for_as_long(shared_agent: RunningAgent) -> None:
    """`kill -TSTP`, then `fg`."""
    inner = "echo on; read line; echo got $line"
    shell = f"set -m; $GUYLINE exec -t -c '{inner}'; echo stopped; read line; fg; echo over $?"
    with terminal(shared_agent, shell=shell) as screen:
        screen.until(b"on\r\n")
        os.kill(screen.foreground, signal.SIGTSTP)
        screen.until(b"stopped\r\n")
        was_raw = screen.is_raw
        screen.type(b"\n")
        screen.until(b"exec -t")  # as the shell says which it is that goes on
        screen.type(b"again\r")
        screen.until(b"got again")
        screen.until(b"over 0")

        assert (was_raw, screen.code()) == (False, 0)


def test_a_session_is_not_stopped_where_nobody_could_have_it_go_on(shared_agent: RunningAgent) -> None:
    """As by `ssh -t host guyline exec -t`, where it leads its session: the terminal would be lost."""
    with terminal(shared_agent, "exec", "-t", *PROMPT) as screen:
        screen.until(b"ready> ")
        os.kill(screen.child.pid, signal.SIGTSTP)
        screen.type(b"echo still h''ere\r")
        screen.until(b"still here")
        is_raw = screen.is_raw
        screen.type(b"exit\r")

        assert (is_raw, screen.code()) == (True, 0)


async def test_a_session_goes_on_over_the_worker_s_death(agent: RunningAgent) -> None:
    """A pause, no more: the shell, its screen and the keys are where they were."""
    with terminal(agent, "exec", "-t", *PROMPT) as screen:
        await asyncio.to_thread(screen.until, b"ready> ")
        await agent.kill_worker()
        screen.type(b"echo still h''ere\r")
        await asyncio.to_thread(screen.until, b"still here")
        screen.type(b"exit 3\r")

        assert await asyncio.to_thread(screen.code) == 3


async def test_an_agent_that_does_not_answer_can_be_left(agent: RunningAgent) -> None:
    """In a terminal that gives every key away, nothing else would help."""
    with terminal(agent, "exec", "-t", *PROMPT) as screen:
        await asyncio.to_thread(screen.until, b"ready> ")
        os.kill(agent.worker_pid, signal.SIGSTOP)
        try:
            screen.type(b"x")
            screen.type(DETACH)

            assert await asyncio.to_thread(screen.code) == 124
            assert not screen.is_raw
        finally:
            os.kill(agent.worker_pid, signal.SIGCONT)
    assert b"comes back to it" in screen.shown


async def test_a_process_that_reads_nothing_can_be_left(shared_agent: RunningAgent) -> None:
    """Although more was typed before than may wait for it."""
    label = "reads=nothing"
    deaf = "stty raw -echo; echo on; exec sleep 1000"
    with terminal(shared_agent, "exec", "-t", "--label", label, "-c", deaf) as screen:
        await asyncio.to_thread(screen.until, b"on")
        typing = asyncio.create_task(asyncio.to_thread(screen.type, b"a" * 1_500_000 + DETACH))
        left = await asyncio.to_thread(screen.code)
        await typing

        assert (left, screen.is_raw) == (124, False)
    async with AsyncAgent(shared_agent.address) as client:
        await client.cancel(await asyncio.to_thread(labelled, shared_agent, label), wait=DEADLINE)


@pytest.mark.parametrize("draws", [False, True])
def test_a_process_can_be_left_although_its_screen_is_stuck(shared_agent: RunningAgent, *, draws: bool) -> None:
    """A terminal that was stopped shows nothing; the keyboard is given back all the same."""
    line = rf"printf '\033[?1049h'; {FLOOD}" if draws else FLOOD
    with terminal(shared_agent, "exec", "-t", "-c", line) as screen:
        screen.until(b"y")
        screen.until_full()
        screen.type(DETACH)

        assert screen.child.wait(DEADLINE) == 124
        assert not screen.is_raw


@pytest.mark.parametrize("option", ["", "--json"])
def test_a_process_can_be_left_although_nobody_reads_its_output(
    shared_agent: RunningAgent, tmp_path: Path, option: str
) -> None:
    """Nor is the last line of JSON waited for."""
    os.mkfifo(tmp_path / "out")
    out = os.open(tmp_path / "out", os.O_RDWR)
    try:
        line = f"exec $GUYLINE exec -t {option} -c '{FLOOD}' > {tmp_path}/out"
        with terminal(shared_agent, shell=line) as screen:
            wait_until_full(out)
            screen.type(DETACH)

            assert process_id(screen)
            assert screen.code() == 124
    finally:
        os.close(out)


async def test_a_process_with_a_terminal_may_be_started_detached(shared_agent: RunningAgent, guyline: Command) -> None:
    """And looked at later."""
    started = await guyline("exec", "-d", "-t", "-c", "read x; echo got $x; exit 6")
    with terminal(shared_agent, "attach", started.out.strip()) as screen:
        screen.type(b"a line\r")
        await asyncio.to_thread(screen.until, b"got a line")

        assert await asyncio.to_thread(screen.code) == 6


async def test_an_open_input_can_be_attached_to(shared_agent: RunningAgent) -> None:
    """Whoever held it before has gone, and left it open."""
    async with AsyncAgent(shared_agent.address) as agent:
        process = await agent.start("cat; echo over", stdin=InputMode.PIPE)
        await process.write(b"one ")
        over = await asyncio.to_thread(piped, shared_agent, "attach", "-i", process.id, data=b"two ")

    assert over.stdout == b"one two over\n"


# What needs no agent.


def test_keys_are_found_however_they_come() -> None:
    """A network may divide them anywhere, and what only begins like them is for the process."""
    for typed in (b"ab\x10\x11cd", b"ab\x10cd\x10\x10\x11"):
        for cut in range(len(typed) + 1):
            keys = DetachKeys(DETACH)
            passed = keys.feed(typed[:cut])
            passed += b"" if keys.found else keys.feed(typed[cut:])
            assert (passed, keys.found) == (typed.partition(DETACH)[0], True)


def test_a_beginning_that_leads_nowhere_is_passed_on() -> None:
    """Ctrl-P alone is the line before."""
    keys = DetachKeys(DETACH)

    assert [keys.feed(each) for each in (b"a\x10", b"\x10", b"b", b"\x10c")] == [b"a", b"\x10", b"\x10b", b"\x10c"]
    assert not keys.found


def test_keys_can_be_named() -> None:
    """As elsewhere."""
    assert to_keys("ctrl-p,ctrl-q") == DETACH
    assert to_keys("ctrl-],x") == b"\x1dx"
    assert to_keys("none") == b""
    with pytest.raises(ValueError, match="is no key"):
        to_keys("ctrl-1")


def test_only_what_is_still_switched_on_is_undone() -> None:
    """Wherever the codes are divided."""
    shown = b"\x1b[?1049h\x1b[?25l text \x1b[?1000;1006h\x1b[?2004h\x1b[?2004l\x1b[?12h"
    for cut in range(len(shown) + 1):
        screen = Screen()
        screen.show(shown[:cut])
        screen.show(shown[cut:])
        assert screen.undone() == b"\x1b[?1006l\x1b[?1000l\x1b[?25h\x1b[?1049l\x1b[0m"
        assert screen.undone() == b""


def labelled(agent: RunningAgent, label: str) -> str:
    """The id of the one process that has this label."""
    command = [*GUYLINE, "--address", agent.address, "ps", "--json", "--label", label]
    listed = subprocess.run(command, capture_output=True, check=True)
    (found,) = json.loads(listed.stdout)["processes"]
    return str(found["process_id"])
