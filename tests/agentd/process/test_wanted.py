"""What callers of such an agent have missed elsewhere, one story each: the numbers are those of the requirements."""

import asyncio
import signal
from typing import Any
from uuid import uuid4

import grpc
import pytest

from guyline.agent.v1.agent_info_service_pb2 import GetInfoRequest
from guyline.agent.v1.process_pb2 import (
    DESCENDANTS_GROUP,
    ENDED_BY_CALLER,
    ENDED_BY_TIME_LIMIT,
    INPUT_MODE_PIPE,
    OUTPUT_MODE_SEPARATE,
    OUTPUT_STREAM_STDERR,
    OUTPUT_STREAM_STDOUT,
    PROCESS_STATE_RUNNING,
    TIME_LIMIT_DETACH_AFTER,
    UNKNOWN_END_AGENT_LOST,
    Privileges,
    TerminalSize,
    TimeLimits,
)
from guyline.agent.v1.process_service_pb2 import (
    OUTPUT_WAIT_OUTPUT,
    AttachRequest,
    GetOutputRequest,
    ProcessServiceCancelRequest,
    ProcessServiceListRequest,
    ProcessServiceWatchRequest,
    RunRequest,
    SignalRequest,
    Terminal,
    WriteInputRequest,
)
from tests.agentd.process.process_parts import (
    attach,
    ended,
    follow,
    in_chat,
    new_key,
    printed,
    refusal,
    run,
    seconds,
    started,
    to_seconds,
    to_start,
)
from tests.support import proc
from tests.support.agent import RunningAgent
from tests.support.clock import DEADLINE, MS, until
from tests.support.program import program


async def view(agent: RunningAgent, process_id: str, **fields: Any) -> bytes:
    """What a model sees."""
    request = GetOutputRequest(process_id=process_id, **fields)
    return (await agent.processes.GetOutput(request)).view.text


async def test_01_a_descendant_that_holds_the_output_changes_no_code(shared_agent: RunningAgent) -> None:
    """Zero stays zero, at once, and it is said that somebody is left."""
    over = await run(shared_agent, "sleep 1000 & echo hi")
    await shared_agent.processes.Signal(SignalRequest(process_id=over.process_id, signal=9, wait=seconds(DEADLINE)))

    assert (over.data, over.exit.code) == (b"hi\n", 0)
    assert DESCENDANTS_GROUP in over.exit.descendants_left


async def test_02_a_signal_is_named_and_so_is_who_sent_it(shared_agent: RunningAgent) -> None:
    """Never a minus number."""
    async with started(shared_agent, ["sleep", "1000"]) as start:
        await shared_agent.processes.Signal(SignalRequest(process_id=start.process_id, signal=signal.SIGUSR1))
        process = await ended(shared_agent, start.process_id)

    assert (process.exit.signal, process.exit.ended_by) == (signal.SIGUSR1, ENDED_BY_CALLER)


async def test_03_output_is_streamed_replayed_and_resumed(shared_agent: RunningAgent) -> None:
    """From any offset, each byte once."""
    async with started(shared_agent, "echo one; sleep 0.05; echo two; sleep 0.05; echo three") as start:
        first = await attach(shared_agent, start.process_id, until=printed(b"one\n"))
        rest = await attach(shared_agent, start.process_id, cursor=first.cursor)
        replayed = await attach(shared_agent, start.process_id)

    assert first.data + rest.data == replayed.data == b"one\ntwo\nthree\n"


async def test_04_input_terminals_separate_streams_and_plain_programs(shared_agent: RunningAgent) -> None:
    """All that a shell at hand would offer."""
    async with started(shared_agent, ["sort"], input=INPUT_MODE_PIPE) as sort:
        write = WriteInputRequest(process_id=sort.process_id, data=b"b\na\n", eof=True)
        await shared_agent.processes.WriteInput(write)
        sorted_ = await attach(shared_agent, sort.process_id)
    sized = await run(shared_agent, ["stty", "size"], terminal=Terminal(size=TerminalSize(columns=91, rows=31)))
    apart = await run(shared_agent, "echo out; echo err >&2", output_mode=OUTPUT_MODE_SEPARATE)
    plain = await run(shared_agent, ["echo", "$HOME; `no shell`"])

    assert sorted_.data == b"a\nb\n"
    assert sized.data == b"31 91\r\n"
    assert (apart.of_stream(OUTPUT_STREAM_STDOUT), apart.of_stream(OUTPUT_STREAM_STDERR)) == (b"out\n", b"err\n")
    assert plain.data == b"$HOME; `no shell`\n"


async def test_04_a_reader_can_wait_until_there_is_something_new(shared_agent: RunningAgent) -> None:
    """With a cursor: neither polling, nor the same again."""
    async with started(shared_agent, ["cat"], input=INPUT_MODE_PIPE) as cat:
        request = GetOutputRequest(process_id=cat.process_id, wait=seconds(DEADLINE), wait_for=OUTPUT_WAIT_OUTPUT)
        waiting = asyncio.ensure_future(shared_agent.processes.GetOutput(request))
        await shared_agent.processes.WriteInput(WriteInputRequest(process_id=cat.process_id, data=b"first\n"))
        request.cursor = (await waiting).cursor
        waiting = asyncio.ensure_future(shared_agent.processes.GetOutput(request))
        await shared_agent.processes.WriteInput(WriteInputRequest(process_id=cat.process_id, data=b"second\n"))

        assert (await waiting).view.text == b"second\n"


async def test_05_what_has_ended_goes_by_itself() -> None:
    """By a timer, and at the start of an agent: nobody has to list anything."""
    async with RunningAgent(settings={"ended_retention": 0.2}) as agent:
        over = await run(agent, "echo gone soon")
        await until(lambda: not list((agent.process.state_dir / "journals").glob(f"{over.process_id}*")))
        refused = await refusal(agent.processes.Attach(AttachRequest(process_id=over.process_id)))
        before = await run(agent, "echo left over")
        await agent.kill()
        await agent.start_again()
        await until(lambda: not list((agent.process.state_dir / "journals").glob(f"{before.process_id}*")))

    assert refused.reason == "PROCESS_NOT_FOUND"


async def test_06_a_shutdown_ends_everybody() -> None:
    """Whole groups, and those who ignore SIGTERM as well."""
    async with RunningAgent(settings={"shutdown_grace": 0.5}) as agent:
        shell = await agent.processes.Start(to_start("trap '' TERM; sleep 1000 & wait; while :; do sleep 0.1; done"))
        await until(lambda: len(proc.children(shell.process.pid)) == 1)
        await agent.stop()  # asserts that nothing is left


async def test_07_a_signal_to_what_has_just_ended_is_no_defect(shared_agent: RunningAgent) -> None:
    """However the two cross: it is sent, or there is nobody left to get it."""
    codes = set()
    for _ in range(20):
        start = await shared_agent.processes.Start(to_start("true"))
        call = shared_agent.processes.Signal(SignalRequest(process_id=start.process_id))
        codes.add(await call.code())

    assert codes <= {grpc.StatusCode.OK, grpc.StatusCode.FAILED_PRECONDITION}


async def test_08_a_malformed_chat_id_is_refused(shared_agent: RunningAgent) -> None:
    """Rather than taken for none, which would see everything."""
    refused = await refusal(
        shared_agent.processes.List(ProcessServiceListRequest(), metadata=(("coder-chat-id", "no uuid"),))
    )

    assert refused.code is grpc.StatusCode.INVALID_ARGUMENT


async def test_09_what_fits_is_shown_without_a_seam(shared_agent: RunningAgent) -> None:
    """No byte that the program never printed, and nothing said of a cut."""
    over = await run(shared_agent, "yes 0123456789012345678901234567890123456789 | head -n 600")
    answer = await shared_agent.processes.GetOutput(GetOutputRequest(process_id=over.process_id))

    assert answer.view.text == over.data
    assert not answer.view.HasField("omission")


async def test_10_the_note_of_what_is_left_out_is_within_the_budget(shared_agent: RunningAgent) -> None:
    """And the end is shown to its last byte."""
    over = await run(shared_agent, "seq 1 100000; echo the very end")
    text = await view(shared_agent, over.process_id)

    assert len(text) <= 32 * 1024
    assert text.startswith(b"1\n2\n3\n")
    assert text.endswith(b"\nthe very end\n")


async def test_11_lines_that_are_cut_are_counted(shared_agent: RunningAgent) -> None:
    """Whoever reads them knows that there is more."""
    over = await run(shared_agent, "head -c 5000 /dev/zero | tr '\\0' x; echo; echo short")
    answer = await shared_agent.processes.GetOutput(GetOutputRequest(process_id=over.process_id))

    assert answer.view.cut_lines == 1
    assert answer.view.cut_bytes == 5000 - (2048 - len(" ... [truncated]"))
    assert answer.view.text.endswith(b" ... [truncated]\nshort\n")


async def test_12_characters_are_never_cut_in_two(shared_agent: RunningAgent) -> None:
    """Wherever the cut falls; and bytes that are no text at all go through as they are."""
    over = await run(shared_agent, "yes \N{SNOWMAN}\N{SNOWMAN}\N{SNOWMAN}\N{SNOWMAN}\N{SNOWMAN} | head -n 5000")
    odd = await run(shared_agent, "printf '\\377\\376\\000 odd'")

    for size in range(1024, 1034):
        (await view(shared_agent, over.process_id, max_bytes=size)).decode()
    assert odd.data == b"\xff\xfe\0 odd"


async def test_13_a_lost_answer_starts_nothing_twice(shared_agent: RunningAgent) -> None:
    """And a cancel may come before its start."""
    key, fenced = new_key(), new_key()
    answers = await asyncio.gather(*(shared_agent.processes.Start(to_start("true", key=key)) for _ in range(10)))
    canceled = await shared_agent.processes.Cancel(ProcessServiceCancelRequest(key=fenced))
    refused = await refusal(shared_agent.processes.Start(to_start("true", key=fenced)))

    assert len({answer.process_id for answer in answers}) == 1
    assert sum(not answer.attached for answer in answers) == 1
    assert canceled.fenced
    assert refused.reason == "START_CANCELED"


async def test_14_every_number_has_a_limit() -> None:
    """Which says that it was reached, and when to come back."""
    async with RunningAgent(settings={"max_processes": 1}) as agent, started(agent, ["sleep", "1000"]):
        refused = await refusal(agent.processes.Start(to_start("true")))

    assert refused.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert refused.retry_after


async def test_15_a_named_secret_is_in_no_view(shared_agent: RunningAgent) -> None:
    """The command has it, the model does not see it."""
    over = await run(shared_agent, "echo token: $TOKEN", env={"TOKEN": "hunter2-hunter2"}, redact=["TOKEN"])

    assert await view(shared_agent, over.process_id) == b"token: [redacted TOKEN]\n"


async def test_16_a_time_that_is_over_says_what_still_runs_or_ends_it(shared_agent: RunningAgent) -> None:
    """One or the other, as was asked for; never silently."""
    request = RunRequest(start=to_start("sleep 1000"), detach_after=seconds(50 * MS))
    left = await follow(shared_agent.processes.Run(request))
    ended_ = await run(shared_agent, "sleep 1000", time_limits=TimeLimits(timeout=seconds(50 * MS)))
    still = (await attach(shared_agent, left.process_id, snapshot=True)).process
    await shared_agent.processes.Cancel(ProcessServiceCancelRequest(process_id=left.process_id))

    assert left.messages[-1].limit == TIME_LIMIT_DETACH_AFTER
    assert still.state == PROCESS_STATE_RUNNING
    assert ended_.exit.ended_by == ENDED_BY_TIME_LIMIT


async def test_17_who_does_not_go_is_killed_after_a_grace(shared_agent: RunningAgent) -> None:
    """If that was asked for."""
    async with started(shared_agent, program("stubborn")) as start:
        await attach(shared_agent, start.process_id, until=lambda seen: bool(seen.data))
        request = SignalRequest(
            process_id=start.process_id, signal=signal.SIGTERM, grace=seconds(50 * MS), wait=seconds(DEADLINE)
        )
        answer = await shared_agent.processes.Signal(request)

    assert answer.process.exit.signal == signal.SIGKILL
    assert not answer.survivors


async def test_18_a_list_has_one_order(shared_agent: RunningAgent) -> None:
    """Also of what was started in the same instant."""
    answers = await asyncio.gather(*(shared_agent.processes.Start(to_start("true")) for _ in range(20)))
    for answer in answers:
        await ended(shared_agent, answer.process_id)
    listed = await shared_agent.processes.List(ProcessServiceListRequest(max_ended=20))

    sequences = [process.sequence for process in listed.processes if process.state != PROCESS_STATE_RUNNING]
    assert sequences == sorted(sequences, reverse=True)


async def test_19_nothing_of_the_agent_s_own_is_in_the_output() -> None:
    """Not even when it lowers a command's priority, or fails to."""
    async with RunningAgent(settings={"deprioritize_processes": None}) as agent:
        over = await run(agent, "nice; true")

    assert over.data.strip().isdigit()


async def test_20_times_are_finer_than_seconds(shared_agent: RunningAgent) -> None:
    """Two commands within one have an order."""
    overs = [await run(shared_agent, "true") for _ in range(5)]
    starts = [to_seconds(over.process.started_at) for over in overs]

    assert starts == sorted(set(starts))


async def test_21_the_length_of_a_list_hides_nothing_that_runs() -> None:
    """What has ended is cut off, and counted."""
    async with RunningAgent() as agent:
        for _ in range(3):
            await run(agent, "true")
        running = [await agent.processes.Start(to_start(["sleep", "1000"])) for _ in range(15)]
        listed = await agent.processes.List(ProcessServiceListRequest(max_ended=1))

    assert {each.process_id for each in running} <= {each.process_id for each in listed.processes}
    assert len(listed.processes) == 16
    assert listed.ended_total == 3


async def test_22_a_chat_is_told_of_its_background_processes_ends(shared_agent: RunningAgent) -> None:
    """Of its own, once, and without asking."""
    chat = in_chat(uuid4())
    watch = shared_agent.processes.Watch(ProcessServiceWatchRequest(), metadata=chat)
    messages = aiter(watch)
    await anext(messages)
    await run(shared_agent, "true")  # nobody's
    start = await shared_agent.processes.Start(to_start("exit 3", background=True), metadata=chat)
    async with asyncio.timeout(DEADLINE):
        while not (ends := [event.ended for event in (await anext(messages)).events if event.HasField("ended")]):
            pass
    watch.cancel()

    assert [(end.process_id, end.exit.code) for end in ends] == [(start.process_id, 3)]


async def test_23_a_restart_of_the_agent_is_said(agent: RunningAgent) -> None:
    """Its processes are known, and that nobody knows how they ended; and it has another instance id."""
    start = await agent.processes.Start(to_start(["sleep", "1000"]))
    await agent.kill()
    await agent.start_again()
    info = await agent.info.GetInfo(GetInfoRequest())
    process = (await attach(agent, start.process_id)).process

    assert process.exit.unknown == UNKNOWN_END_AGENT_LOST
    assert info.instance_id != start.instance_id


@pytest.mark.parametrize("nice", [7, 19])
async def test_a_priority_that_is_asked_for_is_had(shared_agent: RunningAgent, nice: int) -> None:
    """And shows in nothing but its effect."""
    over = await run(shared_agent, "nice", privileges=Privileges(nice=nice))

    assert over.data == b"%d\n" % nice
