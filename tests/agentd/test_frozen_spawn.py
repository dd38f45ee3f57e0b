"""Programs and directories on a mount that does not answer: they stop nobody but the one who asked for them."""

import asyncio

import grpc
import grpc.aio
import pytest

from guyline.agent.v1.agent_info_service_pb2 import UpgradeRequest
from guyline.agent.v1.process_service_pb2 import StartRequest
from tests.agentd.keeper.hanging_fs import HangingFileSystem
from tests.agentd.keeper.lives import Reader, Tap, details_of, listed, run
from tests.support import proc
from tests.support.agent import RunningAgent
from tests.support.clock import DEADLINE


async def hanging(mount: HangingFileSystem) -> None:
    """Waits until somebody hangs on the mount."""
    assert await asyncio.to_thread(mount.somebody_hangs.wait, DEADLINE)


@pytest.mark.parametrize("process_cgroups", ["off", "on"])
async def test_a_program_that_hangs_in_its_exec_is_killed_and_the_keeper_freed(
    dead_mount: HangingFileSystem, process_cgroups: str
) -> None:
    """A spawn stops its parent until the exec is done, and the parent of all commands must never stop for long."""
    async with RunningAgent(settings={"process_cgroups": process_cgroups}) as agent:
        await _survives_a_frozen_exec(agent, dead_mount)


async def _survives_a_frozen_exec(agent: RunningAgent, dead_mount: HangingFileSystem) -> None:
    frozen = asyncio.ensure_future(agent.processes.Start(StartRequest(argv=[str(dead_mount.program)])))
    await hanging(dead_mount)
    with Tap(agent) as tap:
        other = (await agent.processes.Start(tap.request)).process
        async with Reader(agent, other.process_id) as reader:
            tap.pour(b"all is well")
            await reader.until(b"all is well")
            tap.turn_off()
            assert (await reader.end()).code == 7

    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await frozen
    info, _ = details_of(refused.value)
    assert (info.reason, info.metadata["errno"]) == ("COMMAND_NOT_RUNNABLE", "ETIMEDOUT")
    assert list(await listed(agent)) == [other.process_id]
    assert not [child for child in proc.children(agent.keeper_pid) if child.is_zombie]


async def test_a_directory_whose_look_up_hangs_fails_in_time_and_others_start_meanwhile(
    dead_mount: HangingFileSystem,
) -> None:
    """The keeper is not even asked; the thread that hangs is one of many."""
    async with RunningAgent(settings={"lookup_timeout": 0.3, "shutdown_grace": 1}) as agent:
        lost = asyncio.ensure_future(
            agent.processes.Start(StartRequest(argv=["true"], directory=str(dead_mount.directory)))
        )
        await hanging(dead_mount)
        assert (await run(agent, "echo", "meanwhile")).printed == b"meanwhile\n"
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await lost

    assert details_of(refused.value)[0].reason == "LOOKUP_TIMED_OUT"
    assert refused.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_a_look_up_that_hangs_for_ever_does_not_hold_up_an_upgrade(dead_mount: HangingFileSystem) -> None:
    """The worker leaves the thread behind and ends; waiting for it would leave the agent without a worker."""
    async with RunningAgent(settings={"lookup_timeout": 0.1}) as agent:
        with pytest.raises(grpc.aio.AioRpcError, match="DEADLINE_EXCEEDED"):
            await agent.processes.Start(StartRequest(argv=["true"], directory=str(dead_mount.directory)))
        await agent.info.Upgrade(UpgradeRequest())
        await proc.dead(agent.worker_pid)
        await agent.serves_again()

        assert (await run(agent, "echo", "new")).printed == b"new\n"
