"""What is too much, or never comes whole, is refused in so many words, and leaves its line in the log like any call."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from google.rpc.error_details_pb2 import RetryInfo

from guyline.agent.v1 import process_service_pb2 as pb
from guyline.daemon.metrics import PrometheusMetrics
from guyline.rpc.call_metrics import CallMetrics
from guyline.rpc.caller import Context
from guyline.rpc.token import TokenAuthentication, TokenFile
from tests.rpc.serving import Log, Puppet, details, serving
from tests.support.clock import DEADLINE

START = "guyline.agent.v1.ProcessService/Start"
LIMIT = 1 << 16


async def endless(_context: Context) -> AsyncIterator[bytes]:
    yield b"first"
    await asyncio.Event().wait()


async def test_a_call_too_many_is_refused_until_another_ends(log: Log) -> None:
    """Callers learn that waiting helps, and operators that somebody leaks calls."""
    async with serving(Puppet(stream=endless), max_calls=1) as served, asyncio.timeout(DEADLINE):
        first = served.processes.Attach(pb.AttachRequest())
        await anext(aiter(first))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await served.processes.Start(pb.StartRequest())
        line = await log.find("call ended", code="RESOURCE_EXHAUSTED")
        first.cancel()
        await log.find("call ended", code="CANCELLED")
        answer = await served.processes.Start(pb.StartRequest())

    status, info = details(caught.value)
    retry = RetryInfo()
    assert (info.reason, info.metadata["outcome"]) == ("TOO_MANY_CALLS", "NOT_STARTED")
    assert info.metadata["max_calls"] == "1"
    assert status.details[1].Unpack(retry)
    assert (line["rpc"], line["reason"]) == (START, "TOO_MANY_CALLS")
    assert answer.process_id == "p"


async def test_a_request_over_the_limit_is_refused_with_both_sizes(log: Log) -> None:
    """A caller that knows the limit can send in parts."""
    async with serving(max_request_bytes=LIMIT) as served:
        largest = pb.StartRequest(command="x" * (LIMIT - 4))
        assert largest.ByteSize() == LIMIT
        await served.processes.Start(largest)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await served.call(START, bytes(LIMIT + 1))
        line = await log.find("call ended", reason="REQUEST_TOO_LARGE")

    info = details(caught.value)[1]
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert (info.metadata["bytes"], info.metadata["max_request_bytes"]) == (str(LIMIT + 1), str(LIMIT))
    assert info.metadata["outcome"] == "NOT_STARTED"
    assert (line["rpc"], line["code"], line["bytes_in"]) == (START, "RESOURCE_EXHAUSTED", LIMIT + 1)


async def test_a_request_far_over_the_limit_is_never_read_but_logged_and_counted(log: Log) -> None:
    """gRPC cuts it off by itself, and does not say why to anybody but the caller."""
    metrics = PrometheusMetrics()
    async with serving(observers=(CallMetrics(metrics),), max_request_bytes=LIMIT) as served:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await served.call(START, bytes(5 * LIMIT))
        line = await log.find("call ended", rpc=START)
        await served.processes.Start(pb.StartRequest())

    labels = {"rpc": START, "code": "CANCELLED"}
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert (line["code"], line["messages_in"]) == ("CANCELLED", 0)
    assert metrics.registry.get_sample_value("guyline_rpc_ended_total", labels) == 1


async def test_a_call_without_a_request_is_invalid_and_logged(log: Log) -> None:
    """A client whose program forgot to send it would wait for ever, or learn nothing."""
    async with serving() as served, asyncio.timeout(DEADLINE):
        start: Any = served.channel.stream_unary(f"/{START}")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await start(iter(()))
        line = await log.find("call ended", rpc=START)

    assert details(caught.value)[1].reason == "INVALID_INPUT"
    assert (line["code"], line["messages_in"]) == ("INVALID_ARGUMENT", 0)


async def test_a_caller_that_gives_up_before_its_request_is_logged_as_such(log: Log) -> None:
    """Nobody was refused."""
    async with serving() as served, asyncio.timeout(DEADLINE):
        start: Any = served.channel.stream_unary(f"/{START}")
        call = start()
        await call.wait_for_connection()
        call.cancel()
        line = await log.find("call ended", rpc=START)

    assert line["code"] == "CANCELLED"


async def test_a_stranger_is_refused_before_the_request_is_read(log: Log, tmp_path: Path) -> None:
    """Whoever has no credential costs no memory either."""
    token = tmp_path / "token"
    token.touch(0o600)
    token.write_text("0123456789abcdef0123456789abcdef")
    authentication = TokenAuthentication(TokenFile(token))
    async with serving(authentication=authentication) as served:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await served.call(START, bytes(1 << 20))
        line = await log.find("call ended", rpc=START)

    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert line["messages_in"] == 0
