"""Whoever follows a process gets what it printed, from where they ask, once, and its end."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from guyline.agent.v1.process_pb2 import (
    OUTPUT_MODE_SEPARATE,
    OUTPUT_STREAM_STDERR,
    OUTPUT_STREAM_STDOUT,
    PROCESS_STATE_EXITED,
    PROCESS_STATE_RUNNING,
    WHEN_FULL_DROP_OLDEST,
)
from guyline.agent.v1.process_service_pb2 import AttachRequest
from tests.agentd.process.process_parts import (
    MIB,
    a_line,
    attach,
    follow,
    printed,
    run,
    seconds,
    snapshot,
    speaker,
    started,
)
from tests.support import proc
from tests.support.agent import RunningAgent
from tests.support.program import program
from tests.support.programs import noise

HEAD_BYTES = 16 * 1024


async def test_after_the_exit_everything_can_be_read_again(shared_agent: RunningAgent) -> None:
    """Whoever comes late misses nothing, and whoever comes twice gets it twice."""
    over = await run(shared_agent, "echo out; exit 7")

    for _ in range(2):
        again = await attach(shared_agent, over.process_id)
        assert (again.data, again.exit.code) == (b"out\n", 7)
        assert again.exit == over.exit


async def test_a_follower_sees_output_as_it_is_printed(shared_agent: RunningAgent, tmp_path: Path) -> None:
    """A build is watched while it runs; the end comes after the last byte."""
    async with speaker(shared_agent, tmp_path) as process:
        stream = shared_agent.processes.Attach(AttachRequest(process_id=process.process_id))
        first = await anext(aiter(stream))
        process.say(b"one\n")
        second = await anext(aiter(stream))
        process.stop()
        rest = await follow(stream)

    assert first.process.state == PROCESS_STATE_RUNNING
    assert (second.offset, second.data) == (0, b"one\n")
    assert rest.exit.code == 0
    assert rest.process.state == PROCESS_STATE_EXITED


@pytest.mark.parametrize("offset", [0, 1, 65_535, 300_000, 399_999, 400_000])
async def test_from_an_offset_comes_the_rest(shared_agent: RunningAgent, offset: int) -> None:
    """Output is numbered in plain bytes, so a client may jump."""
    over = await run(shared_agent, program("noise", 5, 400_000))

    rest = await attach(shared_agent, over.process_id, from_offset=offset)

    assert rest.messages[0].offset == offset
    assert rest.data == over.data[offset:]
    assert rest.has_ended


@pytest.mark.parametrize(("tail", "expected"), [(0, b""), (3, b"789"), (10, b"0123456789"), (2**64 - 1, b"0123456789")])
async def test_a_tail_begins_before_the_end(shared_agent: RunningAgent, tail: int, expected: bytes) -> None:
    """Or at the beginning, if there is less."""
    over = await run(shared_agent, "printf 0123456789")

    end = await attach(shared_agent, over.process_id, tail_bytes=tail)

    assert end.data == expected
    assert end.messages[0].offset == 10 - len(expected)


async def test_an_offset_counts_before_a_tail_and_a_cursor_before_both(shared_agent: RunningAgent) -> None:
    """As the proto says; a client that always sends all three resumes rightly."""
    over = await run(shared_agent, "printf 0123456789")
    head = await attach(shared_agent, over.process_id, from_offset=0, snapshot=True)

    by_offset = await attach(shared_agent, over.process_id, from_offset=4, tail_bytes=1)
    by_cursor = await attach(shared_agent, over.process_id, cursor=head.cursor, from_offset=4, tail_bytes=1)

    assert by_offset.data == b"456789"
    assert by_cursor.data == b""
    assert by_cursor.has_ended


async def test_a_snapshot_ends_where_the_output_was(shared_agent: RunningAgent, tmp_path: Path) -> None:
    """It says what there is, that it runs, and where to go on; and it does not wait."""
    async with speaker(shared_agent, tmp_path) as process:
        before = await snapshot(shared_agent, process.process_id)
        process.say(b"line\n")
        await attach(shared_agent, process.process_id, until=a_line)

        after = await snapshot(shared_agent, process.process_id)
        process.say(b"more\n")
        rest = await attach(shared_agent, process.process_id, cursor=after.cursor, until=a_line)

    assert (before.data, after.data, rest.data) == (b"", b"line\n", b"more\n")
    assert not before.has_ended
    assert not after.has_ended
    assert after.process.state == PROCESS_STATE_RUNNING


async def test_a_snapshot_of_what_has_ended_tells_the_end(shared_agent: RunningAgent) -> None:
    """All of it is there, so nothing is left to wait for."""
    over = await run(shared_agent, program("noise", 6, 500_000, "--exit", 3))

    seen = await snapshot(shared_agent, over.process_id)

    assert seen.data == over.data
    assert seen.process.exit.code == 3


@pytest.mark.parametrize("mode", [0, OUTPUT_MODE_SEPARATE])
async def test_a_follower_goes_on_from_any_cursor(shared_agent: RunningAgent, mode: int) -> None:
    """Wherever the connection breaks: nothing is missing, nothing comes twice, the streams stay told apart."""
    noisy = program("noise", 8, 900_000, "--chunk", 5000, "--stderr-every", 2, "--exit", 4)
    over = await run(shared_agent, noisy, output_mode=mode)

    position = 0
    for message in over.messages:
        position += len(message.data)
        rest = await attach(shared_agent, over.process_id, cursor=message.control.cursor)
        assert rest.data == over.data[position:]
        assert rest.exit.code == 4
        if mode:
            for stream in (OUTPUT_STREAM_STDOUT, OUTPUT_STREAM_STDERR):
                assert over.of_stream(stream).endswith(rest.of_stream(stream))


async def test_the_last_cursor_gives_the_end_alone(shared_agent: RunningAgent) -> None:
    """A client whose connection broke right before the status asks once more, and hears that it is over."""
    over = await run(shared_agent, "echo out; exit 5")

    rest = await attach(shared_agent, over.process_id, cursor=over.cursor)

    assert (rest.data, rest.exit.code, len(rest.messages)) == (b"", 5, 1)


async def test_followers_do_not_disturb_each_other(shared_agent: RunningAgent, tmp_path: Path) -> None:
    """Each is at a place of its own: from the start, from the middle, or from now on."""
    async with speaker(shared_agent, tmp_path) as process:
        process.say(b"first\n")
        await attach(shared_agent, process.process_id, until=a_line)
        starts: list[dict[str, Any]] = [{}, {"from_offset": 3}, {"tail_bytes": 2}, {"from_offset": 6}]
        requests = [AttachRequest(process_id=process.process_id, **start) for start in starts]
        streams = [shared_agent.processes.Attach(request) for request in requests]
        first = [await anext(aiter(stream)) for stream in streams]
        process.say(b"second\n")
        followers = [asyncio.create_task(follow(stream)) for stream in streams]
        await attach(shared_agent, process.process_id, until=printed(b"second\n"))
        process.stop()

        rest = await asyncio.gather(*followers)

    seen = [one.data + each.data for one, each in zip(first, rest, strict=True)]
    assert seen == [b"first\nsecond\n", b"st\nsecond\n", b"t\nsecond\n", b"second\n"]
    assert all(each.exit.code == 0 for each in rest)


async def test_a_follower_that_leaves_stops_nothing(shared_agent: RunningAgent, tmp_path: Path) -> None:
    """Not by cancelling, and not by a deadline."""
    async with speaker(shared_agent, tmp_path) as process:
        process.say(b"one\n")
        await attach(shared_agent, process.process_id, until=a_line)
        late = shared_agent.processes.Attach(AttachRequest(process_id=process.process_id), timeout=0.05)
        code = await late.code()

        process.say(b"two\n")
        rest = await attach(shared_agent, process.process_id, until=printed(b"two\n"))

        assert code.name == "DEADLINE_EXCEEDED"
        assert rest.data == b"one\ntwo\n"
        assert proc.is_alive(process.pid)


async def test_a_quiet_stream_says_that_it_is_alive(shared_agent: RunningAgent) -> None:
    """Proxies cut what is silent, and a reader must tell silence from death."""
    async with started(shared_agent, ["sleep", "60"]) as start:
        quiet = await attach(
            shared_agent,
            start.process_id,
            keepalive=seconds(0.1),
            until=lambda followed: sum(m.control.HasField("keep_alive") for m in followed.messages) == 2,
        )
        rest = await attach(shared_agent, start.process_id, cursor=quiet.cursor, snapshot=True)

    assert not quiet.data
    assert not rest.data  # a keepalive's cursor is as good as any


# What is no longer kept.


async def test_what_is_no_longer_kept_is_a_gap_between_the_head_and_the_rest(shared_agent: RunningAgent) -> None:
    """The first 16 KiB say how it began, the last MiB how it ended; what is missing between is said plainly."""
    over = await run(shared_agent, program("noise", 9, 8 * MIB), when_full=WHEN_FULL_DROP_OLDEST, kept_bytes=MIB)
    whole = b"".join(noise.stream(9, 8 * MIB))

    again = await attach(shared_agent, over.process_id)

    [(start, to)] = again.gaps
    assert start == HEAD_BYTES
    assert to == again.process.kept_from
    assert MIB <= 8 * MIB - to <= MIB + MIB // 8 + 4096
    assert again.data == whole[:HEAD_BYTES] + whole[to:]


@pytest.mark.parametrize("offset", [HEAD_BYTES - 1, HEAD_BYTES, 3 * MIB])
async def test_a_reader_that_asks_for_what_is_gone_is_told_so(shared_agent: RunningAgent, offset: int) -> None:
    """The gap begins where it asked, and its data where there is some again."""
    noisy = program("noise", 10, 6 * MIB)
    over = await run(shared_agent, noisy, when_full=WHEN_FULL_DROP_OLDEST, kept_bytes=MIB)

    rest = await attach(shared_agent, over.process_id, from_offset=offset)

    assert rest.gaps == [(max(offset, HEAD_BYTES), rest.process.kept_from)]
    whole = b"".join(noise.stream(10, 6 * MIB))
    assert rest.data == whole[offset:HEAD_BYTES] + whole[rest.process.kept_from :]
    assert rest.has_ended


async def test_offsets_stay_true_behind_a_gap(shared_agent: RunningAgent) -> None:
    """The message says where its data stands, gap or not, and its cursor leads behind it."""
    noisy = program("noise", 12, 4 * MIB)
    over = await run(shared_agent, noisy, when_full=WHEN_FULL_DROP_OLDEST, kept_bytes=MIB)
    whole = b"".join(noise.stream(12, 4 * MIB))

    for message in (await attach(shared_agent, over.process_id)).messages:
        assert message.data == whole[message.offset : message.offset + len(message.data)]
        rest = await attach(shared_agent, over.process_id, cursor=message.control.cursor)
        after = message.offset + len(message.data)
        assert rest.data == (whole[after:HEAD_BYTES] + whole[max(after, rest.process.kept_from) :])
