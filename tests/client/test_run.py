"""Running a command to its end."""

import asyncio
import hashlib
import math
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import grpc
import pytest

from guyline.agent.v1 import process_pb2
from guyline.agent.v1 import process_service_pb2 as pb
from guyline.client import (
    Agent,
    AsyncAgent,
    Chunk,
    CommandFailed,
    GroupLimits,
    InputConflict,
    InvalidInput,
    Key,
    OutputMode,
    Privileges,
    Resource,
    ResourceLimit,
    StillRunning,
    Terminal,
)
from guyline.client.enums import InputMode
from guyline.client.options import RunOptions, StartOptions
from guyline.stream.v1.stream_pb2 import Gap, StreamControl
from tests.client.scripted import (
    PROCESS_ID,
    ScriptedAgent,
    as_run,
    began,
    breaks,
    ended,
    fails,
    gives,
    printed,
    process,
)
from tests.support.agent import RunningAgent
from tests.support.clock import DEADLINE


@pytest.fixture
async def real(shared_agent: RunningAgent) -> AsyncIterator[AsyncAgent]:
    """A client of an agent that other tests use as well."""
    async with AsyncAgent(shared_agent.address, patience=DEADLINE) as agent:
        yield agent


async def test_a_command_is_run_to_its_end(real: AsyncAgent) -> None:
    """One call for what most callers want: what was printed, and how it ended."""
    completed = await real.run("echo one; echo two >&2; exit 3")

    assert (completed.output, completed.lines(), completed.exit.code) == (b"one\ntwo\n", ["one", "two"], 3)
    assert (completed.stdout, completed.stderr, completed.output_cut_bytes) == (None, None, 0)


async def test_stdout_and_stderr_come_apart_and_together(real: AsyncAgent) -> None:
    """Whoever asks for them apart still sees their order."""
    completed = await real.run("echo out; sleep 0.05; echo err >&2", output=OutputMode.SEPARATE)

    assert (completed.stdout, completed.stderr, completed.output) == (b"out\n", b"err\n", b"out\nerr\n")


async def test_a_failure_that_is_checked_has_the_end_of_the_output(real: AsyncAgent) -> None:
    """The message alone is mostly enough to know what went wrong, and it does nothing to a terminal or a log."""
    with pytest.raises(CommandFailed) as caught:
        await real.run(r"seq 2000; printf '\033[31mlast\033[0m\007 words\n'; exit 2", check=True)

    said = str(caught.value)
    assert "exit code 2; its output ends with:\n" in said
    assert said.endswith("2000\nlast\N{REPLACEMENT CHARACTER} words")
    assert len(said) < 2300
    assert caught.value.completed.output.startswith(b"1\n2\n")


async def test_a_signal_is_a_failure_with_a_name(real: AsyncAgent) -> None:
    """Numbers of signals are known by heart to few."""
    with pytest.raises(CommandFailed, match=r"kill -9 \$\$: signal 9 \(SIGKILL\)"):
        await real.run("kill -9 $$", check=True)


@pytest.mark.parametrize("argv", [[b"sh", b"-c", b"exit 2"], iter(["sh", "-c", "exit 2"])], ids=["bytes", "iterator"])
async def test_a_failure_names_the_command_however_it_was_given(real: AsyncAgent, argv: Any) -> None:
    """What a start takes must not cost the result of a command that has run."""
    with pytest.raises(CommandFailed, match=r"^sh -c 'exit 2': exit code 2$"):
        await real.run(argv, check=True)


async def test_output_can_be_had_while_it_comes(real: AsyncAgent) -> None:
    """By a function or a coroutine function; what it raises ends the call."""
    seen: list[bytes] = []

    async def note(chunk: Chunk) -> None:
        await asyncio.sleep(0)
        seen.append(chunk.data)

    completed = await real.run("echo one; sleep 0.05; echo two", on_output=note)

    assert b"".join(seen) == completed.output == b"one\ntwo\n"
    with pytest.raises(ZeroDivisionError):
        await real.run("echo one", on_output=lambda _: 1 // 0)


async def test_the_result_is_bounded(real: AsyncAgent) -> None:
    """A command that prints without end must not fill the memory of who runs it: the newest is what matters."""
    completed = await real.run(["seq", "100000"], max_output_bytes=12)

    assert (completed.output, completed.output_cut_bytes) == (b"99999\n100000\n"[-12:], 588895 - 12)


async def test_lost_output_counts_as_cut(scripted: ScriptedAgent, client: AsyncAgent) -> None:
    """The result says how much of what was printed it does not have, whoever dropped it."""
    lossy = printed(b"rest", offset=100)
    lossy.control.gap.MergeFrom(Gap(to=100, **{"from": 10}))
    scripted.plays(gives(began(), as_run(lossy), as_run(ended())))

    completed = await client.run(["make"])

    assert (completed.output, completed.output_cut_bytes) == (b"rest", 90)


async def test_a_command_that_takes_too_long_is_left_running_and_says_so(
    scripted: ScriptedAgent, client: AsyncAgent
) -> None:
    """§17 no. 16: one that runs on in silence fills disks; its id says how to find it. A break changes nothing."""
    left = pb.AttachResponse(control=StreamControl(cursor=b"7"), limit=process_pb2.TIME_LIMIT_DETACH_AFTER)
    scripted.plays(breaks(began(), as_run(printed(b"so far", offset=0))), gives(left))

    with pytest.raises(StillRunning) as caught:
        await client.run(["make"], detach_after=10)

    assert str(caught.value) == f"still running, id {PROCESS_ID}"
    assert (caught.value.process_id, caught.value.output) == (PROCESS_ID, b"so far")
    assert [call.detach_after.seconds for call in scripted.calls] == [10, 10]


async def test_a_process_can_be_waited_for_after_it_was_left(scripted: ScriptedAgent, client: AsyncAgent) -> None:
    """The output of a handle ends, the process does not."""
    left = pb.RunResponse(control=StreamControl(cursor=b"0"), limit=process_pb2.TIME_LIMIT_DETACH_AFTER)
    scripted.plays(gives(began(), left), gives(ended(4)))

    handle = await client.open(["make"], detach_after=1)
    assert [chunk async for chunk in handle.output()] == []

    assert handle.detached
    assert (await handle.wait()).code == 4
    assert handle.detached, "it says how the output ended"


async def test_the_output_of_a_handle_ends_in_time_also_once_its_first_stream_is_used_up(
    scripted: ScriptedAgent, client: AsyncAgent
) -> None:
    """By an earlier wait, say. A wait does not end by that, and a look at what is there ends by itself."""
    left = pb.AttachResponse(control=StreamControl(cursor=b"0"), limit=process_pb2.TIME_LIMIT_DETACH_AFTER)
    scripted.plays(gives(began(), as_run(left)), gives(left), gives(left), gives(), gives(ended(4)))
    handle = await client.open(["make"], detach_after=5)

    for output in (handle.output(), handle.output(), handle.output(from_offset=1), handle.output(snapshot=True)):
        assert [chunk async for chunk in output] == []
    assert (await handle.wait()).code == 4

    assert [call.HasField("detach_after") for call in scripted.calls] == [True, True, True, False, False]


async def test_every_option_reaches_the_agent(scripted: ScriptedAgent, client: AsyncAgent) -> None:
    """An option that is dropped on the way would be a promise that nobody keeps."""
    scripted.plays(gives(pb.StartResponse(process=process())))

    await client.start(
        ["make"],
        stdin=InputMode.PIPE,
        terminal=Terminal(columns=132, rows=40, term="vt100"),
        timeout=1.5,
        idle_timeout=2,
        grace=0,
        labels={"job": "7"},
        privileges=Privileges(
            user="nobody",
            group="games",
            umask=0o27,
            nice=5,
            oom_score=100,
            resource_limits=[ResourceLimit(Resource.OPEN_FILES, soft=64, hard=None)],
            group_limits=GroupLimits(memory_bytes=1 << 30, cpus=1.5, pids=50),
        ),
        redact={"TOKEN"},
    )

    [sent] = scripted.calls
    assert (sent.input, sent.terminal.size.columns, sent.terminal.size.rows) == (process_pb2.INPUT_MODE_PIPE, 132, 40)
    assert (sent.terminal.term, dict(sent.labels), list(sent.redact)) == ("vt100", {"job": "7"}, ["TOKEN"])
    limits = sent.time_limits
    assert [limit.ToMilliseconds() for limit in (limits.timeout, limits.idle_timeout)] == [1500, 2000]
    assert limits.HasField("grace")
    assert sent.privileges == process_pb2.Privileges(
        user="nobody",
        group="games",
        umask=0o27,
        nice=5,
        oom_score=100,
        resource_limits=[process_pb2.ResourceLimit(resource=process_pb2.RESOURCE_OPEN_FILES, soft=64)],
        group_limits=process_pb2.GroupLimits(memory_bytes=1 << 30, cpus=1.5, pids=50),
    )


async def test_what_is_left_out_is_left_to_the_agent(scripted: ScriptedAgent, client: AsyncAgent) -> None:
    """Defaults are the agent's, which knows where it is."""
    scripted.plays(gives(pb.StartResponse(process=process())))

    none = dict.fromkeys(StartOptions.__annotations__)
    await client.start(["make"], **cast("StartOptions", none))

    [sent] = scripted.calls
    assert {field.name for field, _ in sent.ListFields()} == {"argv", "output_mode", "when_full", "key"}


async def test_none_is_the_default_of_a_run_as_well(real: AsyncAgent) -> None:
    """Whoever hands options on need not leave out those that were not given."""
    none = cast("RunOptions", dict.fromkeys(RunOptions.__annotations__) | {"input": b"fed"})

    assert (await real.run("cat; exit 3", **none)).output == b"fed"


async def test_input_is_written_while_output_is_read(scripted: ScriptedAgent, client: AsyncAgent) -> None:
    """A filter that is fed and read by turns would stand still as soon as both pipes are full."""
    is_fed = asyncio.Event()

    async def runs(_request: object, _context: object) -> AsyncIterator[Any]:
        yield began()
        await is_fed.wait()
        yield as_run(printed(b"data", offset=0))
        yield as_run(ended())

    async def closes(_request: object, _context: object) -> AsyncIterator[Any]:
        is_fed.set()
        yield pb.CloseInputResponse(next_offset=4)

    scripted.plays(runs, gives(pb.WriteInputResponse(next_offset=4)), closes)

    completed = await client.run(["cat"], input=b"data")

    start, write, close = scripted.calls
    assert start.start.input == process_pb2.INPUT_MODE_PIPE
    assert (write.offset, write.data, close.offset) == (0, b"data", 4)
    assert completed.output == b"data"


async def test_a_command_that_cannot_be_fed_is_ended(scripted: ScriptedAgent, client: AsyncAgent) -> None:
    """It would wait for the rest for ever; and half of an input that seems to end there is worse than none."""

    async def runs(_request: object, _context: object) -> AsyncIterator[Any]:
        yield began()
        await asyncio.Event().wait()

    conflict = fails(grpc.StatusCode.ALREADY_EXISTS, "INPUT_CONFLICT", next_offset="9")
    scripted.plays(runs, conflict, gives(pb.ProcessServiceCancelResponse(process=process())))

    with pytest.raises(InputConflict):
        await client.run(["cat"], input=b"data")

    assert scripted.calls[-1] == pb.ProcessServiceCancelRequest(process_id=PROCESS_ID)


async def test_a_command_that_is_left_before_it_was_fed_can_be_given_the_rest(real: AsyncAgent, tmp_path: Path) -> None:
    """It would wait for ever, with a part of its input, and nobody would know how large a part."""
    go = tmp_path / "go"
    data = bytes(range(256)) * (64 << 10)  # 16 MiB: more than the agent takes ahead
    with pytest.raises(StillRunning, match="bytes of its input; the rest is yet to be written") as caught:
        await real.run(f"until test -e {go}; do sleep 0.02; done; md5sum", input=data, detach_after=0.2)

    handle = await real.attach(caught.value.process_id)
    position = caught.value.input_position
    assert position is not None
    assert position < len(data)
    assert await handle.input_position() == position
    go.touch()
    await handle.write(data[position:], eof=True)
    assert (await handle.wait(DEADLINE)).succeeded
    assert await handle.input_position() == len(data)
    printed = b"".join([chunk.data async for chunk in handle.output()])
    assert printed.split()[0].decode() == hashlib.md5(data, usedforsecurity=False).hexdigest()


async def test_a_command_that_was_fed_before_it_is_left_wants_nothing(real: AsyncAgent) -> None:
    """What the agent has accepted gets there."""
    with pytest.raises(StillRunning) as caught:
        await real.run("sleep 60; cat", input=b"all", detach_after=0.5)

    assert caught.value.input_position is None
    await real.cancel(caught.value.process_id, wait=DEADLINE)


async def test_an_input_is_taken_from_any_memory(real: AsyncAgent) -> None:
    """Every second byte of something is bytes as well."""
    assert (await real.run("cat", input=memoryview(b"a-b-c-")[::2])).output == b"abc"


@pytest.mark.parametrize("given", [None, b"input"])
async def test_whatever_a_callback_raises_is_raised(real: AsyncAgent, given: bytes | None) -> None:
    """As it is, whether or not the command is fed meanwhile."""

    class Enough(BaseException):
        """No Exception, as those by which frameworks end things."""

    def give_up(chunk: Chunk) -> None:
        raise Enough(chunk)

    with pytest.raises(Enough):
        await real.run("echo out; cat", input=given, on_output=give_up)


async def test_a_start_that_is_repeated_with_its_input_by_another_program_is_one(shared_agent: RunningAgent) -> None:
    """Both write the same; whoever is ahead, what they write is not the other's."""
    data = bytes(range(256)) * (40 << 10)  # 10 MiB
    key = Key.new()
    async with (
        AsyncAgent(shared_agent.address, patience=DEADLINE) as one,
        AsyncAgent(shared_agent.address, patience=DEADLINE) as other,
    ):
        runs = [agent.run("md5sum", input=data, key=key) for agent in (one, other, one, other)]
        completed = await asyncio.gather(*runs)

    digest = hashlib.md5(data, usedforsecurity=False).hexdigest()
    assert [each.text.split()[0] for each in completed] == [digest] * 4
    assert len({each.process_id for each in completed}) == 1


async def test_a_terminal_is_not_fed_at_once(client: AsyncAgent) -> None:
    """It has no end that could be told."""
    with pytest.raises(InvalidInput, match="use `open` and `write`"):
        await client.run(["cat"], input=b"x", terminal=Terminal())


async def test_a_wait_may_have_an_end(real: AsyncAgent) -> None:
    """The process has not."""
    handle = await real.start(["sleep", "60"])

    with pytest.raises(StillRunning) as caught:
        await handle.wait(timeout=0.01)

    assert caught.value.process_id == handle.id
    await handle.signal(signal.SIGKILL, wait=DEADLINE)


async def test_lines_are_text(real: AsyncAgent) -> None:
    """What a person would call lines, whole, each stream's for itself."""
    handle = await real.open(["printf", r"one\r\ntw\303\266\nrest"])

    lines = [(line.text, line.offset) async for line in handle.lines()]

    assert lines == [("one", 0), ("twö", 5), ("rest", 10)]


@pytest.mark.parametrize(
    ("argument", "options", "said"),
    [
        ("on_output", {"on_output": 5}, "is of type int, where something to call is expected"),
        ("timeout", {"timeout": math.inf}, "is inf, more seconds than anything may take"),
        ("detach_after", {"detach_after": 1e300}, "is 1e[+]300, more seconds than anything may take"),
        ("max_output_bytes", {"max_output_bytes": -5}, "is -5, where a number of bytes is expected"),
        ("input", {"input": b"x", "stdin": InputMode.NONE}, "is given, and with `stdin` NONE"),
    ],
)
async def test_what_cannot_be_meant_is_refused_before_anything_is_started(
    scripted: ScriptedAgent, client: AsyncAgent, argument: str, options: Any, said: str
) -> None:
    """The command ran, and nobody followed it; and how long is too long, none could see."""
    with pytest.raises(InvalidInput, match=f"^{argument}: {said}"):
        await client.run("true", **options)
    with pytest.raises(InvalidInput, match=f"^{argument}: {said}"):
        await asyncio.to_thread(_run_without_a_loop, scripted.address, options)

    assert scripted.calls == []


def _run_without_a_loop(address: str, options: Any) -> None:
    with Agent(address) as agent:
        agent.run("true", **options)
