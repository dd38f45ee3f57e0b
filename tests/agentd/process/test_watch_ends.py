"""Being told of an end: once, as such, by whoever may hear of it, whatever happened in between."""

import asyncio
import uuid
from typing import Any

import pytest

from guyline.agent.v1.process_pb2 import PROCESS_STATE_EXITED, PROCESS_STATE_RUNNING
from guyline.agent.v1.process_service_pb2 import ProcessServiceRemoveRequest, ProcessServiceWatchRequest
from guyline.agentd.process.listing.ends import Ends
from guyline.agentd.process.listing.watch import WatchCursor
from guyline.errors import InvalidInput
from tests.agentd.process.process_parts import (
    Metadata,
    end,
    in_chat,
    put_by,
    run,
    snapshot,
    started,
    to_start,
)
from tests.support.agent import RunningAgent
from tests.support.clock import DEADLINE


class Reader:
    """A client that watches, and notes of which processes it heard how."""

    def __init__(self, agent: RunningAgent, *, metadata: Metadata = (), **fields: Any) -> None:
        self._agent = agent
        self._metadata = metadata
        self._fields = fields
        self.cursor = b""
        self.put: list[str] = []
        self.ended: list[str] = []
        self.removed: list[str] = []
        self.resets = 0

    async def until_synced(self) -> None:
        """Reads from its cursor on until it has everything there is now; then the connection breaks."""
        await self._read(lambda signal: signal == "synced")

    async def until_ended(self, process_id: str) -> None:
        """Reads on until it has heard of this end."""
        await self._read(lambda _: process_id in self.ended)

    async def _read(self, enough: Any) -> None:
        request = ProcessServiceWatchRequest(cursor=self.cursor, **self._fields)
        stream = self._agent.processes.Watch(request, metadata=self._metadata, wait_for_ready=True)
        try:
            async with asyncio.timeout(DEADLINE):
                async for message in stream:
                    self.resets += message.control.HasField("reset")
                    for event in message.events:
                        self._note(event)
                    self.cursor = message.control.cursor or self.cursor
                    if enough(message.control.WhichOneof("signal")):
                        return
        finally:
            stream.cancel()

    def _note(self, event: Any) -> None:
        if process := put_by(event):
            (self.ended if event.HasField("ended") else self.put).append(process.process_id)
        else:
            self.removed.append(event.removed)


async def restart_worker(agent: RunningAgent) -> None:
    await agent.kill_worker()
    await agent.serves_again()


async def test_a_new_reader_hears_of_old_ends_as_what_is_there_and_of_later_ones_as_ends(agent: RunningAgent) -> None:
    """What ended before it came is no news to it."""
    over = await run(agent, "true")
    reader = Reader(agent)
    async with started(agent, ["sleep", "60"]) as start:
        await reader.until_synced()
    await reader.until_ended(start.process_id)

    assert set(reader.put) == {over.process_id, start.process_id}
    assert set(reader.ended) == {start.process_id}


async def test_the_end_of_a_background_process_is_told_to_its_chat_once_and_to_no_other(agent: RunningAgent) -> None:
    """§17 no. 22: after a reconnect, and after the worker was killed while nobody watched."""
    mine, theirs = in_chat(uuid.uuid4()), in_chat(uuid.uuid4())
    reader, stranger = Reader(agent, metadata=mine), Reader(agent, metadata=theirs)
    async with started(agent, ["sleep", "60"], metadata=mine, background=True) as start:
        await reader.until_synced()
        await stranger.until_synced()
        await restart_worker(agent)

    await reader.until_ended(start.process_id)
    for _ in range(2):
        await reader.until_synced()
        await restart_worker(agent)
    await reader.until_synced()
    await stranger.until_synced()

    assert reader.ended == [start.process_id]
    assert (stranger.put, stranger.ended, stranger.removed) == ([], [], [])


async def test_an_end_between_two_connections_is_told_at_the_next_one(agent: RunningAgent) -> None:
    """Once: what was told is not told again as the output closes, or when the reader comes back."""
    reader = Reader(agent)
    async with started(agent, ["sleep", "60"]) as start:
        await reader.until_synced()
    short = await run(agent, "true")  # of which it had not heard at all
    await reader.until_ended(short.process_id)
    for _ in range(3):
        await reader.until_synced()

    assert sorted(reader.ended) == sorted([start.process_id, short.process_id])
    assert reader.resets == 0


async def test_what_ended_while_no_worker_lived_is_told_by_the_next(agent: RunningAgent) -> None:
    """The keeper saw it and numbered it."""
    told = await run(agent, "true")
    reader = Reader(agent)
    start = await agent.processes.Start(to_start("read line < /dev/null; sleep 0.3; exit 3"))
    await reader.until_synced()
    await restart_worker(agent)
    await reader.until_ended(start.process_id)
    await restart_worker(agent)
    await reader.until_synced()

    assert reader.ended == [start.process_id]
    assert told.process_id in reader.put
    assert reader.resets == 2


async def test_an_end_that_was_told_is_not_told_again_though_the_output_is_still_open(agent: RunningAgent) -> None:
    """A daemon that was left behind holds it: each new worker took the command for one that runs, and then ended."""
    reader = Reader(agent)
    over = await run(agent, "sleep 1000 & exit 0")
    await reader.until_synced()
    reader.put.clear()
    for _ in range(2):
        await restart_worker(agent)
        await reader.until_synced()
        seen = await snapshot(agent, over.process_id)
        assert seen.process.state == PROCESS_STATE_EXITED
        later = await run(agent, "true")
        await reader.until_ended(later.process_id)
    await end(agent, over.process_id)

    assert over.process_id not in reader.ended


@pytest.mark.parametrize("death", ["keeper", "agent"])
async def test_an_end_that_came_with_a_death_is_told_as_well(agent: RunningAgent, death: str) -> None:
    """Of the keeper, whose successor saw it end; of the whole agent, after which it is said to be lost."""
    reader = Reader(agent)
    start = await agent.processes.Start(to_start(["sleep", "60"]))
    await reader.until_synced()
    if death == "keeper":
        await agent.kill_keeper()
        await agent.serves_again()
        await end(agent, start.process_id)
    else:
        await agent.kill()
        await agent.start_again()
    await reader.until_ended(start.process_id)
    await restart_worker(agent)
    await reader.until_synced()

    assert reader.ended == [start.process_id]


async def test_ends_are_told_although_all_that_had_ended_before_is_forgotten(agent: RunningAgent) -> None:
    """The numbers of ends go on: a later end is never taken for one that was told."""
    reader = Reader(agent)
    for _ in range(3):
        over = await run(agent, "true")
        await reader.until_synced()
        await agent.processes.Remove(ProcessServiceRemoveRequest(process_id=over.process_id))
    await agent.stop()
    await agent.start_again()
    over = await run(agent, "true")
    await restart_worker(agent)
    await reader.until_ended(over.process_id)

    assert reader.ended[-1] == over.process_id


async def test_an_end_is_told_once_while_another_one_takes_its_time(agent: RunningAgent) -> None:
    """A descendant that goes on printing delays an earlier end, which neither hides nor repeats the later ones."""
    reader = Reader(agent)
    noisy = await agent.processes.Start(to_start("(while :; do echo x; sleep 0.01; done) & exit 0"))
    await reader.until_synced()
    over = [await run(agent, "true") for _ in range(5)]
    await reader.until_ended(over[-1].process_id)
    await reader.until_synced()
    await reader.until_ended(noisy.process_id)
    await reader.until_synced()
    await end(agent, noisy.process_id)

    assert sorted(reader.ended) == sorted([noisy.process_id, *(each.process_id for each in over)])


# Labels.


async def test_a_watch_by_labels_tells_of_nothing_else(agent: RunningAgent) -> None:
    """Not of starts, ends or removals."""
    reader = Reader(agent, label_names=["job"], labels={"name": ""})
    await reader.until_synced()
    other = await run(agent, "true", labels={"job": "build", "name": "x"})
    await agent.processes.Remove(ProcessServiceRemoveRequest(process_id=other.process_id))
    wanted = await run(agent, "true", labels={"job": "build", "name": ""})
    await reader.until_ended(wanted.process_id)
    await agent.processes.Remove(ProcessServiceRemoveRequest(process_id=wanted.process_id))
    await reader.until_synced()

    assert set(reader.put + reader.ended) == {wanted.process_id}
    assert reader.removed == [wanted.process_id]


async def test_a_watch_by_labels_begins_with_those_that_match(agent: RunningAgent) -> None:
    """In whatever state they are."""
    async with (
        started(agent, ["sleep", "60"], labels={"job": "build"}) as wanted,
        started(agent, ["sleep", "60"], labels={"job": "test"}),
    ):
        stream = agent.processes.Watch(ProcessServiceWatchRequest(labels={"job": "build"}))
        first = await anext(aiter(stream))
        stream.cancel()

    assert [(event.put.process_id, event.put.state) for event in first.events] == [
        (wanted.process_id, PROCESS_STATE_RUNNING)
    ]


# What the cursor says.


def test_all_ends_up_to_a_number_are_told_only_when_none_before_it_is_missing() -> None:
    """Outputs close in any order; a cursor that ran ahead would lose an end with the worker."""
    ends = Ends()
    marks = [ends.settled_up_to]
    for order in (1, 2, 3):
        ends.seen(order)
        marks.append(ends.settled_up_to)
    for order in (2, 3, 1):
        ends.settled(order)
        marks.append(ends.settled_up_to)
    ends.settled(7)  # of an earlier worker's time

    assert marks == [0, 0, 0, 0, 0, 0, 3]
    assert ends.settled_up_to == 7


@pytest.mark.parametrize("data", [b"", b"x", b"\1" + bytes(24), b"\1" + bytes(32), bytes(33), b"\2" + bytes(33)])
def test_what_is_no_cursor_is_refused(data: bytes) -> None:
    """It would leave ends out, or repeat them."""
    cursor = WatchCursor(bytes(range(16)), 2**64 - 1, 7)

    assert WatchCursor.from_bytes(cursor.to_bytes()) == cursor
    assert len(cursor.to_bytes()) <= 64
    with pytest.raises(InvalidInput, match="cursor"):
        WatchCursor.from_bytes(data)
