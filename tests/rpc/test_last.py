"""Streams whose last message goes out together with the status: to a client they are streams like any other."""

# ruff: noqa: N802 (handlers are named as the RPCs are)

import asyncio
from collections.abc import AsyncIterator

import grpc
import grpc.aio
import pytest

from guyline.agent.v1 import process_service_pb2 as pb
from guyline.rpc.caller import Context
from guyline.rpc.last import ends_with_last, last
from tests.rpc.serving import Log, Puppet, Served, details, serving
from tests.support.clock import DEADLINE


class Ending(Puppet):
    """Its ``Run`` sends what ``stream`` yields, and then ``final`` as the last message, if there is one."""

    final: bytes | None = b"last"

    @ends_with_last
    async def Run(self, _request: pb.RunRequest, context: Context) -> AsyncIterator[pb.RunResponse]:
        async for data in self._stream(context):
            yield pb.RunResponse(data=data)
        if self.final is not None:
            yield last(pb.RunResponse(data=self.final))


async def two(_context: Context) -> AsyncIterator[bytes]:
    yield b"1"
    yield b"2"


async def run(served: Served) -> list[bytes]:
    return [message.data async for message in served.processes.Run(pb.RunRequest())]


async def test_the_last_message_comes_after_the_others_and_before_a_good_end(log: Log) -> None:
    """Nothing of the way it travels shows, in the log neither."""
    async with serving(Ending(stream=two)) as served, asyncio.timeout(DEADLINE):
        received = await run(served)
        line = await log.find("call ended")

    assert received == [b"1", b"2", b"last"]
    assert (line["code"], line["messages_out"], line["bytes_out"]) == ("OK", 3, 3 + 3 + 6)


async def test_a_last_message_may_be_the_only_one() -> None:
    """As that of a command that ends at once."""
    async with serving(Ending()) as served, asyncio.timeout(DEADLINE):
        assert await run(served) == [b"last"]


async def test_a_stream_that_fails_before_its_last_message_ends_with_the_error() -> None:
    """Errors take the way they take everywhere."""

    async def failing(context: Context) -> AsyncIterator[bytes]:
        yield b"first"
        await context.abort(grpc.StatusCode.DATA_LOSS, "mine")

    async with serving(Ending(stream=failing)) as served, asyncio.timeout(DEADLINE):
        call = aiter(served.processes.Run(pb.RunRequest()))
        first = await anext(call)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await anext(call)

    assert first.data == b"first"
    assert caught.value.code() is grpc.StatusCode.DATA_LOSS


async def test_a_stream_that_breaks_its_promise_is_a_defect(log: Log) -> None:
    """An end without a last message would otherwise be told as an empty one."""
    puppet = Ending(stream=two)
    puppet.final = None
    async with serving(puppet) as served, asyncio.timeout(DEADLINE):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await run(served)
        line = await log.find("call failed by a defect")

    assert details(caught.value)[1].reason == "DEFECT"
    assert "NoLastMessage" in line["exception"]


async def test_a_reader_that_never_takes_the_last_message_does_not_hold_the_server_up() -> None:
    """It is gRPC that sends it, and the end of the server is bounded all the same."""
    puppet = Ending()
    puppet.final = bytes(16 << 20)
    async with serving(puppet) as served, asyncio.timeout(DEADLINE):
        stuck = served.processes.Run(pb.RunRequest())
        await stuck.initial_metadata()

        await served.server.drain(0.01)

        assert "0 calls" in repr(served.server)
        stuck.cancel()
