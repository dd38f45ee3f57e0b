"""What belongs to one chat does not exist for another: no call tells the two apart from what was never there."""

import asyncio
import json
import uuid
from dataclasses import replace
from typing import Any

import grpc
import pytest

from guyline.agent.v1.agent_info_service_pb2 import UpgradeRequest
from guyline.agent.v1.process_service_pb2 import (
    AttachRequest,
    ProcessServiceCancelRequest,
    ProcessServiceListRequest,
    ProcessServiceRemoveRequest,
    ProcessServiceWatchRequest,
    RunRequest,
    SignalRequest,
)
from tests.agentd.process.process_parts import (
    Metadata,
    Refusal,
    a_line,
    attach,
    changed,
    ended,
    in_chat,
    refusal,
    run,
    started,
    to_start,
)
from tests.support import proc
from tests.support.agent import RunningAgent
from tests.support.clock import DEADLINE

ONE, OTHER = str(uuid.UUID(int=1)), str(uuid.UUID(int=2))


async def listed(agent: RunningAgent, metadata: Metadata) -> tuple[set[str], int]:
    """The ids that List shows, and how many ended ones it counts."""
    answer = await agent.processes.List(ProcessServiceListRequest(max_ended=1000), metadata=metadata)
    return {process.process_id for process in answer.processes}, answer.ended_total


async def watched(agent: RunningAgent, metadata: Metadata, last: str) -> set[str]:
    """All ids that Watch tells of until it tells of the ``last``."""
    told: set[str] = set()
    stream = agent.processes.Watch(ProcessServiceWatchRequest(), metadata=metadata)
    async for message in stream:
        told.update(event.put.process_id or event.ended.process_id or event.removed for event in message.events)
        if last in told:
            break
    stream.cancel()
    return told


async def test_a_chat_lists_its_own_processes_only(agent: RunningAgent) -> None:
    """Not another's, and not those of no chat; the total gives nothing away either."""
    mine = await run(agent, "true", metadata=in_chat(ONE))
    theirs = await run(agent, "true", metadata=in_chat(OTHER))
    nobodys = await run(agent, "true")

    assert await listed(agent, in_chat(ONE)) == ({mine.process_id}, 1)
    assert await listed(agent, in_chat(OTHER)) == ({theirs.process_id}, 1)
    assert await listed(agent, ()) == ({mine.process_id, theirs.process_id, nobodys.process_id}, 3)


async def test_a_chat_watches_its_own_processes_only(agent: RunningAgent) -> None:
    """From the first message to the last change."""
    before = await run(agent, "true", metadata=in_chat(ONE))
    await run(agent, "true", metadata=in_chat(OTHER))
    await run(agent, "true")
    after = await run(agent, "true", metadata=in_chat(ONE))

    told = await watched(agent, in_chat(ONE), after.process_id)

    assert told == {before.process_id, after.process_id}


async def test_a_watch_that_resumes_hears_of_no_foreign_change(agent: RunningAgent) -> None:
    """The cursor counts everybody's changes; what it leads to is the caller's alone."""
    mine = await run(agent, "true", metadata=in_chat(ONE))
    stream = agent.processes.Watch(ProcessServiceWatchRequest(), metadata=in_chat(ONE))
    cursor = (await anext(aiter(stream))).control.cursor
    stream.cancel()
    await run(agent, "true", metadata=in_chat(OTHER))
    await run(agent, "true")

    again = agent.processes.Watch(ProcessServiceWatchRequest(cursor=cursor), metadata=in_chat(ONE))
    first = await anext(aiter(again))
    again.cancel()

    assert first.control.HasField("synced")
    assert not first.events
    assert mine.process_id in (await listed(agent, in_chat(ONE)))[0]


async def test_a_watch_tells_of_no_foreign_removal() -> None:
    """That there was something of another's to be removed is the other's business, too."""
    async with RunningAgent(settings={"ended_retention": 0}) as agent:
        mine, others = set[str](), set[str]()
        stream = agent.processes.Watch(ProcessServiceWatchRequest(), metadata=in_chat(ONE))
        messages = aiter(stream)
        for _ in range(3):
            others.add((await run(agent, "true", metadata=in_chat(OTHER))).process_id)
            mine.add((await run(agent, "true", metadata=in_chat(ONE))).process_id)
        told, removed = set[str](), set[str]()
        async with asyncio.timeout(DEADLINE):
            while removed != mine:
                events = (await anext(messages)).events
                told.update(event.put.process_id for event in events if event.HasField("put"))
                removed.update(event.removed for event in events if event.HasField("removed"))
                assert not (told | removed) & others
        stream.cancel()


async def assert_unknown(agent: RunningAgent, process_id: str, metadata: Metadata) -> None:
    """The very answer that an id gets which never was: the same in all but the id."""
    never = str(uuid.uuid4())
    answers = [
        (
            await refusal(agent.processes.Attach(AttachRequest(process_id=each), metadata=metadata)),
            await refusal(agent.processes.Attach(AttachRequest(process_id=each, cursor=b"x"), metadata=metadata)),
            await refusal(agent.processes.Signal(SignalRequest(process_id=each, signal=9), metadata=metadata)),
            await refusal(agent.processes.Signal(SignalRequest(process_id=each, signal=99), metadata=metadata)),
            await refusal(agent.processes.Cancel(ProcessServiceCancelRequest(process_id=each), metadata=metadata)),
            await refusal(agent.processes.Remove(ProcessServiceRemoveRequest(process_id=each), metadata=metadata)),
        )
        for each in (process_id, never)
    ]
    for foreign, unknown in zip(*answers, strict=True):
        assert foreign.code is grpc.StatusCode.NOT_FOUND
        assert _renamed(foreign, process_id, never) == unknown


def _renamed(refused: Refusal, old: str, new: str) -> Refusal:
    facts = {key: value.replace(old, new) for key, value in refused.facts.items()}
    return replace(refused, message=refused.message.replace(old, new), facts=facts)


async def test_a_foreign_process_is_as_unknown_as_one_that_never_was(shared_agent: RunningAgent) -> None:
    """Running or over; and whatever else is wrong with the request, that is not said first."""
    async with started(shared_agent, ["sleep", "60"], metadata=in_chat(ONE)) as start:
        await assert_unknown(shared_agent, start.process_id, in_chat(OTHER))
        assert proc.is_alive(start.process.pid)
    await assert_unknown(shared_agent, start.process_id, in_chat(OTHER))


async def test_what_no_chat_started_is_unknown_to_chats(shared_agent: RunningAgent) -> None:
    """List hides it, so no other call may show it."""
    async with started(shared_agent, ["sleep", "60"]) as start:
        await assert_unknown(shared_agent, start.process_id, in_chat(ONE))


async def test_an_ancestor_does_not_see_its_descendants_processes_nor_they_its(shared_agent: RunningAgent) -> None:
    """Ancestors are named for logs; they open no door."""
    parent, child = in_chat(ONE), (*in_chat(OTHER), ("coder-ancestor-chat-ids", json.dumps([ONE])))
    async with (
        started(shared_agent, ["sleep", "60"], metadata=parent) as of_parent,
        started(shared_agent, ["sleep", "60"], metadata=child) as of_child,
    ):
        await assert_unknown(shared_agent, of_child.process_id, parent)
        await assert_unknown(shared_agent, of_parent.process_id, child)


async def test_a_chat_may_do_everything_with_its_own(shared_agent: RunningAgent) -> None:
    """However its id is written: a UUID has one meaning."""
    letters = "abcdefab-cdef-4abc-8def-abcdefabcdef"
    async with started(shared_agent, "echo up; sleep 60", metadata=in_chat(letters.upper())) as start:
        mine = in_chat(letters)
        await attach(shared_agent, start.process_id, metadata=mine, until=a_line)
        request = SignalRequest(process_id=start.process_id, signal=9)
        await shared_agent.processes.Signal(request, metadata=mine)
        over = await attach(shared_agent, start.process_id, metadata=mine)

    assert over.data == b"up\n"
    assert over.exit.signal == 9
    assert over.process.chat_id == letters


async def test_the_owner_on_the_socket_sees_and_ends_everything(shared_agent: RunningAgent) -> None:
    """Whoever has the socket is the user of the workspace, in no chat."""
    async with started(shared_agent, ["sleep", "60"], metadata=in_chat(ONE)) as start:
        await changed(shared_agent, start.process_id, lambda process: process.chat_id == ONE)
        await shared_agent.processes.Signal(SignalRequest(process_id=start.process_id, signal=9))

        assert (await ended(shared_agent, start.process_id)).exit.signal == 9


MALFORMED: list[tuple[Metadata, str]] = [
    ((("coder-chat-id", ""),), "coder-chat-id"),
    ((("coder-chat-id", "chat"),), "coder-chat-id"),
    ((("coder-chat-id", ONE[:-1]),), "coder-chat-id"),
    ((("coder-chat-id", ONE + " "),), "coder-chat-id"),
    ((("coder-chat-id", f"{{{ONE}}}"),), "coder-chat-id"),
    ((("coder-chat-id", str(uuid.UUID(int=0))),), "coder-chat-id"),
    ((("coder-chat-id", ONE), ("coder-chat-id", OTHER)), "coder-chat-id"),
    ((("coder-ancestor-chat-ids", "[]"),), "coder-ancestor-chat-ids"),
    ((("coder-chat-id", ONE), ("coder-ancestor-chat-ids", "no json")), "coder-ancestor-chat-ids"),
    ((("coder-chat-id", ONE), ("coder-ancestor-chat-ids", '["x"]')), "coder-ancestor-chat-ids"),
    ((("coder-chat-id", ONE), ("coder-ancestor-chat-ids", "[1]")), "coder-ancestor-chat-ids"),
]


@pytest.mark.parametrize("case", range(len(MALFORMED)))
async def test_a_malformed_chat_is_refused_by_every_call(shared_agent: RunningAgent, case: int) -> None:
    """§17 no. 8: never taken for no chat, which would open everything."""
    metadata, key = MALFORMED[case]
    stub = shared_agent.processes
    requests: list[Any] = [
        stub.Start(to_start("true"), metadata=metadata),
        stub.Run(RunRequest(start=to_start("true")), metadata=metadata),
        stub.Attach(AttachRequest(process_id=ONE), metadata=metadata),
        stub.List(ProcessServiceListRequest(), metadata=metadata),
        stub.Watch(ProcessServiceWatchRequest(), metadata=metadata),
        stub.Signal(SignalRequest(process_id=ONE), metadata=metadata),
        stub.Cancel(ProcessServiceCancelRequest(process_id=ONE), metadata=metadata),
        stub.Remove(ProcessServiceRemoveRequest(process_id=ONE), metadata=metadata),
    ]

    for call in requests:
        refused = await refusal(call)
        assert refused.code is grpc.StatusCode.INVALID_ARGUMENT
        assert refused.fields == [f"metadata.{key}"]


async def test_a_chat_may_not_replace_the_agents_code(shared_agent: RunningAgent) -> None:
    """A model that runs commands has no business with the interpreter that the agent runs on."""
    refused = await refusal(shared_agent.info.Upgrade(UpgradeRequest(), metadata=in_chat(ONE)))

    assert refused.code is grpc.StatusCode.PERMISSION_DENIED
    assert (refused.reason, refused.facts["right"]) == ("RIGHT_MISSING", "administer")
