"""The link breaks what it is told to break, and nothing else: tests of resuming stand on it."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc.aio
import pytest

from guyline.agent.v1.process_service_pb2 import (
    ProcessServiceListRequest,
    ProcessServiceListResponse,
    RunRequest,
    StartRequest,
)
from guyline.agent.v1.process_service_pb2_grpc import ProcessServiceStub
from tests.support.agent import RECONNECT_FAST
from tests.support.bare import bare_agent
from tests.support.clock import DEADLINE
from tests.support.program import program
from tests.support.programs import noise
from tests.support.proxy import Link, ReplyFinder, answered


@asynccontextmanager
async def linked() -> AsyncIterator[tuple[Link, ProcessServiceStub]]:
    async with (
        bare_agent() as socket,
        Link(socket) as link,
        grpc.aio.insecure_channel(link.address, RECONNECT_FAST) as channel,
    ):
        yield link, ProcessServiceStub(channel)


async def test_an_unbroken_link_passes_every_byte() -> None:
    """What the link adds by itself would be blamed on the agent."""
    async with linked() as (_, stub):
        run = stub.Run(RunRequest(start=StartRequest(argv=program("noise", 7, 3_000_000))))
        received = hashlib.sha256(b"".join([message.data async for message in run]))

        assert received.hexdigest() == noise.digest(7, 3_000_000)


async def test_a_cut_breaks_the_call_and_the_next_one_gets_through() -> None:
    """A cut is a lost connection, not a dead agent."""
    async with linked() as (link, stub):
        run = stub.Run(RunRequest(start=StartRequest(argv=["sleep", "0.2"])))
        await anext(aiter(run))
        link.cut()

        with pytest.raises(grpc.aio.AioRpcError, match="UNAVAILABLE"):
            await anext(aiter(run))
        assert (await answered(lambda: _list(stub))).processes
        assert link.cuts == 1


async def test_random_cuts_come_as_often_as_asked() -> None:
    """A test that asks for 20 cuts must get 20, or it proves less than it says."""
    async with linked() as (link, stub):
        link.cut_at_random(seed=1, cuts=3, at_most_bytes=10_000)
        broken = 0
        while broken < 3:
            run = stub.Run(RunRequest(start=StartRequest(argv=program("noise", 1, 20_000))), wait_for_ready=True)
            with pytest.raises(grpc.aio.AioRpcError):
                _ = [message async for message in run]
            broken += 1

        await answered(lambda: _list(stub))
        whole = stub.Run(RunRequest(start=StartRequest(argv=program("noise", 1, 20_000))), wait_for_ready=True)
        assert b"".join([message.data async for message in whole]) == b"".join(noise.stream(1, 20_000))
        assert link.cuts == 3


async def test_while_paused_nothing_passes() -> None:
    """A pause stands for a network that hangs: no error, no data."""
    async with linked() as (link, stub):
        await stub.List(ProcessServiceListRequest())
        with link.paused():
            call = asyncio.ensure_future(_list(stub))
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(asyncio.shield(call), timeout=0.05)

        assert await call == ProcessServiceListResponse()


async def test_a_lost_reply_leaves_its_effect_behind() -> None:
    """The case that keys are for: the command ran, and its caller cannot know."""
    async with linked() as (link, stub):
        await stub.List(ProcessServiceListRequest())
        with link.replies_lost():
            start = stub.Start(StartRequest(argv=["true"]))
            async with asyncio.timeout(DEADLINE):
                await link.lost.wait()

        with pytest.raises(grpc.aio.AioRpcError, match="UNAVAILABLE"):
            await start
        assert len((await answered(lambda: _list(stub))).processes) == 1


def test_replies_are_found_however_the_bytes_are_cut() -> None:
    """Reads end anywhere, also inside a frame's header."""
    settings = b"\0\0\6\4\0\0\0\0\0" + b"......"
    message = b"\0\0\5\0\0\0\0\0\1" + b"\0\0\0\0\0"
    end = b"\0\0\1\1\5\0\0\0\1" + b"."

    finder = ReplyFinder()
    found = sum(finder.feed(bytes([byte])) for byte in settings + message + end)

    assert found == ReplyFinder().feed(settings + message + end) == 2


async def _list(stub: ProcessServiceStub) -> ProcessServiceListResponse:
    return await stub.List(ProcessServiceListRequest(), wait_for_ready=True)
