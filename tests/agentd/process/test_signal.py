"""A signal reaches whoever it is meant for, all of them, and never anybody else."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import grpc
import pytest

from guyline.agent.v1.process_pb2 import DESCENDANTS_GROUP, ENDED_BY_CALLER, ENDED_BY_ITSELF, PROCESS_STATE_RUNNING
from guyline.agent.v1.process_service_pb2 import (
    SIGNAL_SCOPE_ALL,
    SIGNAL_SCOPE_GROUP,
    SignalRequest,
    SignalResponse,
    SignalScope,
)
from tests.agentd.process.process_parts import (
    a_line,
    attach,
    ended,
    printed,
    refusal,
    run,
    seconds,
    started,
    to_start,
)
from tests.support import proc
from tests.support.agent import RunningAgent
from tests.support.clock import DEADLINE, MS, until
from tests.support.program import program


async def send(agent: RunningAgent, process_id: str, number: int = 0, **fields: object) -> SignalResponse:
    request = SignalRequest(process_id=process_id, signal=number, **fields)  # type: ignore[arg-type]  # as given
    return await agent.processes.Signal(request)


@pytest.mark.parametrize(("number", "expected"), [(0, 15), (1, 1), (2, 2), (9, 9), (15, 15), (64, 64)])
async def test_a_signal_ends_the_command_and_the_exit_says_who_sent_it(
    shared_agent: RunningAgent, number: int, expected: int
) -> None:
    """A caller that kills its own command must not be told that it crashed."""
    async with started(shared_agent, ["sleep", "60"]) as start:
        await send(shared_agent, start.process_id, number)
        over = await attach(shared_agent, start.process_id)

    assert over.exit.signal == expected
    assert over.exit.ended_by == ENDED_BY_CALLER


async def test_a_command_that_cleans_up_after_term_was_ended_by_the_caller(shared_agent: RunningAgent) -> None:
    """Its own exit code counts; what brought it about is still the signal."""
    async with started(shared_agent, "trap 'echo bye; exit 5' TERM; echo up; while :; do sleep 0.01; done") as start:
        await attach(shared_agent, start.process_id, until=a_line)
        await send(shared_agent, start.process_id, 15)
        over = await attach(shared_agent, start.process_id)

    assert over.data.endswith(b"bye\n")
    assert (over.exit.code, over.exit.ended_by) == (5, ENDED_BY_CALLER)


async def test_a_signal_that_ends_nothing_is_not_blamed_for_the_end(shared_agent: RunningAgent) -> None:
    """USR1 asks a daemon to reopen its log; that it exits by itself afterwards is its own affair."""
    async with started(shared_agent, "trap 'exit 0' USR1; echo up; while :; do sleep 0.01; done") as start:
        await attach(shared_agent, start.process_id, until=a_line)
        await send(shared_agent, start.process_id, 10)
        over = await attach(shared_agent, start.process_id)

    assert (over.exit.code, over.exit.ended_by) == (0, ENDED_BY_ITSELF)


async def test_the_group_is_reached_with_all_its_members(shared_agent: RunningAgent) -> None:
    """A pipeline is several processes, and killing only the shell leaves the rest at work."""
    async with started(shared_agent, "sleep 60 & echo $!; sleep 60 & echo $!; wait") as start:
        seen = await attach(shared_agent, start.process_id, until=lambda f: f.data.count(b"\n") == 2)
        answer = await send(shared_agent, start.process_id, 9, wait=seconds(DEADLINE))

    assert not answer.survivors
    assert answer.process.exit.signal == 9
    assert not any(proc.is_alive(int(pid)) for pid in seen.data.split())


async def test_jobs_in_other_groups_are_reached_by_all_and_not_by_group(shared_agent: RunningAgent) -> None:
    """A shell with job control puts each job into a group of its own."""
    line = "set -m; sleep 60 & echo $!; wait"
    async with started(shared_agent, ["bash", "-c", line]) as start:
        job = int((await attach(shared_agent, start.process_id, until=a_line)).data)
        await send(shared_agent, start.process_id, 9, scope=SIGNAL_SCOPE_GROUP, wait=seconds(DEADLINE))
        was_alive = proc.is_alive(job)
        answer = await send(shared_agent, start.process_id, 9, scope=SIGNAL_SCOPE_ALL, wait=seconds(DEADLINE))

        assert was_alive
        assert not answer.survivors
        assert not proc.is_alive(job)


async def test_the_members_of_the_group_can_be_reached_after_its_leader_has_ended(shared_agent: RunningAgent) -> None:
    """What a script has left behind can still be stopped by the id that the caller knows."""
    over = await run(shared_agent, "sleep 60 & echo $!; exit 3")
    left = int(over.data)
    assert list(over.exit.descendants_left) == [DESCENDANTS_GROUP]

    answer = await send(shared_agent, over.process_id, 15, wait=seconds(DEADLINE))

    assert not answer.survivors
    assert not proc.is_alive(left)
    assert answer.process.exit == over.exit  # it had ended before, with 3


async def test_a_process_that_has_ended_cannot_be_signalled(shared_agent: RunningAgent) -> None:
    """Not once, not again, and in no scope; that is a state, not a failure of the agent."""
    over = await run(shared_agent, "exit 0")

    for scope in (SIGNAL_SCOPE_GROUP, SIGNAL_SCOPE_ALL):
        refused = await refusal(
            shared_agent.processes.Signal(SignalRequest(process_id=over.process_id, signal=9, scope=scope))
        )
        assert refused.code is grpc.StatusCode.FAILED_PRECONDITION
        assert refused.reason == "PROCESS_NOT_RUNNING"
        assert refused.facts["process_id"] == over.process_id


async def test_many_signals_to_what_is_just_ending_are_answered_one_way_or_the_other(
    shared_agent: RunningAgent,
) -> None:
    """Between the exit and its being known there is no moment in which a signal fails as INTERNAL."""
    async with started(shared_agent, "trap '' TERM; exit 0") as start:
        request = SignalRequest(process_id=start.process_id, signal=15)
        calls = [shared_agent.processes.Signal(request) for _ in range(50)]
        answers = await asyncio.gather(*calls, return_exceptions=True)

    failures = {why.code() for why in answers if isinstance(why, grpc.aio.AioRpcError)}
    assert failures <= {grpc.StatusCode.FAILED_PRECONDITION}


# Waiting, and the ladder.


async def test_a_wait_that_is_over_says_who_survived(shared_agent: RunningAgent) -> None:
    """By pid and name, so that a person can look at it."""
    async with started(shared_agent, program("stubborn")) as start:
        await attach(shared_agent, start.process_id, until=a_line)

        answer = await send(shared_agent, start.process_id, 15, wait=seconds(50 * MS))

    [survivor] = answer.survivors
    assert survivor.pid == start.process.pid
    assert survivor.name.startswith("python")
    assert answer.process.state == PROCESS_STATE_RUNNING


async def test_without_a_wait_the_answer_comes_at_once(shared_agent: RunningAgent) -> None:
    """And says nothing of survivors, since nobody looked."""
    async with started(shared_agent, program("stubborn")) as start:
        await attach(shared_agent, start.process_id, until=a_line)

        answer = await send(shared_agent, start.process_id, 15)

    assert not answer.survivors


async def test_the_ladder_ends_even_the_stubborn(shared_agent: RunningAgent) -> None:
    """INT and TERM are ignored by both of them; KILL cannot be."""
    async with started(shared_agent, program("stubborn", "--child")) as start:
        await attach(shared_agent, start.process_id, until=lambda f: f.data.count(b"ready") == 2)

        answer = await send(shared_agent, start.process_id, 2, grace=seconds(30 * MS), wait=seconds(DEADLINE))

    assert not answer.survivors
    assert answer.process.exit.signal == 9
    assert answer.process.exit.ended_by == ENDED_BY_CALLER


async def test_the_ladder_stops_where_it_is_obeyed(shared_agent: RunningAgent) -> None:
    """Who ends at TERM is not killed: it may be saving its work."""
    line = "trap '' INT; trap 'echo term; exit 3' TERM; echo up; sleep 60 & wait"
    async with started(shared_agent, line) as start:
        await attach(shared_agent, start.process_id, until=a_line)

        answer = await send(shared_agent, start.process_id, 2, grace=seconds(1), wait=seconds(DEADLINE))
        over = await attach(shared_agent, start.process_id)

    assert answer.process.exit.code == 3
    assert over.data.endswith(b"term\n")


async def test_the_ladder_goes_on_when_its_caller_has_gone(shared_agent: RunningAgent) -> None:
    """The connection of whoever presses Ctrl-C may well be the next to go."""
    line = "trap 'echo got it' TERM; echo up; while :; do sleep 0.01; done"
    async with started(shared_agent, line) as start:
        await attach(shared_agent, start.process_id, until=a_line)
        request = SignalRequest(process_id=start.process_id, signal=15, grace=seconds(200 * MS), wait=seconds(DEADLINE))
        call = asyncio.ensure_future(shared_agent.processes.Signal(request))
        await attach(shared_agent, start.process_id, until=printed(b"got it\n"))
        call.cancel()

        over = await ended(shared_agent, start.process_id)

    assert over.exit.signal == 9


async def test_the_ladder_reaches_what_the_leader_left_behind(shared_agent: RunningAgent) -> None:
    """The shell obeys TERM, its stubborn child does not: the scope is not empty yet."""
    stubborn = " ".join(program("stubborn"))
    async with started(shared_agent, f"{stubborn} & wait") as start:
        seen = await attach(shared_agent, start.process_id, until=a_line)

        answer = await send(shared_agent, start.process_id, 15, grace=seconds(50 * MS), wait=seconds(DEADLINE))

    assert not answer.survivors
    assert answer.process.exit.signal == 15
    assert not proc.is_alive(int(seen.data.split()[1]))


async def test_a_wait_returns_with_all_the_output_there(shared_agent: RunningAgent) -> None:
    """What the command said last, while it was being stopped, is what people look for."""
    line = "trap 'seq 1 20000; exit 0' TERM; echo up; while :; do sleep 0.01; done"
    async with started(shared_agent, line) as start:
        await attach(shared_agent, start.process_id, until=a_line)
        await send(shared_agent, start.process_id, 15, wait=seconds(DEADLINE))
        over = await attach(shared_agent, start.process_id, snapshot=True)

    assert over.data.endswith(b"\n20000\n")


async def test_stop_and_continue_are_signals_as_well(shared_agent: RunningAgent) -> None:
    """And end nothing."""
    async with started(shared_agent, ["sleep", "60"]) as start:
        await send(shared_agent, start.process_id, 19)
        await until(lambda: state_of(start.process.pid) == "T")
        answer = await send(shared_agent, start.process_id, 18)
        await until(lambda: state_of(start.process.pid) == "S")

    assert answer.process.state == PROCESS_STATE_RUNNING


def state_of(pid: int) -> str:
    status = proc.status(pid)
    return status.state if status else ""


# Numbers that are used again.

_REUSE = """
import os, signal, sys, time
wanted, leaves_child = int(sys.argv[1]), sys.argv[2] == "leave"
deadline = time.monotonic() + 8
while time.monotonic() < deadline:
    with open("/proc/sys/kernel/ns_last_pid", "w") as last:
        last.write(str(wanted - 1))
    ready, told = os.pipe()
    if (pid := os.fork()) == 0:
        if os.getpid() == wanted:
            os.setsid()
            if leaves_child and (child := os.fork()):
                os.write(told, b"%d" % child)
                os._exit(0)
            if not leaves_child:
                os.write(told, b"%d" % wanted)
            os.close(told)
            time.sleep(60)
        os._exit(0)
    os.close(told)
    number = os.read(ready, 20)
    os.close(ready)
    if number:
        if leaves_child:
            os.waitpid(pid, 0)
        print(number.decode(), flush=True)
        signal.pause()
    os.waitpid(pid, 0)
sys.exit("somebody else always had the number")
"""


@contextmanager
def reused(pid: int, *, by: str = "stay") -> Iterator[int]:
    """Has a process of somebody else's take this very number, as leader of a session and a group.

    Yields its pid. With ``leave`` it ends again and leaves a child in the group; then yields the child's.
    """
    _demand_that_numbers_can_be_chosen()
    command = [sys.executable, "-I", "-S", "-c", _REUSE, str(pid), by]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as stranger:
        assert stranger.stdout
        number = int(stranger.stdout.readline() or "0")
        try:
            yield number
        finally:
            proc.kill([number] if number else [])
            stranger.kill()
    proc.reap_adopted()


def _demand_that_numbers_can_be_chosen() -> None:
    if os.geteuid() or not os.access("/proc/sys/kernel/ns_last_pid", os.W_OK):
        pytest.skip("choosing a process's number needs root and /proc/sys/kernel/ns_last_pid")


@pytest.mark.parametrize("scope", [SIGNAL_SCOPE_GROUP, SIGNAL_SCOPE_ALL])
async def test_a_signal_never_reaches_whoever_has_the_number_now(
    shared_agent: RunningAgent, scope: SignalScope.ValueType
) -> None:
    """Numbers come round: an old handle must not kill a stranger, nor its session."""
    over = await run(shared_agent, "exit 0")

    with reused(over.process.pid) as stranger:
        assert stranger == over.process.pid
        request = SignalRequest(process_id=over.process_id, signal=9, scope=scope)
        refused = await refusal(shared_agent.processes.Signal(request))

        assert refused.reason == "PROCESS_NOT_RUNNING"
        assert proc.is_alive(stranger)


@pytest.mark.parametrize("scope", [SIGNAL_SCOPE_GROUP, SIGNAL_SCOPE_ALL])
async def test_a_signal_never_reaches_what_a_stranger_with_the_number_left_behind(
    shared_agent: RunningAgent, scope: SignalScope.ValueType
) -> None:
    """The number's second owner is gone as well, and only its group, of the same number, is there."""
    over = await run(shared_agent, "exit 0")

    with reused(over.process.pid, by="leave") as left:
        status = proc.status(left)
        assert status is not None
        assert status.group == over.process.pid
        request = SignalRequest(process_id=over.process_id, signal=9, scope=scope)
        refused = await refusal(shared_agent.processes.Signal(request))

        assert refused.reason == "PROCESS_NOT_RUNNING"
        assert proc.is_alive(left)


async def test_a_signal_after_a_restart_of_the_agent_reaches_nobody(agent: RunningAgent) -> None:
    """What ran before is known, but its number means nothing any more."""
    start = await agent.processes.Start(to_start(["sleep", "60"]))
    await agent.stop()
    await agent.start_again()

    refused = await refusal(agent.processes.Signal(SignalRequest(process_id=start.process_id, signal=9)))

    assert refused.reason == "PROCESS_NOT_RUNNING"
