"""The agent that tests run is the real one, breaks where it is told to, and is gone afterwards."""

from guyline.agent.v1.agent_info_service_pb2 import GetInfoRequest
from guyline.agent.v1.process_service_pb2 import AttachRequest, ProcessServiceListRequest, StartRequest
from tests.support import proc
from tests.support.agent import RunningAgent
from tests.support.program import program


async def test_a_running_agent_knows_its_processes_and_ends_with_them() -> None:
    """What a test started must not outlive it, whatever the test forgot."""
    async with RunningAgent() as agent:
        started = await agent.processes.Start(StartRequest(argv=program("stubborn", "--child")))
        pids = set(agent.process.pids())

    assert {agent.keeper_pid, agent.worker_pid} & pids
    assert started.process.pid in pids
    assert not any(proc.is_alive(pid) for pid in pids)
    assert not agent.process.folder.exists()


async def test_a_killed_worker_is_replaced(agent: RunningAgent) -> None:
    """Tests of recovery stand on these two calls."""
    before = agent.worker_pid
    await agent.kill_worker()
    info = await agent.serves_again()

    assert info.worker_pid == agent.worker_pid != before
    assert info.keeper_pid == agent.keeper_pid


async def test_a_killed_keeper_is_replaced_by_the_worker(agent: RunningAgent) -> None:
    """And the agent can still be stopped in order afterwards, which leaving the test asserts."""
    first = agent.worker_pid
    await agent.kill_keeper()
    info = await agent.serves_again()

    assert info.keeper_pid == agent.keeper_pid == first
    assert agent.worker_pid != first


async def test_a_killed_agent_starts_again_on_its_state(agent: RunningAgent) -> None:
    """Both may die; the next one finds what they wrote."""
    store = (await agent.info.GetInfo(GetInfoRequest())).store_id
    started = await agent.processes.Start(StartRequest(argv=["echo", "kept"]))
    async for _ in agent.processes.Attach(AttachRequest(process_id=started.process_id)):
        pass
    await agent.kill()
    await agent.start_again()

    assert (await agent.info.GetInfo(GetInfoRequest())).store_id == store
    listed = await agent.processes.List(ProcessServiceListRequest())
    assert [process.process_id for process in listed.processes] == [started.process_id]


async def test_settings_reach_the_agent() -> None:
    """Tests of limits set them low."""
    async with RunningAgent(settings={"max_processes": 7, "log_level": "debug"}) as agent:
        info = await agent.info.GetInfo(GetInfoRequest())

    assert info.limits.max_processes == 7
