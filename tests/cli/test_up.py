"""``guyline up``: the first minute of every user."""

import asyncio
import json
import signal
import tempfile
from pathlib import Path

from guyline.client import AsyncAgent
from tests.cli.command import Command
from tests.support import proc
from tests.support.agent import RunningAgent
from tests.support.clock import DEADLINE


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
