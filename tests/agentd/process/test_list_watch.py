"""The list of processes: in an order that says something, and followed without asking again."""

import asyncio
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import grpc
import grpc.aio
import pytest

from guyline.agent.v1.process_pb2 import PROCESS_STATE_EXITED, PROCESS_STATE_RUNNING, Process
from guyline.agent.v1.process_service_pb2 import (
    ProcessServiceListRequest,
    ProcessServiceWatchRequest,
    ProcessServiceWatchResponse,
)
from guyline.agent.v1.process_service_pb2_grpc import ProcessServiceStub
from guyline.agentd.process.listing.changes import Changes
from guyline.agentd.process.listing.ends import Ends
from guyline.agentd.process.listing.watch import Interest, WatchBatch, WatchCursor, Watcher
from guyline.agentd.process.processes import Listed, Processes
from guyline.agentd.process.service.lists import _in_messages
from guyline.daemon.caller import ALL_RIGHTS, Caller
from tests.agentd.process.process_parts import (
    ended,
    in_chat,
    output_closed,
    put_by,
    refusal,
    run,
    seconds,
    started,
    to_start,
)
from tests.support.agent import RunningAgent
from tests.support.clock import DEADLINE


async def test_running_ones_come_first_and_each_the_newest_first(agent: RunningAgent) -> None:
    """What a person looks for is most likely at the top; starts of the same second keep their order."""
    old = [(await run(agent, "true")).process_id for _ in range(3)]
    async with started(agent, ["sleep", "60"]) as first, started(agent, ["sleep", "60"]) as second:
        new = (await run(agent, "true")).process_id
        answer = await agent.processes.List(ProcessServiceListRequest())

    ids = [process.process_id for process in answer.processes]
    assert ids == [second.process_id, first.process_id, new, *reversed(old)]
    assert answer.ended_total == 4
    assert [process.state for process in answer.processes[:2]] == [PROCESS_STATE_RUNNING] * 2


@pytest.mark.parametrize(("max_ended", "shown"), [(None, 10), (0, 0), (3, 3)])
async def test_only_so_many_ended_ones_are_listed(agent: RunningAgent, max_ended: int | None, shown: int) -> None:
    """A list that is too long is not read; running ones count in any case, and so does the total."""
    for _ in range(12):
        start = await agent.processes.Start(to_start("true"))
        await ended(agent, start.process_id)
    async with started(agent, ["sleep", "60"]) as running:
        answer = await agent.processes.List(ProcessServiceListRequest(max_ended=max_ended))

    assert answer.processes[0].process_id == running.process_id
    assert len(answer.processes) == 1 + shown
    assert answer.ended_total == 12


async def test_the_list_shows_a_process_whole(shared_agent: RunningAgent) -> None:
    """As every other call does."""
    over = await run(shared_agent, "echo out; exit 3", directory="/", env={"SECRET": "hunter2"}, background=True)

    answer = await shared_agent.processes.List(ProcessServiceListRequest(max_ended=1000))

    [listed] = [process for process in answer.processes if process.process_id == over.process_id]
    closed = await output_closed(shared_agent, over.process_id)
    assert listed.exit == over.exit
    assert (listed.command, listed.directory, listed.background) == ("echo out; exit 3", "/", True)
    assert listed.output_bytes == closed.output_bytes == 4
    assert "hunter2" not in str(answer)


async def test_a_list_of_long_commands_can_be_received(agent: RunningAgent) -> None:
    """4 MiB is what a gRPC client takes unless told otherwise, and 25 such commands are more."""
    start = await agent.processes.Start(to_start("exit 0 #" + "x" * 100_000))
    for _ in range(24):
        start = await agent.processes.Start(to_start("exit 0 #" + "x" * 100_000))
        await ended(agent, start.process_id)

    answer = await agent.processes.List(ProcessServiceListRequest(max_ended=100))

    assert len(answer.processes) == 25
    assert all(process.abridged and len(process.command) == 1024 for process in answer.processes)
    assert not start.process.abridged
    assert len(start.process.command) == 100_008


# Watch.


class Watching:
    """One stream of Watch, and what its reader knows by now."""

    def __init__(self, processes: ProcessServiceStub, **fields: object) -> None:
        request = ProcessServiceWatchRequest(**fields)  # type: ignore[arg-type]  # as given
        self.stream = processes.Watch(request)
        self._messages: AsyncIterator[ProcessServiceWatchResponse] = aiter(self.stream)
        self.known: dict[str, Process] = {}
        self.events = 0
        self.ends: list[str] = []
        self.cursor = b""

    async def next(self) -> ProcessServiceWatchResponse:
        async with asyncio.timeout(DEADLINE):
            message = await anext(self._messages)
        if message.control.HasField("reset"):
            self.known.clear()
        for event in message.events:
            self.events += 1
            if process := put_by(event):
                self.known[process.process_id] = process
            else:
                self.known.pop(event.removed, None)
            if event.HasField("ended"):
                self.ends.append(event.ended.process_id)
        self.cursor = message.control.cursor or self.cursor
        return message

    async def until(self, condition: Callable[["Watching"], bool]) -> None:
        while not condition(self):
            await self.next()

    def state(self, process_id: str) -> int:
        return self.known[process_id].state if process_id in self.known else 0

    def is_over(self, process_id: str) -> bool:
        return self.state(process_id) == PROCESS_STATE_EXITED and not self.known[process_id].output_open

    def close(self) -> None:
        self.stream.cancel()


async def test_a_watch_begins_with_everything_and_says_when_that_was_all(agent: RunningAgent) -> None:
    """A reader knows from then on that what it has not heard of does not exist."""
    over = await run(agent, "true")
    async with started(agent, ["sleep", "60"]) as start:
        watching = Watching(agent.processes)
        first = await watching.next()
        watching.close()

    assert first.control.HasField("synced")
    assert watching.state(over.process_id) == PROCESS_STATE_EXITED
    assert watching.state(start.process_id) == PROCESS_STATE_RUNNING
    assert len(watching.known) == 2


async def test_a_watch_of_nothing_is_synced_at_once(agent: RunningAgent) -> None:
    """Nothing is an answer as well."""
    watching = Watching(agent.processes)
    first = await watching.next()
    watching.close()

    assert first.control.HasField("synced")
    assert not first.events
    assert first.control.cursor


async def test_a_watch_tells_starts_and_ends_as_they_come(shared_agent: RunningAgent) -> None:
    """Nobody needs to ask again and again."""
    watching = Watching(shared_agent.processes)
    await watching.next()
    async with started(shared_agent, ["sleep", "60"]) as start:
        await watching.until(lambda it: it.state(start.process_id) == PROCESS_STATE_RUNNING)
    await watching.until(lambda it: it.state(start.process_id) == PROCESS_STATE_EXITED)
    watching.close()

    assert watching.known[start.process_id].exit.signal == 9


async def test_growing_output_alone_is_no_change(agent: RunningAgent) -> None:
    """A loud build would otherwise drown everything else."""
    async with started(agent, "seq 1 200000; sleep 60") as start:
        watching = Watching(agent.processes)
        await watching.next()
        quiet = await agent.processes.Start(to_start("true"))
        await watching.until(lambda it: it.state(quiet.process_id) == PROCESS_STATE_EXITED)
        watching.close()

    about_it = watching.events - 3  # of the other: at most started, ended, closed
    assert start.process_id in watching.known
    assert about_it <= 1


async def test_a_watch_goes_on_at_its_cursor_without_repeating_anything(agent: RunningAgent) -> None:
    """After a lost connection only what is new is sent."""
    old = await run(agent, "true")
    await output_closed(agent, old.process_id)
    first = Watching(agent.processes)
    await first.next()
    first.close()
    new = await run(agent, "true")

    again = Watching(agent.processes, cursor=first.cursor)
    message = await again.next()
    await again.until(lambda it: it.state(new.process_id) == PROCESS_STATE_EXITED)
    again.close()

    assert message.control.HasField("synced")
    assert set(again.known) == {new.process_id}


async def test_a_cursor_of_an_earlier_worker_gets_everything_anew(agent: RunningAgent) -> None:
    """What happened in between nobody counted, so the reader is told to forget what it has."""
    over = await run(agent, "true")
    first = Watching(agent.processes)
    await first.next()
    first.close()
    await agent.kill_worker()
    await agent.serves_again()

    again = Watching(agent.processes, cursor=first.cursor)
    reset, everything = await again.next(), await again.next()
    again.close()

    assert reset.control.HasField("reset")
    assert everything.control.HasField("synced")
    assert set(again.known) == {over.process_id}


_HOLDS_LITTLE = [("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 64 * 1024)]
"""Channel options: gRPC reads so much ahead of its caller, and does not find out that it could be more."""


async def test_a_watcher_that_stops_reading_holds_up_nobody_and_misses_no_end(
    agent: RunningAgent, tmp_path: Path
) -> None:
    """What it slept through comes as the processes then are, once each, not as they were step by step."""
    deep = tmp_path.joinpath(*["d" * 250] * 14)
    deep.mkdir(parents=True)  # so that an event has 5 KB
    how_many, padding = 300, "#" * 900
    async with grpc.aio.insecure_channel(agent.address, _HOLDS_LITTLE) as channel:
        asleep = Watching(ProcessServiceStub(channel))
        await asleep.next()
        for _ in range(how_many):
            await run(agent, f"exit 3 {padding}", directory=str(deep))
        last = await run(agent, "true")
        await asleep.until(lambda it: it.is_over(last.process_id))
        asleep.close()

    codes = Counter(process.exit.code for process in asleep.known.values())
    assert codes == {3: how_many, 0: 1}
    assert asleep.events < 1.5 * how_many, "three changes each: its start, its exit, the end of its output"


async def test_a_slow_watcher_gets_each_process_once_as_it_then_is() -> None:
    """It is behind, but by no more than one event per process, and nothing waits for it."""
    processes = Busy()
    batches = watcher_of(processes).batches()
    first = await anext(batches)
    for _ in range(100):
        processes.change("a", "b")

    second = await anext(batches)
    await batches.aclose()

    assert first.synced
    assert [process.process_id for process in second.put] == ["a", "b"]


OWNER = Caller(name="owner", rights=ALL_RIGHTS, trusted=True, request_id="1")


def watcher_of(processes: object) -> Watcher:
    """A reader that knows nothing yet."""
    interest = Interest(caller=OWNER)
    return Watcher(cast("Processes", processes), interest, None, incarnation=bytes(16), quiet=DEADLINE)


class Busy:
    """As much of ``Processes`` as a watcher asks for; its processes change and change."""

    def __init__(self) -> None:
        self.changes: Changes[Listed] = Changes()
        self.ends = Ends()

    def find(self, process_id: str) -> SimpleNamespace:
        return SimpleNamespace(process_id=process_id, exit=None)

    def change(self, *names: str) -> None:
        for name in names:
            self.changes.put(Listed(name, None))


def test_many_events_come_in_messages_that_every_client_takes() -> None:
    """4 MiB is what a gRPC client takes unless told otherwise. White box: so many processes take too long to start."""
    gone = tuple(str(uuid.UUID(int=number)) for number in range(60_000))

    messages = list(_in_messages(WatchBatch(WatchCursor(bytes(16), 1, 0), removed=gone)))

    assert [event.removed for events, _ in messages for event in events] == list(gone)
    assert all(sum(event.ByteSize() for event in events) < 2 << 20 for events, _ in messages)
    assert [is_last for _, is_last in messages] == [False, False, True]


class Forgetful:
    """As much of ``Processes`` as a watcher asks for; it lists nothing."""

    def __init__(self) -> None:
        self.changes: Changes[Listed] = Changes()
        self.ends = Ends()

    def find(self, _process_id: str) -> None:
        return None

    def forget(self, name: str) -> None:
        self.changes.put(Listed(name, None))
        self.changes.remove(Listed(name, None))


async def test_a_watcher_that_slept_through_too_many_removals_starts_anew() -> None:
    """Which ones they were is no longer known: it is told to forget everything, and when it has all of it again."""
    processes = Forgetful()
    processes.forget("known")
    batches = watcher_of(processes).batches()
    first = await anext(batches)
    for number in range(10_002):
        processes.forget(str(number))

    anew = await anext(batches)
    await batches.aclose()

    assert (first.reset, first.synced) == (False, True)
    assert (anew.reset, anew.synced) == (True, True)


async def test_a_quiet_watch_says_that_it_is_alive(agent: RunningAgent) -> None:
    """As every stream does."""
    watching = Watching(agent.processes, keepalive=seconds(0.1))
    await watching.next()
    message = await watching.next()
    watching.close()

    assert message.control.HasField("keep_alive")
    assert not message.events


async def test_a_watch_that_others_keep_busy_says_that_it_is_alive(agent: RunningAgent) -> None:
    """Who waits for a sign of life hears nothing of what others do, and must not take that for a dead agent."""

    async def keep_busy() -> None:
        while True:
            await run(agent, "true", metadata=in_chat(uuid.uuid4()))

    others = asyncio.create_task(keep_busy())
    watching = Watching(agent.processes, labels={"job": "none"}, keepalive=seconds(1))
    try:
        await watching.next()
        message = await watching.next()
    finally:
        watching.close()
        others.cancel()
        await asyncio.wait({others})

    assert message.control.HasField("keep_alive")
    assert not message.events


async def test_a_watch_ends_with_a_time_to_come_back_when_the_agent_stops(agent: RunningAgent) -> None:
    """A shutdown is not an empty list."""
    watching = Watching(agent.processes)
    await watching.next()
    await agent.stop()

    refused = await refusal(watching.stream)

    assert refused.code is grpc.StatusCode.UNAVAILABLE
    assert refused.reason == "SHUTTING_DOWN"
    assert refused.retry_after is not None
