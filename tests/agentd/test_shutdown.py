"""The agent's end: in order, within its time, and with nothing left of what it ever started."""

import asyncio
import os
import shlex
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import grpc.aio
import pytest

from guyline.agent.v1.process_pb2 import ENDED_BY_AGENT
from guyline.agent.v1.process_service_pb2 import (
    ProcessServiceWatchRequest,
    ProcessServiceWatchResponse,
    StartRequest,
)
from guyline.agentd.keeper.records import RecordLog
from tests.agentd.keeper.lives import details_of, listed, logged, started
from tests.agentd.process.waiting_parts import EXIT, file, pattern, to_wait
from tests.support import proc
from tests.support.agent import AgentProcess, RunningAgent
from tests.support.program import program

POLITE = StartRequest(command="trap 'echo told to go; exit 3' TERM; echo ready; while :; do sleep 60 & wait; done")
"""Ends at TERM, by itself."""


def exit_code_of(process: AgentProcess) -> int:
    """The agent's own, once it has ended."""
    assert process._started is not None
    return process._started.wait()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_each_of_the_two_signals_ends_the_agent_with_zero(agent: RunningAgent, number: signal.Signals) -> None:
    """A supervisor restarts what ends otherwise. That nothing is left of the children is asserted by ``stop``."""
    async with started(agent, StartRequest(argv=["sleep", "60"])) as (process, _):
        await agent.stop(number)

    assert exit_code_of(agent.process) == 0
    assert not proc.is_alive(process.pid)
    assert not agent.process.pids()


async def test_a_stream_ends_with_the_exit_of_its_process_or_says_when_to_come_back(agent: RunningAgent) -> None:
    """A follower learns how its process ended and who ended it; if it came too late for that, where it stands."""
    async with started(agent, POLITE) as (_, reader):
        await reader.until(b"ready\n")
        await agent.stop()
        await reader.over()

    if reader.exit is not None:
        assert (reader.exit.code, reader.exit.ended_by) == (3, ENDED_BY_AGENT)
        assert reader.printed == b"ready\ntold to go\n"
    else:
        assert details_of(reader.statuses[0])[1] is not None
        assert reader.was_told_to_retry


async def test_a_stream_of_all_processes_is_told_when_to_come_back(agent: RunningAgent) -> None:
    """It follows no end of its own, so it is cut: in the stream and in the status it says so."""
    watch = agent.processes.Watch(ProcessServiceWatchRequest())
    messages = aiter(watch)
    while not (await anext(messages)).control.HasField("synced"):
        pass
    stop = asyncio.create_task(agent.stop())
    told: list[ProcessServiceWatchResponse] = []
    with pytest.raises(grpc.aio.AioRpcError) as cut:
        await _take_all(messages, told)
    await stop

    info, retry = details_of(cut.value)
    assert cut.value.code() is grpc.StatusCode.UNAVAILABLE
    assert (info.reason, retry is not None) == ("SHUTTING_DOWN", True)
    assert told[-1].control.HasField("retry")


async def _take_all(
    messages: AsyncIterator[ProcessServiceWatchResponse], taken: list[ProcessServiceWatchResponse]
) -> None:
    async for message in messages:
        taken.append(message)  # noqa: PERF401 - those before the error count


async def test_daemons_that_escaped_by_setsid_go_too() -> None:
    """Two forks and a session of their own lead away from the group, not from the keeper, which adopts them."""
    async with RunningAgent(settings={"shutdown_grace": 3}) as agent:
        async with started(agent, StartRequest(argv=program("daemon"))) as (_, reader):
            await reader.end()
            daemon = int(reader.printed)
            assert proc.is_alive(daemon)
            await agent.stop()

        assert not proc.is_alive(daemon)


async def test_who_lives_on_without_its_first_thread_goes_too() -> None:
    """To the kernel it looks like one that has ended already, in a session of its own and deaf to TERM."""
    async with RunningAgent(settings={"shutdown_grace": 1}) as agent:
        command = shlex.join(["setsid", *program("leaderless")])
        async with started(agent, StartRequest(command=f"{command} & wait")) as (_, reader):
            await reader.until(b"\n")
            left = int(reader.printed)
            await agent.stop()

        assert proc.status(left) is None


async def test_stubborn_groups_are_killed_within_the_grace() -> None:
    """TERM to the whole group, and KILL for who ignores it; ``stop`` waits no longer than its own deadline."""
    async with RunningAgent(settings={"shutdown_grace": 1}) as agent:
        async with started(agent, StartRequest(argv=program("stubborn", "--child"))) as (process, reader):
            await reader.until(b"ready")
            await agent.stop()

        await agent.start_again()
        exit_ = (await listed(agent))[process.process_id].exit
        assert (exit_.signal, exit_.ended_by) == (signal.SIGKILL, ENDED_BY_AGENT)


async def test_who_waits_for_the_end_is_told_who_brought_it_about(agent: RunningAgent) -> None:
    """Also when all ends at once: the answer is given before the agent goes."""
    async with started(agent, POLITE) as (process, reader):
        await reader.until(b"ready\n")
        waits = [
            asyncio.ensure_future(agent.processes.Wait(to_wait(process.process_id, *conditions)))
            for conditions in ([EXIT], [pattern("never"), file("/missing"), EXIT])
        ]
        await agent.processes.Wait(to_wait(process.process_id, EXIT, timeout=0))
        await agent.stop()

        answers = await asyncio.gather(*waits)

    assert [answer.met for answer in answers] == [0, 2]
    assert {(answer.process.exit.code, answer.process.exit.ended_by) for answer in answers} == {(3, ENDED_BY_AGENT)}


async def test_a_stopped_command_ends_too() -> None:
    """TERM waits behind a SIGSTOP; KILL does not."""
    async with RunningAgent(settings={"shutdown_grace": 1}) as agent:
        async with started(agent, StartRequest(argv=["sleep", "60"])) as (process, _):
            os.kill(process.pid, signal.SIGSTOP)
            await agent.stop()

        assert not proc.is_alive(process.pid)


async def test_starts_are_refused_while_the_agent_ends(agent: RunningAgent) -> None:
    """What started now would be killed at once: the caller is told to come back instead."""
    async with started(agent, StartRequest(argv=program("stubborn"))) as (_, reader):
        await reader.until(b"ready")
        os.kill(agent.keeper_pid, signal.SIGTERM)
        await logged(agent, "the agent shuts down")
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await agent.processes.Start(StartRequest(argv=["true"]))
        os.kill(agent.keeper_pid, signal.SIGTERM)
        await proc.dead(agent.keeper_pid)

    info, retry = details_of(refused.value)
    assert (info.reason, info.metadata["outcome"]) == ("SHUTTING_DOWN", "NOT_STARTED")
    assert retry is not None


async def test_a_second_signal_ends_everything_at_once() -> None:
    """Whoever asks twice does not want to wait for ten minutes: the test's own time limit is far below."""
    async with RunningAgent(settings={"shutdown_grace": 600}) as agent:
        async with started(agent, StartRequest(argv=program("stubborn", "--child"))) as (process, reader):
            await reader.until(b"ready")
            os.kill(agent.keeper_pid, signal.SIGTERM)
            await logged(agent, "the agent shuts down")
            assert proc.is_alive(process.pid)
            await agent.stop(signal.SIGINT)

        assert exit_code_of(agent.process) == 0
        assert not proc.is_alive(process.pid)


async def test_a_grace_of_zero_kills_at_once() -> None:
    """The extreme of the setting is allowed, so it works."""
    async with RunningAgent(settings={"shutdown_grace": 0}) as agent:
        async with started(agent, StartRequest(argv=program("stubborn"))) as (_, reader):
            await reader.until(b"ready")
            await agent.stop()

        assert exit_code_of(agent.process) == 0


async def test_the_records_say_that_the_agent_ended_them(agent: RunningAgent) -> None:
    """The next agent on this state must not call it UNKNOWN: it was seen."""
    async with started(agent, StartRequest(argv=["sleep", "60"])) as (process, _):
        await agent.stop()
    history = await asyncio.to_thread(RecordLog.load, agent.process.state_dir / "records.log")
    seen = history.entries[process.process_id].exit

    assert seen is not None
    assert (seen.signal, seen.unknown) == (signal.SIGTERM, None)
    assert seen.asked is not None
    assert seen.asked.cause == "agent"


async def test_a_worker_that_died_is_not_needed_for_the_end(agent: RunningAgent) -> None:
    """The keeper ends everything alone, and starts no new worker for it."""
    process = (await agent.processes.Start(StartRequest(argv=["sleep", "60"]))).process
    os.kill(agent.keeper_pid, signal.SIGSTOP)  # so that it hears of both at once
    await agent.kill_worker()
    stop = asyncio.create_task(agent.stop())
    await asyncio.to_thread(_until_pending, agent.keeper_pid, signal.SIGTERM)
    os.kill(agent.keeper_pid, signal.SIGCONT)
    await stop

    assert exit_code_of(agent.process) == 0
    assert not proc.is_alive(process.pid)


def _until_pending(pid: int, number: signal.Signals) -> None:
    while not _pending(pid) & 1 << (number - 1):
        os.sched_yield()


def _pending(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("ShdPnd:")[2].split()[0], 16)


async def test_a_hung_worker_does_not_hold_up_the_end() -> None:
    """A worker in a debugger, or on a dead disk, is killed when the time is over."""
    async with RunningAgent(settings={"shutdown_grace": 0.5}) as agent:
        process = (await agent.processes.Start(StartRequest(argv=["sleep", "60"]))).process
        os.kill(agent.worker_pid, signal.SIGSTOP)
        await agent.stop()

    assert not proc.is_alive(process.pid)


async def test_commands_get_the_time_that_they_need_within_the_grace(agent: RunningAgent) -> None:
    """A server that flushes its data at TERM is not killed while it does."""
    slow = "trap 'sleep 0.5; exit 0' TERM; echo ready; while :; do sleep 60 & wait; done"
    async with started(agent, StartRequest(command=slow)) as (process, reader):
        await reader.until(b"ready\n")
        await agent.stop()
    history = await asyncio.to_thread(RecordLog.load, agent.process.state_dir / "records.log")
    seen = history.entries[process.process_id].exit

    assert seen is not None
    assert seen.code == 0
