"""Command lines that cannot be meant as they stand are refused, before anything is done, with what to do."""

import json
import os
import signal
from pathlib import Path

import pytest

from guyline.client import AsyncAgent
from tests.cli.command import Command
from tests.support.agent import RunningAgent
from tests.support.clock import DEADLINE

NO_AGENT = "unix:/no/such/agent.sock"
NOT_UTF_8 = os.fsdecode(b"\xff")


@pytest.mark.parametrize("option", ["--address", "--chat", "--token-file", "--ca-file", "--cwd", "--user", "--group"])
async def test_an_empty_value_is_never_none(option: str) -> None:
    """`--chat "$CHAT"` with a variable that is not set would give all rights."""
    result = await Command(NO_AGENT)("exec", option, "", "true")

    assert result.code == 125
    assert f"{option}: it is empty; give a value, or leave the option out" in result.err


async def test_an_empty_cursor_is_never_the_beginning() -> None:
    """A script that has lost its cursor would take everything for new."""
    for arguments in (["--since-cursor", ""], ["--since-cursor="]):
        result = await Command(NO_AGENT)("view", *arguments, "some-process")

        assert result.code == 2
        assert "--since-cursor: it is empty; give a value" in result.err


@pytest.mark.parametrize(
    ("before", "signalled"),
    [(["-9"], 9), (["-2"], 2), (["-15", "--wait", "30s"], 15), (["-s", "9"], 9), ([], 15)],
    ids=str,
)
async def test_kill_takes_a_number_as_kill_does(guyline: Command, before: list[str], signalled: int) -> None:
    """Fingers know it: it must never mean TERM, or a process."""
    started = (await guyline("exec", "-d", "sleep", "60")).out.strip()

    killed = await guyline("kill", *before, started)

    assert (killed.code, killed.err) == (0, "")
    assert (await guyline("attach", started)).code == 128 + signalled


@pytest.mark.parametrize("odd", ["-99", "-65", "-0", "-KILL", "--no-such"])
@pytest.mark.parametrize("command", ["kill", "rm"])
async def test_an_unknown_option_is_no_process(shared_agent: RunningAgent, command: str, odd: str) -> None:
    """And what stands beside it is left alone."""
    guyline = Command(shared_agent.address)
    async with AsyncAgent(shared_agent.address) as agent:
        process = await agent.start(["sleep", "60"])
        for arguments in ([odd, process.id], [process.id, odd], ["--", odd, process.id]):
            assert (await guyline(command, *arguments)).code == 2
        canceled = await agent.cancel(process.id, wait=DEADLINE)

    assert canceled.process is not None
    assert canceled.process.exit is not None
    assert canceled.process.exit.signal == signal.SIGTERM


@pytest.mark.parametrize(
    "arguments",
    [
        ["--json", "agent"],
        ["--address", NO_AGENT, "agent"],
        ["kill", "--wait", "9999999999999999d", "x"],
        ["kill", "--grace", "9999999999999999d", "x"],
        ["view", "--max", "999999999999999999999", "x"],
        ["view", "--max", "5g", "x"],
        ["logs", "--since", "99999999999999999999", "x"],
        ["logs", "--since", "9999999d", "x"],
        ["logs", "--tail", "99999999999999999999", "x"],
        ["logs", "--tail", "9" * 5000, "x"],
        ["ps", "-n", "99999999999"],
        ["ps", "-w", "--sort", "cpu"],
        ["prune", "--older-than", "1000000d"],
        ["logs", NOT_UTF_8],
        ["wait", "--for", f"/{NOT_UTF_8}/", "x"],
        ["ps", "--label", f"a={NOT_UTF_8}"],
    ],
    ids=lambda arguments: repr(" ".join(arguments)[:40]),
)
async def test_what_is_out_of_all_bounds_is_wrong_usage(arguments: list[str]) -> None:
    """And no defect of guyline, which people would report."""
    result = await Command(NO_AGENT)(*arguments)

    assert result.code == 2
    assert "defect" not in result.err
    assert "usage: guyline" in result.err


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["echo", NOT_UTF_8], r"PROGRAM: b'\xff' is not UTF-8"),
        (["-c", NOT_UTF_8], r"-c: b'\xff' is not UTF-8"),
        (["--cwd", NOT_UTF_8, "true"], r"--cwd: b'\xff' is not UTF-8"),
        (["--label", f"a={NOT_UTF_8}", "true"], r"--label: b'a=\xff' is not UTF-8"),
        (["--env", f"SECRET={NOT_UTF_8}", "true"], "--env: the value of SECRET is not UTF-8"),
        (["--env", "PASSED", "true"], "--env: the value of PASSED is not UTF-8"),
    ],
    ids=lambda value: ascii(value[0]) if isinstance(value, list) else "",
)
async def test_text_that_is_not_utf_8_is_named(arguments: list[str], named: str) -> None:
    """A file with an old name among hundreds is not to be searched for; a value may be a secret."""
    guyline = Command(NO_AGENT)
    guyline.environment |= {"PASSED": NOT_UTF_8}
    result = await guyline("exec", *arguments)

    assert result.code == 125
    assert named in result.err


async def test_a_directory_that_is_not_utf_8_is_named(guyline: Command, tmp_path: Path) -> None:
    """The one that the command would start in."""
    guyline.directory = tmp_path / NOT_UTF_8
    guyline.directory.mkdir()

    result = await guyline("exec", "true")

    assert result.code == 125
    assert r"\xff' is not UTF-8; --cwd names another one" in result.err
    assert (await guyline("exec", "--cwd", "/", "pwd")).out == "/\n"


async def test_a_directory_that_is_gone_is_not_replaced_by_another(guyline: Command, tmp_path: Path) -> None:
    """`rm -rf *` must never run in the home directory because somebody has removed the one in which it was typed."""
    gone = f"mkdir {tmp_path}/gone; cd {tmp_path}/gone; rmdir {tmp_path}/gone; $GUYLINE exec"

    here = await guyline.in_shell(f"{gone} pwd")
    above = await guyline.in_shell(f"{gone} --cwd .. pwd")
    elsewhere = await guyline.in_shell(f"{gone} --cwd / pwd")

    assert (here.code, above.code) == (125, 125)
    assert "--cwd names another one" in here.err
    assert (elsewhere.code, elsewhere.out) == (0, "/\n")


async def test_refusals_of_this_machine_are_json_as_well(guyline: Command) -> None:
    """A program that asked for JSON reads no prose, whoever refuses."""
    result = await guyline.in_shell("$GUYLINE ps --json >/dev/full")

    assert result.code == 125
    assert json.loads(result.err)["error"] == {
        "reason": "UNSPECIFIED",
        "message": "No space left on device",
        "facts": {"errno": "ENOSPC"},
        "outcome": "UNSPECIFIED",
        "hop": "CLIENT",
    }
