"""What is forgotten when: days pass in a moment, and wall clocks are set."""

import asyncio
import errno
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast
from unittest import mock

import pytest

from guyline.agentd.main import _sweep
from guyline.agentd.process.errors import KeyExpired, ProcessNotFound, StartCanceled
from guyline.agentd.process.processes import Processes
from guyline.agentd.process.spec import DEFAULT_GRACE, Key
from tests.agentd.process.simulated import DAY, HOUR, OWNER, World, simulated
from tests.support.clock import DEADLINE

MINUTE = 60.0


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """One with a clock of its own: ended processes are kept for an hour, keys for a day."""
    async with simulated(tmp_path) as made:
        yield made


async def test_the_first_sweep_is_at_the_start() -> None:
    """§17 no. 5: what grew old while no agent ran goes at once, and nobody has to list anything for it."""
    swept = asyncio.Event()

    def sweep() -> Iterator[None]:
        swept.set()
        yield

    processes = SimpleNamespace(sweep=sweep, bounds=SimpleNamespace(ended_retention=DAY))
    task = asyncio.create_task(_sweep(cast("Processes", processes)))
    await asyncio.wait_for(swept.wait(), DEADLINE)
    task.cancel()


@pytest.mark.parametrize("failure", [OSError(errno.EIO, "the disk fails"), KeyError("a defect")])
async def test_a_sweep_that_fails_is_not_the_last(failure: Exception) -> None:
    """Neither a disk that fails for a moment nor what nobody foresaw must end all forgetting."""
    failed, swept = asyncio.Event(), asyncio.Event()

    def sweep() -> Iterator[None]:
        if not failed.is_set():
            failed.set()
            raise failure
        swept.set()
        yield

    processes = SimpleNamespace(sweep=sweep, bounds=SimpleNamespace(ended_retention=0))
    task = asyncio.create_task(_sweep(cast("Processes", processes)))
    await asyncio.wait_for(swept.wait(), DEADLINE)
    task.cancel()

    assert failed.is_set()


async def test_after_days_of_processes_nothing_is_left_but_what_runs(world: World) -> None:
    """Hundreds of them, with and without keys: each is listed for its hour, its key known for its day, and no more."""
    running = await world.start()
    keys: list[Key] = []
    most_known = 0
    for _ in range(40):
        for _ in range(5):
            keys.append(world.key())
            await world.run(key=keys[-1])
            await world.run()
        fence = world.key()
        await world.processes.canceling.end_start(fence, None, grace=DEFAULT_GRACE)
        world.time.pass_by(HOUR / 2)
        world.sweep()
        most_known = max(most_known, len(world.keeper.entries))
        assert len(world.listed()) <= 1 + 3 * 10
    after = len(world.keys), len(world.keeper.entries)
    for _ in range(30):
        world.time.pass_by(HOUR)
        world.sweep()

    keyed = 40 * 6  # all of the last day, and an hour more for clocks that differ
    assert after == (keyed, 1 + keyed + 2 * 5)
    assert most_known <= 1 + keyed + 3 * 5
    assert world.listed() == set(world.keeper.entries) == {running.process_id}
    assert len(list(world.processes)) == 1
    assert len(world.keys) == 0
    assert world.journals.names_on_disk() <= {running.process_id}


async def test_what_is_forgotten_is_not_found(world: World) -> None:
    """With a key or without, by whoever asks; the key itself still leads to how it ended."""
    key = world.key()
    over = [await world.run(key=key), await world.run()]
    world.time.pass_by(HOUR + 1)
    world.sweep()

    for process in over:
        with pytest.raises(ProcessNotFound):
            world.processes.get(process.process_id, OWNER)
    again = await world.start(key=key)
    assert again is over[0]
    assert again.exit is not None


async def test_what_is_removed_during_a_sweep_ends_no_sweep(world: World) -> None:
    """A sweep gives others their turn, and a caller that tidies up looks for the same processes."""
    over = [await world.run() for _ in range(3)]
    world.time.pass_by(HOUR + 1)
    steps = world.processes.sweep()
    next(steps)
    for process in over:
        if process.process_id in world.listed():
            world.processes.remove(process)
    left = list(steps)

    assert len(left) == 2
    assert not world.listed()
    assert not world.keeper.entries


async def test_what_was_left_behind_is_kept_for_an_hour_after_its_last_output(world: World) -> None:
    """A job in the background may outlive its shell by hours, and nobody could read how it went."""
    world.starter.leaves_open = True
    process = await world.run()
    [printing] = world.starter.left_open
    world.time.pass_by(5 * HOUR)
    world.sweep()
    os.write(printing, b"the result\n")
    with process.output.bell() as bell:
        while process.output.journal.size < len(b"printed\nthe result\n"):
            assert await bell.wait(DEADLINE)
    os.utime(process.output.journal.path, (world.time.wall, world.time.wall))  # the disk's clock is the machine's
    os.close(printing)
    await world.output_closed(process)
    world.sweep()
    at_first = world.listed()
    world.close()
    world.open()
    world.sweep()
    with_the_next_worker = world.listed()
    world.time.pass_by(HOUR + 1)
    world.sweep()

    assert at_first == with_the_next_worker == {process.process_id}
    assert not world.listed()


async def test_who_waits_for_the_disk_finds_out_that_the_output_is_gone(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is removed meanwhile must neither count as kept again, nor be taken for a disk that fails."""
    process = await world.run()
    size = process.output.journal.size

    def must_wait(*_: object) -> int:
        raise BlockingIOError(errno.EAGAIN, "not in memory")

    monkeypatch.setattr(os, "preadv", must_wait)
    reading = asyncio.create_task(process.output.read(0))
    await asyncio.sleep(0)  # it is with the disk now, and comes back by way of the loop
    world.time.pass_by(HOUR + 1)
    world.sweep()
    piece = await asyncio.wait_for(reading, DEADLINE)

    assert (piece.gap, piece.data) == ((0, size), b"")
    assert world.journals.kept_bytes == 0
    assert not process.output.journal.is_degraded


async def test_a_running_process_is_never_forgotten(world: World) -> None:
    """However old it is, and its key."""
    key = world.key()
    running = await world.start(key=key)
    for _ in range(60):
        world.time.pass_by(DAY)
        world.sweep()

    assert world.listed() == {running.process_id}
    assert await world.start(key=key) is running


async def test_a_clock_that_jumps_ahead_makes_nothing_old(world: World) -> None:
    """What ended a minute ago ended a minute ago, whatever day it is said to be now."""
    over = await world.run(key=world.key())
    world.time.pass_by(MINUTE)
    world.time.jump(2 * DAY)
    world.sweep()
    after_a_minute = world.listed()
    world.time.pass_by(HOUR)
    world.sweep()

    assert after_a_minute == {over.process_id}
    assert world.listed() == set()


async def test_a_clock_that_jumps_back_keeps_nothing_for_ever(world: World) -> None:
    """An hour later it is an hour old."""
    await world.run()
    world.time.jump(-365 * DAY)
    world.sweep()
    kept = len(world.listed())
    world.time.pass_by(HOUR + 1)
    world.sweep()

    assert (kept, len(world.keeper.entries)) == (1, 0)


async def test_a_key_runs_nothing_twice_although_the_clock_jumped_ahead_and_back(world: World) -> None:
    """The machine's clock was wrong for an hour: the keys of before must be known when it is right again."""
    done, fenced = world.key(), world.key()
    over = await world.run(key=done)
    await world.processes.canceling.end_start(fenced, None, grace=DEFAULT_GRACE)
    world.time.jump(3 * DAY)
    world.time.pass_by(HOUR + 1)
    world.sweep()
    world.time.jump(-3 * DAY)
    world.sweep()

    assert await world.start(key=done) is over
    with pytest.raises(StartCanceled):
        await world.start(key=fenced)


async def test_a_key_is_only_forgotten_once_it_would_be_refused(world: World) -> None:
    """At every moment it either leads to what ran, or is too old to be asked for."""
    key = world.key()
    over = await world.run(key=key)
    answers: list[bool | None] = []
    for _ in range(30):
        world.time.pass_by(HOUR)
        world.sweep()
        try:
            answers.append(await world.start(key=key) is over)
        except KeyExpired:
            answers.append(None)

    assert answers == [True] * 25 + [None] * 5


async def test_what_was_kept_goes_on_growing_old_under_the_next_worker(world: World) -> None:
    """Ages go over a restart, and a clock that was set back meanwhile keeps nothing for longer than once more."""
    await world.run()
    world.time.pass_by(HOUR - MINUTE)
    world.close()
    world.open()
    world.sweep()
    kept = len(world.listed())
    world.time.pass_by(2 * MINUTE)
    world.sweep()
    gone = len(world.listed())
    await world.run()
    world.time.jump(-DAY)
    world.close()
    world.open()
    world.time.pass_by(HOUR + 1)
    world.sweep()

    assert (kept, gone, len(world.listed())) == (1, 0, 0)


async def test_output_that_was_given_up_for_room_hides_no_process_from_the_next_worker(world: World) -> None:
    """That it ran, and how it ended, stays listed for its hour."""
    over = await world.run()
    world.processes._retention.drop_output(over)
    world.close()
    world.open()

    assert world.listed() == {over.process_id}


async def test_output_that_the_disk_did_not_let_go_goes_under_the_next_worker(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its process is still known, by its key. The disk that fails is a fake."""
    process = await world.run(key=world.key())
    with monkeypatch.context() as patch:
        patch.setattr(os, "ftruncate", failing := mock.Mock(side_effect=OSError(errno.EIO, "the disk fails")))
        patch.setattr(Path, "unlink", failing)
        world.processes.remove(process)
    before = (tmp_path / process.process_id).exists()
    world.close()
    world.open()

    assert (before, world.journals.names_on_disk(), world.journals.kept_bytes) == (True, set(), 0)
    assert world.processes.find(process.process_id)


async def test_who_waits_for_output_gets_it_whatever_the_quota_meets(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Making room fails with another's journal, as on a disk that fails; what was printed here was taken by then."""
    world.starter.leaves_open = True
    process = await world.start()
    [printing] = world.starter.left_open
    failure = OSError(errno.EIO, "the disk fails")
    told: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context["exception"]))
    monkeypatch.setattr(process.output, "_grown", mock.Mock(side_effect=failure))

    with process.output.bell() as bell:
        os.write(printing, b"more\n")
        has_rung = await bell.wait(DEADLINE)
    os.close(printing)  # not before: the end is told in any case

    assert has_rung
    assert set(told) == {failure}


async def test_a_cancel_of_a_start_that_looks_for_its_program_holds(world: World) -> None:
    """It waits for the start, also when whoever asked for it has gone, and ends what came of it."""
    key = world.key()
    world.starter.may_start.clear()
    start = asyncio.create_task(world.start(key=key))
    cancel = asyncio.create_task(world.processes.canceling.end_start(key, None, grace=DEFAULT_GRACE))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    cancel.cancel()
    world.starter.may_start.set()
    process = await start
    exit_ = await asyncio.wait_for(process.wait(), DEADLINE)

    assert cancel.cancelled()
    assert exit_.signal == 15


async def test_no_more_is_kept_than_the_settings_say(world: World) -> None:
    """However fast processes come: the oldest of those that have ended go before their time, their output as well."""
    world.remember_at_most(100)
    for _ in range(300):
        await world.run()
        world.time.pass_by(0.1)
    running = await world.start()
    world.sweep()

    assert len(world.listed()) == 101
    assert len(list(world.processes)) == len(world.keeper.entries) == 101
    assert running.process_id in world.listed()
    assert len(world.journals.names_on_disk()) <= 101


async def test_a_defect_before_anything_was_asked_of_the_keeper_does_not_spoil_the_key(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing ran, so the same key may try again; and who cancels it hears that nothing will."""

    async def fails(*_: object, **__: object) -> None:
        raise RuntimeError("can't start new thread")

    keys = [world.key(), world.key()]
    with monkeypatch.context() as patched:
        patched.setattr(world.starter, "spawn", fails)
        for key in keys:
            with pytest.raises(RuntimeError):
                await world.start(key=key)

    assert (await world.start(key=keys[0])).is_running
    assert await world.processes.canceling.end_start(keys[1], OWNER.chat_id, grace=0) is None
