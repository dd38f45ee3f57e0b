"""A server that ends tells everybody when to come back, within a bounded time."""

import asyncio
from collections.abc import AsyncIterator

import grpc
import grpc.aio
import pytest

from guyline.agent.v1 import process_service_pb2 as pb
from guyline.rpc import server
from guyline.rpc.caller import Context
from tests.rpc.serving import Puppet, details, serving
from tests.support.clock import DEADLINE


class Endless:
    """A handler that never answers."""

    def __init__(self) -> None:
        self.called = asyncio.Event()

    async def __call__(self, _context: Context) -> None:
        self.called.set()
        await asyncio.Event().wait()


async def endless(_context: Context) -> AsyncIterator[bytes]:
    yield b"first"
    await asyncio.Event().wait()


async def flood(_context: Context) -> AsyncIterator[bytes]:
    while True:
        yield bytes(65536)


async def test_an_open_stream_ends_with_a_time_to_come_back_in_band_and_as_status() -> None:
    """Clients that cannot read error details still know that this was no end of the thing."""
    async with serving(Puppet(stream=endless)) as served, asyncio.timeout(DEADLINE):
        call = aiter(served.processes.Attach(pb.AttachRequest()))
        await anext(call)
        draining = asyncio.create_task(served.server.drain())
        last = await anext(call)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await anext(call)
        await draining

    assert last.control.WhichOneof("signal") == "retry"
    assert last.control.retry.after.ToMilliseconds() == 100
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert details(caught.value)[1].reason == "SHUTTING_DOWN"


async def test_a_unary_call_under_way_is_let_finish() -> None:
    """The answer to an upgrade, for one, must come through."""
    started, go = asyncio.Event(), asyncio.Event()

    async def handle(_context: Context) -> None:
        started.set()
        await go.wait()

    async with serving(Puppet(handle=handle)) as served, asyncio.timeout(DEADLINE):
        call = asyncio.ensure_future(served.processes.Start(pb.StartRequest()))
        await started.wait()
        draining = asyncio.create_task(served.server.drain())
        go.set()
        answer = await call
        await draining

    assert answer.process_id == "p"


async def test_a_unary_call_that_takes_longer_than_the_grace_is_cut_and_may_have_run() -> None:
    """A shutdown is bounded, and the caller learns that repeating may do it twice."""
    handler = Endless()
    async with serving(Puppet(handle=handler)) as served, asyncio.timeout(DEADLINE):
        call = asyncio.ensure_future(served.processes.Start(pb.StartRequest()))
        await handler.called.wait()
        await served.server.drain(0.01)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call

    info = details(caught.value)[1]
    assert (info.reason, info.metadata["outcome"]) == ("SHUTTING_DOWN", "MAY_HAVE_RUN")


async def test_a_unary_call_that_only_waits_is_cut_at_once() -> None:
    """It might wait for minutes, and nobody could call the next server before."""
    handler = Endless()
    async with serving(Puppet(handle=handler)) as served, asyncio.timeout(DEADLINE):
        call = asyncio.ensure_future(served.processes.Wait(pb.ProcessServiceWaitRequest()))
        await handler.called.wait()
        await served.server.drain(grace=10 * DEADLINE)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call

    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert details(caught.value)[1].reason == "SHUTTING_DOWN"


async def test_a_stream_of_a_client_is_cut_at_once() -> None:
    """It may be open for hours; its sender goes on with the next server, where the stream had got to."""
    handler = Endless()
    async with serving(Puppet(handle=handler)) as served, asyncio.timeout(DEADLINE):
        call = served.processes.WriteInputStream()
        await call.write(pb.WriteInputStreamRequest(process_id="p"))
        await handler.called.wait()
        await served.server.drain(grace=10 * DEADLINE)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call

    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert details(caught.value)[1].reason == "SHUTTING_DOWN"


async def test_a_new_call_while_draining_is_refused_as_not_started() -> None:
    """It can be repeated as it is, elsewhere or in a moment."""
    handler = Endless()
    async with serving(Puppet(handle=handler)) as served, asyncio.timeout(DEADLINE):
        call = asyncio.ensure_future(served.processes.Start(pb.StartRequest()))
        await handler.called.wait()
        draining = asyncio.create_task(served.server.drain())
        await asyncio.sleep(0)  # lets it begin
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await served.processes.List(pb.ProcessServiceListRequest())
        call.cancel()
        await draining

    info = details(caught.value)[1]
    assert (info.reason, info.metadata["outcome"]) == ("SHUTTING_DOWN", "NOT_STARTED")


async def test_a_reader_that_has_stopped_reading_does_not_hold_the_server_up() -> None:
    """Its stream is stuck in a send; the end of the server must not be."""
    async with serving(Puppet(stream=flood)) as served, asyncio.timeout(DEADLINE):
        stuck = served.processes.Attach(pb.AttachRequest())
        await anext(aiter(stuck))

        await served.server.drain(0.01)

        assert "0 calls" in repr(served.server)


async def test_the_end_of_a_process_leaves_the_last_caller_time_to_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """gRPC drops what a client has not read once a write of its own meets the closed connection."""
    monkeypatch.setattr(server, "_READ_WITHIN", 3600)
    async with serving(ends_with_process=True) as served, asyncio.timeout(DEADLINE):
        await served.processes.List(pb.ProcessServiceListRequest())
        leaving = asyncio.create_task(served.server.__aexit__(None, None, None))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await served.processes.List(pb.ProcessServiceListRequest())
        is_waiting = not leaving.done()
        leaving.cancel()
        monkeypatch.undo()
        assert served.server._server
        await served.server._server.stop(None)  # no process ends here

    assert is_waiting
    assert details(caught.value)[1].reason == "SHUTTING_DOWN"


async def test_leaving_the_block_drains() -> None:
    """Nobody has to remember it."""
    async with asyncio.timeout(DEADLINE):
        async with serving(Puppet(stream=endless)) as served:
            call = aiter(served.processes.Attach(pb.AttachRequest()))
            await anext(call)
            leaving = asyncio.create_task(served.server.__aexit__(None, None, None))
            last = await anext(call)
            await leaving

    assert last.control.HasField("retry")
