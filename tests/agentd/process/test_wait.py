"""Wait tells the first of several things that holds: an end, something printed, a port, a file."""

import asyncio
import os
import socket
from pathlib import Path

import grpc
import grpc.aio
import pytest

from guyline.agent.v1.process_pb2 import PROCESS_STATE_EXITED, PROCESS_STATE_RUNNING
from guyline.agent.v1.process_service_pb2 import (
    WAIT_OVER_OUTPUT_ENDED,
    WAIT_OVER_TIMEOUT,
    WAIT_OVER_UNSPECIFIED,
)
from tests.agentd.keeper.hanging_fs import HangingFileSystem
from tests.agentd.process.process_parts import (
    ended,
    output_closed,
    refusal,
    run,
    speaker,
    started,
)
from tests.agentd.process.waiting_parts import EXIT, file, has_printed, met, pattern, port, to_wait, wait
from tests.support import proc
from tests.support.agent import RunningAgent
from tests.support.clock import DEADLINE, until

# The end.


async def test_who_waits_for_the_end_can_then_read_everything(shared_agent: RunningAgent, tmp_path: Path) -> None:
    """State first, output second: an end that is told is the end of the output, too."""
    async with speaker(shared_agent, tmp_path) as speaking:
        waiting = asyncio.ensure_future(wait(shared_agent, speaking.process_id, EXIT))
        speaking.say(b"last words\n")
        await has_printed(shared_agent, speaking.process_id, b"last words\n")
        speaking.stop()

        answer = await waiting

    assert (met(answer), answer.over) == (0, WAIT_OVER_UNSPECIFIED)
    assert answer.process.state == PROCESS_STATE_EXITED
    assert answer.process.exit.code == 0
    assert answer.process.output_bytes == len(b"last words\n")
    assert not answer.HasField("match")


async def test_what_has_ended_is_told_at_once(shared_agent: RunningAgent) -> None:
    """Also if there is no time to wait."""
    over = await run(shared_agent, "exit 3")

    answer = await wait(shared_agent, over.process_id, EXIT, timeout=0)

    assert (met(answer), answer.process.exit.code) == (0, 3)


async def test_all_who_wait_wake_with_the_end(shared_agent: RunningAgent, tmp_path: Path) -> None:
    """Two hundred of them, half of whom wait for what is never printed as well."""
    async with speaker(shared_agent, tmp_path) as speaking:
        conditions = ([EXIT], [pattern("never"), EXIT])
        waiting = [
            asyncio.ensure_future(wait(shared_agent, speaking.process_id, *conditions[number % 2]))
            for number in range(200)
        ]
        await wait(shared_agent, speaking.process_id, EXIT, timeout=0)
        speaking.say(b"x")
        await has_printed(shared_agent, speaking.process_id, b"x")
        speaking.stop()

        answers = await asyncio.gather(*waiting)

    assert [met(answer) for answer in answers] == [0, 1] * 100


# Ports and files.


def unused_port(family: socket.AddressFamily, address: str) -> int:
    """One on which nobody listens."""
    with socket.socket(family) as unused:
        unused.bind((address, 0))
        number = unused.getsockname()[1]
        assert isinstance(number, int)
        return number


@pytest.mark.parametrize(("family", "address"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
async def test_a_server_is_found_once_it_listens(
    shared_agent: RunningAgent, family: socket.AddressFamily, address: str
) -> None:
    """On either loopback address; the connection that found it is closed at once."""
    ended_connections = asyncio.Semaphore(0)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await reader.read() == b""
        writer.close()
        ended_connections.release()

    number = unused_port(family, address)
    async with started(shared_agent, ["sleep", "60"]) as start:
        too_early = await wait(shared_agent, start.process_id, port(number), timeout=0)
        waiting = asyncio.ensure_future(wait(shared_agent, start.process_id, port(number)))
        async with await asyncio.start_server(serve, address, number):
            answer = await waiting
            async with asyncio.timeout(DEADLINE):
                await ended_connections.acquire()

    assert (met(too_early), too_early.over) == (None, WAIT_OVER_TIMEOUT)
    assert met(answer) == 0


@pytest.mark.parametrize("kind", ["file", "directory", "link"])
async def test_a_file_is_found_once_it_is_there(shared_agent: RunningAgent, tmp_path: Path, kind: str) -> None:
    """Whatever it is. A relative path starts where the process does, and a link counts once it leads somewhere."""
    async with started(shared_agent, ["sleep", "60"], directory=str(tmp_path)) as start:
        (tmp_path / "thing").symlink_to(tmp_path / "target") if kind == "link" else None
        too_early = await wait(shared_agent, start.process_id, file("./thing"), timeout=0)
        waiting = asyncio.ensure_future(wait(shared_agent, start.process_id, file("./thing"), file("/no/such")))
        await wait(shared_agent, start.process_id, EXIT, timeout=0)
        target = tmp_path / ("target" if kind == "link" else "thing")
        target.mkdir() if kind == "directory" else target.touch()

        answer = await waiting

    assert (met(too_early), too_early.over) == (None, WAIT_OVER_TIMEOUT)
    assert met(answer) == 0


async def test_a_tilde_is_the_home_directory(tmp_path: Path) -> None:
    """As in the directory of a start."""
    (tmp_path / "there").touch()
    async with RunningAgent(environment={"HOME": str(tmp_path)}) as agent, started(agent, ["sleep", "60"]) as start:
        found = await wait(agent, start.process_id, file("~/missing"), file("~/there"), timeout=0)
        home = await wait(agent, start.process_id, file("~"), timeout=0)

    assert (met(found), met(home)) == (1, 0)


async def test_a_file_on_a_dead_mount_is_not_there_and_holds_up_nobody(
    dead_mount: HangingFileSystem, tmp_path: Path
) -> None:
    """However many wait for it: they share one look-up, and other files are still found."""
    async with RunningAgent(settings={"shutdown_grace": 1}) as agent, speaker(agent, tmp_path) as speaking:
        process_id = speaking.process_id
        asked = [wait(agent, process_id, file(dead_mount.directory), timeout=0) for _ in range(50)]
        answers = await asyncio.gather(*asked)
        other = await wait(agent, process_id, file(dead_mount.directory), file(tmp_path))
        waiting = asyncio.ensure_future(wait(agent, process_id, file(dead_mount.directory), EXIT))
        speaking.say(b"x")
        await has_printed(agent, process_id, b"x")
        speaking.stop()

        assert {answer.over for answer in answers} == {WAIT_OVER_TIMEOUT}
        assert met(other) == 1
        assert met(await waiting) == 1
        assert (await run(agent, "echo fine")).data == b"fine\n"


# Which one, and when none.


async def test_of_several_that_hold_the_first_is_told(shared_agent: RunningAgent, tmp_path: Path) -> None:
    """Whichever is found out first: an end is known at once, while a long output has yet to be searched."""
    over = await run(shared_agent, "head -c 8388608 /dev/zero; echo ready")
    ready, there, missing = pattern("ready"), file(tmp_path), file(tmp_path / "missing")
    process_id = over.process_id

    orders = [[ready, EXIT, there], [EXIT, ready], [there, EXIT], [missing, pattern("no"), ready, EXIT]]
    answers = [await wait(shared_agent, process_id, *order) for order in orders]
    at_once = [await wait(shared_agent, process_id, *order, timeout=0) for order in orders]

    assert [met(answer) for answer in answers] == [met(answer) for answer in at_once] == [0, 0, 0, 2]
    assert [answer.match.offset for answer in answers] == [8388608, 0, 0, 8388608]


async def test_last_words_are_told_rather_than_the_end(shared_agent: RunningAgent) -> None:
    """It prints what is waited for, and ends at once: which of the two is told is no matter of luck."""
    for _ in range(20):
        async with started(shared_agent, "read -t 0.01 x </dev/null; echo ready") as start:
            answer = await wait(shared_agent, start.process_id, pattern("^ready$"), EXIT)

            assert (met(answer), answer.match.data) == (0, b"ready")


async def test_a_wait_that_is_over_is_no_error(shared_agent: RunningAgent) -> None:
    """The answer says so, and how the process is doing."""
    async with started(shared_agent, ["sleep", "60"]) as start:
        answer = await wait(shared_agent, start.process_id, EXIT, pattern("x"), timeout=0.01)

    assert (met(answer), answer.over) == (None, WAIT_OVER_TIMEOUT)
    assert answer.process.state == PROCESS_STATE_RUNNING


@pytest.mark.parametrize("timeout", [None, 0.0])
async def test_who_waits_for_output_alone_is_told_when_there_can_be_no_more(
    shared_agent: RunningAgent, timeout: float | None
) -> None:
    """Five minutes later the answer would be the same."""
    async with started(shared_agent, "echo one; echo two") as start:
        if timeout is not None:
            await ended(shared_agent, start.process_id)
        answer = await wait(shared_agent, start.process_id, pattern("three"), pattern("four"), timeout=timeout)

    assert (met(answer), answer.over) == (None, WAIT_OVER_OUTPUT_ENDED)
    assert answer.process.state == PROCESS_STATE_EXITED


async def test_output_that_a_descendant_holds_open_is_still_waited_for(
    shared_agent: RunningAgent, tmp_path: Path
) -> None:
    """The shell has ended, and what it left behind prints on: that counts, too."""
    os.mkfifo(fifo := tmp_path / "fifo")
    async with started(shared_agent, f"cat {fifo} & echo left") as start:
        writing = os.open(fifo, os.O_RDWR)
        await ended(shared_agent, start.process_id)
        too_early = await wait(shared_agent, start.process_id, pattern("late"), timeout=0.01)
        waiting = asyncio.ensure_future(wait(shared_agent, start.process_id, pattern("late")))
        hopeless = asyncio.ensure_future(wait(shared_agent, start.process_id, pattern("never")))
        os.write(writing, b"late\n")
        answer = await waiting
        os.close(writing)

        assert too_early.over == WAIT_OVER_TIMEOUT
        assert (answer.match.offset, answer.match.data) == (5, b"late")
        assert (await hopeless).over == WAIT_OVER_OUTPUT_ENDED


async def test_output_that_is_closed_is_at_its_end_though_the_process_goes_on(shared_agent: RunningAgent) -> None:
    """A daemon that has closed its output prints nothing any more."""
    async with started(shared_agent, "echo bye; exec sleep 60 >&- 2>&-") as start:
        await output_closed(shared_agent, start.process_id)
        answer = await wait(shared_agent, start.process_id, pattern("hello"))

    assert answer.over == WAIT_OVER_OUTPUT_ENDED
    assert answer.process.state == PROCESS_STATE_RUNNING


# Who goes away.


async def test_a_wait_that_is_cancelled_leaves_nothing_open(
    agent: RunningAgent, tmp_path: Path, deaf_port: int
) -> None:
    """Each asks the port for as long as it lives, and holds a connection for that."""
    async with started(agent, ["sleep", "60"]) as start:
        await wait(agent, start.process_id, file(tmp_path), port(1))
        held_before = len(proc.descriptors(agent.worker_pid))
        conditions = (EXIT, pattern("x"), port(deaf_port), file(tmp_path / "missing"))
        waiting = [agent.processes.Wait(to_wait(start.process_id, *conditions)) for _ in range(10)]
        await until(lambda: len(proc.descriptors(agent.worker_pid)) >= held_before + 10)

        for call in waiting:
            call.cancel()

        await until(lambda: len(proc.descriptors(agent.worker_pid)) == held_before)
        over = await wait(agent, start.process_id, EXIT, timeout=0)

    assert not over.HasField("met")


async def test_who_waits_while_the_worker_dies_asks_again(agent: RunningAgent, tmp_path: Path) -> None:
    """The wait is lost with the worker, what is waited for is not."""
    async with speaker(agent, tmp_path) as speaking:
        speaking.say(b"half a ")
        await has_printed(agent, speaking.process_id, b"half a ")
        lost = agent.processes.Wait(to_wait(speaking.process_id, pattern("half a word")))
        await wait(agent, speaking.process_id, EXIT, timeout=0)
        await agent.kill_worker()
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await lost
        await agent.serves_again()
        speaking.say(b"word")

        answer = await wait(agent, speaking.process_id, pattern("half a word"))

    assert error.value.code() is grpc.StatusCode.UNAVAILABLE
    assert (answer.match.offset, answer.match.data) == (0, b"half a word")


async def test_a_process_of_another_chat_cannot_be_waited_for(shared_agent: RunningAgent) -> None:
    """Nor can what the request says about it be found out: the refusal is that of an unknown one."""
    one, other = "00000000-0000-0000-0000-00000000000a", "00000000-0000-0000-0000-00000000000b"
    async with started(shared_agent, ["sleep", "60"], metadata=(("coder-chat-id", one),)) as start:
        request = to_wait(start.process_id, pattern("("), timeout=0)
        refused = await refusal(shared_agent.processes.Wait(request, metadata=(("coder-chat-id", other),)))
        answer = await wait(shared_agent, start.process_id, EXIT, timeout=0, metadata=(("coder-chat-id", one),))

    assert (refused.code, refused.reason) == (grpc.StatusCode.NOT_FOUND, "PROCESS_NOT_FOUND")
    assert answer.over == WAIT_OVER_TIMEOUT
