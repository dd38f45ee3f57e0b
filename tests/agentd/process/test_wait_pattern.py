"""Wait finds what a process has printed, by a pattern, wherever the writes and the reads are cut."""

import asyncio
from pathlib import Path

import pytest

from guyline.agent.v1.agent_info_service_pb2 import GetInfoRequest
from guyline.agent.v1.process_pb2 import PROCESS_STATE_RUNNING
from guyline.agent.v1.process_service_pb2 import WAIT_OVER_OUTPUT_ENDED, WAIT_OVER_TIMEOUT
from tests.agentd.process.process_parts import attach, run, snapshot, speaker, started
from tests.agentd.process.waiting_parts import EXIT, has_printed, met, pattern, to_wait, wait
from tests.support.agent import RunningAgent
from tests.support.clock import DEADLINE


@pytest.mark.parametrize("cut", range(1, len(b"is ready.\n")))
async def test_a_pattern_is_found_wherever_the_writes_are_cut(
    shared_agent: RunningAgent, tmp_path: Path, cut: int
) -> None:
    """A program's buffer is flushed where it is full, not where a line ends."""
    async with speaker(shared_agent, tmp_path) as speaking:
        speaking.say(b"starting\n")
        waiting = asyncio.ensure_future(wait(shared_agent, speaking.process_id, pattern("^is ready\\.$")))
        speaking.say(b"is ready.\n"[:cut])
        await has_printed(shared_agent, speaking.process_id, b"starting\n" + b"is ready.\n"[:cut])
        speaking.say(b"is ready.\n"[cut:])

        answer = await waiting

    assert met(answer) == 0
    assert (answer.match.offset, answer.match.data) == (9, b"is ready.")
    assert answer.process.state == PROCESS_STATE_RUNNING


async def test_a_prompt_is_found_that_ends_no_line(shared_agent: RunningAgent, tmp_path: Path) -> None:
    """`$` is also the end of what is printed by now: who waits for a prompt waits for exactly that."""
    async with speaker(shared_agent, tmp_path) as speaking:
        speaking.say(b"Python 3\n>>> is what it looks like\n")
        waiting = asyncio.ensure_future(wait(shared_agent, speaking.process_id, pattern("^>>> $")))
        await has_printed(shared_agent, speaking.process_id, b"like\n")
        speaking.say(b">>> ")

        answer = await waiting

    assert (answer.match.offset, answer.match.data) == (35, b">>> ")


async def test_what_is_printed_already_is_told_at_once(shared_agent: RunningAgent) -> None:
    """Its first match, also where many reads border on each other: none of them may look like the end of a line."""
    before = 1_000_003
    over = await run(shared_agent, f"head -c {before} /dev/zero; printf 'needle\\nneedle\\n'")

    answer = await wait(shared_agent, over.process_id, pattern("(\\bneedle$)|(\\x00$)"), timeout=0)

    assert (answer.match.offset, answer.match.data) == (before, b"needle")


async def test_a_match_ends_at_a_cursor_from_which_everything_goes_on(shared_agent: RunningAgent) -> None:
    """The next search, and who follows the output."""
    over = await run(shared_agent, "echo one; echo two; echo three")

    first = await wait(shared_agent, over.process_id, pattern("^t"))
    second = await wait(shared_agent, over.process_id, pattern("^t\\w+", cursor=first.match.cursor))
    from_offset = await wait(shared_agent, over.process_id, pattern("\\w+", from_offset=5))
    rest = await attach(shared_agent, over.process_id, cursor=second.match.cursor)

    assert (first.match.offset, second.match.offset) == (4, 8)
    assert (from_offset.match.offset, from_offset.match.data) == (5, b"wo")
    assert (second.match.data, rest.data) == (b"three", b"\n")


@pytest.mark.parametrize(("text", "offset"), [("^foo", 5), ("\\bfoo", 5), ("\\Bfoo", 1), ("\\Afoo", None), ("foo", 1)])
async def test_no_line_or_word_begins_at_a_cursor_in_its_middle(
    shared_agent: RunningAgent, text: str, offset: int | None
) -> None:
    """Who goes on behind a match gets what one search in all of the output would find there."""
    over = await run(shared_agent, "echo xfoo; echo foo")
    before = await wait(shared_agent, over.process_id, pattern("x"))

    behind = await wait(shared_agent, over.process_id, pattern(text, cursor=before.match.cursor))

    assert (behind.match.offset if behind.HasField("match") else None) == offset


async def test_a_search_that_is_taken_up_still_knows_what_came_before(
    shared_agent: RunningAgent, tmp_path: Path
) -> None:
    """Its cursor is where the first one began, if no line has ended since."""
    async with speaker(shared_agent, tmp_path) as speaking:
        speaking.say(b"xfoo")
        await has_printed(shared_agent, speaking.process_id, b"xfoo")
        over = await wait(shared_agent, speaking.process_id, EXIT, pattern("^foo", from_offset=1), timeout=0)
        speaking.say(b"\nfoo\n")
        found = await wait(shared_agent, speaking.process_id, pattern("^foo", cursor=over.searched[1]))

    assert found.match.offset == 5


async def test_a_wait_that_is_over_says_where_to_go_on(shared_agent: RunningAgent, tmp_path: Path) -> None:
    """A log of a day need not be searched from its beginning every five minutes."""
    async with speaker(shared_agent, tmp_path) as speaking:
        speaking.say(b"hay\n" * 20_000)
        await has_printed(shared_agent, speaking.process_id, b"hay\n" * 20_000)
        over = await wait(shared_agent, speaking.process_id, EXIT, pattern("^needle"), timeout=0)
        assert over.over == WAIT_OVER_TIMEOUT
        for_exit, cursor = over.searched
        speaking.say(b"needle\n")
        found = await wait(shared_agent, speaking.process_id, pattern("^needle", cursor=cursor))

    assert for_exit == b""
    assert 0 < int.from_bytes(cursor[-8:]) <= 80_000
    assert (found.match.offset, found.match.data) == (80_000, b"needle")


@pytest.mark.parametrize(("text", "offset", "data"), [("x*", 3, b""), ("$", 3, b""), ("", 3, b"")])
async def test_what_matches_nothing_matches_at_once(
    shared_agent: RunningAgent, text: str, offset: int, data: bytes
) -> None:
    """That is what such a pattern means, at the end of the output as well."""
    async with started(shared_agent, "printf 123; exec sleep 60") as start:
        await has_printed(shared_agent, start.process_id, b"123")

        answer = await wait(shared_agent, start.process_id, pattern(text, from_offset=3))

    assert (met(answer), answer.match.offset, answer.match.data) == (0, offset, data)


async def test_bytes_and_characters_are_found(shared_agent: RunningAgent) -> None:
    """The pattern is text, the output may be anything."""
    over = await run(shared_agent, "printf 'Gr\\303\\266\\303\\237e \\377\\376\\0\\n'")

    character = await wait(shared_agent, over.process_id, pattern("(?i)GR.ße"))
    byte = await wait(shared_agent, over.process_id, pattern(" \\C\\C\\x00$"))

    assert (character.match.offset, character.match.data) == (0, "Größe".encode())
    assert (byte.match.offset, byte.match.data) == (7, b" \xff\xfe\0")


async def test_no_more_than_4_kib_of_a_match_are_shown(shared_agent: RunningAgent) -> None:
    """Its cursor is behind all of it."""
    over = await run(shared_agent, "printf '<%05000d>'")

    answer = await wait(shared_agent, over.process_id, pattern("<0+>"))
    rest = await attach(shared_agent, over.process_id, cursor=answer.match.cursor)

    assert answer.match.data == b"<" + b"0" * 4095
    assert (rest.data, rest.process.output_bytes) == (b"", 5002)


async def test_behind_a_gap_the_search_goes_on(shared_agent: RunningAgent) -> None:
    """The output is too long to be kept, and what was waited for came last."""
    before = 20 << 20
    over = await run(shared_agent, f"head -c {before} /dev/zero; echo; echo ready", kept_bytes=1 << 20)
    assert (await attach(shared_agent, over.process_id)).gaps

    answer = await wait(shared_agent, over.process_id, pattern("^ready$"))

    assert (answer.match.offset, answer.match.data) == (before + 1, b"ready")


async def test_a_search_from_the_edge_of_a_gap_finds_what_is_behind_it(shared_agent: RunningAgent) -> None:
    """In the gap there is nothing, not even the end of a line; and of what comes behind it nobody knows what it was."""
    over = await run(shared_agent, f"head -c {20 << 20} /dev/zero", kept_bytes=1 << 20)
    [(lost_from, lost_to)] = (await attach(shared_agent, over.process_id)).gaps

    at_its_edge = await wait(shared_agent, over.process_id, pattern("$|^", from_offset=lost_from))
    at_its_end = await wait(shared_agent, over.process_id, pattern("^\\x00", from_offset=lost_to))

    assert at_its_edge.match.offset == at_its_end.match.offset == lost_to


async def test_a_search_that_takes_long_holds_up_nobody(agent: RunningAgent) -> None:
    """With RE2 the worst pattern takes its time, in a thread."""
    async with started(agent, "head -c 8388608 /dev/zero; echo; exec sleep 60") as start:
        await has_printed(agent, start.process_id, b"\n")
        searching = agent.processes.Wait(to_wait(start.process_id, pattern("[^x]{900}x")))
        for _ in range(20):
            await agent.info.GetInfo(GetInfoRequest(), timeout=DEADLINE)

        assert not searching.done()
        searching.cancel()


async def test_what_was_printed_before_a_search_began_is_not_printed_since(shared_agent: RunningAgent) -> None:
    """Who has sent something and waits for the answer must not be told an older one."""
    over = await snapshot(shared_agent, (await run(shared_agent, "echo answer")).process_id)

    answer = await wait(shared_agent, over.process_id, pattern("answer", cursor=over.cursor))
    from_the_start = await wait(shared_agent, over.process_id, pattern("answer", cursor=b""))

    assert answer.over == WAIT_OVER_OUTPUT_ENDED
    assert met(from_the_start) == 0
