"""The watchdog looks after the keeper once, however many wait for it, and not at all while it talks.

Which child it kills, and that it frees the keeper, is in ``test_frozen_spawn.py``. White box here, for the sake of
time: it passes when a test says so, and a look, which reads what the kernel says of all children, is only counted.
"""

import asyncio

import pytest

from guyline.agentd.keeper import watchdog
from guyline.agentd.keeper.watchdog import UNFREEZE_AFTER, Watchdog


class Kennel:
    """A watchdog, and the time that it lives in."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.dog = Watchdog(42)
        self.looks: list[int] = []  # the keeper's pid, once for each
        loop = asyncio.get_running_loop()
        self._now = loop.time()
        monkeypatch.setattr(loop, "time", lambda: self._now)
        monkeypatch.setattr(watchdog, "_unexecuted_children", self._look)

    def _look(self, keeper_pid: int) -> list[int]:
        self.looks.append(keeper_pid)
        return []

    async def time_passes(self, seconds: float) -> None:
        """And whatever is due by then is done."""
        self._now += seconds
        await asyncio.sleep(0)  # the loop sees what is due,
        await asyncio.sleep(0)  # and has done it


@pytest.fixture
async def kennel(monkeypatch: pytest.MonkeyPatch) -> Kennel:
    return Kennel(monkeypatch)


async def test_one_looks_for_all_who_wait(kennel: Kennel) -> None:
    """A look for each of a thousand starts, again and again, would leave the worker no time for their answers."""
    for _ in range(1000):
        kennel.dog.waits()
    for _ in range(3):
        await kennel.time_passes(1.5 * UNFREEZE_AFTER)
    kennel.dog.rests()

    assert kennel.looks == [42] * 3


async def test_a_keeper_that_talks_is_left_alone_until_it_falls_silent(kennel: Kennel) -> None:
    """It is busy with others, who came first."""
    kennel.dog.waits()
    for _ in range(10):
        kennel.dog.heard()
        await kennel.time_passes(0.75 * UNFREEZE_AFTER)
    assert not kennel.looks

    await kennel.time_passes(0.75 * UNFREEZE_AFTER)
    kennel.dog.rests()

    assert kennel.looks == [42]


async def test_it_rests_with_the_last_who_waits_and_begins_anew(kennel: Kennel) -> None:
    """What it remembers of an earlier silence says nothing about this one."""
    kennel.dog.waits()
    kennel.dog.rests()
    await kennel.time_passes(2 * UNFREEZE_AFTER)
    kennel.dog.waits()
    await kennel.time_passes(0.75 * UNFREEZE_AFTER)
    assert not kennel.looks

    await kennel.time_passes(0.75 * UNFREEZE_AFTER)
    kennel.dog.rests()

    assert kennel.looks == [42]
