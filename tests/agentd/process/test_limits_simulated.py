"""Limits of time over a day that passes in a moment, on clocks that are set, and on a machine that sleeps."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from guyline.agentd.process.exit import TimeLimit
from guyline.agentd.process.process import Process
from guyline.agentd.process.spec import TimeLimits
from tests.agentd.process.simulated import DAY, HOUR, World, simulated
from tests.support.clock import until

MINUTE = 60.0


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """One with a clock of its own."""
    async with simulated(tmp_path) as made:
        yield made


async def limited(world: World, **limits: float) -> Process:
    """A running process that has printed what it will ever print."""
    process = await world.start(limits=TimeLimits(**limits))
    await until(lambda: not process.output.is_open)
    return process


async def test_a_build_of_ten_hours_ends_at_its_limit_and_not_before(world: World) -> None:
    """A minute before it runs, a minute after it does not."""
    process = await limited(world, timeout=10 * HOUR)
    world.time.pass_by(10 * HOUR - MINUTE)
    before = process.note.struck
    world.time.pass_by(2 * MINUTE)
    exit_ = await process.wait()

    assert before is None
    assert process.note.struck is TimeLimit.TIMEOUT
    assert exit_.signal == 15


async def test_a_day_of_starts_with_limits_leaves_nothing_behind(world: World) -> None:
    """One every ten minutes, each with an hour; at no moment more than those of the last hour run."""
    for _ in range(24 * 6):
        await limited(world, timeout=HOUR)
        world.time.pass_by(10 * MINUTE)
        await until(lambda: len(world.processes.running) <= 6)
        world.sweep()
    world.time.pass_by(DAY)
    await until(lambda: not world.processes.running)
    world.time.pass_by(2 * HOUR)
    world.sweep()

    assert not list(world.processes)
    assert not world.keeper.entries


async def test_a_clock_that_is_set_makes_no_limit_strike(world: World) -> None:
    """A day ahead, a day back: what counts is the time that passes."""
    process = await limited(world, timeout=HOUR, idle_timeout=HOUR)
    world.time.jump(DAY)
    world.time.pass_by(30 * MINUTE)
    world.time.jump(-2 * DAY)
    world.time.pass_by(29 * MINUTE)
    before = process.note.struck
    world.time.pass_by(2 * MINUTE)
    await process.wait()

    assert before is None
    assert process.note.struck is TimeLimit.TIMEOUT


async def test_a_machine_that_sleeps_makes_no_limit_strike(world: World) -> None:
    """Nothing could run meanwhile, so nothing was too slow."""
    process = await limited(world, timeout=HOUR, idle_timeout=10 * MINUTE)
    world.time.pass_by(MINUTE)
    world.time.sleep(8 * HOUR)
    world.time.pass_by(MINUTE)

    assert process.is_running
    world.time.pass_by(10 * MINUTE)
    await process.wait()
    assert process.note.struck is TimeLimit.IDLE_TIMEOUT


@pytest.mark.parametrize(("limit", "left"), [("timeout", 25 * MINUTE), ("idle_timeout", 25 * MINUTE)])
async def test_a_new_worker_goes_on_with_the_time_that_has_passed(world: World, limit: str, left: float) -> None:
    """And not from its own beginning."""
    process_id = (await limited(world, **{limit: HOUR})).process_id
    world.time.pass_by(35 * MINUTE)
    world.close()
    world.open()
    process = world.processes.find(process_id)
    assert process
    world.time.pass_by(left - MINUTE)
    before = process.note.struck
    world.time.pass_by(2 * MINUTE)
    await process.wait()

    assert before is None
    assert process.note.struck is TimeLimit(limit)


async def test_after_the_clock_was_set_a_new_worker_gives_the_benefit_of_the_doubt(world: World) -> None:
    """When its output grew last can then not be told, and ending a process that is busy would be worse."""
    process_id = (await limited(world, idle_timeout=HOUR)).process_id
    world.time.pass_by(50 * MINUTE)
    world.close()
    world.time.jump(-DAY)
    world.open()
    process = world.processes.find(process_id)
    assert process
    world.time.pass_by(50 * MINUTE)
    before = process.note.struck
    world.time.pass_by(20 * MINUTE)
    await process.wait()

    assert before is None
    assert process.note.struck is TimeLimit.IDLE_TIMEOUT
