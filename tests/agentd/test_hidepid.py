"""An ordinary user's agent on a hardened machine, whose /proc does not show it the processes of others."""

import signal
from collections.abc import AsyncIterator

import pytest

from guyline.agent.v1.process_pb2 import TIME_LIMIT_TIMEOUT, TimeLimits
from guyline.agent.v1.process_service_pb2 import (
    SIGNAL_SCOPE_ALL,
    ProcessServiceCancelRequest,
    ProcessServiceListRequest,
    SignalRequest,
)
from tests.agentd.process.process_parts import attach, seconds, to_start
from tests.support import agent_behind_hidepid, proc
from tests.support.agent import AgentProcess, RunningAgent
from tests.support.clock import DEADLINE
from tests.support.program import program


@pytest.fixture
async def agent() -> AsyncIterator[RunningAgent]:
    """Such an agent; skips the test where there can be none."""
    if why := agent_behind_hidepid.why_impossible():
        pytest.skip(why)
    process = AgentProcess(program=(agent_behind_hidepid.__file__,), settings={"shutdown_grace": 2})
    async with RunningAgent(process=process, owns_process=True) as running:
        yield running


async def stubborn(agent: RunningAgent, **fields: TimeLimits) -> str:
    """A process that ignores INT and TERM, once it does."""
    start = await agent.processes.Start(to_start(program("stubborn"), **fields))
    await attach(agent, start.process_id, until=lambda seen: bool(seen.data))
    return start.process_id


async def test_processes_are_signalled_and_waited_for(agent: RunningAgent) -> None:
    """To find out who is left everybody is looked at; those who are hidden are nobody's members here."""
    wait = seconds(DEADLINE)
    by_signal, canceled = await stubborn(agent), await stubborn(agent)
    limited = await stubborn(agent, time_limits=TimeLimits(timeout=seconds(0.1), grace=seconds(0.1)))
    kill = SignalRequest(process_id=by_signal, signal=signal.SIGKILL, scope=SIGNAL_SCOPE_ALL, wait=wait)

    signalled = await agent.processes.Signal(kill)
    await agent.processes.Cancel(ProcessServiceCancelRequest(process_id=canceled, grace=seconds(0.1), wait=wait))
    over = await attach(agent, limited)

    assert not signalled.survivors
    assert (await attach(agent, canceled)).exit.signal == signal.SIGKILL
    assert over.exit.time_limit == TIME_LIMIT_TIMEOUT


async def test_what_processes_use_is_listed(agent: RunningAgent) -> None:
    """Their own user's processes are shown."""
    process_id = await stubborn(agent)

    (listed,) = (await agent.processes.List(ProcessServiceListRequest(usage=True))).processes

    assert listed.process_id == process_id
    assert listed.usage.memory_bytes > 0


async def test_the_agent_ends_with_all_that_it_has_started(agent: RunningAgent) -> None:
    """Also those who have left their sessions, and who must be looked for."""
    await stubborn(agent)
    start = await agent.processes.Start(to_start("setsid sleep 1000 & echo $!; wait"))
    daemon = int((await attach(agent, start.process_id, until=lambda seen: bool(seen.data))).data)

    await agent.stop()

    assert not proc.is_alive(daemon)
