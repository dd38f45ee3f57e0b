"""Launching the agent: what it is told reaches it, and two never share a place."""

import asyncio
import os
import signal
import socket
import stat
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from guyline.agent.v1.agent_info_service_pb2 import GetInfoRequest
from tests.agentd.keeper.lives import run
from tests.support import proc
from tests.support.agent import RunningAgent
from tests.support.clock import DEADLINE


async def second(agent: RunningAgent, *, state_dir: Path | None = None, listen: str = "") -> tuple[int, str]:
    """Tries to launch another agent at the place of this one; returns its exit code and what it said."""
    command = [sys.executable, "-m", "guyline.cli.main", "agent"]
    command += ["--state-dir", str(state_dir or agent.process.state_dir), "--listen", listen or agent.address]
    process = await asyncio.create_subprocess_exec(*command, stderr=subprocess.PIPE)
    _, said = await process.communicate()
    assert process.returncode is not None
    return process.returncode, said.decode()


# What it is told.


async def test_flags_reach_the_agent() -> None:
    """The launching command checks them; the worker, two programs later, obeys them."""
    async with RunningAgent(settings={"max_processes": 7, "shutdown_grace": 2.5}) as agent:
        limits = (await agent.info.GetInfo(GetInfoRequest())).limits

    assert (limits.max_processes, limits.shutdown_grace.ToMilliseconds()) == (7, 2500)


async def test_the_environment_reaches_the_agent() -> None:
    """A container is configured by its environment."""
    async with RunningAgent(environment={"GUYLINE_AGENT_MAX_PROCESSES": "8"}) as agent:
        limits = (await agent.info.GetInfo(GetInfoRequest())).limits

    assert limits.max_processes == 8


async def test_a_toml_file_reaches_the_agent_and_a_flag_goes_before_it(tmp_path: Path) -> None:
    """A machine's file, and today's exception on the command line."""
    file = tmp_path / "agent.toml"
    file.write_text("max_processes = 9\nkey_retention = 120\n")
    async with RunningAgent(settings={"config": file, "max_processes": 10}) as agent:
        limits = (await agent.info.GetInfo(GetInfoRequest())).limits

    assert (limits.max_processes, limits.key_retention.seconds) == (10, 120)


async def test_settings_outlive_the_worker() -> None:
    """The keeper hands them to each worker, unread."""
    async with RunningAgent(settings={"max_processes": 11}) as agent:
        await agent.kill_worker()
        info = await agent.serves_again()

    assert info.limits.max_processes == 11


async def test_commands_get_the_agents_environment_without_what_the_keeper_added(agent: RunningAgent) -> None:
    """gRPC's switches are for the worker; a command that uses gRPC itself must not inherit them."""
    printed = (await run(agent, "env")).printed

    assert b"GUYLINE_TEST_MARK=" in printed
    added = [line for line in printed.splitlines() if line.startswith((b"GRPC_ENABLE_FORK", b"GRPC_VERBOSITY"))]
    assert not added


@pytest.mark.parametrize("kind", ["path", "abstract"])
async def test_a_service_manager_is_told_when_the_agent_serves_and_when_it_ends(kind: str, tmp_path: Path) -> None:
    """`systemctl start` then returns when calls are answered. Commands do not find its socket."""
    name = f"@{uuid.uuid4()}" if kind == "abstract" else str(tmp_path / "n")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(name.replace("@", "\0"))
        manager.settimeout(DEADLINE)
        async with RunningAgent(environment={"NOTIFY_SOCKET": name}) as agent:
            ready = await asyncio.to_thread(manager.recv, 100)
            environment = (await run(agent, "env")).printed
            await agent.kill_worker()
            await agent.serves_again()
            await agent.stop()
        stopping = await asyncio.to_thread(manager.recv, 100)

    assert (ready, stopping) == (b"READY=1", b"STOPPING=1")
    assert b"NOTIFY_SOCKET" not in environment


# Alone at its place.


async def test_a_second_agent_on_the_same_state_is_refused_and_told_by_whom(agent: RunningAgent) -> None:
    """Two agents on one record log would destroy it. The first one does not even notice."""
    code, said = await second(agent, listen=f"unix:{agent.process.folder}/other.sock")

    assert code == 1
    assert f"pid {agent.keeper_pid}" in said
    assert "--state-dir" in said
    assert (await run(agent, "echo", "still here")).printed == b"still here\n"


async def test_a_second_agent_on_the_same_socket_is_refused(agent: RunningAgent) -> None:
    """gRPC alone would take a live socket over in silence."""
    code, said = await second(agent, state_dir=agent.process.folder / "other")

    assert code == 1
    assert str(agent.process.socket) in said
    assert (await run(agent, "echo", "still here")).printed == b"still here\n"


async def test_a_second_agent_on_the_same_socket_is_told_by_whom(agent: RunningAgent) -> None:
    """The number is what one needs to stop it."""
    _, said = await second(agent, state_dir=agent.process.folder / "other")

    assert f"pid {agent.keeper_pid}" in said


async def test_a_second_agent_is_refused_on_the_socket_of_one_that_does_not_serve_yet(agent: RunningAgent) -> None:
    """While a worker is being replaced nobody serves, but the place is taken: the keeper holds a lock beside it."""
    os.kill(agent.keeper_pid, signal.SIGSTOP)
    os.kill(agent.worker_pid, signal.SIGKILL)
    await proc.dead(agent.worker_pid)
    code, said = await second(agent, state_dir=agent.process.folder / "other")
    os.kill(agent.keeper_pid, signal.SIGCONT)

    assert code == 1
    assert f"pid {agent.keeper_pid}" in said
    await agent.serves_again()


async def test_the_place_is_free_again_once_all_of_an_agent_was_killed(agent: RunningAgent) -> None:
    """Locks go with the processes that hold them; files that stay behind block nobody."""
    os.kill(agent.worker_pid, signal.SIGSTOP)  # so that it does not become the keeper
    proc.kill([agent.keeper_pid, agent.worker_pid])
    await asyncio.gather(proc.dead(agent.keeper_pid), proc.dead(agent.worker_pid))
    agent.process.keeper_was_replaced(0)
    assert agent.process.socket.exists()  # stale: it is taken over
    await agent.start_again()

    assert (await run(agent, "echo", "again")).printed == b"again\n"


async def test_the_place_stays_taken_by_a_worker_that_became_the_keeper(agent: RunningAgent) -> None:
    """The locks survive the keeper that took them."""
    await agent.kill_keeper()
    await agent.serves_again()
    code, _ = await second(agent, listen=f"unix:{agent.process.folder}/other.sock")
    again, _ = await second(agent, state_dir=agent.process.folder / "other")

    assert (code, again) == (1, 1)


async def test_what_is_no_socket_is_never_replaced(agent: RunningAgent) -> None:
    """A slip in --listen must not delete somebody's file."""
    file = agent.process.folder / "precious"
    file.write_text("data")
    code, said = await second(agent, state_dir=agent.process.folder / "other", listen=f"unix:{file}")

    assert code == 1
    assert "precious" in said
    assert file.read_text() == "data"


async def test_only_the_owner_can_enter_state_and_socket(agent: RunningAgent) -> None:
    """Whoever reaches the socket is the owner, and output may hold anything."""
    await run(agent, "echo", "secret")
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in [agent.process.state_dir, agent.process.socket]}
    inside = [path for path in agent.process.state_dir.rglob("*") if stat.S_IMODE(path.stat().st_mode) & 0o077]

    assert modes == {"state": 0o700, "agent.sock": 0o600}
    assert not [path for path in inside if path.is_file()]


async def test_a_state_directory_that_cannot_be_used_is_said_so(agent: RunningAgent) -> None:
    """A typing error, not a traceback."""
    file = agent.process.folder / "file"
    file.touch()
    code, said = await second(agent, state_dir=file / "state", listen=f"unix:{agent.process.folder}/other.sock")

    assert code == 1
    assert "--state-dir" in said
    assert "Traceback" not in said


# What is missing.


def test_a_missing_package_is_named_with_the_extra_that_brings_it(tmp_path: Path) -> None:
    """``pip install guyline`` gives the client alone, and people will try ``guyline agent`` with it."""
    blocked = "import sys; sys.modules['pydantic_settings'] = None; from guyline.cli.main import main; main(['agent'])"
    environment = os.environ | {"XDG_STATE_HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path)}
    ran = subprocess.run([sys.executable, "-c", blocked], env=environment, capture_output=True, text=True, check=False)

    assert ran.returncode == 1
    assert "guyline[agent]" in ran.stderr
    assert "Traceback" not in ran.stderr
