"""``guyline exec`` behaves as the command itself would, in a shell."""

import asyncio
import base64
import json
import os
import shlex
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from tests.cli.command import GUYLINE, Command
from tests.support import proc
from tests.support.agent import RunningAgent
from tests.support.clock import DEADLINE

SHELL_CODES = [
    (["true"], 0),
    (["-c", "exit 42"], 42),
    (["-c", "kill -9 $$"], 137),
    (["/no/such/program"], 127),
    (["/etc/passwd"], 126),
    (["-c", "/no/such/program"], 127),
    (["--cwd", "/no/such/directory", "true"], 125),
    (["--no-such-option"], 125),
    ([], 125),
    (["-c", "true", "true"], 125),
]


@pytest.mark.parametrize(
    ("arguments", "code"), SHELL_CODES, ids=lambda value: " ".join(value) if isinstance(value, list) else ""
)
async def test_the_exit_code_is_a_shells(guyline: Command, arguments: list[str], code: int) -> None:
    """Scripts that wrap a command in `guyline exec` need no change."""
    assert (await guyline("exec", *arguments)).code == code


async def test_output_goes_to_its_own_descriptor(guyline: Command) -> None:
    """So that redirections work as they always do."""
    result = await guyline("exec", "--", "sh", "-c", "echo out; echo err >&2")

    assert (result.out, result.err) == ("out\n", "err\n")


def test_one_file_for_both_keeps_their_order(shared_agent: RunningAgent) -> None:
    """On a terminal, or with `2>&1`, a message of an error stands where it was printed."""
    line = "for i in 1 2 3 4 5; do echo $i; echo e$i >&2; done"
    done = subprocess.run(
        [*GUYLINE, "--address", shared_agent.address, "exec", "-c", line],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=DEADLINE, check=True,
    )  # fmt: skip

    assert done.stdout.split() == b"1 e1 2 e2 3 e3 4 e4 5 e5".split()


async def test_what_follows_the_program_is_the_programs(guyline: Command) -> None:
    """Even if it looks like an option of ours."""
    assert (await guyline("exec", "echo", "--json", "-c", "--", "x")).out == "--json -c -- x\n"
    assert (await guyline("exec", "--", "printf", "%s", "--help")).out == "--help"


async def test_variables_and_directory(guyline: Command, tmp_path: Path) -> None:
    """A variable by name alone is passed on, so that its value is in no argument list."""
    guyline.environment["PASSED"] = "on"

    result = await guyline(
        "exec", "--cwd", str(tmp_path), "--env", "A=b c", "--env", "PASSED", "-c", 'echo "$PWD $A $PASSED"'
    )

    assert result.out == f"{tmp_path} b c on\n"


async def test_a_command_starts_where_its_caller_stands(guyline: Command, tmp_path: Path) -> None:
    """As in any shell: `guyline exec -- make` builds what is here."""
    (tmp_path / "below").mkdir()
    guyline.directory = tmp_path

    assert (await guyline("exec", "pwd")).out == f"{tmp_path}\n"
    assert (await guyline("exec", "--cwd", "below", "pwd")).out == f"{tmp_path}/below\n"
    assert (await guyline("exec", "--cwd", "~", "pwd")).out == f"{Path.home()}\n"


async def test_an_interrupt_is_the_commands_first(guyline: Command) -> None:
    """A program that tidies up on Ctrl-C does so, and its exit code is the answer."""
    async with guyline.running(
        "exec", "-c", "trap 'echo tidy; exit 5' INT; echo ready; while :; do sleep 0.01; done"
    ) as child:
        assert child.stdout is not None
        await child.stdout.readline()
        child.send_signal(signal.SIGINT)
        out, _ = await asyncio.wait_for(child.communicate(), DEADLINE)

    assert (child.returncode, out) == (5, b"tidy\n")


async def test_the_second_interrupt_kills(guyline: Command) -> None:
    """A program that hears, and goes on, is ended all the same."""
    line = "trap 'echo heard' INT; echo ready; while :; do sleep 0.01; done"
    async with guyline.running("exec", "-c", line) as child:
        assert child.stdout is not None
        for expected in (b"ready\n", b"heard\n"):
            assert await child.stdout.readline() == expected
            child.send_signal(signal.SIGINT)

        assert await guyline.code_of(child) == 128 + signal.SIGKILL


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
async def test_other_signals_are_passed_on(guyline: Command, number: signal.Signals) -> None:
    """Whoever ends `guyline exec` means the command."""
    async with guyline.running("exec", "-c", "echo ready; exec sleep 60") as child:
        assert child.stdout is not None
        await child.stdout.readline()
        child.send_signal(number)

        assert await guyline.code_of(child) == 128 + number


async def test_a_closed_output_ends_a_pipeline_quietly(guyline: Command) -> None:
    """`guyline exec yes | head` ends, and so does `yes`."""
    async with guyline.running("exec", "yes") as child:
        assert child.stdout is not None
        assert await child.stdout.readline() == b"y\n"
        child._transport.get_pipe_transport(1).close()  # type: ignore[attr-defined]  # asyncio has no public way
        assert child.stderr is not None
        err = await asyncio.wait_for(child.stderr.read(), DEADLINE)
        code = await asyncio.wait_for(child.wait(), DEADLINE)

    assert (code, err) == (128 + signal.SIGPIPE, b"")


async def test_a_blocked_output_does_not_keep_signals_away(guyline: Command) -> None:
    """Ctrl-C works while a pager shows the first page."""
    async with guyline.running("exec", "--", "sh", "-c", "echo $$; exec yes") as child:
        assert child.stdout is not None
        pid = int(await child.stdout.readline())
        child._transport.get_pipe_transport(1).pause_reading()  # type: ignore[attr-defined]  # asyncio has no public way
        child.send_signal(signal.SIGINT)

        await proc.dead(pid)
        child._transport.get_pipe_transport(1).resume_reading()  # type: ignore[attr-defined]  # as above
        assert await guyline.code_of(child) == 128 + signal.SIGINT


async def test_detached_it_prints_the_id_and_leaves(guyline: Command) -> None:
    """The id is all that is printed, so that a script can keep it."""
    started = await guyline("exec", "-d", "-c", "echo kept; exit 4")

    attached = await guyline("attach", started.out.strip())

    assert (attached.code, attached.out) == (4, "kept\n")


async def test_json_has_a_line_for_each_event(guyline: Command) -> None:
    """For programs; output as base64, since a command may print anything."""
    result = await guyline("--json", "exec", "-c", "printf '\\377'; exit 3")

    *output, last = map(json.loads, result.out.splitlines())
    assert b"".join(base64.b64decode(line["output"]["base64"]) for line in output) == b"\xff"
    assert last["exit"]["code"] == 3


async def test_a_killed_worker_is_not_noticed(agent: RunningAgent) -> None:
    """The output is whole and the exit code right, whatever happened in between."""
    guyline = Command(agent.address)
    async with guyline.running(
        "exec",
        "-c",
        "echo before; until [ -e go ]; do sleep 0.01; done; echo after; exit 6",
        "--cwd",
        str(agent.process.folder),
    ) as child:
        assert child.stdout is not None
        assert await child.stdout.readline() == b"before\n"
        await agent.kill_worker()
        await asyncio.to_thread((agent.process.folder / "go").touch)
        out, err = await asyncio.wait_for(child.communicate(), DEADLINE)

    assert (child.returncode, out, err) == (6, b"after\n", b"")


async def test_no_agent_is_said_with_what_to_do() -> None:
    """The first thing a new user meets."""
    result = await Command("unix:/no/such/agent.sock")("exec", "true")

    assert result.code == 125
    assert "guyline up" in result.err
    assert "Traceback" not in result.err


async def test_no_agent_elsewhere_is_not_to_be_started_here() -> None:
    """`guyline up` would start another one, beside the user."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        result = await Command(f"tcp://127.0.0.1:{closed.getsockname()[1]}")("--insecure", "exec", "true")

    assert result.code == 125
    assert "nobody listens there" in result.err
    assert "--ca-file" in result.err
    assert "guyline up" not in result.err


async def test_text_that_is_no_unicode_is_refused_without_a_traceback(guyline: Command) -> None:
    """The wire has no place for it."""
    result = await guyline("exec", "echo", os.fsdecode(b"\xff"))

    assert result.code == 125
    assert "Traceback" not in result.err


async def test_an_output_that_cannot_be_written_is_said(guyline: Command) -> None:
    """A full disk must not look like success."""
    line = f"{shlex.join(GUYLINE)} exec echo lost > /dev/full"
    child = await asyncio.create_subprocess_shell(line, env=guyline.environment, stderr=asyncio.subprocess.PIPE)

    _, err = await asyncio.wait_for(child.communicate(), DEADLINE)

    assert child.returncode == 125
    assert b"No space left" in err
