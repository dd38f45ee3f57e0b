"""Much output: every byte arrives, whatever breaks, and the agent's memory stays as it was."""

import asyncio
import hashlib
import os
from pathlib import Path

import grpc.aio
import pytest

from guyline.agent.v1.process_pb2 import WHEN_FULL_DROP_OLDEST, WHEN_FULL_PAUSE, Exit
from guyline.agent.v1.process_service_pb2 import AttachRequest, RunRequest
from guyline.agent.v1.process_service_pb2_grpc import ProcessServiceStub
from tests.agentd.process.process_parts import MIB, Stream, end, ended, follow, started, to_start
from tests.support.agent import RECONNECT_FAST, RunningAgent
from tests.support.clock import DEADLINE
from tests.support.program import program
from tests.support.programs import noise
from tests.support.proxy import Link

SOAK = bool(os.environ.get("GUYLINE_SOAK"))
SIZE = (1024 if SOAK else 256) * MIB
CUTS = 200 if SOAK else 20
AT_MOST_GROWN = 150 * MIB
SECONDS = 900 if SOAK else 60


def memory(pid: int, field: str) -> int:
    """Bytes, as ``/proc/PID/status`` says: VmRSS is what it holds, VmHWM the most that it ever held."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field + ":"))


class Reader:
    """Takes a stream without keeping what came: only its digest, and that nothing was missing between."""

    def __init__(self, position: int = 0) -> None:
        self.position = position
        self.cursor = b""
        self.gaps = 0
        self.exit: Exit | None = None
        self._digest = hashlib.sha256()

    @property
    def digest(self) -> str:
        return self._digest.hexdigest()

    async def take(self, stream: Stream) -> None:
        async for message in stream:
            if message.control.HasField("gap"):
                self.gaps += 1
            else:
                assert message.offset == self.position
            self._digest.update(message.data)
            self.position = message.offset + len(message.data)
            self.cursor = message.control.cursor
            if message.control.HasField("ended"):
                self.exit = message.exit


@pytest.mark.timeout(SECONDS)
async def test_output_without_end_passes_through_a_memory_that_stays_flat(agent: RunningAgent) -> None:
    """A gigabyte of log costs the agent no more than a line of it; its disk holds the bound and no more."""
    before = memory(agent.worker_pid, "VmRSS")
    reader = Reader()

    await reader.take(agent.processes.Run(RunRequest(start=to_start(program("noise", 51, SIZE, "--exit", 3)))))

    assert reader.digest == noise.digest(51, SIZE)
    assert (reader.position, reader.gaps) == (SIZE, 0)
    assert reader.exit is not None
    assert reader.exit.code == 3
    assert memory(agent.worker_pid, "VmHWM") - before < AT_MOST_GROWN
    assert memory(agent.keeper_pid, "VmHWM") < 64 * MIB


@pytest.mark.timeout(SECONDS)
async def test_a_reader_that_stops_reading_costs_the_other_nothing(agent: RunningAgent) -> None:
    """Neither bytes nor memory: each reads the journal at a place of its own."""
    before = memory(agent.worker_pid, "VmRSS")
    start = to_start(program("noise", 52, SIZE), when_full=WHEN_FULL_PAUSE)
    pacing = agent.processes.Run(RunRequest(start=start))
    first = await anext(aiter(pacing))
    async with grpc.aio.insecure_channel(agent.address, RECONNECT_FAST) as channel:
        request = AttachRequest(process_id=first.process.process_id)
        asleep = [ProcessServiceStub(channel).Attach(request) for _ in range(5)]
        for stream in asleep:
            await anext(aiter(stream))

        reader = Reader(len(first.data))
        await reader.take(pacing)
        late = await follow(asleep[0])
        for stream in asleep:
            stream.cancel()

    assert (reader.position, reader.gaps) == (SIZE, 0)
    assert reader.exit is not None
    assert late.gaps, "it has slept longer than the bound lasts"
    assert late.exit.code == 0
    assert memory(agent.worker_pid, "VmHWM") - before < AT_MOST_GROWN


@pytest.mark.timeout(SECONDS)
async def test_many_processes_that_print_at_once_are_all_told_right(agent: RunningAgent) -> None:
    """None starves another, and none gets another's bytes."""
    size = SIZE // 32
    readers = [Reader() for _ in range(8)]
    streams = [
        agent.processes.Run(RunRequest(start=to_start(program("noise", seed, size)))) for seed in range(len(readers))
    ]

    await asyncio.gather(*(reader.take(stream) for reader, stream in zip(readers, streams, strict=True)))

    assert [reader.digest for reader in readers] == [noise.digest(seed, size) for seed in range(len(readers))]


@pytest.mark.timeout(SECONDS)
async def test_a_reader_whose_connection_breaks_again_and_again_gets_every_byte_once(
    shared_agent: RunningAgent,
) -> None:
    """Cut at random points, in the middle of messages too; it goes on at the last cursor that it has."""
    size = CUTS * 4 * MIB
    start = to_start(program("noise", 53, size, "--exit", 9), when_full=WHEN_FULL_PAUSE)
    process = await shared_agent.processes.Start(start)
    reader = Reader()
    async with (
        Link(shared_agent.process.socket) as link,
        grpc.aio.insecure_channel(link.address, RECONNECT_FAST) as channel,
    ):
        link.cut_at_random(seed=53, cuts=CUTS, at_most_bytes=4 * MIB)
        stub = ProcessServiceStub(channel)
        breaks = 0
        while reader.exit is None:
            request = AttachRequest(process_id=process.process_id, cursor=reader.cursor, paces=True)
            try:
                await reader.take(stub.Attach(request, wait_for_ready=True))
            except grpc.aio.AioRpcError as why:
                if why.code() is not grpc.StatusCode.UNAVAILABLE:
                    raise
                breaks += 1

        assert link.cuts == CUTS
    assert breaks >= CUTS // 2  # a cut before the call has begun is retried by gRPC itself
    assert (reader.position, reader.gaps) == (size, 0)
    assert reader.digest == noise.digest(53, size)
    assert reader.exit.code == 9


@pytest.mark.timeout(SECONDS)
async def test_a_stopped_link_loses_nothing(shared_agent: RunningAgent) -> None:
    """A laptop's lid: nothing moves for a while, in either direction, and then everything goes on."""
    size = 32 * MIB
    reader = Reader()
    async with (
        Link(shared_agent.process.socket) as link,
        grpc.aio.insecure_channel(link.address, RECONNECT_FAST) as channel,
    ):
        start = to_start(program("noise", 54, size), when_full=WHEN_FULL_DROP_OLDEST)
        stream = ProcessServiceStub(channel).Run(RunRequest(start=start))
        first = await anext(aiter(stream))
        with link.paused():
            over = await ended(shared_agent, first.process.process_id)
        reader.position = len(first.data)
        async with asyncio.timeout(DEADLINE):
            await reader.take(stream)

    assert over.output_bytes == reader.position == size
    assert reader.gaps == 0


@pytest.mark.timeout(SECONDS)
async def test_output_that_nobody_reads_costs_no_memory(agent: RunningAgent) -> None:
    """It goes from the pipe into the file inside the kernel, and the oldest makes room."""
    before = memory(agent.worker_pid, "VmRSS")
    async with started(agent, program("noise", 55, SIZE), kept_bytes=MIB) as start:
        over = await ended(agent, start.process_id)
        on_disk = sum(path.stat().st_blocks * 512 for path in agent.process.state_dir.glob("journals/*"))
        await end(agent, start.process_id)

    assert over.output_bytes == SIZE
    assert on_disk < 3 * MIB
    assert memory(agent.worker_pid, "VmHWM") - before < 20 * MIB
