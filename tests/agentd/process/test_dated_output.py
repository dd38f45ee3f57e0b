"""An agent remembers when output was printed, and says so to whoever asks."""

import time
from pathlib import Path
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from tests.agentd.process.process_parts import Followed, Speaker, attach, printed, run, snapshot, speaker
from tests.support.agent import RunningAgent
from tests.support.clock import until

RESOLUTION = 1.1  # seconds: with a little on top, since the agent compares with its own clock


def timestamp(seconds: float) -> Timestamp:
    """A time as the wire has it."""
    return Timestamp(seconds=int(seconds), nanos=int(seconds % 1 * 1e9))


async def say(agent: RunningAgent, process: Speaker, text: bytes) -> Followed:
    """Has it printed, and waits until the agent has it; returns all that is kept, with its times."""
    process.say(text)
    await attach(agent, process.process_id, until=printed(text))
    return await snapshot(agent, process.process_id, times=True)


async def after_a_second() -> None:
    """Once what is printed has a time of its own."""
    then = time.time() + RESOLUTION
    await until(lambda: time.time() > then)


async def test_output_has_the_time_at_which_it_was_printed(shared_agent: RunningAgent) -> None:
    """Whoever looks later still knows when the build hung; who does not ask is told nothing."""
    over = await run(shared_agent, "echo one; sleep 1.2; echo two", times=True)

    again = await attach(shared_agent, over.process_id, times=True)
    assert [offset for offset, _ in again.times] == [0, 4]
    (_, one), (_, two) = again.times
    assert over.process.started_at.seconds <= one <= two - 1
    assert over.times[0] == again.times[0]
    assert (await attach(shared_agent, over.process_id)).times == []


async def test_a_reader_can_begin_at_a_time(shared_agent: RunningAgent) -> None:
    """Only the last minutes of a long log are of interest. What says where more exactly comes first."""
    over = await run(shared_agent, "echo one; sleep 1.2; echo two")
    (_, one), (_, two) = (await attach(shared_agent, over.process_id, times=True)).times

    async def since(moment: float, **fields: Any) -> bytes:
        return (await attach(shared_agent, over.process_id, since=timestamp(moment), **fields)).data

    assert await since(two) == b"two\n"
    assert await since(one) == await since(0) == b"one\ntwo\n"
    assert await since(two + 3600) == b""
    assert await since(two, from_offset=2) == b"e\ntwo\n"
    assert await since(one, tail_bytes=2) == b"o\n"


async def test_times_go_on_after_a_resumption(shared_agent: RunningAgent, tmp_path: Path) -> None:
    """Every message says by itself when its data was printed, wherever a reader comes in."""
    async with speaker(shared_agent, tmp_path) as process:
        await say(shared_agent, process, b"one\n")
        await after_a_second()
        whole = await say(shared_agent, process, b"two\n")
        rest = await snapshot(shared_agent, process.process_id, from_offset=6, times=True)

    assert rest.data == b"o\n"
    assert rest.times == [(6, whole.times[1][1])]


async def test_times_outlive_the_worker(agent: RunningAgent, tmp_path: Path) -> None:
    """It dies at any moment, and what was printed before was not printed after."""
    async with speaker(agent, tmp_path) as process:
        await say(agent, process, b"one\n")
        await after_a_second()
        before = await say(agent, process, b"two\n")
        await agent.kill_worker()
        await agent.serves_again()
        await after_a_second()
        after = await say(agent, process, b"three\n")

    assert [offset for offset, _ in after.times] == [0, 4, 8]
    assert after.times[:2] == before.times
    assert after.times[2][1] - after.times[1][1] >= 1
