"""The generated betterproto client speaks to an agent: other languages' clients are made from the same protos."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from grpclib.client import Channel

from guyline_betterproto.guyline.agent.v1 import (
    ProcessServiceListRequest,
    ProcessServiceStub,
    RunRequest,
    StartRequest,
)
from tests.support.agent import RunningAgent


@asynccontextmanager
async def stub_of(socket: Path) -> AsyncIterator[ProcessServiceStub]:
    async with Channel(path=str(socket)) as channel:
        yield ProcessServiceStub(channel)


async def test_run_streams_the_output_and_then_the_exit(shared_agent: RunningAgent) -> None:
    """The whole of a command's life in one call, over another gRPC implementation."""
    async with stub_of(shared_agent.process.socket) as stub:
        start = StartRequest(argv=["sh", "-c", "printf 'a\\0b'; exit 3"])
        messages = [message async for message in stub.run(RunRequest(start=start))]

    assert b"".join(message.data for message in messages) == b"a\0b"
    exit_ = messages[-1].exit
    assert exit_ is not None
    assert exit_.code == 3


async def test_the_process_is_listed_afterwards(shared_agent: RunningAgent) -> None:
    """Messages within messages, enums and times come through as well."""
    async with stub_of(shared_agent.process.socket) as stub:
        messages = [message async for message in stub.run(RunRequest(start=StartRequest(command="true # listed")))]
        listed = await stub.list(ProcessServiceListRequest(max_ended=50))

    ran = messages[0].process
    assert ran is not None
    found = {process.process_id: process for process in listed.processes}[ran.process_id]
    assert found.command == "true # listed"
    assert found.started_at is not None
