"""Signals that `exec` gets while the agent is stuck, or being replaced."""

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from guyline.client import AsyncAgent
from tests.cli.command import Command
from tests.support import proc
from tests.support.agent import RunningAgent
from tests.support.clock import until

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
