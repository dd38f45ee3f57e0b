"""At every limit there is a clean answer, nothing is lost that was promised, and it passes."""

import asyncio
import os
import resource
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import grpc
import pytest

from guyline.agent.v1.agent_info_service_pb2 import GetInfoRequest
from guyline.agent.v1.process_pb2 import OUTPUT_MODE_SEPARATE, OUTPUT_STREAM_STDERR, OUTPUT_STREAM_STDOUT
from guyline.agent.v1.process_service_pb2 import (
    AttachRequest,
    GetOutputRequest,
    ProcessServiceListRequest,
    ProcessServiceWatchRequest,
)
from guyline.agentd.journal.journal import MAX_DESCRIPTORS
from guyline.agentd.journal.journals import MAX_OPEN_AT_REST
from tests.agentd.process.process_parts import (
    MIB,
    Followed,
    Refusal,
    Speaker,
    a_line,
    attach,
    changed,
    end,
    new_key,
    output_closed,
    printed,
    put_by,
    refusal,
    run,
    snapshot,
    speaker,
    started,
    to_start,
)
from tests.support import proc
from tests.support.agent import RunningAgent
from tests.support.clock import DEADLINE, until
from tests.support.program import program
from tests.support.programs import noise

SOAK = bool(os.environ.get("GUYLINE_SOAK"))


def assert_exhausted(refused: Refusal, reason: str) -> None:
    """The caller may come back, and is told when."""
    assert refused.code is grpc.StatusCode.RESOURCE_EXHAUSTED, refused
    assert refused.reason == reason
    assert refused.facts["outcome"] == "NOT_STARTED"
    assert refused.retry_after is not None
    assert refused.retry_after > 0


# Processes.


async def test_no_more_processes_run_than_are_allowed() -> None:
    """And one that has ended makes room for the next."""
    async with RunningAgent(settings={"max_processes": 2}) as agent, started(agent, ["sleep", "60"]):
        async with started(agent, ["sleep", "60"]):
            refused = await refusal(agent.processes.Start(to_start("true")))
        over = await run(agent, "echo room")

    assert_exhausted(refused, "TOO_MANY_PROCESSES")
    assert refused.facts["limit"] == "2"
    assert over.data == b"room\n"


async def test_starts_at_the_same_moment_share_what_room_there_is() -> None:
    """Those under way count, or a crowd would pass the limit together."""
    async with RunningAgent(settings={"max_processes": 3}) as agent:
        calls = [agent.processes.Start(to_start(["sleep", "60"])) for _ in range(12)]
        answers = await asyncio.gather(*calls, return_exceptions=True)
        running = [answer for answer in answers if not isinstance(answer, BaseException)]
        info = await agent.info.GetInfo(GetInfoRequest())
        for answer in running:
            await end(agent, answer.process_id)

    assert len(running) == info.running_processes == 3


async def test_a_key_that_met_the_limit_may_be_used_again() -> None:
    """Nothing was started under it, and the caller was told to come back."""
    async with RunningAgent(settings={"max_processes": 1}) as agent:
        request = to_start("echo mine", key=new_key())
        async with started(agent, ["sleep", "60"]):
            refused = await refusal(agent.processes.Start(request))
        start = await agent.processes.Start(request)
        over = await attach(agent, start.process_id)

    assert refused.reason == "TOO_MANY_PROCESSES"
    assert not start.attached
    assert over.data == b"mine\n"


# Descriptors.


async def test_output_of_the_past_takes_no_descriptor_each(agent: RunningAgent) -> None:
    """There may be many more ended processes than descriptors, and each can still be followed and viewed."""
    room = (MAX_OPEN_AT_REST + 16) * MAX_DESCRIPTORS
    descriptors = len(proc.descriptors(agent.worker_pid)) + room
    hard = resource.prlimit(agent.worker_pid, resource.RLIMIT_NOFILE)[1]
    resource.prlimit(agent.worker_pid, resource.RLIMIT_NOFILE, (descriptors, hard))

    numbers = range(room)
    runs = [await run(agent, f"echo {number}; echo error >&2", output_mode=OUTPUT_MODE_SEPARATE) for number in numbers]
    ids = [each.process_id for each in runs]
    followed = [await attach(agent, process_id) for process_id in ids]
    views = [await agent.processes.GetOutput(GetOutputRequest(process_id=process_id)) for process_id in reversed(ids)]

    for number, each, view in zip(numbers, followed, reversed(views), strict=True):
        assert each.of_stream(OUTPUT_STREAM_STDOUT) == b"%d\n" % number
        assert each.of_stream(OUTPUT_STREAM_STDERR) == b"error\n"
        assert sorted(view.view.text.splitlines()) == [b"%d" % number, b"error"]
    assert len(proc.descriptors(agent.worker_pid)) < descriptors


async def test_without_descriptors_output_of_the_past_is_told_to_be_there_later(agent: RunningAgent) -> None:
    """Its journal may have been closed. The caller hears that this passes, not that something is defect."""
    over = [await run(agent, f"echo {number}") for number in range(MAX_OPEN_AT_REST + 1)]
    first = over[0].process_id

    with proc.no_descriptor_left(agent.worker_pid):
        refusals = [
            await refusal(agent.processes.Attach(AttachRequest(process_id=first))),
            await refusal(agent.processes.GetOutput(GetOutputRequest(process_id=first))),
        ]
    later = await attach(agent, first)

    for refused in refusals:
        assert (refused.code, refused.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "SYSTEM_EXHAUSTED")
    assert later.data == b"0\n"


async def test_without_descriptors_a_start_is_refused_and_works_again_later(agent: RunningAgent) -> None:
    """The caller hears what is missing, and nothing is half done."""
    before = await run(agent, "echo before")
    await output_closed(agent, before.process_id)
    held = {pid: len(proc.descriptors(pid)) for pid in (agent.worker_pid, agent.keeper_pid)}

    with proc.no_descriptor_left(agent.worker_pid):
        refused = await refusal(agent.processes.Start(to_start("echo never")))
    after = await run(agent, "echo after")

    assert_exhausted(refused, "SYSTEM_EXHAUSTED")
    assert refused.facts["errno"] == "EMFILE"
    assert (before.data, after.data) == (b"before\n", b"after\n")
    await until(lambda: len(proc.descriptors(agent.keeper_pid)) <= held[agent.keeper_pid])
    answer = await agent.processes.List(ProcessServiceListRequest())
    assert len(answer.processes) == 2


async def test_a_keeper_without_descriptors_refuses_a_start(agent: RunningAgent) -> None:
    """The caller hears what is missing, instead of nothing at all."""
    with proc.no_descriptor_left(agent.keeper_pid):
        code = await agent.processes.Start(to_start("echo never"), timeout=DEADLINE).code()

    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_without_descriptors_output_waits_and_is_not_lost(agent: RunningAgent, tmp_path: Path) -> None:
    """The first byte of a process needs a file; until there can be one it stays in the pipe."""
    async with speaker(agent, tmp_path) as process:
        await snapshot(agent, process.process_id)
        with proc.no_descriptor_left(agent.worker_pid):
            process.say(b"printed in need\n")
            in_need = await snapshot(agent, process.process_id)
        seen = await attach(agent, process.process_id, until=a_line)
        process.stop()
        over = await attach(agent, process.process_id)

    assert not in_need.data
    assert seen.data == over.data == b"printed in need\n"
    assert not over.gaps
    assert not over.process.journal_degraded


# The disk.


@asynccontextmanager
async def small_disk(megabytes: int) -> AsyncIterator[tuple[RunningAgent, Path]]:
    """An agent whose journals lie on a disk of their own, which is soon full."""
    agent = RunningAgent()
    place = agent.process.state_dir / "journals"
    with mounted(place, megabytes):
        async with agent:
            try:
                yield agent, place
            finally:
                await agent.stop()
                unmount(place)  # before the folder is removed


@contextmanager
def mounted(place: Path, megabytes: int) -> Iterator[None]:
    """A tmpfs of this size, for the length of the block at most."""
    place.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=0700", "tmpfs", str(place)]
    if os.geteuid() or subprocess.run(mount, check=False, stderr=subprocess.DEVNULL).returncode:
        shutil.rmtree(place.parents[1])
        pytest.skip("mounting a small tmpfs needs root and CAP_SYS_ADMIN")
    try:
        yield
    finally:
        unmount(place)


def unmount(place: Path) -> None:
    """Does nothing if that was done."""
    if place.is_mount():
        subprocess.run(["umount", "-l", str(place)], check=True)


def fill_up(path: Path) -> None:
    """Makes a file that leaves no byte free."""
    with path.open("ab", buffering=0) as file, suppress(OSError):  # no space left
        while file.write(bytes(4096)):
            pass


async def test_a_full_disk_stops_no_process_and_is_said_everywhere() -> None:
    """The command ends as it would have; what could not be stored is a gap, and what could is right."""
    async with small_disk(2) as (agent, _):
        over = await run(agent, program("noise", 41, 6 * MIB, "--exit", 4), when_full=1)
        again = await attach(agent, over.process_id)
        info = await agent.info.GetInfo(GetInfoRequest())

    whole = b"".join(noise.stream(41, 6 * MIB))
    assert over.exit.code == 4
    assert over.process.output_bytes == 6 * MIB
    assert over.process.journal_degraded
    assert info.journal_degraded
    assert again.gaps
    assert all(message.data == whole[message.offset :][: len(message.data)] for message in again.messages)
    assert len(again.data) + sum(to - start for start, to in again.gaps) == 6 * MIB


async def test_a_process_goes_on_being_recorded_when_there_is_room_again(tmp_path: Path) -> None:
    """The gap ends, the mark stays: something was lost, and whoever reads must know."""
    async with small_disk(2) as (agent, place), speaker(agent, tmp_path) as process:
        process.say(b"stored\n")
        await attach(agent, process.process_id, until=a_line)
        fill_up(place / "pool" / "ballast")
        process.say(b"x" * 4096)
        await changed(agent, process.process_id, lambda it: it.journal_degraded)
        (place / "pool" / "ballast").unlink()
        seen = await say_until_stored(agent, process, b"again\n")
        info = await agent.info.GetInfo(GetInfoRequest())

    assert seen.data.startswith(b"stored\n")
    assert seen.data.endswith(b"again\n")
    assert seen.process.journal_degraded
    assert info.journal_degraded
    [(start, to)] = seen.gaps
    assert len(b"stored\n") <= start < to


async def say_until_stored(agent: RunningAgent, process: Speaker, text: bytes) -> Followed:
    """Says it again and again until it is in the journal: the disk is asked anew every 100 ms only."""
    while True:
        process.say(text)
        seen = await snapshot(agent, process.process_id)
        if seen.data.endswith(text):
            return seen


# The quota and time.


async def test_over_the_quota_the_oldest_output_goes_first_and_what_had_a_key_last() -> None:
    """How it ended stays known; what it printed reads as one gap."""
    settings = {"journal_bytes": MIB, "journal_quota_bytes": 4 * MIB}
    async with RunningAgent(settings=settings) as agent:
        noisy = program("noise", 43, MIB, "--exit", 5)
        keyed = await run(agent, noisy, key=new_key(), when_full=1)
        older, *_, newest = [await run(agent, noisy, when_full=1) for _ in range(5)]
        info = await agent.info.GetInfo(GetInfoRequest())
        gone = await attach(agent, older.process_id)
        kept = [await attach(agent, each.process_id) for each in (keyed, newest)]

    assert info.disk_use.journal_bytes <= 4 * MIB
    assert (gone.data, gone.gaps) == (b"", [(0, MIB)])
    assert gone.exit.code == 5
    assert gone.process.output_bytes == gone.process.kept_from == MIB
    assert [each.data for each in kept] == [keyed.data, newest.data]


async def test_over_the_quota_a_running_process_gives_up_its_oldest_output() -> None:
    """Never its head, and never its end; and it does not notice."""
    settings = {"journal_bytes": 4 * MIB, "journal_quota_bytes": 4 * MIB}
    async with RunningAgent(settings=settings) as agent:
        noisy = " ".join(program("noise", 44, 12 * MIB))
        async with started(agent, f"{noisy}; echo; echo end; sleep 60", kept_bytes=4 * MIB) as start:
            await attach(agent, start.process_id, until=printed(b"\nend\n"))
            seen = await snapshot(agent, start.process_id)
            info = await agent.info.GetInfo(GetInfoRequest())

    assert info.disk_use.journal_bytes <= 4 * MIB
    [(lost_from, _)] = seen.gaps
    assert lost_from == 16 * 1024
    assert seen.data.endswith(b"\nend\n")


async def forgotten(agent: RunningAgent, process_id: str) -> None:
    """Watches until the agent does not know a process any more."""
    stream = agent.processes.Watch(ProcessServiceWatchRequest())
    known, is_synced = set[str](), False
    async with asyncio.timeout(DEADLINE):
        async for message in stream:
            known |= {process.process_id for event in message.events if (process := put_by(event))}
            known -= {event.removed for event in message.events}
            is_synced |= message.control.HasField("synced")
            if is_synced and process_id not in known:
                break
    stream.cancel()


async def test_what_ended_long_enough_ago_is_forgotten() -> None:
    """Its id is unknown then, its journal removed; what still runs is never touched."""
    async with RunningAgent(settings={"ended_retention": 0}) as agent, started(agent, ["sleep", "60"]) as running:
        over = await run(agent, "echo out")
        await forgotten(agent, over.process_id)

        refused = await refusal(agent.processes.Attach(AttachRequest(process_id=over.process_id)))
        answer = await agent.processes.List(ProcessServiceListRequest())

        assert refused.reason == "PROCESS_NOT_FOUND"
        assert [each.process_id for each in answer.processes] == [running.process_id]
        assert answer.ended_total == 0
        assert not list(agent.process.state_dir.glob(f"journals/{over.process_id}*"))


async def test_what_is_forgotten_but_has_a_key_runs_no_second_time() -> None:
    """The key outlives the output: a late repeat hears that it ran, and how it ended."""
    async with RunningAgent(settings={"ended_retention": 0}) as agent:
        key = new_key()
        over = await run(agent, "echo out; exit 3", key=key)
        await forgotten(agent, over.process_id)

        again = await agent.processes.Start(to_start("echo out; exit 3", key=key))

    assert (again.attached, again.process_id) == (True, over.process_id)
    assert again.process.exit.code == 3


async def test_a_watch_is_told_what_was_forgotten() -> None:
    """A list that only ever grows is no list."""
    async with RunningAgent(settings={"ended_retention": 0}) as agent:
        watch = aiter(agent.processes.Watch(ProcessServiceWatchRequest()))
        await anext(watch)  # it knows of nothing
        over = await run(agent, "true")
        removed = ""
        while not removed:
            removed = next((event.removed for event in (await anext(watch)).events if event.removed), "")

    assert removed == over.process_id
