"""The other commands: what they show, and what they do."""

import asyncio
import json
import signal
import uuid
from datetime import datetime

import pytest

from tests.cli.command import Command
from tests.support.agent import RunningAgent
from tests.support.clock import DEADLINE


@pytest.fixture
async def printed(guyline: Command) -> str:
    """The id of a process that has printed the numbers 1 to 1000, a line each."""
    started = await guyline("exec", "-d", "-c", "seq 1000")
    await guyline("attach", started.out.strip())
    return started.out.strip()


async def test_ps_shows_what_runs_and_what_ran(guyline: Command, printed: str) -> None:
    """Plain columns where no terminal is."""
    result = await guyline("ps", "-n", "1000")

    header, *rows = result.out.splitlines()
    assert header.split() == ["ID", "STATE", "PID", "AGE", "OUTPUT", "CHAT", "COMMAND"]
    assert any(row.startswith(printed) and row.endswith("seq 1000") and "exit 0" in row for row in rows)


async def test_ps_says_which_limit_ended_a_command(guyline: Command) -> None:
    """The number of a signal would leave people guessing."""
    label = f"limited={uuid.uuid4()}"
    limits = ("--timeout", "10m", "--idle-timeout", "100ms")
    ended = await guyline("exec", "--label", label, *limits, "sleep", "1000")
    listed = await guyline("ps", "--label", label)

    assert ended.code == 124
    assert "signal 15 (idle timeout)" in listed.out


async def test_a_command_has_the_limits_that_were_asked_for(guyline: Command) -> None:
    """As its own shell sees them."""
    asked = ("--umask", "027", "--oom-score", "900", "--nice", "7", "--ulimit", "nofile=100:200", "--ulimit", "core=0")
    told = await guyline(
        "exec", *asked, "-c", "umask; cat /proc/self/oom_score_adj; nice; ulimit -Sn; ulimit -Hn; ulimit -c"
    )

    assert told.out.split() == ["0027", "900", "7", "100", "200", "0"]


async def test_ps_gives_programs_everything(guyline: Command, printed: str) -> None:
    """All that the agent says, by its names."""
    listed = json.loads((await guyline("ps", "--json", "-n", "1000")).out)

    process = next(each for each in listed["processes"] if each["process_id"] == printed)
    assert process["exit"]["code"] == 0
    assert process["output_bytes"] == 3893


async def test_ps_watch_shows_changes_as_they_come(guyline: Command) -> None:
    """Nobody has to ask again and again."""
    async with guyline.running("ps", "--watch", "--json") as child, asyncio.timeout(DEADLINE):
        assert child.stdout is not None
        while "synced" not in json.loads(await child.stdout.readline()):
            pass
        started = await guyline("exec", "-d", "-c", "exit 9")
        while (event := json.loads(await child.stdout.readline())).get("put", {}).get("exit") is None:
            pass

    assert event["put"]["process_id"] == started.out.strip()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--tail", "2"], "999\n1000\n"),
        (["--tail", "0"], ""),
        (["--tail", "5b"], "1000\n"),
        (["--since", "3884"], "999\n1000\n"),
        (["--tail", "2", "-f"], "999\n1000\n"),
    ],
    ids=" ".join,
)
async def test_logs_begin_where_one_wants(guyline: Command, printed: str, options: list[str], expected: str) -> None:
    """The last lines, the last bytes, or behind an offset."""
    assert (await guyline("logs", *options, printed)).out == expected


async def test_logs_show_everything_by_default(guyline: Command, printed: str) -> None:
    """More lines than there are is no error either."""
    everything = "".join(f"{number}\n" for number in range(1, 1001))

    assert (await guyline("logs", printed)).out == everything
    assert (await guyline("logs", "--tail", "5000", printed)).out == everything


async def test_timestamps_stand_before_each_line(guyline: Command, printed: str) -> None:
    """They say when it was printed, also of what nobody saw then; following makes no difference."""
    lines = (await guyline("logs", "-t", "--tail", "2", printed)).out.splitlines()

    assert [line.split()[1] for line in lines] == ["999", "1000"]
    assert datetime.fromisoformat(lines[0].split()[0]).tzinfo is not None
    assert (await guyline("logs", "-f", "-t", "--tail", "2", printed)).out.splitlines() == lines


async def test_logs_and_attach_begin_at_a_time(guyline: Command) -> None:
    """So long ago or at a point in time, as the stamps have it; and programs get the time as a field."""
    process = json.loads((await guyline("exec", "--json", "-c", "echo old; sleep 2.1; echo new")).out.splitlines()[-1])
    old, new = (await guyline("logs", "-t", process["process_id"])).out.splitlines()
    at = new.split()[0]

    for command in ("logs", "attach"):
        assert (await guyline(command, "--since", at, process["process_id"])).out == "new\n"
        assert (await guyline(command, "--since", "2h", process["process_id"])).out == "old\nnew\n"
        assert (await guyline(command, "--since", "2999-01-01", process["process_id"])).out == ""
    said = json.loads((await guyline("logs", "--json", "-t", "--since", at, process["process_id"])).out)
    assert datetime.fromisoformat(said["output"]["printed_at"]).replace(microsecond=0) == datetime.fromisoformat(at)
    assert old.split()[0] < at


async def test_the_beginning_of_an_id_is_enough(guyline: Command, printed: str) -> None:
    """Nobody types 36 characters."""
    assert (await guyline("logs", "--tail", "1", printed[:13])).out == "1000\n"
    assert "at least the first 4 characters" in (await guyline("logs", printed[:3])).err


async def test_kill_ends_a_process_and_can_wait_for_it(guyline: Command) -> None:
    """With another signal, by name."""
    started = (await guyline("exec", "-d", "--", "sleep", "60")).out.strip()

    result = await guyline("kill", "-s", "sigint", "--wait", "10s", started)

    assert (result.code, result.out.split()) == (0, [started, "signal", str(int(signal.SIGINT))])


async def test_kill_says_what_it_cannot(guyline: Command, printed: str) -> None:
    """A process that has ended, or never was, is not ended again."""
    assert (await guyline("kill", printed)).code == 125
    assert "guyline ps" in (await guyline("kill", "no-such-process")).err
    assert "it goes last" in (await guyline("kill", "--wait", printed)).err  # it takes a time, if something follows


async def test_attach_takes_a_command_up_again(guyline: Command) -> None:
    """Its signals and its exit code are then those of the attached one."""
    started = (
        await guyline("exec", "-d", "-c", "trap 'exit 5' INT; echo ready; while :; do sleep 0.01; done")
    ).out.strip()

    async with guyline.running("attach", started) as child:
        assert child.stdout is not None
        assert await child.stdout.readline() == b"ready\n"
        child.send_signal(signal.SIGINT)
        assert await guyline.code_of(child) == 5


async def test_info_names_keeper_and_worker(guyline: Command, shared_agent: RunningAgent) -> None:
    """For people as a table, for programs whole."""
    info = json.loads((await guyline("info", "--json")).out)

    assert info["keeper_pid"] == shared_agent.keeper_pid
    assert f"pid {info['worker_pid']}" in (await guyline("info")).out


async def test_errors_are_json_where_answers_are(guyline: Command) -> None:
    """A program that asked for JSON reads no prose."""
    result = await guyline("--json", "logs", "no-such-process")

    assert json.loads(result.err)["error"]["reason"] == "PROCESS_NOT_FOUND"


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
async def test_there_is_a_completion_for_each_shell(guyline: Command, shell: str) -> None:
    """It knows the commands."""
    result = await guyline("completion", shell)

    assert result.code == 0
    assert "attach" in result.out


@pytest.mark.parametrize("arguments", [["--help"], ["exec", "--help"], ["logs", "--help"], ["--version"]], ids=" ".join)
async def test_help_needs_no_agent(arguments: list[str]) -> None:
    """And no gRPC: it comes at once, where what was asked for belongs."""
    result = await Command("unix:/no/such/agent.sock")(*arguments)

    assert (result.code, result.err) == (0, "")
    assert "guyline" in result.out


@pytest.mark.parametrize(
    "arguments",
    [
        ["logs", "--since", "soon", "x"],
        ["logs", "--since", "5 m", "x"],
        ["attach", "--since", "2026-13-01", "x"],
        ["kill", "-s", "NOPE", "x"],
        ["kill", "--grace", "soon", "x"],
        ["ps", "-n", "-1"],
        [],
    ],
    ids=" ".join,
)
async def test_wrong_usage_is_said_with_the_value(arguments: list[str]) -> None:
    """Exit code 2, as of any Unix tool."""
    result = await Command("unix:/no/such/agent.sock")(*arguments)

    assert result.code == 2
    assert "Traceback" not in result.err


async def test_a_closed_output_ends_logs_quietly(guyline: Command) -> None:
    """`guyline logs | head` is what everybody types, and it must not touch the process."""
    started = (await guyline("exec", "-d", "-c", "seq 100000; exec sleep 60")).out.strip()

    async with guyline.running("logs", "-f", started) as child:
        assert child.stdout is not None
        await child.stdout.readline()
        child._transport.get_pipe_transport(1).close()  # type: ignore[attr-defined]  # asyncio has no public way
        assert child.stderr is not None
        err = await asyncio.wait_for(child.stderr.read(), DEADLINE)
        code = await asyncio.wait_for(child.wait(), DEADLINE)

    assert (code, err) == (128 + signal.SIGPIPE, b"")
    assert (await guyline("kill", "--wait", "10s", started)).code == 0
