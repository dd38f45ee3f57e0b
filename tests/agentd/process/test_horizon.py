"""Keys that are forgotten for room, before their time: nothing starts again behind the horizon, all does in front."""

import errno
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from guyline.agentd.process.errors import KeyExpired
from guyline.agentd.process.spec import Key
from tests.agentd.process.simulated import DAY, HOUR, OWNER, World, simulated


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """One with a clock of its own: ended processes are kept for an hour, keys for a day."""
    async with simulated(tmp_path) as made:
        yield made


async def crowd(world: World) -> list[Key]:
    """More keys than are remembered in these tests, one a second; each was used."""
    keys = []
    for _ in range(30):
        world.time.pass_by(1)
        keys.append(world.key())
        await world.run(key=keys[-1])
    return keys


def forget_and_set_back(world: World, key: Key) -> None:
    """Two hours pass; then somebody sets the clock to a minute before the key was made."""
    world.sweep()
    world.time.pass_by(2 * HOUR)
    world.sweep()
    world.time.jump(key.created_at - 60 - world.time.wall)
    world.sweep()


async def test_keys_that_were_forgotten_for_room_start_nothing_again(world: World) -> None:
    """Nobody could say of so old a key whether it was used; also after the worker, which forgets, has been replaced."""
    world.remember_at_most(100)
    keys = []
    for _ in range(300):
        keys.append(world.key())
        await world.run(key=keys[-1])
        world.time.pass_by(0.1)
    world.sweep()
    world.sweep()
    remembered = len(world.keys)
    world.close()
    world.open()

    assert remembered <= 100
    assert len(world.keeper.entries) <= 100
    for key in keys[:150]:
        with pytest.raises(KeyExpired):
            await world.start(key=key)
    again = await world.start(key=keys[-1])
    assert not again.is_running
    fresh = await world.start(key=world.key())
    assert fresh.is_running


async def test_keys_that_are_ahead_of_the_clock_shut_out_nobody_else(world: World) -> None:
    """Anybody may make them, by canceling what was never started; and more of them than have room are not taken."""
    world.remember_at_most(100)
    for _ in range(200):
        assert await world.processes.canceling.end_start(world.key(ahead=3000), OWNER.chat_id, grace=0) is None
    world.sweep()
    with pytest.raises(KeyExpired):
        await world.start(key=world.key(ahead=3000))
    world.time.pass_by(1)
    now = await world.start(key=world.key())
    world.close()
    world.open()
    after = await world.start(key=world.key())

    assert (now.is_running, after.is_running) == (True, True)
    assert len(world.keys) <= 202


async def test_a_clock_that_was_ahead_for_a_while_shuts_nobody_out(world: World) -> None:
    """Keys were forgotten then, as from a year to come; what is made after that is good, for later workers as well."""
    world.remember_at_most(100)
    world.time.jump(365 * DAY)
    old = world.key()
    await world.run(key=old)
    world.time.pass_by(1)
    for _ in range(150):
        await world.run(key=world.key())
    world.time.pass_by(2 * HOUR)
    world.sweep()
    world.time.jump(-365 * DAY)
    world.sweep()
    world.time.pass_by(1)
    now = await world.start(key=world.key())
    world.close()
    world.open()
    world.sweep()
    world.time.pass_by(1)
    after = await world.start(key=world.key())
    world.time.jump(365 * DAY)

    assert (now.is_running, after.is_running) == (True, True)
    with pytest.raises(KeyExpired):
        await world.start(key=old)


async def test_a_horizon_that_cannot_be_kept_stops_no_sweep(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk would stay full: nothing that is old would ever be removed."""

    def full(_horizon: float) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(world, "keep_horizon", full)
    world.remember_at_most(3)
    keys = [world.key() for _ in range(5)]
    for key in keys:
        await world.run(key=key)
    world.time.pass_by(2 * HOUR)
    world.sweep()
    listed_when_full = world.listed()
    monkeypatch.undo()
    world.close()
    world.open()
    world.sweep()

    assert listed_when_full == set()
    assert len(world.keys) <= 3
    with pytest.raises(KeyExpired):
        await world.start(key=keys[0])


async def test_a_clock_that_is_set_back_behind_a_key_starts_nothing_again(world: World) -> None:
    """What was forgotten for room may be ahead of the clock then, and is no more known than before."""
    world.remember_at_most(10)
    key = world.key()
    await world.run(key=key)
    await crowd(world)
    forget_and_set_back(world, key)

    with pytest.raises(KeyExpired):
        await world.start(key=key)
    world.time.pass_by(1)
    assert (await world.start(key=world.key())).is_running


async def test_a_clock_that_comes_by_a_forgotten_key_a_second_time_makes_it_no_better(world: World) -> None:
    """Nobody knows any more whether it was used; those that are made now are good."""
    world.remember_at_most(10)
    key = world.key()
    await world.run(key=key)
    world.time.pass_by(600)
    await crowd(world)
    forget_and_set_back(world, key)
    world.time.pass_by(180)

    with pytest.raises(KeyExpired):
        await world.start(key=key)
    assert (await world.start(key=world.key())).is_running


async def test_keys_that_are_forgotten_after_the_clock_was_set_back_start_nothing_again(world: World) -> None:
    """The horizon is ahead then, and still some of what is made from now on is forgotten for room."""
    world.remember_at_most(10)
    await crowd(world)
    world.sweep()
    world.time.jump(-HOUR)
    world.sweep()
    keys = await crowd(world)
    world.sweep()
    world.time.pass_by(2 * HOUR)
    world.time.jump(-2 * HOUR)
    world.sweep()

    with pytest.raises(KeyExpired):
        await world.start(key=keys[0])
    world.time.pass_by(1)
    assert (await world.start(key=world.key())).is_running


async def test_a_clock_that_is_set_back_twice_makes_no_forgotten_key_good(world: World) -> None:
    """What was forgotten while the horizon was still to come stays forgotten."""
    world.remember_at_most(10)
    await crowd(world)
    world.sweep()
    world.time.jump(-5 * HOUR)
    world.sweep()
    world.time.pass_by(600)
    forgotten = world.key()
    await world.run(key=forgotten)
    await crowd(world)
    world.time.pass_by(2 * HOUR)
    world.sweep()
    world.sweep()
    world.time.jump(forgotten.created_at - 10 - world.time.wall)
    world.sweep()
    world.time.pass_by(60)
    world.sweep()

    with pytest.raises(KeyExpired):
        await world.start(key=forgotten)


async def test_behind_a_clock_that_was_set_back_callers_may_be_a_little_ahead(world: World) -> None:
    """As the clocks of two machines are."""
    world.remember_at_most(10)
    await crowd(world)
    world.sweep()
    world.time.jump(-HOUR)
    world.sweep()

    assert (await world.start(key=world.key(ahead=0.02))).is_running
