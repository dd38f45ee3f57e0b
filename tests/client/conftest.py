"""What the SDK's tests share."""

from collections.abc import AsyncIterator

import pytest

from guyline.agent.v1 import process_service_pb2 as pb
from guyline.client import AsyncAgent, AsyncProcess
from tests.client.scripted import ScriptedAgent, gives, process, scripted_agent
from tests.support.clock import DEADLINE


@pytest.fixture
async def scripted() -> AsyncIterator[ScriptedAgent]:
    """An agent that follows a script."""
    async with scripted_agent() as agent:
        yield agent


@pytest.fixture
async def client(scripted: ScriptedAgent) -> AsyncIterator[AsyncAgent]:
    """A client of the scripted agent, which has met it."""
    async with AsyncAgent(scripted.address, patience=DEADLINE) as agent:
        yield agent


@pytest.fixture
async def handle(scripted: ScriptedAgent, client: AsyncAgent) -> AsyncProcess:
    """A process of the script."""
    scripted.plays(gives(pb.StartResponse(process=process())))
    handle = await client.start(["serve"])
    scripted.calls.clear()
    return handle
