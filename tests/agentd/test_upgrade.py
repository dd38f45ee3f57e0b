"""Replacing keeper and worker under running processes: nobody notices but by a pause."""

import asyncio
import os
import signal
import sys
import sysconfig
import venv
from pathlib import Path

import grpc
import grpc.aio
import pytest

from guyline.agent.v1.agent_info_service_pb2 import GetInfoRequest, GetInfoResponse, UpgradeRequest
from guyline.agent.v1.process_pb2 import ENDED_BY_ITSELF, UNKNOWN_END_KEEPER_LOST
from guyline.agent.v1.process_service_pb2 import StartRequest
from tests.agentd.keeper.lives import Reader, Tap, details_of, inherited_by_a_command, logged, run, started
from tests.support import agent_of_two_formats, proc
from tests.support.agent import AgentProcess, RunningAgent
from tests.support.program import program
from tests.support.programs import noise


async def upgraded(agent: RunningAgent, interpreter: str = "") -> GetInfoResponse:
    """Upgrades the agent; returns what the new worker says of it."""
    await agent.info.Upgrade(UpgradeRequest(interpreter=interpreter))
    await proc.dead(agent.worker_pid)
    return await agent.serves_again()


async def refusal(agent: RunningAgent, interpreter: Path) -> grpc.aio.AioRpcError:
    """What an upgrade to that interpreter is answered with. Nothing may have changed by it."""
    before = await agent.info.GetInfo(GetInfoRequest())
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await agent.info.Upgrade(UpgradeRequest(interpreter=str(interpreter)))
    after = await agent.info.GetInfo(GetInfoRequest())

    assert (after.keeper_pid, after.worker_pid) == (before.keeper_pid, before.worker_pid)
    assert after.instance_id == before.instance_id
    assert details_of(refused.value)[0].reason == "UPGRADE_REFUSED"
    assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    return refused.value


def script(folder: Path, *lines: str) -> Path:
    """An interpreter of the test's own making."""
    path = folder / "python"
    path.touch(mode=0o755)
    path.write_text("\n".join(["#!/bin/sh", *lines, ""]))
    return path


async def test_an_upgrade_replaces_the_worker_and_keeps_the_keepers_pid_and_life(agent: RunningAgent) -> None:
    """The keeper changes its code in place: its children stay its children, and systemd's main process stays."""
    before = await agent.info.GetInfo(GetInfoRequest())
    after = await upgraded(agent)

    assert after.keeper_pid == before.keeper_pid
    assert after.worker_pid != before.worker_pid
    assert (after.instance_id, after.store_id) == (before.instance_id, before.store_id)
    assert after.started_at == before.started_at


async def test_output_and_exit_of_a_running_command_survive_an_upgrade(agent: RunningAgent) -> None:
    """An upgrade in the middle of a build is no event for the build."""
    with Tap(agent) as tap:
        async with started(agent, tap.request) as (_, reader):
            tap.pour(b"before ")
            await reader.until(b"before ")
            await upgraded(agent)
            tap.pour(b"after")
            tap.turn_off()
            exit_ = await reader.end()

            assert (exit_.code, exit_.ended_by) == (7, ENDED_BY_ITSELF)
            assert reader.printed == b"before after"


async def test_a_torrent_of_output_is_byte_exact_over_two_upgrades(agent: RunningAgent) -> None:
    """Bytes are in pipes, in the journal and under way all at once when the code changes."""
    total = 8_000_000
    argv = program("noise", 4, total, "--chunk", 3000, "--stderr-every", 2, "--exit", 9)
    async with started(agent, StartRequest(argv=argv)) as (_, reader):
        await reader.until(next(noise.stream(4, total))[:3000])
        await upgraded(agent)
        await upgraded(agent)

        assert (await reader.end()).code == 9
        assert bytes(reader.printed) == b"".join(noise.stream(4, total))


async def test_a_stream_open_at_an_upgrade_is_told_when_to_come_back(agent: RunningAgent) -> None:
    """By the status, and in the stream itself for clients that cannot read details."""
    with Tap(agent) as tap:
        async with started(agent, tap.request) as (_, reader):
            tap.pour(b"x")
            await reader.until(b"x")
            await upgraded(agent)
            _, retry = details_of(await reader.broken())

            assert retry is not None
            assert reader.was_told_to_retry
            tap.turn_off()
            await reader.end()


@pytest.mark.timeout(60)  # three upgrades beside callers that leave them little of the machine
async def test_calls_of_every_moment_of_an_upgrade_are_answered_or_told_unavailable(agent: RunningAgent) -> None:
    """Repeating what is UNAVAILABLE, and nothing else, gets through; CANCELLED would say the caller gave up itself."""
    is_over = asyncio.Event()

    async def call_again_and_again() -> int:
        answered = 0
        while not is_over.is_set():
            try:
                await agent.info.GetInfo(GetInfoRequest(), wait_for_ready=True)
                answered += 1
            except grpc.aio.AioRpcError as why:
                if why.code() is not grpc.StatusCode.UNAVAILABLE:
                    raise
        return answered

    async with asyncio.TaskGroup() as group:
        callers = [group.create_task(call_again_and_again()) for _ in range(16)]
        for _ in range(3):
            await agent.info.Upgrade(UpgradeRequest(), wait_for_ready=True)
            await agent.serves_again()
        is_over.set()
    assert all(caller.result() for caller in callers)


async def test_commands_end_rightly_while_the_code_changes(agent: RunningAgent) -> None:
    """Ends between the old code's last look and the new code's first are still waited for."""
    argv = ["sh", "-c", "sleep 0.$1; exit $1", "sh"]
    requests = [StartRequest(argv=[*argv, str(10 + number)]) for number in range(20)]
    ids = [(await agent.processes.Start(request)).process_id for request in requests]
    await upgraded(agent)

    codes = []
    for process_id in ids:
        async with Reader(agent, process_id) as reader:
            codes.append((await reader.end()).code)
    assert codes == list(range(10, 30))


async def test_nothing_leaks_into_commands_after_an_upgrade(agent: RunningAgent) -> None:
    """What one code hands the next is inherited on purpose, and by nobody else."""
    first = len(proc.descriptors(agent.keeper_pid))
    await upgraded(agent)
    assert await inherited_by_a_command(agent) == ["0", "1", "2"]
    await upgraded(agent)

    assert len(proc.descriptors(agent.keeper_pid)) == first


async def test_an_upgrade_after_the_loss_of_a_keeper_still_sees_commands_end(agent: RunningAgent) -> None:
    """Commands of the lost keeper are no children, before the upgrade and after: they are watched, not waited for."""
    with Tap(agent) as tap:
        async with started(agent, tap.request) as (_, reader):
            tap.pour(b"x")
            await reader.until(b"x")
            await agent.kill_keeper()
            await agent.serves_again()
            await upgraded(agent)
            tap.turn_off()

            assert (await reader.end()).unknown == UNKNOWN_END_KEEPER_LOST


async def test_a_keeper_that_dies_after_an_upgrade_is_replaced_all_the_same(agent: RunningAgent) -> None:
    """The new worker is as ready to take over as the old one was."""
    with Tap(agent) as tap:
        async with started(agent, tap.request) as (_, reader):
            tap.pour(b"one ")
            await reader.until(b"one ")
            await upgraded(agent)
            await agent.kill_keeper()
            await agent.serves_again()
            tap.pour(b"two")
            tap.turn_off()

            assert (await reader.end()).unknown == UNKNOWN_END_KEEPER_LOST
            assert reader.printed == b"one two"


async def test_a_shutdown_asked_for_during_an_upgrade_is_not_forgotten(agent: RunningAgent) -> None:
    """Between the old code's handlers and the new one's a signal must neither kill the keeper nor be lost."""
    async with started(agent, StartRequest(argv=["sleep", "60"])) as (process, _):
        await agent.info.Upgrade(UpgradeRequest())
        await logged(agent, "upgrading the keeper")  # the keeper is between two programs now, or nearly so
        await agent.stop()

    assert not proc.is_alive(process.pid)
    assert "shutting down" in await asyncio.to_thread(agent.process.log)


async def test_a_shutdown_that_is_seen_together_with_an_upgrade_is_not_forgotten(agent: RunningAgent) -> None:
    """Its byte waits in the old code's pipe when the new code is executed."""
    async with started(agent, StartRequest(argv=["sleep", "60"])) as (process, _):
        os.kill(agent.keeper_pid, signal.SIGSTOP)  # so that it finds both when it goes on, the upgrade first
        await agent.info.Upgrade(UpgradeRequest())
        os.kill(agent.keeper_pid, signal.SIGTERM)
        os.kill(agent.keeper_pid, signal.SIGCONT)
        await asyncio.to_thread(proc.wait_until_dead, agent.keeper_pid)

    assert not proc.is_alive(process.pid)
    assert "upgrading the keeper" in await asyncio.to_thread(agent.process.log)


async def test_another_environments_interpreter_takes_over(agent: RunningAgent) -> None:
    """The new version lies in an environment of its own, beside the old one: that is how it is tried out first."""
    folder = agent.process.folder / "venv"
    await asyncio.to_thread(_environment_like_this_one, folder)
    async with started(agent, StartRequest(argv=["sleep", "60"])) as (process, reader):
        await upgraded(agent, str(folder / "bin/python"))
        lines = [proc.command_line(pid) for pid in (agent.keeper_pid, agent.worker_pid)]
        os.kill(process.pid, signal.SIGKILL)

        assert all(line.startswith(str(folder)) for line in lines)
        assert (await reader.end()).signal == signal.SIGKILL


def _environment_like_this_one(folder: Path) -> None:
    """An environment that sees the packages of this one, as if they had been installed into it."""
    venv.create(folder, symlinks=True)
    here = sysconfig.get_path("purelib")
    site = sysconfig.get_path("purelib", vars={"base": str(folder)})
    # addsitedir, since the present installation is itself described by .pth files.
    Path(site, "here.pth").write_text(f"import site; site.addsitedir({here!r})\n")


async def test_an_interpreter_that_does_not_exist_is_refused(agent: RunningAgent, tmp_path: Path) -> None:
    """A slip of the finger must not end the agent."""
    error = await refusal(agent, tmp_path / "nowhere")

    assert "nowhere" in (error.details() or "")


async def test_an_interpreter_whose_code_does_not_run_is_refused_with_its_last_word(
    agent: RunningAgent, tmp_path: Path
) -> None:
    """The new code is tried before the old one goes."""
    error = await refusal(agent, script(tmp_path, "echo 'ModuleNotFoundError: no guyline here' >&2", "exit 1"))

    assert "ModuleNotFoundError: no guyline here" in (error.details() or "")


async def test_code_with_other_formats_is_refused(agent: RunningAgent, tmp_path: Path) -> None:
    """It would misread the table it is handed; only a full restart can lead there."""
    error = await refusal(agent, script(tmp_path, "echo 9.9", "echo 99 99"))

    assert "99 99" in (error.details() or "")


@pytest.mark.parametrize("welcome", [agent_of_two_formats.LEGIBLE, agent_of_two_formats.ILLEGIBLE])
async def test_a_worker_that_does_not_understand_its_keeper_says_so_and_does_not_serve(
    tmp_path: Path, welcome: str
) -> None:
    """A new version was installed and no upgrade made: what they misread of each other would never be answered."""
    installed = tmp_path / "installed"
    process = AgentProcess(
        program=(agent_of_two_formats.__file__,), environment={agent_of_two_formats.VARIABLE: str(installed)}
    )
    async with RunningAgent(process=process, owns_process=True) as agent:
        with Tap(agent) as tap:
            async with started(agent, tap.request) as (_, reader):
                tap.pour(b"before ")
                await reader.until(b"before ")
                installed.write_text(welcome)
                await agent.kill_worker()
                log = await logged(agent, "install that again, or end the agent and start it anew", times=3)
                installed.unlink()
                await agent.serves_again()
                tap.pour(b"after")
                tap.turn_off()

                assert (await reader.end()).code == 7
                assert reader.printed == b"before after"
    assert "Traceback" not in log


async def test_code_that_vanishes_after_its_trial_leaves_the_old_one_running(
    agent: RunningAgent, tmp_path: Path
) -> None:
    """The keeper's execve fails, and the keeper goes on with all that it holds."""
    tried = f'out=$({sys.executable} "$@") || exit 1'
    interpreter = script(tmp_path, tried, 'rm "$0"', 'printf "%s\n" "$out"')
    await agent.info.Upgrade(UpgradeRequest(interpreter=str(interpreter)))
    await logged(agent, "upgrade failed, going on")
    before = agent.worker_pid

    ended = await run(agent, "sh", "-c", "exit 6")
    info = await agent.info.GetInfo(GetInfoRequest())
    assert ended.exit is not None
    assert ended.exit.code == 6
    assert info.worker_pid == before
