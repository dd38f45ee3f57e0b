"""The agent as process 1 of a container: nobody is above it, and whoever loses its parent becomes its child."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Self

import grpc.aio
import pytest

from guyline.agent.v1.agent_info_service_pb2 import GetInfoRequest, GetInfoResponse, UpgradeRequest
from guyline.agent.v1.agent_info_service_pb2_grpc import AgentInfoServiceStub
from guyline.agent.v1.process_pb2 import UNKNOWN_END_AGENT_LOST
from guyline.agent.v1.process_service_pb2 import StartRequest
from guyline.agent.v1.process_service_pb2_grpc import ProcessServiceStub
from tests.agentd.keeper.lives import listed, run, started
from tests.support import proc
from tests.support.agent import RECONNECT_FAST
from tests.support.clock import DEADLINE
from tests.support.program import program


class Container:
    """A pid namespace with a /proc of its own, whose process 1 is an agent. Ends with the ``async with`` block.

    Process ids that the agent tells are the namespace's; those here are the machine's.
    """

    def __init__(self, folder: Path) -> None:
        self.init_pid = 0
        self._listen = f"unix:{folder}/agent.sock"
        self._command = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child", sys.executable]
        self._command += ["-m", "guyline.cli.main", "agent", "--state-dir", f"{folder}/state", "--listen", self._listen]

    async def __aenter__(self) -> Self:
        self.channel = grpc.aio.insecure_channel(self._listen, RECONNECT_FAST)
        self.processes = ProcessServiceStub(self.channel)
        self.info = AgentInfoServiceStub(self.channel)
        await self.start()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.channel.close()
        proc.kill([self.init_pid])  # the kernel ends all others of the namespace with it
        await self.ended()

    async def start(self) -> None:
        self._begin()
        await self.get_info()
        (init,) = proc.children(self._unshare.pid)
        self.init_pid = init.pid

    def _begin(self) -> None:
        self._unshare = subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    async def get_info(self) -> GetInfoResponse:
        return await self.info.GetInfo(GetInfoRequest(), wait_for_ready=True, timeout=2 * DEADLINE)

    async def ended(self) -> int:
        """Waits for the end of process 1; returns its exit code, as ``unshare`` tells it."""
        return await asyncio.to_thread(self._unshare.wait, 2 * DEADLINE)

    def zombies(self) -> list[proc.Status]:
        return [child for child in proc.children(self.init_pid) if child.is_zombie]


@pytest.fixture
async def container() -> AsyncIterator[Container]:
    """Such an agent; skips the test where there can be none."""
    probe = ["unshare", "--pid", "--fork", "--mount-proc", "true"]
    if await asyncio.to_thread(_fails, probe):
        pytest.skip("unshare cannot make a pid namespace here: that takes root")
    folder = Path(tempfile.mkdtemp(prefix="gl-"))
    try:
        async with Container(folder) as running:
            yield running
    finally:
        shutil.rmtree(folder)


def _fails(command: list[str]) -> bool:
    return shutil.which(command[0]) is None or bool(
        subprocess.run(command, stderr=subprocess.DEVNULL, check=False).returncode
    )


async def test_process_1_serves_and_runs_commands(container: Container) -> None:
    """An image whose entry point is the agent needs no init besides."""
    reader = await run(container, "sh", "-c", "echo $PPID; exit 3")

    assert reader.printed == b"1\n"
    assert reader.exit is not None
    assert reader.exit.code == 3
    assert (await container.get_info()).keeper_pid == 1


async def test_process_1_reaps_the_orphans_of_others(container: Container) -> None:
    """In a container without an init zombies pile up until no process can be started."""
    await run(container, *program("daemon", "--lifetime", "0.05"))
    async with asyncio.timeout(DEADLINE):
        while len(proc.children(container.init_pid)) > 1 or container.zombies():  # noqa: ASYNC110 - who reaps tells nobody
            await asyncio.sleep(0.01)

    (worker,) = proc.children(container.init_pid)
    assert not worker.is_zombie


async def test_term_to_process_1_ends_all_in_order(container: Container) -> None:
    """To process 1 the kernel delivers only signals that it handles: this is how a container is stopped."""
    async with started(container, StartRequest(argv=["sleep", "60"])) as (process, _):
        os.kill(container.init_pid, signal.SIGTERM)
        code = await container.ended()
        await container.start()
        exit_ = (await listed(container))[process.process_id].exit

    assert code == 0
    assert exit_.signal == signal.SIGTERM


async def test_process_1_replaces_its_worker_and_its_code(container: Container) -> None:
    """The keeper's change of code must not end process 1, since all would end with it."""
    async with started(container, StartRequest(argv=["sleep", "60"])) as (process, reader):
        before = await container.get_info()
        await container.info.Upgrade(UpgradeRequest())
        async with asyncio.timeout(2 * DEADLINE):
            while (await _info_or_none(container)) in (None, before.worker_pid):  # noqa: ASYNC110 - it asks each time
                await asyncio.sleep(0.01)
        running = (await listed(container))[process.process_id]

    assert reader.exit is None
    assert running.HasField("exit") is False
    assert (await container.get_info()).instance_id == before.instance_id


async def _info_or_none(container: Container) -> int | None:
    try:
        return (await container.get_info()).worker_pid
    except grpc.aio.AioRpcError:  # the old worker is leaving
        return None


async def test_what_ran_when_process_1_was_killed_is_unknown_afterwards(container: Container) -> None:
    """The kernel ends the whole namespace; the records in the volume are all that is left."""
    async with started(container, StartRequest(argv=["sleep", "60"])) as (process, _):
        os.kill(container.init_pid, signal.SIGKILL)
        await container.ended()
        await container.start()
        exit_ = (await listed(container))[process.process_id].exit

    assert exit_.unknown == UNKNOWN_END_AGENT_LOST
