"""Whatever goes wrong in a call, its caller gets a status that says what to do, and the server lives on."""

import asyncio
from collections.abc import AsyncIterator

import grpc
import grpc.aio
import pytest
from google.rpc.error_details_pb2 import (
    BadRequest,
    ResourceInfo,
    RetryInfo,
)

from guyline.agent.v1 import process_service_pb2 as pb
from guyline.errors import GuylineError, NotFound, ShuttingDown
from guyline.rpc.caller import Context
from tests.rpc.serving import Log, Puppet, Served, details, serving
from tests.support.clock import DEADLINE

LIST = "guyline.agent.v1.ProcessService/List"


class ProcessNotFound(NotFound):
    reason = "PROCESS_NOT_FOUND"
    resource_type = "process"

    def __init__(self) -> None:
        super().__init__("no process 'x'", resource_name="x", process_id="x")


def raising(error: Exception) -> Puppet:
    async def handle(_context: Context) -> None:
        raise error

    async def stream(_context: Context) -> AsyncIterator[bytes]:
        yield b"first"
        raise error

    return Puppet(handle=handle, stream=stream)


async def test_a_domain_error_becomes_a_status_with_code_reason_facts_and_resource(log: Log) -> None:
    """Programs decide by the reason, people read the message."""
    async with serving(raising(ProcessNotFound())) as served:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await served.processes.List(pb.ProcessServiceListRequest())

    status, info = details(caught.value)
    resource = ResourceInfo()
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert status.message == caught.value.details() == "no process 'x'"
    assert (info.domain, info.reason) == ("guyline", "PROCESS_NOT_FOUND")
    assert dict(info.metadata) == {"process_id": "x", "outcome": "NOT_STARTED", "hop": "AGENT"}
    assert status.details[1].Unpack(resource)
    assert (resource.resource_type, resource.resource_name) == ("process", "x")
    assert (await log.find("call ended"))["reason"] == "PROCESS_NOT_FOUND"


async def test_an_error_in_mid_stream_comes_after_what_was_sent_before() -> None:
    """A stream that fails late still gives what it had."""
    async with serving(raising(ProcessNotFound())) as served:
        call = served.processes.Attach(pb.AttachRequest())
        first = await anext(aiter(call))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await anext(aiter(call))

    assert first.data == b"first"
    assert details(caught.value)[1].reason == "PROCESS_NOT_FOUND"


async def last_of(served: Served) -> object:
    """Reads a stream to its end."""
    return [each async for each in served.processes.Attach(pb.AttachRequest())]


@pytest.mark.parametrize("streams", [False, True])
async def test_a_defect_is_an_incident_whose_traceback_is_in_the_log_alone(log: Log, streams: bool) -> None:
    """The caller must not read our insides, the operator must be able to find them."""
    async with serving(raising(ValueError("inside knowledge"))) as served:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await (last_of(served) if streams else served.processes.List(pb.ProcessServiceListRequest()))
        info = details(caught.value)[1]
        line = await log.find("call failed by a defect", incident=info.metadata["incident"])

    assert caught.value.code() is grpc.StatusCode.INTERNAL
    assert (info.reason, info.metadata["outcome"]) == ("DEFECT", "MAY_HAVE_RUN")
    assert "inside knowledge" not in str(caught.value)
    assert "Traceback" in line["exception"]
    assert "inside knowledge" in line["exception"]
    assert line["rpc"].startswith("guyline.agent.v1.ProcessService/")


async def test_garbage_instead_of_a_request_is_invalid_input(log: Log) -> None:
    """gRPC alone answers UNKNOWN with the parser's words."""
    async with serving() as served:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await served.call(LIST, b"\xff\xff\xff")
        await served.processes.List(pb.ProcessServiceListRequest())

    status, info = details(caught.value)
    violations = BadRequest()
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert info.reason == "INVALID_INPUT"
    assert status.details[1].Unpack(violations)
    assert violations.field_violations[0].field == "request"
    assert await log.find("call ended", reason="INVALID_INPUT", bytes_in=3)


@pytest.mark.parametrize("rpc", ["guyline.agent.v1.ProcessService/Nope", "no.Such/Thing", "x"])
async def test_an_unknown_method_is_refused_with_its_name_and_logged(log: Log, rpc: str) -> None:
    """A client that is newer than the daemon sees at once what is missing, and so does the operator."""
    async with serving() as served:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await served.call(rpc)

    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert details(caught.value)[1].reason == "METHOD_UNKNOWN"
    assert await log.find("call ended", code="UNIMPLEMENTED", rpc=rpc)


async def test_a_time_to_come_back_goes_with_what_is_unavailable() -> None:
    """A client that knows when to retry need not guess."""
    async with serving(raising(ShuttingDown())) as served:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await served.processes.List(pb.ProcessServiceListRequest())

    retry = RetryInfo()
    assert details(caught.value)[0].details[1].Unpack(retry)
    assert retry.retry_delay.ToMilliseconds() == 100


async def test_a_handler_may_abort_by_itself(log: Log) -> None:
    """Services with codes of their own (health, coder.*) are left alone."""

    async def handle(context: Context) -> None:
        await context.abort(grpc.StatusCode.DATA_LOSS, "mine")

    async with serving(Puppet(handle=handle)) as served:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await served.processes.List(pb.ProcessServiceListRequest())

    assert (caught.value.code(), caught.value.details()) == (grpc.StatusCode.DATA_LOSS, "mine")
    assert await log.find("call ended", code="DATA_LOSS")


@pytest.mark.parametrize("messages", [0, 1, 2, 20])
async def test_a_stream_may_abort_by_itself_after_any_number_of_messages(log: Log, messages: int) -> None:
    """What it sent before arrives, and its own code after that."""

    async def stream(context: Context) -> AsyncIterator[bytes]:
        for _ in range(messages):
            yield bytes(100_000)
        await context.abort(grpc.StatusCode.DATA_LOSS, "mine")

    async with serving(Puppet(stream=stream)) as served, asyncio.timeout(DEADLINE):
        call = served.processes.Attach(pb.AttachRequest())
        replies = aiter(call)
        received = [await anext(replies) for _ in range(messages)]
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await anext(replies)

    assert [len(each.data) for each in received] == [100_000] * messages
    assert (caught.value.code(), caught.value.details()) == (grpc.StatusCode.DATA_LOSS, "mine")
    assert await log.find("call ended", code="DATA_LOSS", messages_out=messages)


async def test_a_status_that_is_on_its_way_when_the_call_is_cut_is_the_one_in_the_log(log: Log) -> None:
    """The caller has it: an operator who reads of CANCELLED would look for somebody who hung up."""

    async def handle(context: Context) -> None:
        task = asyncio.current_task()
        assert task
        task.cancel()  # strikes while the status is being sent
        await context.abort(grpc.StatusCode.DATA_LOSS, "mine")

    async with serving(Puppet(handle=handle)) as served:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await served.processes.List(pb.ProcessServiceListRequest())
        line = await log.find("call ended")

    assert caught.value.code() is grpc.StatusCode.DATA_LOSS
    assert line["code"] == "DATA_LOSS"


async def test_a_caller_that_hangs_up_cancels_its_handler_and_only_that(log: Log) -> None:
    """An abandoned stream must not run on, and its generator must be closed at once."""
    started, closed = asyncio.Event(), asyncio.Event()

    async def stream(_context: Context) -> AsyncIterator[bytes]:
        yield b"first"
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            closed.set()

    async with serving(Puppet(stream=stream)) as served, asyncio.timeout(DEADLINE):
        call = served.processes.Attach(pb.AttachRequest())
        await anext(aiter(call))
        await started.wait()
        call.cancel()
        await closed.wait()
        await served.processes.List(pb.ProcessServiceListRequest())

    assert await log.find("call ended", code="CANCELLED", messages_out=1)


async def test_a_call_whose_time_runs_out_is_logged_as_such(log: Log) -> None:
    """CANCELLED in the log would send the operator looking for a caller who hung up."""

    async def handle(_context: Context) -> None:
        await asyncio.Event().wait()

    async with serving(Puppet(handle=handle)) as served:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await served.processes.List(pb.ProcessServiceListRequest(), timeout=1)
        line = await log.find("call ended")

    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert line["code"] == "DEADLINE_EXCEEDED"


class Unfortunate(GuylineError):
    """A class whose author forgot the family."""

    reason = "DEFECT"


async def test_an_error_without_a_family_is_still_a_status() -> None:
    """A mistake in one error class must not turn into a bare UNKNOWN."""
    async with serving(raising(Unfortunate("oops"))) as served:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await served.processes.List(pb.ProcessServiceListRequest())

    assert caught.value.code() is grpc.StatusCode.INTERNAL
