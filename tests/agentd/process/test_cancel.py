"""Canceling: what runs is ended with all that came of it, what has not come never will be, whatever dies meanwhile."""

import asyncio
import signal
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from guyline.agent.v1.process_pb2 import ENDED_BY_CALLER, PROCESS_STATE_EXITED
from guyline.agent.v1.process_service_pb2 import (
    ProcessServiceCancelRequest,
    ProcessServiceCancelResponse,
    ProcessServiceListRequest,
    ProcessServiceRemoveRequest,
    RunRequest,
    SignalRequest,
    StartResponse,
)
from tests.agentd.process.process_parts import (
    Metadata,
    a_line,
    attach,
    ended,
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
from tests.support.clock import DEADLINE
from tests.support.program import program


async def cancel(agent: RunningAgent, *, metadata: Metadata = (), **fields: Any) -> ProcessServiceCancelResponse:
    """Cancels, and waits until nobody is left unless told otherwise."""
    request = ProcessServiceCancelRequest(**{"wait": seconds(DEADLINE)} | fields)
    return await agent.processes.Cancel(request, metadata=metadata)


async def is_canceled(agent: RunningAgent, request: Any, metadata: Metadata = ()) -> bool:
    """Whether a start is refused as canceled, by Start and by Run."""
    refused = [
        await refusal(agent.processes.Start(request, metadata=metadata)),
        await refusal(agent.processes.Run(RunRequest(start=request), metadata=metadata)),
    ]
    codes = {(each.code, each.reason, each.facts["outcome"]) for each in refused}
    return codes == {(grpc.StatusCode.FAILED_PRECONDITION, "START_CANCELED", "NOT_STARTED")}


def times_run(marks: Path) -> int:
    return len(marks.read_text().splitlines()) if marks.exists() else 0


# What runs.


async def test_a_cancel_reaches_further_than_a_ladder_that_is_climbed_already(shared_agent: RunningAgent) -> None:
    """That one was for the group alone, and comes to its end first; jobs in other groups must go as well."""
    stubborn = "trap '' TERM; while :; do sleep 0.01; done"
    async with started(shared_agent, ["bash", "-c", f"set -m; ({stubborn}) & echo $!; {stubborn}"]) as start:
        said = await attach(shared_agent, start.process_id, until=a_line)
        request = SignalRequest(process_id=start.process_id, signal=signal.SIGTERM, grace=seconds(0.2))
        await shared_agent.processes.Signal(request)
        await cancel(shared_agent, process_id=start.process_id, grace=seconds(1.0))

    assert not proc.is_alive(int(said.data))


async def test_a_canceled_process_ends_with_all_that_came_of_it(shared_agent: RunningAgent) -> None:
    """Jobs in other groups of its session, too; and the exit says that a caller wanted it."""
    async with started(shared_agent, "set -m; sleep 60 & echo $!; wait") as start:
        said = await attach(
            shared_agent, start.process_id, until=lambda seen: seen.data.endswith(b"\n") and seen.data[-2:-1].isdigit()
        )
        job = int(said.data.split()[-1])
        answer = await cancel(shared_agent, process_id=start.process_id)

    assert answer.process.state == PROCESS_STATE_EXITED
    assert (answer.process.exit.signal, answer.process.exit.ended_by) == (signal.SIGTERM, ENDED_BY_CALLER)
    assert not answer.fenced
    assert not proc.is_alive(job)


async def test_what_ignores_term_is_killed_after_the_grace(shared_agent: RunningAgent) -> None:
    """§17 no. 17, in one call."""
    async with started(shared_agent, program("stubborn")) as start:
        await attach(shared_agent, start.process_id, until=a_line)
        answer = await cancel(shared_agent, process_id=start.process_id, grace=seconds(0.1))

    assert answer.process.exit.signal == signal.SIGKILL
    assert answer.process.exit.ended_by == ENDED_BY_CALLER


async def test_a_cancel_goes_on_when_the_worker_dies(agent: RunningAgent) -> None:
    """It has answered, so it holds."""
    async with started(agent, program("stubborn")) as start:
        await attach(agent, start.process_id, until=a_line)
        await cancel(agent, process_id=start.process_id, grace=seconds(0.5), wait=None)
        await agent.kill_worker()
        await agent.serves_again()
        over = await attach(agent, start.process_id)

    assert over.exit.signal == signal.SIGKILL


async def test_a_repeated_cancel_does_not_press_for_more(shared_agent: RunningAgent) -> None:
    """Many programs take a second SIGTERM for impatience, and a caller may only have lost an answer."""
    script = "trap 'echo told' TERM; echo up; while :; do sleep 0.05; done"
    async with started(shared_agent, script) as start:
        await attach(shared_agent, start.process_id, until=a_line)
        await cancel(shared_agent, process_id=start.process_id, grace=seconds(60), wait=None)
        await attach(shared_agent, start.process_id, until=lambda seen: b"told\n" in seen.data)
        for _ in range(3):
            await cancel(shared_agent, process_id=start.process_id, grace=seconds(60), wait=seconds(0.1))
        await cancel(shared_agent, process_id=start.process_id, grace=seconds(0.1))
        over = await attach(shared_agent, start.process_id)

    assert over.exit.signal == signal.SIGKILL
    assert 1 <= over.data.count(b"told\n") <= 2  # the last cancel was in more of a hurry than the first


async def test_canceling_what_has_ended_is_fine(shared_agent: RunningAgent) -> None:
    """The caller wanted it to be over, and it is; how it ended stays what it was."""
    over = await run(shared_agent, "exit 3")

    answers = [await cancel(shared_agent, process_id=over.process_id, wait=wait) for wait in (None, seconds(1))]

    assert [answer.process.exit for answer in answers] == [over.exit, over.exit]
    assert not any(answer.fenced for answer in answers)


async def test_a_cancel_reaches_what_an_ended_process_has_left_behind(shared_agent: RunningAgent) -> None:
    """It came of it as well."""
    over = await run(shared_agent, "sleep 60 & echo $!; exit 0")
    left = int(over.data)

    await cancel(shared_agent, process_id=over.process_id)

    assert not proc.is_alive(left)


async def test_an_unknown_process_cannot_be_canceled_an_unknown_key_can(shared_agent: RunningAgent) -> None:
    """An id was given by the agent, a key is made by its caller."""
    call = shared_agent.processes.Cancel(ProcessServiceCancelRequest(process_id=str(uuid.uuid4())))

    assert (await refusal(call)).reason == "PROCESS_NOT_FOUND"
    assert (await cancel(shared_agent, key=new_key())).fenced


# By key.


async def test_a_key_leads_to_the_process_that_was_started_under_it(shared_agent: RunningAgent) -> None:
    """Whoever lost the answer to a start can end it all the same; a repeat of the start then finds it ended."""
    request = to_start(["sleep", "60"], key=new_key())
    start = await shared_agent.processes.Start(request)

    answer = await cancel(shared_agent, key=request.key)
    again = await shared_agent.processes.Start(request)

    assert (answer.process.process_id, answer.fenced) == (start.process_id, False)
    assert answer.process.exit.signal == signal.SIGTERM
    assert again.attached
    assert again.process.exit == answer.process.exit


async def test_a_key_that_was_canceled_first_starts_nothing_ever(shared_agent: RunningAgent, tmp_path: Path) -> None:
    """§17 no. 13: a start that was delayed on its way must not run once its caller has given up on it."""
    marks = tmp_path / "marks"
    key = new_key()

    answers = [await cancel(shared_agent, key=key) for _ in range(2)]

    assert [(answer.fenced, answer.HasField("process")) for answer in answers] == [(True, False)] * 2
    assert await is_canceled(shared_agent, to_start(f"echo ran >> {marks}", key=key))
    assert await is_canceled(shared_agent, to_start(f"echo ran >> {marks}; true", key=key, background=True))
    assert not times_run(marks)
    assert (await run(shared_agent, f"echo ran >> {marks}", key=new_key())).exit.code == 0


async def restart_worker(agent: RunningAgent) -> None:
    await agent.kill_worker()
    await agent.serves_again()


async def restart_keeper(agent: RunningAgent) -> None:
    await agent.kill_keeper()
    await agent.serves_again()


async def restart_agent(agent: RunningAgent) -> None:
    await agent.stop()
    await agent.start_again()


async def restart_all(agent: RunningAgent) -> None:
    await agent.kill()
    await agent.start_again()


@pytest.mark.parametrize("restart", [restart_worker, restart_keeper, restart_agent, restart_all])
async def test_a_fence_outlives_every_death(agent: RunningAgent, restart: Callable[[RunningAgent], Any]) -> None:
    """Of the worker, the keeper, the agent in order or all at once: it was recorded before the cancel answered."""
    key, tried = new_key(), new_key()
    missing = to_start(["/nowhere/program"], key=tried)
    await refusal(agent.processes.Start(missing))
    await cancel(agent, key=key)
    after_a_failure = await cancel(agent, key=tried)

    await restart(agent)

    assert after_a_failure.fenced
    assert await is_canceled(agent, to_start("true", key=key))
    assert await is_canceled(agent, to_start("true", key=tried))
    assert (await cancel(agent, key=key)).fenced
    assert not (await agent.processes.List(ProcessServiceListRequest())).processes


async def test_a_refused_start_that_could_be_repeated_is_fenced(shared_agent: RunningAgent, tmp_path: Path) -> None:
    """The directory was missing, so the key was free again; the cancel takes it."""
    request = to_start("true", directory=str(tmp_path / "later"), key=new_key())
    first = await refusal(shared_agent.processes.Start(request))

    answer = await cancel(shared_agent, key=request.key)
    (tmp_path / "later").mkdir()

    assert first.reason == "DIRECTORY_NOT_USABLE"
    assert answer.fenced
    assert await is_canceled(shared_agent, request)


@pytest.mark.parametrize("age", [86_400 + 10, -3_600 - 10])
async def test_a_key_of_which_nobody_could_say_whether_it_was_used_is_not_canceled(
    shared_agent: RunningAgent, age: float
) -> None:
    """To answer that nothing will run would be a guess."""
    refused = await refusal(shared_agent.processes.Cancel(ProcessServiceCancelRequest(key=new_key(age=age))))

    assert (refused.code, refused.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "KEY_EXPIRED")


async def test_a_chat_cancels_its_own_keys_only(shared_agent: RunningAgent) -> None:
    """Two chats' keys never meet, also if they have the same name."""
    one, other = in_chat(uuid.uuid4()), in_chat(uuid.uuid4())
    request = to_start(["sleep", "60"], key=new_key())
    async with started(shared_agent, ["sleep", "60"], key=request.key, metadata=one) as start:
        answer = await cancel(shared_agent, key=request.key, metadata=other)

        assert answer.fenced
        assert proc.is_alive(start.process.pid)
        assert await is_canceled(shared_agent, request, other)
        assert (await shared_agent.processes.Start(request, metadata=one)).attached


async def test_the_key_of_a_removed_process_stays_what_it_was(shared_agent: RunningAgent) -> None:
    """There is nothing left to end, and it will not run again."""
    request = to_start("exit 3", key=new_key())
    start = await shared_agent.processes.Start(request)
    await ended(shared_agent, start.process_id)
    await shared_agent.processes.Remove(ProcessServiceRemoveRequest(process_id=start.process_id))

    answer = await cancel(shared_agent, key=request.key)

    assert not answer.fenced
    assert answer.process.exit.code == 3


# Races.


async def outcome(call: Awaitable[Any]) -> Any:
    """What a call answered, or why it did not."""
    try:
        return await call
    except grpc.aio.AioRpcError as why:
        return why


@pytest.mark.parametrize("starts_first", [True, False])
async def test_of_a_start_and_a_cancel_that_cross_nothing_survives(
    agent: RunningAgent, tmp_path: Path, starts_first: bool
) -> None:
    """Either the start came first, and is ended, or it is refused. Many pairs, at every distance."""
    how_many = 60
    marks = [tmp_path / str(number) for number in range(how_many)]

    async def cross(number: int) -> tuple[Any, ProcessServiceCancelResponse]:
        key = new_key()
        # The shell says that it lives as long as it does: its mark is there while it runs.
        request = to_start(f"echo $$ > {marks[number]}; exec sleep 60", key=key)
        calls: list[Awaitable[Any]] = [
            outcome(agent.processes.Start(request)),
            cancel(agent, key=key, grace=seconds(1)),
        ]
        tasks = [asyncio.ensure_future(call) for call in (calls if starts_first else reversed(calls))]
        first, second = await asyncio.gather(*tasks)
        start, canceled = (first, second) if starts_first else (second, first)
        return start, canceled

    pairs = await asyncio.gather(*(cross(number) for number in range(how_many)))

    for start, canceled in pairs:
        if canceled.fenced:
            assert isinstance(start, grpc.aio.AioRpcError)
            assert start.code() is grpc.StatusCode.FAILED_PRECONDITION
        else:
            assert isinstance(start, StartResponse)
            assert canceled.process.process_id == start.process_id
            assert canceled.process.HasField("exit")
    pids = [int(mark.read_text() or 0) for mark in marks if mark.exists()]
    assert not [pid for pid in pids if pid and proc.is_alive(pid)]
    running = await agent.processes.List(ProcessServiceListRequest(max_ended=0))
    assert not running.processes
