"""Signals that `exec` gets while the agent is stuck, or being replaced."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import pytest

from guyline.agent.v1 import process_service_pb2 as pb
from guyline.client import AsyncAgent
from tests.cli.command import Command
from tests.cli.terminal import terminal
from tests.client.scripted import (
    Context,
    Play,
    ScriptedAgent,
    as_run,
    began,
    breaks,
    ended,
    gives,
    printed,
    process,
    scripted_agent,
)
from tests.support import proc
from tests.support.agent import RunningAgent
from tests.support.clock import DEADLINE, until

_HEEDED = (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP)


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """Has a process stand still for the length of the block."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


async def _listening(child: asyncio.subprocess.Process) -> None:
    """Returns once no signal would end the command on the spot."""
    await until(lambda: all(proc.catches(child.pid, number) for number in _HEEDED))


@pytest.mark.parametrize(
    ("first", "second"),
    [(signal.SIGTERM, signal.SIGQUIT), (signal.SIGHUP, signal.SIGTERM), (signal.SIGTERM, signal.SIGINT)],
)
async def test_a_second_signal_leaves_an_agent_that_hangs(
    agent: RunningAgent, first: signal.Signals, second: signal.Signals
) -> None:
    """There is nothing yet to pass it on to; whoever asks again means this command."""
    guyline = Command(agent.address)
    with stopped(agent.worker_pid):
        async with guyline.running("exec", "true") as child:
            await _listening(child)
            child.send_signal(first)
            child.send_signal(second)

            assert await guyline.code_of(child) in {128 + first, 128 + second}, "both may come in either order"


async def test_a_window_that_is_closed_twice_over_is_closed_once(agent: RunningAgent) -> None:
    """The shell says so, and then the kernel: the command must not run on because nobody passed it on."""
    guyline = Command(agent.address)
    async with guyline.running("exec", "sleep", "60") as child:
        with stopped(agent.worker_pid):
            await _listening(child)
            for _ in range(2):
                child.send_signal(signal.SIGHUP)

        assert await guyline.code_of(child) == 128 + signal.SIGHUP
    async with AsyncAgent(agent.address) as client:
        [process] = (await client.list()).processes
        ended = await (await client.attach(process.process_id)).wait()

    assert ended.signal == signal.SIGHUP


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM, signal.SIGQUIT])
async def test_a_signal_outlasts_the_worker_s_death(agent: RunningAgent, number: signal.Signals) -> None:
    """A window is closed once, and a supervisor sends its signal once."""
    guyline = Command(agent.address)
    async with guyline.running("exec", "-c", "echo ready; exec sleep 60") as child:
        assert child.stdout is not None
        await child.stdout.readline()
        with stopped(agent.keeper_pid):  # so that nobody replaces the worker
            await agent.kill_worker()
            child.send_signal(number)
        assert await guyline.code_of(child) == 128 + number
    async with AsyncAgent(agent.address) as client:
        [found] = (await client.list()).processes
        how = await asyncio.wait_for((await client.attach(found.process_id)).wait(), DEADLINE)

    assert how.signal == number


async def test_an_interrupt_reaches_a_command_whose_agent_is_away(agent: RunningAgent) -> None:
    """It tidies up as soon as the agent is back."""
    line = "trap 'echo tidy; exit 5' INT; echo ready; while :; do sleep 0.01; done"
    with terminal(agent, "exec", "-c", line) as screen:
        await asyncio.to_thread(screen.until, b"ready")
        with stopped(agent.keeper_pid):
            await agent.kill_worker()
            await asyncio.to_thread(screen.until, b"does not answer")
            screen.type(b"\x03")
        await asyncio.to_thread(screen.until, b"tidy")

        assert await asyncio.to_thread(screen.code) == 5


def _runs_until(over: asyncio.Event) -> Play:
    async def play(request: object, context: Context) -> AsyncIterator[pb.RunResponse]:
        del request, context
        yield began()
        yield as_run(printed(b"ready\n", offset=0))
        await over.wait()
        yield as_run(ended(5))

    return play


def _signals(scripted: ScriptedAgent) -> list[int]:
    """Besides, the end may be asked for: the last answer to a signal can come after it, and say that all goes on."""
    return [call.signal for call in scripted.calls if isinstance(call, pb.SignalRequest)]


async def test_an_interrupt_that_was_lost_is_none() -> None:
    """Its next one is the first that the command gets, and must not be the one that kills."""
    over = asyncio.Event()
    answer = gives(pb.SignalResponse(process=process()))
    async with scripted_agent() as scripted, Command(scripted.address).running("exec", "make") as child:
        scripted.plays(_runs_until(over), breaks(), answer, answer, gives(ended(5)))
        assert child.stdout is not None
        assert child.stderr is not None
        await child.stdout.readline()
        child.send_signal(signal.SIGINT)
        said = await asyncio.wait_for(child.stderr.readline(), DEADLINE)
        child.send_signal(signal.SIGINT)
        await until(lambda: len(scripted.calls) == 3)
        child.send_signal(signal.SIGINT)
        await until(lambda: len(scripted.calls) == 4)
        over.set()

        assert await asyncio.wait_for(child.wait(), DEADLINE) == 5
    assert b"signal 2 was perhaps not passed on" in said
    assert _signals(scripted) == [signal.SIGINT, signal.SIGINT, signal.SIGKILL]


async def test_a_signal_that_does_no_harm_twice_is_sent_again_when_its_answer_is_lost() -> None:
    """Nobody may be there to send another."""
    over = asyncio.Event()
    async with scripted_agent() as scripted, Command(scripted.address).running("exec", "make") as child:
        scripted.plays(_runs_until(over), breaks(), gives(pb.SignalResponse(process=process())), gives(ended(5)))
        assert child.stdout is not None
        await child.stdout.readline()
        child.send_signal(signal.SIGTERM)
        await until(lambda: len(scripted.calls) == 3)
        over.set()
        _, err = await asyncio.wait_for(child.communicate(), DEADLINE)

    assert (child.returncode, err) == (5, b"")
    assert _signals(scripted) == [signal.SIGTERM, signal.SIGTERM]
