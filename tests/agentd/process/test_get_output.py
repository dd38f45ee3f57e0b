"""GetOutput shows what a process printed as a person or a model wants to see it, and may wait for it."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest

from guyline.agent.v1.process_pb2 import PROCESS_STATE_EXITED, PROCESS_STATE_RUNNING, WHEN_FULL_DROP_OLDEST
from guyline.agent.v1.process_service_pb2 import (
    OUTPUT_STYLE_RAW,
    OUTPUT_WAIT_EXIT,
    OUTPUT_WAIT_OUTPUT,
    GetOutputRequest,
    GetOutputResponse,
    OutputView,
    ProcessServiceCancelRequest,
)
from guyline.agentd.process.service.process_service import ProcessService
from guyline.rpc.waiting import does_only_wait
from tests.agentd.process.process_parts import (
    MIB,
    attach,
    changed,
    in_chat,
    refusal,
    run,
    seconds,
    snapshot,
    speaker,
    started,
)
from tests.support.agent import RunningAgent
from tests.support.clock import DEADLINE

BUDGET = 32_768


async def look(agent: RunningAgent, process_id: str, **fields: Any) -> GetOutputResponse:
    """A view of a process, within the time that anything may take."""
    request = GetOutputRequest(process_id=process_id, **fields)
    response: GetOutputResponse = await agent.processes.GetOutput(request, timeout=3 * DEADLINE)
    return response


def parts(view: OutputView) -> tuple[bytes, bytes]:
    """Beginning and end."""
    omitted = view.omission.to_offset - view.omission.from_offset
    first, note, last = view.text.partition(b"\n\n... [omitted %d bytes] ...\n\n" % omitted)
    assert note
    return first, last


# §17 no. 9 to 12.


@pytest.mark.parametrize("length", [16_383, 16_384, 16_385, BUDGET])
async def test_output_that_fits_is_joined_seamlessly_and_not_called_truncated(
    shared_agent: RunningAgent, length: int
) -> None:
    """Not even where beginning and end meet: a newline that nobody printed breaks what is parsed (§17, 9)."""
    over = await run(shared_agent, f"yes 123456789 | head -c {length}")

    seen = await look(shared_agent, over.process_id)

    assert seen.view.text == over.data
    assert not seen.view.HasField("omission")
    assert (seen.view.from_offset, seen.view.to_offset) == (0, length)


async def test_the_note_fits_into_the_budget_and_the_last_bytes_are_there(shared_agent: RunningAgent) -> None:
    """The last line is often the one that matters (§17, 10)."""
    over = await run(shared_agent, "seq 20000")

    view = (await look(shared_agent, over.process_id)).view

    first, last = parts(view)
    assert len(view.text) == BUDGET
    assert over.data == first + over.data[view.omission.from_offset : view.omission.to_offset] + last
    assert view.omission.lost_bytes == 0


async def test_what_was_omitted_is_what_attach_reads(shared_agent: RunningAgent) -> None:
    """Nothing is out of reach: the omission's offsets are those of Attach."""
    over = await run(shared_agent, "seq 20000")
    view = (await look(shared_agent, over.process_id, max_bytes=2000)).view

    rest = await attach(shared_agent, over.process_id, from_offset=view.omission.from_offset)

    first, last = parts(view)
    assert first + rest.data == over.data
    assert rest.data.endswith(last)


async def test_lines_that_are_cut_are_counted(shared_agent: RunningAgent) -> None:
    """A cut that is only marked in the text passes for something that was printed (§17, 11)."""
    over = await run(shared_agent, "head -c 5000 /dev/zero | tr '\\0' x; echo; echo short")

    view = (await look(shared_agent, over.process_id)).view

    assert view.text == b"x" * 2032 + b" ... [truncated]\nshort\n"
    assert (view.cut_lines, view.cut_bytes) == (1, 5000 - 2032)
    assert not view.HasField("omission")


@pytest.mark.parametrize("max_bytes", range(1024, 1040))
async def test_characters_are_not_cut_in_two(shared_agent: RunningAgent, max_bytes: int) -> None:
    """At no border: a model's tokenizer, and JSON, know no halves (§17, 12)."""
    over = await run(shared_agent, "yes '€ü😀' | head -c 50000 | tr -d '\\n' | sed 's/$/end/'")

    view = (await look(shared_agent, over.process_id, max_bytes=max_bytes, max_line_bytes=100)).view

    view.text.decode()
    assert max_bytes - 8 <= len(view.text) <= max_bytes or view.cut_lines


async def test_any_bytes_can_be_seen(shared_agent: RunningAgent) -> None:
    """Binary output must never make a call fail (§17, 12)."""
    over = await run(shared_agent, "head -c 100000 /dev/urandom")

    raw = await look(shared_agent, over.process_id, style=OUTPUT_STYLE_RAW, max_line_bytes=65_536)
    plain = await look(shared_agent, over.process_id)

    first, last = parts(raw.view)
    assert over.data.startswith(first)
    assert over.data.endswith(last)
    assert not {*plain.view.text} & {0, 7, 8, 13, 27}


async def test_progress_is_its_last_state_unless_asked_for_as_it_is(shared_agent: RunningAgent) -> None:
    """A hundred states of a bar tell a model nothing, and cost as much as what it should read."""
    over = await run(shared_agent, r"printf 'begin\n\033[32m 1%%\033[0m\r 50%%\r\033[K100%%\nend\r\n'")

    plain = await look(shared_agent, over.process_id)
    raw = await look(shared_agent, over.process_id, style=OUTPUT_STYLE_RAW)

    assert plain.view.text == b"begin\n100%\nend\n"
    assert raw.view.text == over.data


# Waiting.


async def test_waiting_for_the_end_gives_all_of_the_output(shared_agent: RunningAgent) -> None:
    """State first, output second: an end that is told implies complete output."""
    async with started(shared_agent, "sleep 0.2; seq 1000") as start:
        seen = await look(shared_agent, start.process_id, wait=seconds(DEADLINE), wait_for=OUTPUT_WAIT_EXIT)

    assert seen.process.state == PROCESS_STATE_EXITED
    assert seen.view.text.endswith(b"\n1000\n")
    assert seen.view.to_offset == seen.process.output_bytes


async def test_a_wait_that_expires_is_no_error(shared_agent: RunningAgent) -> None:
    """The caller gets what there is, and sees that the process runs."""
    async with started(shared_agent, "echo begin; sleep 60") as start:
        await attach(shared_agent, start.process_id, until=lambda followed: followed.data == b"begin\n")

        seen = await look(shared_agent, start.process_id, wait=seconds(0.05))

    assert seen.process.state == PROCESS_STATE_RUNNING
    assert seen.view.text == b"begin\n"


async def test_new_output_ends_a_wait_for_it(shared_agent: RunningAgent, tmp_path: Path) -> None:
    """So that a poll costs what is new, and comes when it is."""
    async with speaker(shared_agent, tmp_path) as speaking:
        speaking.say(b"first\n")
        first = await look(shared_agent, speaking.process_id, wait=seconds(DEADLINE), wait_for=OUTPUT_WAIT_OUTPUT)
        waiting = asyncio.create_task(
            look(
                shared_agent,
                speaking.process_id,
                cursor=first.cursor,
                wait=seconds(DEADLINE),
                wait_for=OUTPUT_WAIT_OUTPUT,
            )
        )
        speaking.say(b"second\n")
        second = await waiting

    assert first.view.text == b"first\n"
    assert second.view.text == b"second\n"
    assert second.view.from_offset == 6
    assert second.process.state == PROCESS_STATE_RUNNING


async def test_the_end_ends_a_wait_for_output_as_well(shared_agent: RunningAgent) -> None:
    """There will be none."""
    async with started(shared_agent, "sleep 0.1") as start:
        seen = await look(shared_agent, start.process_id, wait=seconds(DEADLINE), wait_for=OUTPUT_WAIT_OUTPUT)

    assert seen.process.state == PROCESS_STATE_EXITED


async def test_what_was_held_back_is_shown_once_nothing_can_follow_it(shared_agent: RunningAgent) -> None:
    """The first bytes of a character, and then the process closes its output and goes on."""
    async with started(shared_agent, r"printf '\303'; sleep 0.2; exec >/dev/null 2>&1 sleep 600") as start:
        seen = await look(shared_agent, start.process_id, wait=seconds(10 * DEADLINE), wait_for=OUTPUT_WAIT_OUTPUT)

    assert seen.view.text == b"\xc3"
    assert seen.process.state == PROCESS_STATE_RUNNING


async def test_all_who_wait_are_woken_by_the_end(shared_agent: RunningAgent, tmp_path: Path) -> None:
    """However many they are."""
    async with speaker(shared_agent, tmp_path) as speaking:
        speaking.say(b"last words\n")
        await attach(shared_agent, speaking.process_id, until=lambda followed: bool(followed.data))
        calls = [look(shared_agent, speaking.process_id, wait=seconds(DEADLINE)) for _ in range(64)]
        waiting = [asyncio.create_task(call) for call in calls]
        await asyncio.sleep(0)
        speaking.stop()
        seen = await asyncio.gather(*waiting)

    assert {(each.process.state, each.view.text) for each in seen} == {(PROCESS_STATE_EXITED, b"last words\n")}


# Offsets and cursors.


async def test_views_by_cursor_show_everything_once(shared_agent: RunningAgent) -> None:
    """Whatever the moments at which a caller happens to look."""
    async with started(shared_agent, "seq 30000") as start:
        texts = []
        cursor = b""
        while True:
            seen = await look(
                shared_agent,
                start.process_id,
                cursor=cursor,
                max_bytes=MIB,
                wait=seconds(DEADLINE),
                wait_for=OUTPUT_WAIT_OUTPUT,
            )
            assert not seen.view.HasField("omission")
            texts.append(seen.view.text)
            cursor = seen.cursor
            if seen.process.state == PROCESS_STATE_EXITED:
                break
        whole = await snapshot(shared_agent, start.process_id)

    assert b"".join(texts) == whole.data


async def test_cursors_of_views_and_of_streams_are_the_same(shared_agent: RunningAgent) -> None:
    """Who has seen enough of a view follows from there, and the other way round."""
    over = await run(shared_agent, "echo one; echo two")
    some = await look(shared_agent, over.process_id, from_offset=4)

    rest = await attach(shared_agent, over.process_id, cursor=some.cursor)
    again = await look(shared_agent, over.process_id, cursor=over.messages[-1].control.cursor)

    assert some.view.text == b"two\n"
    assert rest.data == again.view.text == b""


async def test_a_view_goes_on_after_the_workers_death(agent: RunningAgent, tmp_path: Path) -> None:
    """Cursors are the process's, not the worker's."""
    async with speaker(agent, tmp_path) as speaking:
        speaking.say(b"before\n")
        first = await look(agent, speaking.process_id, wait=seconds(DEADLINE), wait_for=OUTPUT_WAIT_OUTPUT)
        await agent.kill_worker()
        speaking.say(b"after\n")
        await agent.serves_again()
        second = await look(
            agent, speaking.process_id, cursor=first.cursor, wait=seconds(DEADLINE), wait_for=OUTPUT_WAIT_OUTPUT
        )

    assert (first.view.text, second.view.text) == (b"before\n", b"after\n")


# Gaps.


async def test_what_is_no_longer_kept_is_in_the_omission(shared_agent: RunningAgent) -> None:
    """Never shown as zeros, and counted apart from what Attach could still read."""
    over = await run(
        shared_agent, f"yes 0123456789 | head -c {8 * MIB}", kept_bytes=MIB, when_full=WHEN_FULL_DROP_OLDEST
    )
    seen = await look(shared_agent, over.process_id, style=OUTPUT_STYLE_RAW)

    first, last = parts(seen.view)
    assert b"\0" not in seen.view.text
    assert len(first) > 16_000
    assert len(last) > 16_000
    assert seen.view.omission.lost_bytes == seen.process.kept_from - 16 * 1024 > 0


async def test_output_that_was_given_up_is_one_omission() -> None:
    """The process is still known, and how much it had printed."""
    async with RunningAgent(settings={"journal_bytes": MIB, "journal_quota_bytes": MIB}) as agent:
        over = await run(agent, "echo gone; seq 1000")
        await run(agent, f"head -c {2 * MIB} /dev/zero", when_full=WHEN_FULL_DROP_OLDEST)
        await changed(agent, over.process_id, lambda process: process.kept_from > 0)

        view = (await look(agent, over.process_id)).view

    size = len(over.data)
    assert view.text == b"\n\n... [omitted %d bytes] ...\n\n" % size
    assert (view.omission.from_offset, view.omission.to_offset, view.omission.lost_bytes) == (0, size, size)


async def test_many_who_look_at_busy_output_all_see_its_end(shared_agent: RunningAgent) -> None:
    """Who waited for a turn, or read once more because codes had filled the view, found the end that it had in mind
    gone, and showed none.
    """
    line = r"\033[31mred\033[0m\033[32mgreen\033[0m\rx\n"
    busy = f"yes \"$(printf '{line}')\" | while head -c 500000; do sleep 0.05; done"
    async with started(shared_agent, busy, kept_bytes=MIB, when_full=WHEN_FULL_DROP_OLDEST) as start:
        await attach(shared_agent, start.process_id, until=lambda followed: len(followed.data) > 2 * MIB)
        seen = await asyncio.gather(*(look(shared_agent, start.process_id, max_bytes=256 * 1024) for _ in range(16)))

    assert all(len(parts(each.view)[1]) > 0 for each in seen)


# What is wrong with a request.


async def test_everything_that_is_wrong_with_a_request_is_said_at_once(shared_agent: RunningAgent) -> None:
    """As with a start."""
    over = await run(shared_agent, "true")
    request = GetOutputRequest(
        process_id=over.process_id,
        cursor=b"x",
        style=9,  # type: ignore[arg-type]  # on purpose
        wait_for=-1,  # type: ignore[arg-type]  # on purpose
        wait=seconds(301),
        max_bytes=1023,
        max_line_bytes=65_537,
    )

    refused = await refusal(shared_agent.processes.GetOutput(request))

    assert refused.code is grpc.StatusCode.INVALID_ARGUMENT
    assert refused.fields == ["cursor", "style", "wait_for", "wait", "max_bytes", "max_line_bytes"]


async def test_a_cursor_of_another_process_shows_nothing(shared_agent: RunningAgent) -> None:
    """Its position would mean something else there."""
    one, other = await run(shared_agent, "echo one"), await run(shared_agent, "echo other")

    call = shared_agent.processes.GetOutput(GetOutputRequest(process_id=one.process_id, cursor=other.cursor))

    assert (await refusal(call)).fields == ["cursor"]


async def test_a_view_from_beyond_the_output_is_out_of_range(shared_agent: RunningAgent) -> None:
    """Also while more may come: the caller has taken one process for another."""
    async with started(shared_agent, ["sleep", "60"]) as start:
        request = GetOutputRequest(process_id=start.process_id, from_offset=1, wait=seconds(60))

        refused = await refusal(shared_agent.processes.GetOutput(request))

    assert refused.reason == "OFFSET_OUT_OF_RANGE"


async def test_output_of_another_chat_does_not_exist(shared_agent: RunningAgent) -> None:
    """As with every call."""
    chat = "11111111-1111-4111-8111-111111111111"
    over = await run(shared_agent, "echo mine", metadata=in_chat(chat))

    call = shared_agent.processes.GetOutput(
        GetOutputRequest(process_id=over.process_id), metadata=in_chat("22222222-2222-4222-8222-222222222222")
    )

    assert (await refusal(call)).reason == "PROCESS_NOT_FOUND"


@pytest.mark.parametrize("call", [ProcessService.GetOutput, ProcessService.Wait, ProcessService.WriteInput])
def test_whoever_waits_holds_no_upgrade_up(call: Callable[..., object]) -> None:
    """Nothing is lost by a wait that is cut; the next worker goes on with it."""
    assert does_only_wait(call)


async def test_views_that_take_long_keep_nobody_from_ending_processes(agent: RunningAgent) -> None:
    """They shared their threads with the search for whom to end, and a dozen of them kept a runaway alive."""
    usual_threads = min(32, (os.cpu_count() or 1) + 4)
    over = await run(agent, [sys.executable, "-c", "print(end='\\x1b[Ax' * 200_000)"])
    async with started(agent, ["sleep", "60"]) as start:
        looks = [asyncio.ensure_future(look(agent, over.process_id)) for _ in range(2 * usual_threads)]
        await asyncio.wait(looks, return_when=asyncio.FIRST_COMPLETED)
        request = ProcessServiceCancelRequest(process_id=start.process_id, wait=seconds(DEADLINE))
        answer = await agent.processes.Cancel(request)
        seen = sum(each.done() for each in looks)
        for each in looks:
            each.cancel()
        await asyncio.gather(*looks, return_exceptions=True)

    assert answer.process.exit.signal == signal.SIGTERM
    assert seen <= usual_threads
