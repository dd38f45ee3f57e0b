"""Forgetting what has ended before its time: it is gone from everywhere but its key."""

import signal
import uuid
from pathlib import Path

import grpc
import pytest

from guyline.agent.v1.agent_info_service_pb2 import GetInfoRequest
from guyline.agent.v1.process_pb2 import Process
from guyline.agent.v1.process_service_pb2 import (
    SIGNAL_SCOPE_GROUP,
    AttachRequest,
    ProcessServiceCancelRequest,
    ProcessServiceListRequest,
    ProcessServiceRemoveRequest,
    ProcessServiceWatchRequest,
    SignalRequest,
)
from tests.agentd.process.process_parts import (
    MIB,
    a_line,
    attach,
    changed,
    end,
    in_chat,
    new_key,
    refusal,
    run,
    seconds,
    started,
    to_start,
)
from tests.support import proc
from tests.support.agent import RunningAgent
from tests.support.clock import until
from tests.support.program import program


async def remove(agent: RunningAgent, process_id: str) -> None:
    await agent.processes.Remove(ProcessServiceRemoveRequest(process_id=process_id))


async def quiet(agent: RunningAgent, process_id: str) -> Process:
    """Waits until a process has ended, and nobody holds its output open."""
    return await changed(agent, process_id, lambda it: it.HasField("exit") and not it.output_open)


async def test_a_removed_process_is_found_by_no_call(agent: RunningAgent) -> None:
    """Its output is freed at once; what is beside it stays."""
    noisy = program("noise", 45, 4 * MIB)
    stays, goes = await run(agent, noisy, when_full=1), await run(agent, noisy, key=new_key(), when_full=1)
    await quiet(agent, goes.process_id)
    before = (await agent.info.GetInfo(GetInfoRequest())).disk_use.journal_bytes
    await remove(agent, goes.process_id)
    after = (await agent.info.GetInfo(GetInfoRequest())).disk_use.journal_bytes

    stub, process_id = agent.processes, goes.process_id
    for call in (
        stub.Attach(AttachRequest(process_id=process_id)),
        stub.Signal(SignalRequest(process_id=process_id)),
        stub.Cancel(ProcessServiceCancelRequest(process_id=process_id)),
        stub.Remove(ProcessServiceRemoveRequest(process_id=process_id)),
    ):
        refused = await refusal(call)
        assert (refused.code, refused.reason) == (grpc.StatusCode.NOT_FOUND, "PROCESS_NOT_FOUND")
    listed = await stub.List(ProcessServiceListRequest())
    assert ([each.process_id for each in listed.processes], listed.ended_total) == ([stays.process_id], 1)
    assert before - after >= 4 * MIB
    assert not list(agent.process.state_dir.glob(f"journals/{process_id}*"))


@pytest.mark.parametrize("death", ["worker", "agent"])
async def test_a_removed_process_does_not_come_back_and_its_key_runs_nothing(
    agent: RunningAgent, tmp_path: Path, death: str
) -> None:
    """Over a restart of the worker or the whole agent: a repeat hears how it ended, and that is all."""
    request = to_start(f"echo ran >> {tmp_path}/marks; exit 3", key=new_key())
    start = await agent.processes.Start(request)
    await quiet(agent, start.process_id)
    await remove(agent, start.process_id)
    if death == "worker":
        await agent.kill_worker()
        await agent.serves_again()
    else:
        await agent.stop()
        await agent.start_again()

    listed = await agent.processes.List(ProcessServiceListRequest())
    again = await agent.processes.Start(request)
    refused = await refusal(agent.processes.Attach(AttachRequest(process_id=start.process_id)))

    assert not listed.processes
    assert (again.attached, again.process_id, again.process.exit.code) == (True, start.process_id, 3)
    assert refused.reason == "PROCESS_NOT_FOUND"
    assert (tmp_path / "marks").read_text() == "ran\n"


async def test_a_watch_is_told_of_a_removal(agent: RunningAgent) -> None:
    """Whoever shows the list takes it out there, too."""
    over = await run(agent, "true")
    await quiet(agent, over.process_id)
    watch = agent.processes.Watch(ProcessServiceWatchRequest())
    messages = aiter(watch)
    await anext(messages)
    await remove(agent, over.process_id)
    message = await anext(messages)
    watch.cancel()

    assert [event.removed for event in message.events] == [over.process_id]


async def test_what_runs_is_not_removed(shared_agent: RunningAgent) -> None:
    """Nor is what has ended but left somebody behind who prints: removing it would end that one by SIGPIPE."""
    async with started(shared_agent, ["sleep", "60"]) as start:
        running = await refusal(shared_agent.processes.Remove(ProcessServiceRemoveRequest(process_id=start.process_id)))
        assert proc.is_alive(start.process.pid)
    over = await run(shared_agent, "sleep 60 & exit 0")
    held = await refusal(shared_agent.processes.Remove(ProcessServiceRemoveRequest(process_id=over.process_id)))
    await end(shared_agent, over.process_id)
    await quiet(shared_agent, over.process_id)
    await remove(shared_agent, over.process_id)

    for refused in (running, held):
        assert (refused.code, refused.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "PROCESS_RUNNING")
    assert "descendant" in held.message


async def test_a_chat_removes_its_own_processes_only(shared_agent: RunningAgent) -> None:
    """Another's do not exist for it."""
    over = await run(shared_agent, "true", metadata=in_chat(uuid.uuid4()))
    request = ProcessServiceRemoveRequest(process_id=over.process_id)

    refused = await refusal(shared_agent.processes.Remove(request, metadata=in_chat(uuid.uuid4())))

    assert refused.reason == "PROCESS_NOT_FOUND"
    assert (await quiet(shared_agent, over.process_id)).exit.code == 0


async def test_a_removed_process_does_not_take_the_ladder_of_what_it_left_behind_with_it(agent: RunningAgent) -> None:
    """KILL was promised to the whole group, whatever is forgotten meanwhile; also by the worker that comes next."""
    stubborn = " ".join(program("stubborn"))
    start = await agent.processes.Start(to_start(f"{stubborn} >/dev/null 2>&1 & echo $!; exec sleep 60"))
    left_behind = int((await attach(agent, start.process_id, until=a_line)).data)
    await until(lambda: proc.ignores(left_behind, signal.SIGINT))
    request = SignalRequest(
        process_id=start.process_id, signal=signal.SIGINT, scope=SIGNAL_SCOPE_GROUP, grace=seconds(1)
    )
    await agent.processes.Signal(request)
    await quiet(agent, start.process_id)
    await remove(agent, start.process_id)
    await agent.kill_worker()

    await proc.dead(left_behind)
