"""A start with a key happens once, however often it is asked for and whatever breaks in between."""

import asyncio
import errno
import traceback
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from guyline.agent.v1.process_pb2 import PROCESS_STATE_EXITED, PROCESS_STATE_UNKNOWN, UNKNOWN_END_AGENT_LOST
from guyline.agent.v1.process_service_pb2 import ProcessServiceListRequest, RunRequest, StartRequest, StartResponse
from guyline.agent.v1.process_service_pb2_grpc import ProcessServiceStub
from guyline.agentd.process.errors import CommandNotRunnable, StartCanceled
from guyline.agentd.process.starting.keys import Use
from tests.agentd.process.process_parts import (
    a_line,
    attach,
    ended,
    follow,
    in_chat,
    new_key,
    refusal,
    run,
    started,
    to_start,
)
from tests.agentd.process.simulated import simulated
from tests.support.agent import RECONNECT_FAST, RunningAgent
from tests.support.clock import until
from tests.support.proxy import Link, answered


@pytest.fixture
def marks(tmp_path: Path) -> Path:
    """Where each run of ``leave_a_mark`` leaves a line."""
    return tmp_path / "marks"


def leave_a_mark(marks: Path) -> str:
    return f"echo ran >> {marks}; echo out; exit 7"


def times_run(marks: Path) -> int:
    return len(marks.read_text().splitlines()) if marks.exists() else 0


async def test_a_repeated_start_attaches_to_what_the_first_one_started(shared_agent: RunningAgent, marks: Path) -> None:
    """In whatever order Start and Run repeat each other."""
    request = to_start(leave_a_mark(marks), key=new_key())

    first = await shared_agent.processes.Start(request)
    again = await shared_agent.processes.Start(request)
    by_run = await follow(shared_agent.processes.Run(RunRequest(start=request)))
    last = await shared_agent.processes.Start(request)

    assert [first.attached, again.attached, by_run.attached, last.attached] == [False, True, True, True]
    assert {first.process_id, again.process_id, by_run.process_id, last.process_id} == {first.process_id}
    assert (by_run.data, by_run.exit.code) == (b"out\n", 7)
    assert last.process.state == PROCESS_STATE_EXITED
    assert times_run(marks) == 1


async def test_a_start_repeats_a_run(shared_agent: RunningAgent, marks: Path) -> None:
    """Although the two keep their output differently unless told otherwise."""
    key = new_key()
    over = await run(shared_agent, leave_a_mark(marks), key=key)

    again = await shared_agent.processes.Start(to_start(leave_a_mark(marks), key=key))

    assert again.attached
    assert again.process_id == over.process_id
    assert times_run(marks) == 1


async def test_repeats_at_the_same_moment_start_one(shared_agent: RunningAgent, marks: Path) -> None:
    """Impatient callers do not wait for an answer before they ask again."""
    request = to_start(leave_a_mark(marks), key=new_key())

    starts = await asyncio.gather(*(shared_agent.processes.Start(request) for _ in range(20)))
    await ended(shared_agent, starts[0].process_id)

    assert len({start.process_id for start in starts}) == 1
    assert [start.attached for start in starts].count(False) == 1
    assert times_run(marks) == 1


async def test_without_a_key_every_start_starts(shared_agent: RunningAgent, marks: Path) -> None:
    """The agent does not guess what a caller meant."""
    ids = {(await run(shared_agent, leave_a_mark(marks))).process_id for _ in range(2)}

    assert len(ids) == times_run(marks) == 2


OTHERS: list[dict[str, Any]] = [
    {"program": "true # other"},
    {"program": ["sh", "-c", "true"]},
    {"directory": "/"},
    {"env": {"A": "2"}},
    {"env": {}},
    {"background": True},
    {"output_mode": 2},
]


@pytest.mark.parametrize("other", OTHERS, ids=lambda other: next(iter(other)))
async def test_a_key_that_was_used_for_another_start_is_a_conflict(
    shared_agent: RunningAgent, other: dict[str, Any]
) -> None:
    """A key that names two things is a mistake that must not go unnoticed; neither runs because of it."""
    key = new_key()
    fields: dict[str, Any] = {"program": "true", "env": {"A": "1"}, "key": key}
    await shared_agent.processes.Start(to_start(**fields))

    refused = await refusal(shared_agent.processes.Start(to_start(**fields | other)))

    assert refused.code is grpc.StatusCode.ALREADY_EXISTS
    assert refused.reason == "KEY_CONFLICT"
    assert refused.facts["key"] == key.value
    assert refused.facts["outcome"] == "NOT_STARTED"


@pytest.mark.parametrize("age", [86_400 + 10, 10 * 365 * 86_400, -3_600 - 10])
async def test_a_key_of_which_nobody_could_say_whether_it_was_used_is_refused(
    shared_agent: RunningAgent, marks: Path, age: float
) -> None:
    """Older than keys are remembered, or from too far ahead."""
    refused = await refusal(shared_agent.processes.Start(to_start(leave_a_mark(marks), key=new_key(age=age))))

    assert refused.code is grpc.StatusCode.FAILED_PRECONDITION
    assert refused.reason == "KEY_EXPIRED"
    assert abs(float(refused.facts["age_seconds"]) - age) < 60
    assert times_run(marks) == 0


@pytest.mark.parametrize("age", [86_400 - 60, -3_600 + 60])
async def test_clocks_may_differ_a_little(shared_agent: RunningAgent, age: float) -> None:
    """Within the bounds a key is as good as new."""
    over = await run(shared_agent, "echo fine", key=new_key(age=age))

    assert over.data == b"fine\n"


async def test_a_failed_spawn_is_remembered_for_its_key(shared_agent: RunningAgent, tmp_path: Path) -> None:
    """The repeat of a start hears what the first one heard, even if it would work by now."""
    tool = tmp_path / "tool"
    tool.write_bytes(b"\0garbage")
    tool.chmod(0o700)
    request = to_start([str(tool)], key=new_key())
    first = await refusal(shared_agent.processes.Start(request))
    tool.write_text("#!/bin/sh\nexit 0\n")

    again = await refusal(shared_agent.processes.Start(request))
    fresh = await run(shared_agent, [str(tool)], key=new_key())

    assert first == again
    assert (first.reason, first.facts["errno"]) == ("COMMAND_NOT_RUNNABLE", "ENOEXEC")
    assert fresh.exit.code == 0


async def test_a_start_that_was_refused_before_anything_was_tried_may_be_repeated(
    shared_agent: RunningAgent, tmp_path: Path
) -> None:
    """The directory was missing; now it is there, and the same key starts the command."""
    place = tmp_path / "later"
    request = to_start("pwd", directory=str(place), key=new_key())
    first = await refusal(shared_agent.processes.Start(request))
    place.mkdir()

    over = await follow(shared_agent.processes.Run(RunRequest(start=request)))

    assert first.reason == "DIRECTORY_NOT_USABLE"
    assert over.data.decode() == f"{place}\n"


async def test_keys_of_different_chats_never_meet(shared_agent: RunningAgent, marks: Path) -> None:
    """One chat's key says nothing about another's, and gives nothing of it away."""
    request = to_start(leave_a_mark(marks), key=new_key())
    callers = [in_chat(uuid.uuid4()), in_chat(uuid.uuid4()), ()]

    starts = [await shared_agent.processes.Start(request, metadata=caller) for caller in callers]
    for start in starts:
        await ended(shared_agent, start.process_id)

    assert len({start.process_id for start in starts}) == times_run(marks) == 3
    assert not any(start.attached for start in starts)


async def test_the_cancel_of_its_caller_stops_no_start(shared_agent: RunningAgent, marks: Path) -> None:
    """Half a start is the worst of all: it either happens whole, and the key finds it, or not at all."""
    request = to_start(leave_a_mark(marks), key=new_key())
    for _ in range(10):
        call = shared_agent.processes.Start(request)
        await asyncio.sleep(0)  # lets it go out, or not
        call.cancel()

    last = await follow(shared_agent.processes.Run(RunRequest(start=request)))

    assert (last.data, last.exit.code) == (b"out\n", 7)
    assert times_run(marks) == 1


async def test_a_repeat_whose_owner_was_cancelled_gets_the_process(shared_agent: RunningAgent, marks: Path) -> None:
    """The second caller must not inherit the first one's cancel."""
    request = to_start(leave_a_mark(marks), key=new_key())
    first, second = shared_agent.processes.Start(request), shared_agent.processes.Start(request)
    first.cancel()

    start = await second
    await ended(shared_agent, start.process_id)

    assert times_run(marks) == 1


# Over lost replies and restarts.


async def _start(stub: ProcessServiceStub, request: StartRequest) -> StartResponse:
    return await stub.Start(request, wait_for_ready=True)


async def test_a_start_whose_reply_is_lost_runs_once(shared_agent: RunningAgent, marks: Path) -> None:
    """§17 no. 13: the command ran, the caller does not know it, asks again, and gets what ran."""
    request = to_start(leave_a_mark(marks), key=new_key())
    async with (
        Link(shared_agent.process.socket) as link,
        grpc.aio.insecure_channel(link.address, RECONNECT_FAST) as channel,
    ):
        stub = ProcessServiceStub(channel)
        await stub.List(ProcessServiceListRequest())  # what a connection begins with is not to be lost
        with link.replies_lost():
            call = stub.Start(request)
            await until(lambda: times_run(marks) == 1)
            await link.lost.wait()
        lost = await call.code()

        again = await answered(lambda: _start(stub, request))

    assert lost is grpc.StatusCode.UNAVAILABLE
    assert again.attached
    over = await attach(shared_agent, again.process_id)
    assert (over.data, over.exit.code) == (b"out\n", 7)
    assert times_run(marks) == 1


async def restart_worker(agent: RunningAgent) -> None:
    await agent.kill_worker()
    await agent.serves_again()


async def restart_agent(agent: RunningAgent) -> None:
    await agent.stop()
    await agent.start_again()


@pytest.mark.parametrize("restart", [restart_worker, restart_agent])
async def test_keys_are_remembered_over_a_restart(
    agent: RunningAgent, marks: Path, tmp_path: Path, restart: Callable[[RunningAgent], Any]
) -> None:
    """Of the worker alone and of the whole agent: what ended, what could not start, what conflicts."""
    done = to_start(leave_a_mark(marks), key=new_key())
    (tmp_path / "tool").touch(0o700)
    (tmp_path / "tool").write_bytes(b"\0garbage")
    failed = to_start([str(tmp_path / "tool")], key=new_key())
    before = await follow(agent.processes.Run(RunRequest(start=done)))
    first = await refusal(agent.processes.Start(failed))

    await restart(agent)

    after = await follow(agent.processes.Run(RunRequest(start=done)))
    assert after.attached
    assert (after.process_id, after.data, after.exit) == (before.process_id, b"out\n", before.exit)
    assert await refusal(agent.processes.Start(failed)) == first
    assert (await refusal(agent.processes.Start(to_start("other", key=done.key)))).reason == "KEY_CONFLICT"
    assert times_run(marks) == 1


async def test_what_ran_when_everything_was_killed_is_found_by_its_key_as_unknown(
    agent: RunningAgent, marks: Path
) -> None:
    """It is never run again, and its end is never made up."""
    request = to_start(f"echo ran >> {marks}; echo out; sleep 60", key=new_key())
    start = await agent.processes.Start(request)
    await attach(agent, start.process_id, until=a_line)
    await agent.kill()
    await agent.start_again()

    again = await agent.processes.Start(request)

    assert (again.attached, again.process_id) == (True, start.process_id)
    assert again.process.state == PROCESS_STATE_UNKNOWN
    assert again.process.exit.unknown == UNKNOWN_END_AGENT_LOST
    assert again.instance_id != start.instance_id
    assert times_run(marks) == 1


async def test_a_running_process_is_found_by_its_key_after_the_workers_death(agent: RunningAgent, marks: Path) -> None:
    """It went on meanwhile, and its age says since when."""
    request = to_start(f"echo ran >> {marks}; sleep 60", key=new_key())
    async with started(agent, request.command, key=request.key) as start:
        await until(lambda: times_run(marks) == 1)
        await restart_worker(agent)

        again = await agent.processes.Start(request)

    assert (again.attached, again.process.pid) == (True, start.process.pid)
    assert again.instance_id == start.instance_id
    assert again.process.started_at == start.process.started_at
    assert times_run(marks) == 1


@pytest.mark.parametrize("content", [b"", b"NaN", b"null", b"\xff", b"[1"])
async def test_a_damaged_horizon_of_keys_is_taken_for_now(agent: RunningAgent, marks: Path, content: bytes) -> None:
    """The agent serves; of an unknown key from before nobody can say any more whether it was used."""
    used = to_start(leave_a_mark(marks), key=new_key(age=5))
    over = await follow(agent.processes.Run(RunRequest(start=used)))
    await agent.stop()
    (agent.process.state_dir / "keys.horizon").write_bytes(content)
    await agent.start_again()

    again = await agent.processes.Start(used)
    refused = await refusal(agent.processes.Start(to_start(leave_a_mark(marks), key=new_key(age=60))))

    assert (again.attached, again.process_id) == (True, over.process_id)
    assert refused.reason == "KEY_EXPIRED"
    await agent.processes.Start(to_start(leave_a_mark(marks), key=new_key()))


@pytest.mark.parametrize(
    ("number", "has_key", "is_remembered"),
    [
        (errno.EAGAIN, True, False),
        (errno.EAGAIN, False, False),
        (errno.ENOEXEC, True, True),
        (errno.ENOEXEC, False, False),
    ],
)
async def test_a_failure_is_as_lasting_for_the_next_worker_as_for_the_one_that_saw_it(
    tmp_path: Path, number: int, has_key: bool, is_remembered: bool
) -> None:
    """The one that saw it may have died before it could have it forgotten; what has passed must not be in the way."""
    async with simulated(tmp_path) as world:
        key = world.key() if has_key else None
        process = await world.start(key=key)
        world.close()
        world.keeper.entries[process.process_id].errno = number
        world.open()

        assert list(world.keeper.entries) == ([process.process_id] if is_remembered else [])
        if is_remembered:
            with pytest.raises(CommandNotRunnable):
                await world.start(key=key)
        else:
            assert (await world.start(key=key)).process_id != process.process_id


async def test_a_failure_that_is_told_again_and_again_holds_no_call_that_was_told() -> None:
    """There is one error for all callers of a key: its traceback grew with each of them, and held their requests."""
    failure = StartCanceled("key")
    use = Use("", "id", 0.0, failure)

    depths = []
    for _ in range(3):
        with pytest.raises(StartCanceled):
            await use.process()
        depths.append(len(traceback.extract_tb(failure.__traceback__)))

    assert len(set(depths)) == 1, depths
