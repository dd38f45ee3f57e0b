"""``guyline up``: the first minute of every user."""

import asyncio
import json
import os
import signal
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import pytest

from guyline.client import AsyncAgent
from tests.cli.command import Command
from tests.support import proc
from tests.support.agent import RunningAgent
from tests.support.clock import DEADLINE, MS


async def test_up_runs_an_agent_until_it_is_told_to_end() -> None:
    """It says what to try, and that works; Ctrl-C ends the agent in order."""
    with tempfile.TemporaryDirectory(prefix="gl-") as folder:
        guyline = Command(f"unix:{folder}/run/agent.sock")
        guyline.environment |= {"XDG_STATE_HOME": folder}
        async with guyline.running("up") as child:
            assert child.stdout is not None
            hint = await asyncio.wait_for(child.stdout.readline(), 2 * DEADLINE)
            tried = await guyline("exec", "-c", "echo it works; env")
            again = await guyline("up")
            child.send_signal(signal.SIGINT)
            code = await asyncio.wait_for(guyline.code_of(child), 2 * DEADLINE)

    assert hint.startswith(b"An agent is up at ")
    assert tried.out.startswith("it works\n")
    assert "GRPC_VERBOSITY" not in tried.out  # what the command sets for itself is nobody else's business
    assert again.code == 0
    assert code == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda each: each.name)
async def test_up_leaves_no_agent_behind_whenever_it_is_told_to_end(number: signal.Signals) -> None:
    """Also just after it has started one, which nobody knows yet; and nobody reads a traceback."""
    with tempfile.TemporaryDirectory(prefix="gl-") as folder:
        guyline = Command(f"unix:{folder}/agent.sock")
        guyline.environment |= {"XDG_STATE_HOME": folder}
        for milliseconds in (0, 0, 2, 4, 40):
            async with guyline.running("up") as child:
                assert child.stderr is not None
                agent = await asyncio.to_thread(_started_by, child.pid, milliseconds * MS, number)
                try:
                    code = await asyncio.wait_for(child.wait(), DEADLINE)
                    is_left = proc.is_alive(agent)
                finally:
                    if proc.is_alive(agent):
                        os.kill(agent, signal.SIGTERM)
                err = await asyncio.wait_for(child.stderr.read(), DEADLINE)

            assert (is_left, err) == (False, b""), milliseconds
            assert code in (0, 128 + number), milliseconds


async def test_up_ignores_what_was_ignored_before() -> None:
    """`nohup guyline up` outlives its terminal."""
    with tempfile.TemporaryDirectory(prefix="gl-") as folder:
        guyline = Command(f"unix:{folder}/run/agent.sock")
        guyline.environment |= {"XDG_STATE_HOME": folder}
        async with guyline.running_in_shell("trap '' HUP; exec $GUYLINE up") as child:
            assert child.stdout is not None
            await asyncio.wait_for(child.stdout.readline(), 2 * DEADLINE)
            is_ignored = proc.ignores(child.pid, signal.SIGHUP)
            child.send_signal(signal.SIGTERM)
            code = await asyncio.wait_for(guyline.code_of(child), 2 * DEADLINE)

    assert (is_ignored, code) == (True, 0)


async def test_up_says_that_an_agent_is_up_already(guyline: Command, shared_agent: RunningAgent) -> None:
    """Two on one socket would only be a puzzle."""
    result = await guyline("up")

    assert result.code == 0
    assert f"pid {shared_agent.keeper_pid}" in result.out


async def test_up_says_in_json_who_is_up() -> None:
    """A program that starts an agent wants to know where it is, and which process to end."""
    with tempfile.TemporaryDirectory(prefix="gl-") as folder:
        guyline = Command(f"unix:{folder}/agent.sock")
        guyline.environment |= {"XDG_STATE_HOME": folder}
        async with guyline.running("up", "--json") as child:
            assert child.stdout is not None
            line = await asyncio.wait_for(child.stdout.readline(), 2 * DEADLINE)
            again = await guyline("up", "--json")
            info = json.loads((await guyline("info", "--json")).out)
            child.send_signal(signal.SIGINT)
            rest, _ = await asyncio.wait_for(child.communicate(), 2 * DEADLINE)

    started, present = json.loads(line), json.loads(again.out)
    assert started["keeper_pid"] == info["keeper_pid"]
    assert started == {"address": f"unix:{folder}/agent.sock", "started": True} | {key: started[key] for key in info}
    assert (present["started"], present["store_id"]) == (False, info["store_id"])
    assert (rest, child.returncode, again.code) == (b"", 0, 0)


async def test_up_says_that_its_answer_could_not_be_written() -> None:
    """At once, to whoever waits for it; the agent goes on, and what it says is not kept back for that."""
    with tempfile.TemporaryDirectory(prefix="gl-") as folder:
        guyline = Command(f"unix:{folder}/agent.sock")
        guyline.environment |= {"XDG_STATE_HOME": folder}
        async with guyline.running_in_shell("exec $GUYLINE up --json > /dev/full") as child:
            assert child.stderr is not None
            said = json.loads(await asyncio.wait_for(child.stderr.readline(), 2 * DEADLINE))
            info = json.loads((await guyline("info", "--json")).out)
            os.kill(info["worker_pid"], signal.SIGKILL)
            log = await asyncio.wait_for(child.stderr.readline(), 2 * DEADLINE)
            child.send_signal(signal.SIGTERM)
            code = await asyncio.wait_for(guyline.code_of(child), 2 * DEADLINE)

    assert (said["error"]["facts"], code) == ({"errno": "ENOSPC"}, 125)
    assert json.loads(log)["event"]


async def test_up_in_json_ends_although_nobody_reads_what_the_agent_says() -> None:
    """A program that reads only the first line ends what it started by SIGTERM, and waits for that."""
    with tempfile.TemporaryDirectory(prefix="gl-") as folder:
        guyline = Command(f"unix:{folder}/agent.sock")
        guyline.environment |= {"XDG_STATE_HOME": folder, "GUYLINE_AGENT_LOG_LEVEL": "debug"}
        os.mkfifo(f"{folder}/stderr")
        stderr = os.open(f"{folder}/stderr", os.O_RDWR | os.O_NONBLOCK)
        async with guyline.running_in_shell(f"exec $GUYLINE up --json 2>{folder}/stderr") as child:
            assert child.stdout is not None
            await asyncio.wait_for(child.stdout.readline(), 2 * DEADLINE)
            with suppress(BlockingIOError):  # once it is full
                while True:
                    os.write(stderr, b"x")
            async with AsyncAgent(f"unix:{folder}/agent.sock", connect_timeout=2 * DEADLINE) as agent:
                await agent.run("true")
            child.send_signal(signal.SIGTERM)
            code = await asyncio.wait_for(guyline.code_of(child), 2 * DEADLINE)
        os.close(stderr)

    assert code == 0


async def test_up_says_in_json_why_no_agent_starts(shared_agent: RunningAgent) -> None:
    """The agent itself says it, in prose; a program that asked for JSON reads none."""
    with tempfile.TemporaryDirectory(prefix="gl-") as folder:
        guyline = Command(f"unix:{folder}/agent.sock")
        guyline.environment |= {"GUYLINE_AGENT_STATE_DIR": str(shared_agent.process.state_dir)}
        result = await guyline("up", "--json")
        elsewhere = await guyline("--address", "tcp://localhost:1", "up", "--json")

    error = json.loads(result.err)["error"]
    assert (result.code, result.out) == (1, "")
    assert f"an agent (pid {shared_agent.keeper_pid}) already runs there" in error["message"]
    assert error["facts"] == {"address": f"unix:{folder}/agent.sock", "exit_code": "1"}
    assert json.loads(elsewhere.err)["error"]["reason"] == "INVALID_INPUT"


async def test_up_in_json_ends_although_nobody_reads_why_no_agent_starts(shared_agent: RunningAgent) -> None:
    """Whoever waits for its end before reading would wait for ever."""
    with tempfile.TemporaryDirectory(prefix="gl-") as folder:
        guyline = Command(f"unix:{folder}/agent.sock")
        guyline.environment |= {"GUYLINE_AGENT_STATE_DIR": str(shared_agent.process.state_dir)}
        os.mkfifo(f"{folder}/stderr")
        stderr = os.open(f"{folder}/stderr", os.O_RDWR | os.O_NONBLOCK)
        with suppress(BlockingIOError):  # once it is full
            while True:
                os.write(stderr, b"x")
        async with guyline.running_in_shell(f"exec $GUYLINE up --json 2>{folder}/stderr") as child:
            code = await asyncio.wait_for(guyline.code_of(child), 2 * DEADLINE)
        os.close(stderr)

    assert code == 1


async def test_modules_where_it_is_started_are_none_of_its_own() -> None:
    """Somebody's json.py beside the project must not become a part of the agent, nor break it."""
    with tempfile.TemporaryDirectory(prefix="gl-") as folder:
        (Path(folder) / "json.py").write_text("raise SystemExit('this was not meant to run')")
        guyline = Command(f"unix:{folder}/agent.sock")
        guyline.environment |= {"XDG_STATE_HOME": folder}
        guyline.directory = Path(folder)
        async with guyline.running("up") as child:
            assert child.stdout is not None
            assert (await asyncio.wait_for(child.stdout.readline(), 2 * DEADLINE)).startswith(b"An agent is up at ")
            upgraded = await guyline("agent", "upgrade", "--json")
            async with AsyncAgent(f"unix:{folder}/agent.sock", connect_timeout=2 * DEADLINE) as agent:
                after = await agent.run("echo still there")
            child.send_signal(signal.SIGINT)
            code = await asyncio.wait_for(guyline.code_of(child), 2 * DEADLINE)

    assert json.loads(upgraded.out).keys() == {"from_version", "to_version"}
    assert (after.text, code) == ("still there\n", 0)


async def test_an_upgrade_leaves_processes_alone(agent: RunningAgent) -> None:
    """A command that is being followed does not notice."""
    guyline = Command(agent.address)
    go = agent.process.folder / "go"
    line = f"echo before; until [ -e {go} ]; do sleep 0.01; done; echo after; exit 6"
    async with guyline.running("exec", "-c", line) as child:
        assert child.stdout is not None
        await child.stdout.readline()
        upgraded = await guyline("agent", "upgrade")
        await asyncio.to_thread(go.touch)
        out, _ = await asyncio.wait_for(child.communicate(), DEADLINE)

    assert upgraded.code == 0, upgraded.err
    assert (child.returncode, out) == (6, b"after\n")


def _started_by(pid: int, seconds: float, number: signal.Signals) -> int:
    """The process id of the first child. As soon as there is one, or so long after, the parent gets the signal."""
    children = Path(f"/proc/{pid}/task/{pid}/children")
    latest = time.monotonic() + DEADLINE
    while not (found := children.read_text().split()):
        assert time.monotonic() < latest, "nothing was started"
    time.sleep(seconds)  # the moment is what varies
    os.kill(pid, number)
    return int(found[0])
