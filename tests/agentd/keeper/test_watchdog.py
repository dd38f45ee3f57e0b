"""The watchdog looks after the keeper once, however many wait for it, and not at all while it talks.

Which child it kills, and that it frees the keeper, is in ``test_frozen_spawn.py``. White box here, for the sake of
time: it passes when a test says so, and a look, which reads what the kernel says of all children, is only counted.
"""

import asyncio
import signal
import sys

import pytest

from guyline.agentd.keeper import watchdog
from guyline.agentd.keeper.watchdog import UNFREEZE_AFTER, Stillness, Watchdog
from tests.support import proc
from tests.support.clock import DEADLINE, until

LOOK_AGAIN = UNFREEZE_AFTER / 2


class Kennel:
    """A watchdog, and the time that it lives in."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.dog = Watchdog(42)
        self.looks: list[int] = []  # the keeper's pid, once for each
        self.still: dict[int, Stillness] = {}
        """What each look finds."""
        loop = asyncio.get_running_loop()
        self._now = loop.time()
        monkeypatch.setattr(loop, "time", lambda: self._now)
        monkeypatch.setattr(watchdog, "_still_children", self._look)

    def _look(self, keeper_pid: int) -> dict[int, Stillness]:
        self.looks.append(keeper_pid)
        return self.still

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
        await kennel.time_passes(1.5 * LOOK_AGAIN)
    kennel.dog.rests()

    assert kennel.looks == [42] * 3


async def test_a_keeper_that_talks_is_left_alone_until_it_falls_silent(kennel: Kennel) -> None:
    """It is busy with others, who came first."""
    kennel.dog.waits()
    for _ in range(10):
        kennel.dog.heard()
        await kennel.time_passes(0.75 * LOOK_AGAIN)
    assert not kennel.looks

    await kennel.time_passes(0.75 * LOOK_AGAIN)
    kennel.dog.rests()

    assert kennel.looks == [42]


async def test_it_rests_with_the_last_who_waits_and_begins_anew(kennel: Kennel) -> None:
    """What it remembers of an earlier silence says nothing about this one."""
    kennel.dog.waits()
    kennel.dog.rests()
    await kennel.time_passes(2 * LOOK_AGAIN)
    kennel.dog.waits()
    await kennel.time_passes(0.75 * LOOK_AGAIN)
    assert not kennel.looks

    await kennel.time_passes(0.75 * LOOK_AGAIN)
    kennel.dog.rests()

    assert kennel.looks == [42]


async def test_only_who_has_not_moved_since_the_last_look_is_killed(kennel: Kennel) -> None:
    """Whoever waits for a CPU or a slow disk moves, if only a little."""
    child = await asyncio.create_subprocess_exec("sleep", "1000")
    kennel.dog.waits()
    for switches in range(5):
        kennel.still = {child.pid: Stillness(start_ticks=1, switches=switches)}
        await kennel.time_passes(LOOK_AGAIN)
    assert proc.is_alive(child.pid)

    await kennel.time_passes(LOOK_AGAIN)
    kennel.dog.rests()

    assert await asyncio.wait_for(child.wait(), DEADLINE) == -signal.SIGKILL


_TWO_CHILDREN = """
import os, signal, sys
children = []
for work in (signal.pause, lambda: exec("while True: pass")):
    if not (pid := os.fork()):
        work()
    children.append(pid)
print(*children, flush=True)
sys.stdin.read()
for pid in children:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
"""


async def test_who_could_run_is_not_still() -> None:
    """However long the machine gives it nothing to do so."""
    command = (sys.executable, "-c", _TWO_CHILDREN)
    keeper = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert keeper.stdout
    waiting, _running = map(int, (await asyncio.wait_for(keeper.stdout.readline(), DEADLINE)).split())
    try:
        await until(lambda: waiting in watchdog._still_children(keeper.pid))
        found = watchdog._still_children(keeper.pid)
    finally:
        await keeper.communicate(b"")

    assert found.keys() == {waiting}
