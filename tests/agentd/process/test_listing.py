"""Finding processes again: by label, state and id, page by page, with what they use."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest

from guyline.agent.v1.agent_info_service_pb2 import GetInfoRequest
from guyline.agent.v1.process_pb2 import PROCESS_STATE_EXITED, PROCESS_STATE_RUNNING, PROCESS_STATE_UNKNOWN, Process
from guyline.agent.v1.process_service_pb2 import (
    ProcessFilter,
    ProcessServiceListRequest,
    ProcessServiceListResponse,
)
from guyline.agentd.process.listing.query import Place, Query, Selection
from guyline.agentd.process.process import Process as DomainProcess
from guyline.agentd.process.spec import Origin
from guyline.client import AsyncAgent
from guyline.errors import InvalidInput
from tests.agentd.process.process_parts import (
    a_line,
    attach,
    end,
    in_chat,
    new_key,
    printed,
    refusal,
    run,
    started,
    to_start,
)
from tests.support import cgroup
from tests.support.agent import RunningAgent

MIB = 1024 * 1024


async def listed(agent: RunningAgent, *, max_ended: int = 1000, **fields: Any) -> ProcessServiceListResponse:
    """One page, of those that the filter's fields let through."""
    request = ProcessServiceListRequest(filter=ProcessFilter(**fields), max_ended=max_ended)
    return await agent.processes.List(request)


def ids(processes: Sequence[Process]) -> list[str]:
    return [process.process_id for process in processes]


async def pages(agent: RunningAgent, **fields: Any) -> AsyncIterator[ProcessServiceListResponse]:
    """All pages, as a client takes them."""
    request = ProcessServiceListRequest(**fields)
    while True:
        page = await agent.processes.List(request)
        yield page
        if not page.next_page_token:
            return
        request.page_token = page.next_page_token


# Labels and filters.


async def test_a_process_is_found_by_its_labels(agent: RunningAgent) -> None:
    """All that are asked for must be there, with their values or by their names alone."""
    both = await run(agent, "true", labels={"job": "build", "branch": "main"})
    one = await run(agent, "true", labels={"job": "build"})
    await run(agent, "true", labels={"job": "test"})
    await run(agent, "true")

    assert ids((await listed(agent, labels={"job": "build"})).processes) == [one.process_id, both.process_id]
    assert ids((await listed(agent, labels={"job": "build"}, label_names=["branch"])).processes) == [both.process_id]
    assert len((await listed(agent, label_names=["job"])).processes) == 3
    assert ids((await listed(agent, label_names=["job", "branch"])).processes) == [both.process_id]
    assert not (await listed(agent, labels={"job": "build", "branch": "dev"})).processes
    assert both.process.labels == {"job": "build", "branch": "main"}


async def test_labels_outlive_the_worker_and_the_agent(agent: RunningAgent) -> None:
    """They are there to find the process by when all else is forgotten."""
    labels = {"name": "v" * 255, "n" * 63: "", "größe": "größer"}
    over = await run(agent, "true", labels=labels)
    await agent.kill_worker()
    await agent.serves_again()
    [after_the_worker] = (await listed(agent, id_prefix=over.process_id)).processes
    await agent.stop()
    await agent.start_again()
    [after_the_agent] = (await listed(agent, id_prefix=over.process_id)).processes

    assert after_the_worker.labels == after_the_agent.labels == labels


async def test_labels_are_part_of_what_a_key_stands_for(shared_agent: RunningAgent) -> None:
    """The same command with another label is another start."""
    key = new_key()
    await shared_agent.processes.Start(to_start("true", key=key, labels={"a": "1"}))

    again = await shared_agent.processes.Start(to_start("true", key=key, labels={"a": "1"}))
    refused = await refusal(shared_agent.processes.Start(to_start("true", key=key, labels={"a": "2"})))

    assert again.attached
    assert refused.reason == "KEY_CONFLICT"


def test_a_start_of_a_time_without_labels_is_still_known() -> None:
    """What an earlier release has recorded is read by this one."""
    old = '{"process_id":"p","sequence":1,"command":"","argv":["true"],"directory":"/","chat_id":null,'
    old += '"background":false,"separate":false,"pause":false,"kept_bytes":1,"created_at":1.0,"boot_id":"b"}'

    assert Origin.from_json(old).labels == {}


async def test_a_list_may_be_of_some_states_only(agent: RunningAgent) -> None:
    """And the total counts what the filter lets through."""
    over = await run(agent, "true")
    async with started(agent, ["sleep", "60"]) as lost:
        await agent.kill()
        await agent.start_again()
        async with started(agent, ["sleep", "60"]) as running:
            of_states = {
                state: await listed(agent, states=[state])
                for state in (PROCESS_STATE_RUNNING, PROCESS_STATE_EXITED, PROCESS_STATE_UNKNOWN)
            }
            two = await listed(agent, states=[PROCESS_STATE_RUNNING, PROCESS_STATE_EXITED], max_ended=0)

    assert ids(of_states[PROCESS_STATE_RUNNING].processes) == [running.process_id]
    assert ids(of_states[PROCESS_STATE_EXITED].processes) == [over.process_id]
    assert ids(of_states[PROCESS_STATE_UNKNOWN].processes) == [lost.process_id]
    assert [answer.ended_total for answer in of_states.values()] == [0, 1, 1]
    assert (ids(two.processes), two.ended_total) == ([running.process_id], 1)


async def test_the_beginning_of_an_id_is_enough(agent: RunningAgent) -> None:
    """Whatever is wildcard elsewhere is a plain letter here."""
    wanted, other = await run(agent, "true"), await run(agent, "true")

    assert ids((await listed(agent, id_prefix=wanted.process_id[:12])).processes) == [wanted.process_id]
    assert set(ids((await listed(agent)).processes)) == {wanted.process_id, other.process_id}
    for prefix in ("*", "%", wanted.process_id[:8] + "x", "x"):
        assert not (await listed(agent, id_prefix=prefix)).processes


async def test_an_empty_value_of_a_label_is_one_like_any_other(agent: RunningAgent) -> None:
    """Who tidies up what has none must not lose what has one."""
    empty = await run(agent, "true", labels={"job": ""})
    await run(agent, "true", labels={"job": "build"})
    await run(agent, "true", labels={"name": ""})

    assert ids((await listed(agent, labels={"job": ""})).processes) == [empty.process_id]


async def test_a_filter_shows_a_chat_nothing_of_others(agent: RunningAgent) -> None:
    """Nor does it count them."""
    chat = in_chat(uuid.uuid4())
    mine = await run(agent, "true", metadata=chat, labels={"a": "1"})
    await run(agent, "true", labels={"a": "1"})
    request = ProcessServiceListRequest(filter=ProcessFilter(label_names=["a"]))

    answer = await agent.processes.List(request, metadata=chat)

    assert (ids(answer.processes), answer.ended_total) == ([mine.process_id], 1)


# Pages.


async def test_running_processes_beyond_the_cap_of_ended_ones_are_all_listed(agent: RunningAgent) -> None:
    """§17 no. 21: ten ended ones hide no running one, however many there are, and pages show them all."""
    over = [(await run(agent, "true")).process_id for _ in range(12)]
    running = [(await agent.processes.Start(to_start(["sleep", "60"]))).process_id for _ in range(13)]

    whole = (await agent.processes.List(ProcessServiceListRequest())).processes
    found = [page async for page in pages(agent, page_size=4)]

    assert ids(whole) == [*reversed(running), *reversed(over[2:])]
    assert [id_ for page in found for id_ in ids(page.processes)] == ids(whole)
    assert [len(page.processes) for page in found] == [4, 4, 4, 4, 4, 3]
    assert {page.ended_total for page in found} == {12}


async def test_a_process_that_ends_between_two_pages_is_not_left_out(agent: RunningAgent) -> None:
    """Even with no ended one asked for: it ran when the list was begun."""
    running = [(await agent.processes.Start(to_start(["sleep", "60"]))).process_id for _ in range(6)]
    request = ProcessServiceListRequest(page_size=2, max_ended=0)
    told: list[str] = []
    while True:
        page = await agent.processes.List(request)
        told += ids(page.processes)
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
        for process_id in (running[0], running[-1]):  # the last of the list, and one that was told
            await end(agent, process_id)

    assert set(told) == set(running)
    assert told[:2] == [running[5], running[4]]
    assert told.count(running[0]) == 1


class Many:
    """Processes that end when they are told to; nothing else of them is real."""

    def __init__(self, running: int, over: int) -> None:
        self.ends = 0
        self.all = [self._make(number) for number in range(running + over)]
        for process in self.all[running:]:
            self.end(process)

    def end(self, process: SimpleNamespace) -> None:
        self.ends += 1
        process.is_running, process.exit = False, SimpleNamespace(order=self.ends, unknown=None)

    def page(self, query: Query) -> Selection:
        return Selection(cast("list[DomainProcess]", self.all), query, since=self.ends)

    @staticmethod
    def _make(number: int) -> SimpleNamespace:
        origin = SimpleNamespace(labels={}, sequence=number)
        return SimpleNamespace(process_id=str(number), origin=origin, is_running=True, exit=None)


@pytest.mark.parametrize("page_size", [1, 7, 100])
@pytest.mark.parametrize("end_each_time", [0, 1, 3])
def test_whatever_ends_meanwhile_a_list_in_pages_is_complete(page_size: int, end_each_time: int) -> None:
    """The promise: what ran when the first page was made is told, and of the ended no more than were asked for."""
    many = Many(running=50, over=30)
    ran = {process.process_id for process in many.all if process.is_running}
    told: list[str] = []
    after: Place | None = None
    while True:
        selection = many.page(Query(max_ended=20, page_size=page_size, after=after))
        page = selection.rest[:page_size]
        told += [item.process.process_id for item in page]
        if len(page) == len(selection.rest):
            break
        after = Place.from_bytes(selection.place_after(page).to_bytes())
        for process in [each for each in many.all if each.is_running][:end_each_time]:
            many.end(process)

    newest = {str(number) for number in range(60, 80)}
    assert set(told) == ran | newest
    assert end_each_time or len(told) == 70


@pytest.mark.parametrize("data", [b"", b"x", bytes(22), b"\1" + bytes(20), b"\1" + bytes(22), b"x" * 1000])
def test_what_is_no_token_is_refused(data: bytes) -> None:
    """It would begin the page somewhere."""
    with pytest.raises(InvalidInput, match="page_token"):
        Place.from_bytes(data)


async def nothing_runs(agent: RunningAgent) -> None:
    """Waits until all have ended, one after the other."""
    while running := (await agent.processes.List(ProcessServiceListRequest(max_ended=0))).processes:
        await attach(agent, running[0].process_id)


async def test_an_answer_can_be_received_however_long_labels_are(agent: RunningAgent) -> None:
    """4 MiB is what a gRPC client takes unless told otherwise, and a thousand of these would be ten."""
    labels = {f"{number:02}" + "n" * 61: "v" * 255 for number in range(32)}
    await asyncio.gather(*(agent.processes.Start(to_start("true", labels=labels)) for _ in range(150)))
    await nothing_runs(agent)

    found = [page async for page in pages(agent, max_ended=1000)]

    assert len({id_ for page in found for id_ in ids(page.processes)}) == 150
    assert len(found) > 1
    assert all(page.ByteSize() < 2 * MIB for page in found)


async def test_more_than_a_thousand_ended_ones_can_be_listed(agent: RunningAgent) -> None:
    """Page by page; the SDK takes them all."""
    how_many = 1020
    for _ in range(how_many // 60):
        await asyncio.gather(*(agent.processes.Start(to_start(["true"])) for _ in range(60)))
    await nothing_runs(agent)
    async with AsyncAgent(agent.address) as client:
        listing = await client.list(max_ended=5000)
    found = [page async for page in pages(agent, max_ended=5000)]

    assert [len(page.processes) for page in found] == [1000, 20]
    assert len({process.process_id for process in listing.processes}) == how_many
    assert listing.ended_total == how_many


# Times.


async def test_processes_of_the_same_second_have_an_order_and_times_tell_milliseconds(agent: RunningAgent) -> None:
    """§17 no. 18 and 20: a number says what came first, and times are no whole seconds."""
    over = [await run(agent, "true") for _ in range(20)]
    answer = await listed(agent)

    assert ids(answer.processes) == [each.process_id for each in reversed(over)]
    sequences = [process.sequence for process in answer.processes]
    assert sequences == sorted(set(sequences), reverse=True)
    assert any(process.started_at.nanos % 1_000_000_000 for process in answer.processes)
    assert len({process.started_at.ToNanoseconds() // 1_000_000 for process in answer.processes}) > 1


async def test_a_caller_can_tell_a_restarted_agent_from_the_one_it_knew(agent: RunningAgent) -> None:
    """§17 no. 23: the instance changes with the keeper's life, and what ran then is there, said to be lost."""
    start = await agent.processes.Start(to_start(["sleep", "60"]))
    await agent.kill()
    await agent.start_again()
    info = await agent.info.GetInfo(GetInfoRequest())
    [process] = (await listed(agent)).processes

    assert info.instance_id != start.instance_id
    assert (process.process_id, process.state) == (start.process_id, PROCESS_STATE_UNKNOWN)


# Usage.


async def test_a_list_says_what_running_processes_use_with_their_descendants(agent: RunningAgent) -> None:
    """CPU time, resident memory, and how many they are: those in the session count, whatever group they are in."""
    work = "import time; block = bytes(50_000_000) + b'x'\nwhile time.process_time() < 0.2: block.count(b'x')\n"
    script = f"set -m; python3 -S -c \"{work}print('up', flush=True); time.sleep(60)\" & sleep 60 & wait"
    over = await run(agent, "true")
    async with started(agent, script) as start, started(agent, ["sleep", "60"]) as small:
        await attach(agent, start.process_id, until=printed(b"up\n"))
        answer = await agent.processes.List(ProcessServiceListRequest(usage=True))
        without = await agent.processes.List(ProcessServiceListRequest())

    found = {process.process_id: process for process in answer.processes}
    used, little = found[start.process_id].usage, found[small.process_id].usage
    assert used.processes == 3
    assert used.memory_bytes > 50_000_000
    assert used.cpu.ToNanoseconds() >= 150_000_000
    assert little.processes == 1
    assert 0 < little.memory_bytes < 50_000_000
    assert not found[over.process_id].HasField("usage")
    assert not any(process.HasField("usage") for process in without.processes)


async def test_usage_counts_daemons_in_the_cgroup() -> None:
    """What has left the session is still the command's, where it has a cgroup of its own."""
    if why := cgroup.why_impossible():
        pytest.skip(why)
    async with (
        RunningAgent(settings={"process_cgroups": "on"}) as agent,
        started(agent, "setsid sleep 60 & echo up; exec sleep 60") as start,
    ):
        await attach(agent, start.process_id, until=a_line)
        [process] = (await agent.processes.List(ProcessServiceListRequest(usage=True))).processes

    assert process.usage.processes == 2
