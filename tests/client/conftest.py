"""What the SDK's tests share."""

from collections.abc import AsyncIterator

import pytest

from guyline.client import AsyncAgent
from tests.client.scripted import ScriptedAgent, scripted_agent
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
