"""Limits of time: each strikes when it should, says its name, and takes everything along that came of the command."""

import asyncio
import os
import signal
from contextlib import suppress

import grpc
import pytest

from guyline.agent.v1.process_pb2 import (
    ENDED_BY_CALLER,
    ENDED_BY_ITSELF,
    ENDED_BY_TIME_LIMIT,
    INPUT_MODE_PIPE,
    TIME_LIMIT_DETACH_AFTER,
    TIME_LIMIT_IDLE_TIMEOUT,
    TIME_LIMIT_TIMEOUT,
    TIME_LIMIT_UNSPECIFIED,
    WHEN_FULL_PAUSE,
    TimeLimits,
)
from guyline.agent.v1.process_service_pb2 import AttachRequest, RunRequest, SignalRequest, WriteInputRequest
from tests.agentd.process.process_parts import (
    MIB,
    attach,
    changed,
    ended,
    follow,
    printed,
    run,
    seconds,
    started,
    to_seconds,
    to_start,
)
from tests.support import proc
from tests.support.agent import RunningAgent
from tests.support.clock import MS
from tests.support.program import program

FOREVER = 600.0


def limits(timeout: float | None = None, idle: float | None = None, grace: float = FOREVER) -> TimeLimits:
    """In seconds. A long grace: SIGTERM must do."""
    return TimeLimits(
        timeout=None if timeout is None else seconds(timeout),
        idle_timeout=None if idle is None else seconds(idle),
        grace=seconds(grace),
    )


async def test_a_command_that_runs_too_long_is_ended(shared_agent: RunningAgent) -> None:
    """And it is said what for, in the process as in its exit."""
    over = await run(shared_agent, "echo begun; sleep 1000", time_limits=limits(timeout=200 * MS))

    assert over.data == b"begun\n"
    assert (over.exit.signal, over.exit.ended_by) == (signal.SIGTERM, ENDED_BY_TIME_LIMIT)
    assert over.exit.time_limit == over.process.struck == TIME_LIMIT_TIMEOUT


async def test_a_command_that_falls_silent_is_ended(shared_agent: RunningAgent) -> None:
    """Only output keeps it alive: however long that goes on, the limit begins anew with each piece."""
    command = "for i in 1 2 3 4 5 6 7 8; do echo $i; sleep 0.3; done; sleep 1000"
    over = await run(shared_agent, command, time_limits=limits(idle=2000 * MS))

    assert over.data == b"1\n2\n3\n4\n5\n6\n7\n8\n"
    assert over.exit.time_limit == over.process.struck == TIME_LIMIT_IDLE_TIMEOUT


async def test_typing_does_not_count_as_output(shared_agent: RunningAgent) -> None:
    """A program that hangs is not brought to life by somebody who hopes so."""
    time_limits = limits(idle=500 * MS)
    async with started(shared_agent, ["sleep", "1000"], input=INPUT_MODE_PIPE, time_limits=time_limits) as start:
        typing = asyncio.ensure_future(type_until_closed(shared_agent, start.process_id))
        over = await attach(shared_agent, start.process_id)
        await typing

    assert over.exit.time_limit == TIME_LIMIT_IDLE_TIMEOUT


async def type_until_closed(agent: RunningAgent, process_id: str) -> None:
    """Writes again and again, until the process has ended."""
    request = WriteInputRequest(process_id=process_id, data=b"x")
    with suppress(grpc.aio.AioRpcError):  # INPUT_CLOSED
        while True:
            await agent.processes.WriteInput(request)


async def test_a_command_within_its_limits_ends_by_itself(shared_agent: RunningAgent) -> None:
    """A limit that did not strike leaves no trace."""
    over = await run(shared_agent, "echo fine; exit 3", time_limits=limits(timeout=FOREVER, idle=FOREVER))

    assert (over.exit.code, over.exit.ended_by) == (3, ENDED_BY_ITSELF)
    assert over.exit.time_limit == over.process.struck == TIME_LIMIT_UNSPECIFIED
    assert over.process.time_limits == limits(timeout=FOREVER, idle=FOREVER)


async def test_who_ignores_the_end_is_killed_after_the_grace(shared_agent: RunningAgent) -> None:
    """The ladder: SIGTERM, then SIGKILL; still it is the limit that ended it."""
    command = "trap '' TERM; while :; do sleep 0.01; done"
    over = await run(shared_agent, command, time_limits=limits(timeout=2000 * MS, grace=100 * MS))

    assert (over.exit.signal, over.exit.time_limit) == (signal.SIGKILL, TIME_LIMIT_TIMEOUT)


async def test_an_orderly_end_at_a_limit_keeps_its_code(shared_agent: RunningAgent) -> None:
    """A program that tidies up on SIGTERM decides itself how it exits."""
    command = "trap 'exit 5' TERM; while :; do sleep 0.01; done"
    over = await run(shared_agent, command, time_limits=limits(timeout=2000 * MS))

    assert (over.exit.code, over.exit.ended_by) == (5, ENDED_BY_TIME_LIMIT)


async def test_a_limit_takes_background_jobs_along(shared_agent: RunningAgent) -> None:
    """Otherwise a server that was left listening would be left for good."""
    command = "set -m; sleep 1000 & echo $!; wait"
    over = await run(shared_agent, ["bash", "-c", command], time_limits=limits(timeout=2000 * MS))

    assert over.exit.time_limit == TIME_LIMIT_TIMEOUT
    await proc.dead(int(over.data))


async def test_who_was_ended_by_a_caller_first_was_ended_by_the_caller(shared_agent: RunningAgent) -> None:
    """The limit has nothing to do with it."""
    async with started(shared_agent, ["sleep", "1000"], time_limits=limits(timeout=FOREVER)) as start:
        await shared_agent.processes.Signal(SignalRequest(process_id=start.process_id))
        process = await ended(shared_agent, start.process_id)

    assert process.exit.ended_by == ENDED_BY_CALLER


async def test_a_process_that_waits_for_its_reader_is_not_idle(shared_agent: RunningAgent) -> None:
    """PAUSE: it would print if it could. Once its reader takes on, so does the limit."""
    start = to_start(
        program("noise", 1, 40 * MIB, "--exit", 0), time_limits=limits(idle=300 * MS), when_full=WHEN_FULL_PAUSE
    )
    stream = shared_agent.processes.Run(RunRequest(start=start))
    first = await anext(aiter(stream))
    process_id = first.process.process_id
    held = await shared_agent.processes.Start(to_start(["sleep", "1000"], time_limits=limits(timeout=900 * MS)))
    await ended(shared_agent, held.process_id)  # three times the limit has passed
    rest = await follow(stream)

    assert rest.exit.code == 0, process_id


# Detaching.


async def test_a_call_can_let_go_of_its_process_after_a_time(shared_agent: RunningAgent) -> None:
    """§17 no. 16: it returns, says why, and the process goes on, as do its own limits."""
    start = to_start("echo one; sleep 0.5; echo two; sleep 1000", time_limits=limits(timeout=900 * MS))
    request = RunRequest(start=start, detach_after=seconds(250 * MS))
    detached = await follow(shared_agent.processes.Run(request))
    process_id = detached.process_id
    over = await attach(shared_agent, process_id, cursor=detached.cursor)

    assert detached.messages[-1].limit == TIME_LIMIT_DETACH_AFTER
    assert not detached.has_ended
    assert detached.data + over.data == b"one\ntwo\n"
    assert over.exit.time_limit == TIME_LIMIT_TIMEOUT


async def test_the_time_of_a_call_counts_from_the_process_s_start(shared_agent: RunningAgent) -> None:
    """So a call that is repeated after a break waits for what is left, not for all of it again."""
    async with started(shared_agent, "echo one; sleep 1000") as start:
        await attach(shared_agent, start.process_id, until=printed(b"one"))
        request = AttachRequest(process_id=start.process_id, detach_after=seconds(0))
        late = await follow(shared_agent.processes.Attach(request))

    assert late.messages[-1].limit == TIME_LIMIT_DETACH_AFTER
    assert late.process.process_id == start.process_id


async def test_a_call_does_not_let_go_of_what_has_ended(shared_agent: RunningAgent) -> None:
    """It has all of the output and the exit to tell, however late it is."""
    over = await run(shared_agent, "echo all; exit 4")
    again = await attach(shared_agent, over.process_id, detach_after=seconds(0))

    assert (again.data, again.exit.code) == (b"all\n", 4)


# What they survive.


@pytest.mark.parametrize("death", ["worker", "keeper"])
@pytest.mark.parametrize("limit", ["timeout", "idle"])
async def test_a_limit_holds_when_the_worker_or_the_keeper_dies(agent: RunningAgent, death: str, limit: str) -> None:
    """It counts from the start, or from the last output, and not from the agent's new life."""
    start = await agent.processes.Start(to_start("echo begun; sleep 1000", time_limits=limits(**{limit: 1.0})))
    await attach(agent, start.process_id, until=printed(b"begun"))
    await (agent.kill_worker() if death == "worker" else agent.kill_keeper())
    await agent.serves_again()
    over = await attach(agent, start.process_id)

    assert over.process.struck in {TIME_LIMIT_TIMEOUT, TIME_LIMIT_IDLE_TIMEOUT}
    assert over.process.struck == (TIME_LIMIT_TIMEOUT if limit == "timeout" else TIME_LIMIT_IDLE_TIMEOUT)
    if death == "worker":
        assert over.exit.time_limit == over.process.struck


async def test_what_was_printed_under_an_earlier_worker_counts(agent: RunningAgent) -> None:
    """It noted nothing of it: the time of the output's file tells its successor."""
    command = "echo begun; sleep 1.2; echo again; exec sleep 1000"
    start = await agent.processes.Start(to_start(command, time_limits=limits(idle=2.0)))
    again = await attach(agent, start.process_id, until=printed(b"again"))
    await agent.kill_worker()
    await agent.serves_again()
    over = await attach(agent, start.process_id)

    quiet = to_seconds(over.exit.ended_at) - to_seconds(over.process.started_at)
    assert again.data == over.data
    assert over.exit.time_limit == TIME_LIMIT_IDLE_TIMEOUT
    assert quiet > 1.2 + 2.0 - 0.1


async def test_a_limit_that_passed_while_the_agent_stood_still_strikes_at_once(agent: RunningAgent) -> None:
    """A stopped worker cannot look at the clock."""
    start = await agent.processes.Start(to_start(["sleep", "1000"], time_limits=limits(timeout=300 * MS)))
    os.kill(agent.worker_pid, signal.SIGSTOP)
    beside = await asyncio.create_subprocess_exec("sleep", str(600 * MS))
    await beside.wait()
    os.kill(agent.worker_pid, signal.SIGCONT)
    over = await attach(agent, start.process_id)

    assert over.exit.time_limit == TIME_LIMIT_TIMEOUT


async def test_a_worker_that_dies_as_a_limit_strikes_is_followed_by_one_that_strikes(agent: RunningAgent) -> None:
    """The ladder goes on to its end."""
    time_limits = limits(timeout=2000 * MS, grace=700 * MS)
    start = await agent.processes.Start(to_start("trap '' TERM; while :; do sleep 0.01; done", time_limits=time_limits))
    await changed(agent, start.process_id, lambda process: process.struck != TIME_LIMIT_UNSPECIFIED)
    await agent.kill_worker()
    await agent.serves_again()
    over = await attach(agent, start.process_id)

    assert (over.exit.signal, over.exit.time_limit) == (signal.SIGKILL, TIME_LIMIT_TIMEOUT)


async def test_a_detach_that_is_due_already_comes_behind_what_was_printed(shared_agent: RunningAgent) -> None:
    """Who takes a stream up late has missed nothing: what is kept is not cut off by the time that has passed."""
    async with started(shared_agent, f"head -c {MIB} /dev/zero; echo end; exec sleep 60") as start:
        await attach(shared_agent, start.process_id, until=printed(b"end\n"))
        late = await attach(shared_agent, start.process_id, detach_after=seconds(0))

    assert (len(late.data), late.data[-4:]) == (MIB + 4, b"end\n")
    assert (late.has_ended, late.messages[-1].limit) == (False, TIME_LIMIT_DETACH_AFTER)
