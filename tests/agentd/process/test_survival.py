"""What outlives the worker, and the keeper, besides the processes themselves."""

import signal

import pytest

from guyline.agent.v1.process_pb2 import UNKNOWN_END_KEEPER_LOST, Process
from guyline.agent.v1.process_service_pb2 import SignalRequest
from tests.agentd.process.process_parts import attach, new_key, run, seconds, to_start
from tests.support import proc
from tests.support.agent import RunningAgent
from tests.support.program import program


async def stubborn(agent: RunningAgent) -> Process:
    """A process that ignores INT and TERM, once it does."""
    start = await agent.processes.Start(to_start(program("stubborn")))
    await attach(agent, start.process_id, until=lambda seen: bool(seen.data))
    return start.process


async def test_a_ladder_goes_on_when_the_worker_dies(agent: RunningAgent) -> None:
    """Who asked for an end within a time gets it, whatever becomes of the agent meanwhile."""
    process = await stubborn(agent)
    await agent.processes.Signal(SignalRequest(process_id=process.process_id, signal=signal.SIGINT, grace=seconds(0.5)))
    await agent.kill_worker()
    await agent.serves_again()

    over = await attach(agent, process.process_id)

    assert over.exit.signal == signal.SIGKILL


async def test_a_ladder_goes_on_when_the_keeper_dies(agent: RunningAgent) -> None:
    """The worker takes the keeper's place, and its own successor takes the ladder up."""
    process = await stubborn(agent)
    await agent.processes.Signal(SignalRequest(process_id=process.process_id, signal=signal.SIGINT, grace=seconds(0.5)))
    await agent.kill_keeper()
    await agent.serves_again()

    over = await attach(agent, process.process_id)

    assert over.exit.unknown == UNKNOWN_END_KEEPER_LOST
    assert not proc.is_alive(process.pid)


@pytest.mark.parametrize("death", ["worker", "keeper"])
async def test_a_key_is_known_after_a_death(agent: RunningAgent, death: str) -> None:
    """A start whose answer was lost together with the agent's better half is repeated safely."""
    key = new_key()
    over = await run(agent, "echo once; exit 5", key=key)
    await (agent.kill_worker() if death == "worker" else agent.kill_keeper())
    await agent.serves_again()

    again = await agent.processes.Start(to_start("echo once; exit 5", key=key))

    assert (again.attached, again.process_id) == (True, over.process_id)
    assert again.process.exit.code == 5
