"""The watchdog looks after the keeper once, however many wait for it, and not at all while it talks.

Which child it kills, and that it frees the keeper, is in ``test_frozen_spawn.py``. White box here, for the sake of
time: a look, which reads what the kernel says of all children, is only counted.
"""

import asyncio

import pytest

from guyline.agentd.keeper import watchdog
from guyline.agentd.keeper.watchdog import Watchdog
from tests.support.clock import DEADLINE

PATIENCE = 0.02


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> "asyncio.Queue[int]":
    """The keeper's pid, once for each look."""
    looks: asyncio.Queue[int] = asyncio.Queue()

    def look(keeper_pid: int) -> list[int]:
        looks.put_nowait(keeper_pid)
        return []

    monkeypatch.setattr(watchdog, "UNFREEZE_AFTER", PATIENCE)
    monkeypatch.setattr(watchdog, "_unexecuted_children", look)
    return looks


async def test_one_looks_for_all_who_wait(looks: "asyncio.Queue[int]") -> None:
    """A look for each of a thousand starts, again and again, would leave the worker no time for their answers."""
    dog = Watchdog(42)
    for _ in range(1000):
        dog.waits()
    async with asyncio.timeout(DEADLINE):
        seen = [await looks.get() for _ in range(3)]
    dog.rests()

    assert seen == [42] * 3
    assert looks.empty()


async def test_a_keeper_that_talks_is_left_alone(looks: "asyncio.Queue[int]") -> None:
    """It is busy with others, who came first."""
    dog = Watchdog(42)
    dog.waits()
    loop = asyncio.get_running_loop()
    ends_at = loop.time() + 5 * PATIENCE
    while loop.time() < ends_at:
        dog.heard()
        await asyncio.sleep(0)
    dog.rests()

    assert looks.empty()


async def test_it_rests_with_the_last_who_waits_and_begins_anew(looks: "asyncio.Queue[int]") -> None:
    """What it remembers of an earlier silence says nothing about this one."""
    dog = Watchdog(42)
    dog.waits()
    dog.rests()
    later = asyncio.Event()
    asyncio.get_running_loop().call_later(2 * PATIENCE, later.set)
    await later.wait()
    assert looks.empty()

    dog.waits()
    async with asyncio.timeout(DEADLINE):
        assert await looks.get() == 42
    dog.rests()
