"""Limits on how many there may be at once: §17 no. 14, each with RESOURCE_EXHAUSTED and what it was that is full."""

import asyncio
import uuid
from pathlib import Path

import grpc
import grpc.aio

from guyline.agent.v1.agent_info_service_pb2 import GetInfoRequest
from guyline.agent.v1.process_service_pb2 import AttachRequest, RunRequest
from tests.agentd.process.process_parts import (
    MIB,
    Refusal,
    attach,
    end,
    in_chat,
    new_key,
    output_closed,
    refusal,
    run,
    started,
    to_start,
)
from tests.support.agent import RunningAgent
from tests.support.clock import DEADLINE


def assert_full(refused: Refusal, reason: str, setting: str, limit: int) -> None:
    """The caller hears which limit it met, and that nothing was started."""
    assert refused.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert (refused.reason, refused.facts["setting"], refused.facts["limit"]) == (reason, setting, str(limit))
    assert refused.facts["outcome"] == "NOT_STARTED"
    assert f"--{setting.replace('_', '-')}" in refused.message


async def test_a_chat_that_has_its_share_leaves_the_rest_to_others() -> None:
    """One chat in a loop must not take the workspace's last place; what ends makes room."""
    full, other = in_chat(uuid.uuid4()), in_chat(uuid.uuid4())
    async with (
        RunningAgent(settings={"max_chat_processes": 2}) as agent,
        started(agent, ["sleep", "60"], metadata=full) as first,
        started(agent, ["sleep", "60"], metadata=full),
    ):
        refused = await refusal(agent.processes.Start(to_start("true", key=new_key()), metadata=full))
        by_run = await refusal(agent.processes.Run(RunRequest(start=to_start("true")), metadata=full))
        others = [await run(agent, "true", metadata=caller) for caller in (other, (), other)]
        await end(agent, first.process_id)
        after = await run(agent, "true", metadata=full)

    for each in (refused, by_run):
        assert_full(each, "TOO_MANY_PROCESSES", "max_chat_processes", 2)
        assert each.facts["chat_id"] == full[0][1]
        assert each.retry_after
    assert [each.exit.code for each in (*others, after)] == [0, 0, 0, 0]


async def test_a_chat_keeps_its_places_over_the_workers_death() -> None:
    """The next worker counts those that it finds running, and not those that have ended."""
    chat = in_chat(uuid.uuid4())
    async with RunningAgent(settings={"max_chat_processes": 2}) as agent:
        for _ in range(3):
            await run(agent, "true", metadata=chat)
        async with started(agent, ["sleep", "60"], metadata=chat):
            await agent.kill_worker()
            await agent.serves_again()
            async with started(agent, ["sleep", "60"], metadata=chat):
                refused = await refusal(agent.processes.Start(to_start("true"), metadata=chat))

    assert_full(refused, "TOO_MANY_PROCESSES", "max_chat_processes", 2)


async def test_what_a_command_left_behind_keeps_its_place() -> None:
    """It holds descriptors and memory as one that runs, also for the next worker; its end makes room."""
    chat = in_chat(uuid.uuid4())
    settings = {"max_chat_processes": 1, "max_processes": 2}
    async with RunningAgent(settings=settings) as agent:
        left = await run(agent, "sleep 60 & echo started", metadata=chat)
        by_chat = await refusal(agent.processes.Start(to_start("true"), metadata=chat))
        await agent.kill_worker()
        await agent.serves_again()
        async with started(agent, ["sleep", "60"]):
            by_all = await refusal(agent.processes.Start(to_start("true")))
        await end(agent, left.process_id)
        await output_closed(agent, left.process_id)
        after = await run(agent, "true", metadata=chat)

    assert left.exit.code == after.exit.code == 0
    assert_full(by_chat, "TOO_MANY_PROCESSES", "max_chat_processes", 1)
    assert_full(by_all, "TOO_MANY_PROCESSES", "max_processes", 2)
    assert "hold their output open" in by_all.message


async def test_starts_of_a_chat_at_the_same_moment_share_its_places() -> None:
    """Those under way count; a start that failed has given its place back."""
    chat = in_chat(uuid.uuid4())
    async with RunningAgent(settings={"max_chat_processes": 3}) as agent:
        for _ in range(5):
            await refusal(agent.processes.Start(to_start(["/nowhere/program"]), metadata=chat))
        calls = [agent.processes.Start(to_start(["sleep", "60"]), metadata=chat) for _ in range(12)]
        answers = await asyncio.gather(*calls, return_exceptions=True)
        running = [answer for answer in answers if not isinstance(answer, BaseException)]
        for answer in running:
            await end(agent, answer.process_id)

    assert len(running) == 3


async def test_a_run_that_nobody_could_follow_starts_nothing(tmp_path: Path) -> None:
    """Run and Attach share the seats; who leaves makes room, and a start without a stream needs none."""
    marks = tmp_path / "marks"
    async with RunningAgent(settings={"max_followers": 2}) as agent, started(agent, "echo up; sleep 60") as start:
        request = AttachRequest(process_id=start.process_id)
        streams = [agent.processes.Attach(request) for _ in range(2)]
        for stream in streams:
            await anext(aiter(stream))
        by_attach = await refusal(agent.processes.Attach(request))
        by_run = await refusal(agent.processes.Run(RunRequest(start=to_start(f"echo ran >> {marks}"))))
        await agent.processes.Start(to_start("true"))
        streams[0].cancel()
        over = await seated(agent)
        for stream in streams:
            stream.cancel()

    assert_full(by_attach, "TOO_MANY_FOLLOWERS", "max_followers", 2)
    assert_full(by_run, "TOO_MANY_FOLLOWERS", "max_followers", 2)
    assert not marks.exists()
    assert over == b"out\n"


async def seated(agent: RunningAgent) -> bytes:
    """Runs a command as soon as there is a seat: a cancelled stream gives its one back when the agent hears of it."""
    async with asyncio.timeout(DEADLINE):
        while True:
            try:
                return (await run(agent, "echo out")).data
            except grpc.aio.AioRpcError as why:
                if why.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED:
                    raise


async def test_streams_that_end_by_themselves_give_their_seats_back() -> None:
    """By the exit, by a refusal, and at the end of a snapshot."""
    async with RunningAgent(settings={"max_followers": 1}) as agent:
        for _ in range(5):
            over = await run(agent, "echo out")
            await refusal(agent.processes.Run(RunRequest(start=to_start(["/nowhere/program"]))))
            assert (await attach(agent, over.process_id)).data == b"out\n"
            assert (await attach(agent, over.process_id, snapshot=True)).data == b"out\n"


async def test_more_output_than_the_quota_is_refused_as_too_much() -> None:
    """The request is well formed; it is this agent that does not keep so much. Up to the quota is fine."""
    async with RunningAgent(settings={"journal_quota_bytes": 64 * MIB}) as agent:
        request = to_start("true", kept_bytes=64 * MIB + 1)
        by_start = await refusal(agent.processes.Start(request))
        by_run = await refusal(agent.processes.Run(RunRequest(start=request)))
        over = await run(agent, "true", kept_bytes=64 * MIB)

    for refused, field in ((by_start, "kept_bytes"), (by_run, "start.kept_bytes")):
        assert_full(refused, "JOURNAL_QUOTA", "journal_quota_bytes", 64 * MIB)
        assert refused.facts["field"] == field
    assert over.exit.code == 0


async def test_the_limits_are_told() -> None:
    """A client can ask before it meets them."""
    settings = {
        "max_chat_processes": 7,
        "max_followers": 8,
        "input_bytes": 2 * MIB,
        "input_quota_bytes": 3 * MIB,
    }
    async with RunningAgent(settings=settings) as agent:
        limits = (await agent.info.GetInfo(GetInfoRequest())).limits

    assert (limits.max_chat_processes, limits.max_followers) == (7, 8)
    assert (limits.input_bytes, limits.input_quota_bytes) == (2 * MIB, 3 * MIB)
