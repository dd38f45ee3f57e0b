"""The connection that all callers of a client share."""

import asyncio

from guyline.client.address import to_address
from guyline.client.connection import Connection
from guyline.client.credentials import Credentials
from guyline.client.errors import AgentUnreachable
from guyline.client.patience import Outage
from tests.support.agent import RunningAgent
from tests.support.clock import DEADLINE


class Watched(Outage):
    """Says when a caller has asked in vain; ``pause`` seconds then, or its own."""

    def __init__(self, *, pause: float | None = None) -> None:
        super().__init__(patience=2 * DEADLINE)
        self.asked_in_vain = asyncio.Event()
        self._pause = pause
        self._failures = 0

    def failed(self, now: float, *, retry_after: float | None = None, luck: float | None = None) -> float | None:
        """As an outage, but for the pause."""
        self._failures += 1
        if self._failures == 2:
            self.asked_in_vain.set()  # once for the break itself, once for the question whether anybody is there
        delay = super().failed(now, retry_after=retry_after, luck=luck)
        return delay if self._pause is None else self._pause


async def test_the_first_caller_that_finds_the_agent_back_wakes_the_others(agent: RunningAgent) -> None:
    """Of many callers of an agent that is only there for moments, some would otherwise always come too late."""
    connection = Connection(
        address=to_address(agent.address), credentials=Credentials(), metadata=(), patience=60, connect_timeout=1
    )
    lost = AgentUnreachable("the connection failed")
    eager, drowsy = Watched(), Watched(pause=3600)
    await connection.open()
    await agent.stop()

    async with asyncio.timeout(1.5 * DEADLINE), asyncio.TaskGroup() as group:
        group.create_task(connection.restore(drowsy, lost))
        group.create_task(connection.restore(eager, lost))
        await eager.asked_in_vain.wait()
        await agent.start_again()
    await connection.close()

    assert not drowsy.asked_in_vain.is_set(), "it was woken, and asked with success"
