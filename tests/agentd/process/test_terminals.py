"""Terminals: programs that want one get a real one, several can watch it, and it outlives the agent's worker."""

import asyncio
import re
import signal
import sys

import grpc
import pytest

from guyline.agent.v1.process_pb2 import INPUT_MODE_TERMINAL, TerminalSize
from guyline.agent.v1.process_service_pb2 import (
    AttachRequest,
    CloseInputRequest,
    ResizeRequest,
    SignalRequest,
    StartResponse,
    Terminal,
    WriteInputRequest,
)
from tests.agentd.process.process_parts import (
    Followed,
    attach,
    follow,
    printed,
    refusal,
    run,
    snapshot,
    started,
    to_start,
)
from tests.support import proc
from tests.support.agent import RunningAgent
from tests.support.clock import until


def of(columns: int, rows: int, *, term: str = "") -> Terminal:
    """A terminal of this size."""
    return Terminal(size=TerminalSize(columns=columns, rows=rows), term=term)


async def type_in(agent: RunningAgent, process_id: str, text: bytes) -> None:
    """As fingers on a keyboard would."""
    await agent.processes.WriteInput(WriteInputRequest(process_id=process_id, data=text))


async def resize(agent: RunningAgent, process_id: str, columns: int, rows: int) -> None:
    size = TerminalSize(columns=columns, rows=rows)
    await agent.processes.Resize(ResizeRequest(process_id=process_id, size=size))


async def shown(agent: RunningAgent, process_id: str, text: bytes) -> Followed:
    """Waits until the terminal has shown something."""
    return await attach(agent, process_id, until=printed(text))


async def test_a_program_gets_the_terminal_that_was_asked_for(shared_agent: RunningAgent) -> None:
    """Size, TERM, and that it is one at all: on every standard stream."""
    command = "stty size; echo $TERM; test -t 0 && test -t 1 && test -t 2 && echo all three; tty; : < /dev/tty"
    over = await run(shared_agent, command, terminal=of(123, 45, term="vt220"))

    size, term, streams, device = over.data.decode().split("\r\n")[:4]
    assert (size, term, streams) == ("45 123", "vt220", "all three")
    assert device.startswith("/dev/pts/")
    assert over.exit.code == 0


async def test_a_terminal_has_sensible_defaults(shared_agent: RunningAgent) -> None:
    """And a variable that the caller gives comes first."""
    plain = await run(shared_agent, "stty size; echo $TERM", terminal=Terminal())
    own = await run(shared_agent, "echo $TERM", terminal=Terminal(term="vt100"), env={"TERM": "dumb"})

    assert plain.data == b"24 80\r\nxterm-256color\r\n"
    assert own.data == b"dumb\r\n"


async def test_a_process_tells_of_its_terminal(shared_agent: RunningAgent) -> None:
    """So that whoever attaches knows what is shown, and how large."""
    async with started(shared_agent, ["cat"], terminal=of(100, 30)) as cat:
        await resize(shared_agent, cat.process_id, 90, 20)
        process = (await snapshot(shared_agent, cat.process_id)).process

    assert process.input.mode == INPUT_MODE_TERMINAL
    assert process.terminal == TerminalSize(columns=90, rows=20)


async def test_what_is_typed_is_read_and_echoed(shared_agent: RunningAgent) -> None:
    """Line by line, as a terminal does it; Ctrl-D is its end."""
    async with started(shared_agent, ["cat"], terminal=Terminal()) as cat:
        await type_in(shared_agent, cat.process_id, b"hello\r")
        seen = await shown(shared_agent, cat.process_id, b"hello\r\nhello\r\n")
        await type_in(shared_agent, cat.process_id, b"\x04")
        over = await attach(shared_agent, cat.process_id)

    assert seen.data == over.data == b"hello\r\nhello\r\n"
    assert over.exit.code == 0


async def test_ctrl_c_interrupts_the_foreground(shared_agent: RunningAgent) -> None:
    """The terminal controls its session: a job in the foreground gets the signal, its shell does not."""
    async with started(shared_agent, ["bash", "--norc", "-i"], terminal=Terminal(), env={"PS1": "ready> "}) as shell:
        await shown(shared_agent, shell.process_id, b"ready> ")
        await type_in(shared_agent, shell.process_id, b"echo star''ted; sleep 1000\r")
        await shown(shared_agent, shell.process_id, b"started\r\n")
        await type_in(shared_agent, shell.process_id, b"\x03echo code $?\r")
        seen = await shown(shared_agent, shell.process_id, b"code 130\r\n")
        await type_in(shared_agent, shell.process_id, b"exit 7\r")
        over = await attach(shared_agent, shell.process_id)

    assert b"no job control" not in seen.data
    assert over.exit.code == 7


async def test_a_new_size_reaches_the_program(shared_agent: RunningAgent) -> None:
    """By SIGWINCH, at once."""
    command = "trap 'stty size' WINCH; echo ready; while :; do read x || :; done"
    async with started(shared_agent, command, terminal=of(80, 24)) as watcher:
        await shown(shared_agent, watcher.process_id, b"ready")
        await resize(shared_agent, watcher.process_id, 132, 50)
        await type_in(shared_agent, watcher.process_id, b"\r")
        await shown(shared_agent, watcher.process_id, b"50 132\r\n")


async def test_a_storm_of_sizes_ends_with_the_last_one(shared_agent: RunningAgent) -> None:
    """Whoever drags a window's corner sends hundreds."""
    async with started(shared_agent, ["bash", "--norc", "-i"], terminal=of(80, 24), env={"PS1": "> "}) as shell:
        await shown(shared_agent, shell.process_id, b"> ")
        for number in range(500):
            await resize(shared_agent, shell.process_id, 60 + number % 100, 10 + number % 40)
        await resize(shared_agent, shell.process_id, 77, 33)
        await type_in(shared_agent, shell.process_id, b"stty size\r")
        await shown(shared_agent, shell.process_id, b"33 77\r\n")


async def test_several_watch_one_terminal(shared_agent: RunningAgent) -> None:
    """Each sees everything, from the beginning, at its own pace."""
    async with started(shared_agent, ["cat"], terminal=Terminal()) as cat:
        watching = [
            asyncio.ensure_future(follow(shared_agent.processes.Attach(AttachRequest(process_id=cat.process_id))))
            for _ in range(5)
        ]
        for number in range(50):
            await type_in(shared_agent, cat.process_id, b"line %d\r" % number)
        await type_in(shared_agent, cat.process_id, b"\x04")
        seen = [each.data for each in await asyncio.gather(*watching)]

    assert len(set(seen)) == 1
    assert seen[0].count(b"line 49\r\n") == 2


async def test_a_terminal_has_no_end_of_input(shared_agent: RunningAgent) -> None:
    """The refusal says what to do instead; and a process without a terminal cannot be resized."""
    async with (
        started(shared_agent, ["cat"], terminal=Terminal()) as cat,
        started(shared_agent, ["sleep", "60"]) as other,
    ):
        refused = await refusal(shared_agent.processes.CloseInput(CloseInputRequest(process_id=cat.process_id)))
        no_end = await refusal(
            shared_agent.processes.WriteInput(WriteInputRequest(process_id=cat.process_id, data=b"x", eof=True))
        )
        size = TerminalSize(columns=80, rows=24)
        no_terminal = await refusal(
            shared_agent.processes.Resize(ResizeRequest(process_id=other.process_id, size=size))
        )

    assert refused.code is no_end.code is grpc.StatusCode.FAILED_PRECONDITION
    assert "Ctrl-D" in refused.message
    assert no_terminal.reason == "NO_TERMINAL"


async def test_what_a_short_command_shows_is_all_there(shared_agent: RunningAgent) -> None:
    """Output and exit race through different ways; the exit always comes last."""
    for number in range(20):
        over = await run(shared_agent, f"seq 1 {number * 100}; exit 3", terminal=Terminal())
        assert over.data.count(b"\r\n") == number * 100
        assert over.exit.code == 3


async def test_a_terminal_outlives_the_worker(agent: RunningAgent) -> None:
    """Nobody inside notices: no hang-up, no byte lost or twice, and typing goes on."""
    shell = await agent.processes.Start(to_start(["bash", "--norc", "-i"], terminal=of(99, 22), env={"PS1": "$ "}))
    await shown(agent, shell.process_id, b"$ ")
    await type_in(agent, shell.process_id, b"for i in $(seq 2000); do echo row $i; done; echo do''ne\r")
    await agent.kill_worker()
    await agent.serves_again()
    seen = await shown(agent, shell.process_id, b"done\r\n")
    await type_in(agent, shell.process_id, b"stty size; exit 9\r")
    over = await attach(agent, shell.process_id)

    rows = re.findall(rb"row (\d+)\r\n", seen.data)
    assert rows == [b"%d" % number for number in range(1, 2001)]
    assert b"22 99\r\n" in over.data
    assert over.exit.code == 9


async def test_a_terminal_outlives_the_keeper(agent: RunningAgent) -> None:
    """The worker holds the terminal as well; only the exit's code went with the keeper."""
    shell = await agent.processes.Start(to_start(["bash", "--norc", "-i"], terminal=Terminal(), env={"PS1": "$ "}))
    await shown(agent, shell.process_id, b"$ ")
    await agent.kill_keeper()
    await agent.serves_again()
    await type_in(agent, shell.process_id, b"echo still $((6 * 7)); exit\r")
    over = await attach(agent, shell.process_id)

    assert b"still 42\r\n" in over.data
    assert over.exit.HasField("unknown")


async def test_a_hundred_terminals_at_once(agent: RunningAgent) -> None:
    """Each is its own; all are gone afterwards, descriptors as well."""
    held_before = {pid: len(proc.descriptors(pid)) for pid in (agent.keeper_pid, agent.worker_pid)}
    start = to_start("stty size; read line; echo got $line", terminal=of(81, 25))
    shells: list[StartResponse] = await asyncio.gather(*(agent.processes.Start(start) for _ in range(100)))
    for number, shell in enumerate(shells):
        await shown(agent, shell.process_id, b"25 81\r\n")
        await type_in(agent, shell.process_id, b"%d\r" % number)
    ends = await asyncio.gather(*(attach(agent, shell.process_id) for shell in shells))

    assert [each.data for each in ends] == [b"25 81\r\n%d\r\ngot %d\r\n" % (n, n) for n in range(100)]
    await until(lambda: len(proc.descriptors(agent.keeper_pid)) <= held_before[agent.keeper_pid])


async def test_a_hang_up_ends_what_is_in_the_terminal(shared_agent: RunningAgent) -> None:
    """A shell that dies takes its foreground job along, by the kernel's own SIGHUP."""
    async with started(shared_agent, ["bash", "--norc", "-i"], terminal=Terminal(), env={"PS1": "$ "}) as shell:
        await shown(shared_agent, shell.process_id, b"$ ")
        await type_in(shared_agent, shell.process_id, b"echo pid is $$; sh -c 'echo job $$; exec sleep 1000'\r")
        seen = await attach(
            shared_agent, shell.process_id, until=lambda far: bool(re.search(rb"job (\d+)\r", far.data))
        )
        match = re.search(rb"job (\d+)\r", seen.data)
        assert match
        await shared_agent.processes.Signal(SignalRequest(process_id=shell.process_id, signal=signal.SIGKILL))
        await proc.dead(int(match[1]))


# Real programs.


async def test_less_pages_and_quits(shared_agent: RunningAgent) -> None:
    """It reads keys from the terminal while it draws on it."""
    async with started(shared_agent, "seq 1 1000 | less", terminal=of(80, 24)) as less:
        await shown(shared_agent, less.process_id, b"23")
        await type_in(shared_agent, less.process_id, b"G")
        await shown(shared_agent, less.process_id, b"1000")
        await type_in(shared_agent, less.process_id, b"q")
        over = await attach(shared_agent, less.process_id)

    assert over.exit.code == 0


async def test_top_draws_itself_anew_at_another_size(shared_agent: RunningAgent) -> None:
    """It asks the terminal for its size."""
    async with started(shared_agent, ["top", "-d", "600"], terminal=of(80, 24)) as top:
        before = await shown(shared_agent, top.process_id, b"PID")
        await resize(shared_agent, top.process_id, 120, 40)
        redrawn = await attach(shared_agent, top.process_id, from_offset=len(before.data), until=printed(b"PID"))
        await type_in(shared_agent, top.process_id, b"q")
        over = await attach(shared_agent, top.process_id)

    assert redrawn.data
    assert over.exit.code == 0


async def test_vim_edits_a_file(shared_agent: RunningAgent, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Raw mode, alternate screen, cursor keys: a program that wants everything of a terminal."""
    file = tmp_path_factory.mktemp("vim") / "poem"
    async with started(shared_agent, ["vim", "-u", "NONE", str(file)], terminal=of(80, 24)) as vim:
        await shown(shared_agent, vim.process_id, b"~")
        await type_in(shared_agent, vim.process_id, b"iroses are red\x1b")
        await shown(shared_agent, vim.process_id, b"red")
        await type_in(shared_agent, vim.process_id, b":wq\r")
        over = await attach(shared_agent, vim.process_id)

    assert over.exit.code == 0
    assert file.read_text() == "roses are red\n"


async def test_a_python_prompt_computes(shared_agent: RunningAgent) -> None:
    """As a program drives a REPL: it waits for the prompt, and types."""
    prompt = [sys.executable, "-q", "-i", "-c", "import sys; sys.ps1 = 'in> '"]
    plain = {"PYTHON_BASIC_REPL": "1"}  # the other one, new in Python 3.13, loses exit codes
    async with started(shared_agent, prompt, terminal=Terminal(), env=plain) as repl:
        await shown(shared_agent, repl.process_id, b"in> ")
        await type_in(shared_agent, repl.process_id, b"6 * 7\r")
        await shown(shared_agent, repl.process_id, b"42\r\n")
        await type_in(shared_agent, repl.process_id, b"exit(4)\r")
        over = await attach(shared_agent, repl.process_id)

    assert over.exit.code == 4
