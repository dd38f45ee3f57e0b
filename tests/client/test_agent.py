"""The SDK with a real agent, over a real socket, and over a link that breaks."""

import asyncio
import hashlib
import math
import os
import signal
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from guyline.client import (
    Agent,
    AsyncAgent,
    AsyncProcess,
    CommandNotRunnable,
    Conflict,
    InvalidInput,
    Key,
    NotFound,
    OutputMode,
    OutputStream,
    ProcessState,
    Put,
    StoreChanged,
    Synced,
    WrongState,
)
from tests.support.agent import RunningAgent
from tests.support.clock import DEADLINE
from tests.support.program import program
from tests.support.programs import noise
from tests.support.proxy import Link

CUTS = 200 if os.environ.get("GUYLINE_SOAK") else 20


@pytest.fixture
async def client(shared_agent: RunningAgent) -> AsyncIterator[AsyncAgent]:
    """A client of an agent that other tests use as well."""
    async with AsyncAgent(shared_agent.address, patience=DEADLINE) as agent:
        yield agent


async def _all(process: AsyncProcess) -> bytes:
    return b"".join([chunk.data async for chunk in process.output()])


async def test_a_command_runs_prints_and_exits(client: AsyncAgent) -> None:
    """The one thing that everything else is about."""
    process = await client.open("echo out; exit 7")

    assert await _all(process) == b"out\n"
    assert (await process.wait()).code == 7


async def test_stdout_and_stderr_can_be_told_apart(client: AsyncAgent) -> None:
    """Both are in one offset space, so that one number resumes them."""
    process = await client.open("echo out; sleep 0.01; echo err >&2", output=OutputMode.SEPARATE)

    chunks = [(chunk.offset, chunk.stream, chunk.data) async for chunk in process.output()]

    assert chunks == [(0, OutputStream.STDOUT, b"out\n"), (4, OutputStream.STDERR, b"err\n")]


async def test_directory_and_variables_are_the_callers(client: AsyncAgent, tmp_path: Path) -> None:
    """A command runs where, and with what, its caller says."""
    process = await client.open('echo "$PWD $A"', directory=tmp_path, env={"A": "b c"})

    assert await _all(process) == f"{tmp_path} b c\n".encode()


async def test_what_was_started_can_be_attached_to(client: AsyncAgent) -> None:
    """By another program, later, as often as anybody likes."""
    started = await client.start("echo here")
    await started.wait()

    attached = await client.attach(started.id)

    assert await _all(attached) == b"here\n"
    assert attached.info.state is ProcessState.EXITED


async def test_output_can_be_had_in_part(client: AsyncAgent) -> None:
    """From an offset, or the tail."""
    process = await client.open(["printf", "0123456789"])
    await process.wait()

    assert [chunk.data async for chunk in process.output(from_offset=7)] == [b"789"]
    assert [chunk.data async for chunk in process.output(tail_bytes=2)] == [b"89"]
    assert [chunk.data async for chunk in process.output(snapshot=True)] == [b"0123456789"]


async def test_waiting_drains_what_nobody_reads(client: AsyncAgent) -> None:
    """A paced process with more output than is kept would otherwise wait for ever for its reader."""
    process = await client.open(["head", "-c", str(8 << 20), "/dev/zero"], kept_bytes=1 << 20)

    assert (await process.wait()).code == 0
    assert process.info.output_bytes == 8 << 20


async def test_a_signal_ends_a_process(client: AsyncAgent) -> None:
    """And the answer says who is left."""
    process = await client.start(["sleep", "60"])

    signalled = await process.signal(signal.SIGKILL, wait=DEADLINE)

    assert signalled.survivors == ()
    assert (await process.wait()).shell_code == 128 + 9


async def test_a_process_that_has_ended_cannot_be_signalled(client: AsyncAgent) -> None:
    """Its id may be somebody else's by now."""
    process = await client.open(["true"])
    await process.wait()

    with pytest.raises(WrongState):
        await process.signal()


async def test_a_command_that_is_not_there_says_so(client: AsyncAgent) -> None:
    """Not with an exit code that could be the command's own."""
    with pytest.raises(CommandNotRunnable) as caught:
        await client.open(["/no/such/program"])

    assert caught.value.facts == {"errno": "ENOENT", "program": "/no/such/program"}


async def test_a_key_starts_once(client: AsyncAgent) -> None:
    """Whoever repeats a start with its key gets the process; with another command, a refusal."""
    key = Key.new()
    first = await client.start("echo once", key=key)
    second = await client.start("echo once", key=key)

    assert (second.id, second.attached) == (first.id, True)
    with pytest.raises(Conflict):
        await client.start("echo other", key=key)


async def test_a_request_that_is_wrong_says_where(client: AsyncAgent) -> None:
    """The field's path, for programs that show it to people."""
    with pytest.raises(InvalidInput) as caught:
        await client.start(["a\0b"])

    assert [violation.field for violation in caught.value.violations] == ["argv[0]"]


async def test_a_chat_sees_its_own_processes(shared_agent: RunningAgent) -> None:
    """Another's are to it as if they did not exist."""
    async with (
        AsyncAgent(shared_agent.address, chat_id="00000000-0000-4000-8000-00000000000a") as one,
        AsyncAgent(shared_agent.address, chat_id="00000000-0000-4000-8000-00000000000b") as other,
    ):
        process = await one.open(["true"])
        await process.wait()

        assert process.id in {seen.process_id for seen in (await one.list()).processes}
        with pytest.raises(NotFound):
            await other.attach(process.id)


async def test_a_watch_tells_of_a_start_and_an_end(client: AsyncAgent) -> None:
    """Whoever shows processes needs no polling."""
    async with aclosing(client.watch()) as events:
        async for event in events:
            if isinstance(event, Synced):
                break
        process = await client.start("exit 3")

        async for event in events:
            if isinstance(event, Put) and event.process.process_id == process.id and event.process.exit:
                assert event.process.exit.code == 3
                break


async def test_a_slow_reader_gets_every_byte_of_a_paced_process(client: AsyncAgent) -> None:
    """The process waits, as it would in a pipeline, although it prints more than is kept."""
    process = await client.open(program("noise", 1, 4 << 20), kept_bytes=1 << 20)

    received = hashlib.sha256()
    async for chunk in process.output():
        assert chunk.gap is None
        received.update(chunk.data)
        await client.list()  # something else to do in between

    assert received.hexdigest() == noise.digest(1, 4 << 20)


async def test_output_is_byte_exact_over_a_link_that_breaks_at_random(shared_agent: RunningAgent) -> None:
    """Nothing is lost and nothing comes twice, wherever the cuts fall."""
    size = CUTS * 300_000
    async with Link(Path(shared_agent.address.removeprefix("unix:"))) as link:
        link.cut_at_random(seed=7, cuts=CUTS, at_most_bytes=600_000)
        async with AsyncAgent(link.address, patience=DEADLINE, connect_timeout=DEADLINE) as agent:
            process = await agent.open(program("noise", 2, size), kept_bytes=2 * size)
            output = await _all(process)

            assert hashlib.sha256(output).hexdigest() == noise.digest(2, size)
            assert (await process.wait()).code == 0
        assert link.cuts >= CUTS // 2


async def test_a_start_whose_reply_was_lost_ran_once(shared_agent: RunningAgent, tmp_path: Path) -> None:
    """The client asks again with its key, and gets the process that it has started."""
    witness = tmp_path / "witness"
    target = Path(shared_agent.address.removeprefix("unix:"))
    async with Link(target) as link, AsyncAgent(link.address, patience=DEADLINE) as agent:
        with link.replies_lost():
            running = asyncio.create_task(agent.open(f"echo ran >> {witness}"))
            await asyncio.wait_for(link.lost.wait(), DEADLINE)
        process = await running
        await process.wait()
        assert not process.attached, "it is this start that was asked for"

    assert await asyncio.to_thread(witness.read_text) == "ran\n"


async def test_a_killed_worker_is_a_pause_and_nothing_else(agent: RunningAgent) -> None:
    """No byte is lost, none comes twice, and the exit is right."""
    async with AsyncAgent(agent.address, patience=DEADLINE) as client:
        process = await client.open(program("noise", 3, 4 << 20), kept_bytes=16 << 20)
        output = bytearray()
        async for chunk in process.output():
            if not output:
                await agent.kill_worker()
            output += chunk.data

        assert hashlib.sha256(output).hexdigest() == noise.digest(3, 4 << 20)
        assert (await process.wait()).code == 0


async def test_an_agent_with_another_store_is_not_taken_for_the_old_one(agent: RunningAgent) -> None:
    """It knows nothing of what was started, and what is not said plainly would look like a process that hangs."""
    async with AsyncAgent(agent.address, patience=DEADLINE) as client:
        process = await client.open(["sleep", "60"])
        await agent.kill()
        await asyncio.to_thread(agent.process.state_dir.rename, agent.process.state_dir.with_name("old"))
        await agent.start_again()

        with pytest.raises(StoreChanged):
            await process.wait()


@pytest.mark.parametrize("argument", ["address", "token_file", "ca_file"])
@pytest.mark.parametrize("name", ["a\0b", "a\ud800"], ids=ascii)
def test_what_no_file_can_be_called_is_refused(argument: str, name: str) -> None:
    """It would be found by a line inside, when the agent is dialled."""
    given: dict[str, Any] = {"address": "tcp://localhost:1"}
    given[argument] = name if argument.endswith("_file") else f"unix:{name}"

    with pytest.raises(InvalidInput) as refused:
        AsyncAgent(**given)

    assert refused.value.violations[0].field == argument


async def test_a_folder_is_no_token_and_not_empty_either() -> None:
    """What is said is what the system says of it."""
    with pytest.raises(InvalidInput, match=r"^token_file: cannot read /: Is a directory$"):
        async with AsyncAgent("tcp://localhost:1", token_file="/"):
            pass


@pytest.mark.parametrize("argument", ["address", "chat_id", "token_file", "ca_file"])
def test_what_is_empty_is_refused_and_never_taken_for_none(argument: str) -> None:
    """A variable that was not set would give a chat all rights."""
    given: dict[str, Any] = {"address": "tcp://localhost:1"}
    given[argument] = Path() if argument.endswith("_file") else ""

    with pytest.raises(InvalidInput) as refused:
        AsyncAgent(**given)

    assert refused.value.violations[0].field == argument


class _BytesPath:
    def __fspath__(self) -> bytes:
        return b"/ca.pem"


@pytest.mark.parametrize(
    ("argument", "given"),
    [
        ("address", 5),
        ("address", Path("/run/agent.sock")),
        ("chat_id", 5),
        ("token_file", 5),
        ("ca_file", b"/ca.pem"),
        ("ca_file", _BytesPath()),
        ("patience", "60"),
        ("connect_timeout", math.nan),
        ("keepalive", None),
    ],
)
def test_what_is_of_a_wrong_type_is_named(argument: str, given: Any) -> None:
    """Whoever has no type checker learns which argument it was, and what it should be."""
    for kind in (AsyncAgent, Agent):
        with pytest.raises(InvalidInput, match=f"^{argument}: .* expected$") as refused:
            kind(**{"address": "tcp://localhost:1"} | {argument: given})

        assert refused.value.violations[0].field == argument
