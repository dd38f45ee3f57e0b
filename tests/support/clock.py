"""Time in tests, scaled for slow machines."""

import asyncio
import os
from collections.abc import Callable

SLOWNESS = float(os.environ.get("GUYLINE_TEST_SLOW", "1"))
"""How many times slower than an idle laptop this machine is: stretches every deadline."""

MS = 0.001 * SLOWNESS
"""A millisecond, in seconds."""

DEADLINE = 10_000 * MS
"""How long a test waits for an event that has to come. Nothing is measured by it."""


async def until(condition: Callable[[], bool]) -> None:
    """Asks again and again until it holds: for what tells nobody, such as /proc.

    Raises:
        TimeoutError: It does not hold by the deadline.
    """
    async with asyncio.timeout(DEADLINE):
        while not condition():
            await moment(0.01)


async def moment(seconds: float) -> None:
    """Lets time pass, where the moment itself is what a test varies. Never to wait for something: see ``until``."""
    passed = asyncio.Event()
    asyncio.get_running_loop().call_later(seconds, passed.set)
    await passed.wait()
