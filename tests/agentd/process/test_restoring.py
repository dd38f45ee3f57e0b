"""What nothing can be made of when a worker begins: it costs nobody else anything, and goes in its time."""

import errno
import os
from contextlib import suppress
from pathlib import Path

import pytest

from guyline.agentd.process.errors import KeeperLost, TooManyProcesses
from guyline.agentd.process.streams.channels import Channels
from guyline.agentd.process.streams.input import InputMode
from guyline.agentd.system.terminal import Size
from tests.agentd.process.simulated import DAY, HOUR, World, simulated
from tests.support import proc


def _damage(world: World, process_id: str, part: str) -> None:
    """The next worker gets a record that it cannot read, and descriptors of its own."""
    entry = world.keeper.entries[process_id]
    kept = {name: os.dup(descriptor) for name, descriptor in entry.kept.items()}
    world.close()
    entry.kept = kept
    setattr(entry, part, "not what a worker writes")
    world.open()


def _name(descriptor: int) -> str:
    return str(Path(f"/proc/self/fd/{descriptor}").readlink())


@pytest.mark.parametrize("part", ["info", "note"])
async def test_it_stays_while_it_runs_and_goes_an_hour_after_its_end(tmp_path: Path, part: str) -> None:
    """A newer release may understand it, and what it has printed; nobody does once it is old."""
    async with simulated(tmp_path) as world:
        process_id = (await world.start()).process_id
        pipe = _name(world.keeper.entries[process_id].kept["stdout"])
        _damage(world, process_id, part)
        world.time.pass_by(10 * DAY)
        world.sweep()
        is_held = pipe in proc.descriptors(os.getpid())
        is_on_disk = process_id in world.journals.names_on_disk()

        world.keeper.end(process_id)
        world.time.pass_by(HOUR - 1)
        world.sweep()
        before_its_time = process_id in world.keeper.entries
        world.time.pass_by(2)
        world.sweep()

        assert (is_held, is_on_disk, before_its_time) == (True, True, True)
        assert world.keeper.entries == {}
        assert world.journals.names_on_disk() == set()
        assert pipe not in proc.descriptors(os.getpid())


@pytest.mark.parametrize("terminal", [None, Size(80, 24)], ids=["pipe", "terminal"])
async def test_what_the_keeper_still_holds_of_output_that_was_given_up_is_let_go(
    tmp_path: Path, terminal: Size | None
) -> None:
    """A worker that dies right after it has given the output up has not told the keeper yet that it has ended."""
    async with simulated(tmp_path) as world:
        process = await world.run(key=world.key())
        world.processes.remove(process)
        world.close()
        with Channels.made(separate=False, input_mode=InputMode.NONE, terminal=terminal) as channels:
            channels.keep()
        held = {_name(descriptor) for descriptor in channels.kept.values()}
        world.keeper.entries[process.process_id].kept = channels.kept
        world.open()
        taken_up = world.processes.find(process.process_id)

        assert held.isdisjoint(proc.descriptors(os.getpid()))
        assert world.keeper.entries[process.process_id].kept == {}
        assert taken_up is not None
        assert taken_up.terminal is None


async def test_its_key_is_known_as_long_as_any_other(tmp_path: Path) -> None:
    """It has run: the same start must not run again, not under a later worker either."""
    async with simulated(tmp_path) as world:
        key = world.key()
        process_id = (await world.start(key=key)).process_id
        _damage(world, process_id, "note")
        world.keeper.end(process_id)
        world.time.pass_by(2 * HOUR)
        world.sweep()
        world.close()
        world.open()

        with pytest.raises(KeeperLost):
            await world.start(key=key)
        world.time.pass_by(DAY)
        world.sweep()

        assert world.keeper.entries == {}


async def test_a_key_that_expires_while_it_runs_takes_nothing_with_it(tmp_path: Path) -> None:
    """Who forgets it then would never hear of its end."""
    async with simulated(tmp_path) as world:
        process_id = (await world.start(key=world.key())).process_id
        _damage(world, process_id, "note")
        world.time.pass_by(2 * DAY)
        world.sweep()
        still_there = process_id in world.keeper.entries

        world.keeper.end(process_id)
        world.time.pass_by(2 * HOUR)
        world.sweep()

        assert still_there
        assert world.keeper.entries == {}


async def test_it_has_a_place_for_as_long_as_it_is_kept(tmp_path: Path) -> None:
    """Its descriptors are among those that the limit stands for."""
    async with simulated(tmp_path) as world:
        process_id = (await world.start()).process_id
        world.most_at_once = 1
        _damage(world, process_id, "info")

        with pytest.raises(TooManyProcesses):
            await world.start()
        world.keeper.end(process_id)
        world.time.pass_by(2 * HOUR)
        world.sweep()

        assert (await world.start()).process_id in world.listed()


async def test_its_end_keeps_no_watcher_from_what_ended_later(tmp_path: Path) -> None:
    """Those who come back to another worker would be told of all ends since again."""
    async with simulated(tmp_path) as world:
        process_id = (await world.start()).process_id
        _damage(world, process_id, "note")
        world.keeper.end(process_id)
        later = await world.run()

        assert later.exit
        assert world.processes.ends.settled_up_to == later.exit.order


async def test_output_that_cannot_be_removed_holds_no_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that fails must not end all starts, one after the other."""

    def fails(_process_id: str) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    async with simulated(tmp_path) as world:
        process_id = (await world.start()).process_id
        world.most_at_once = 1
        _damage(world, process_id, "info")
        world.keeper.end(process_id)
        world.time.pass_by(2 * HOUR)
        with monkeypatch.context() as patched, suppress(OSError):
            patched.setattr(world.journals, "remove", fails)
            world.sweep()

        assert (await world.start()).process_id in world.listed()


@pytest.mark.parametrize("has_key", [True, False])
async def test_a_removal_that_a_worker_died_in_is_ended_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_key: bool
) -> None:
    """It was told that the process is gone; its output, and what it must not show, would stay on the disk for good."""

    class Died(BaseException):
        pass

    def dies(_process_id: str) -> None:
        raise Died

    async with simulated(tmp_path) as world:
        process = await world.run(key=world.key() if has_key else None)
        with monkeypatch.context() as patched:
            patched.setattr(world.processes.changes, "remove", dies)
            with pytest.raises(Died):
                world.processes.remove(process)
        world.close()
        world.open()
        world.sweep()

        assert world.listed() == set()
        assert world.journals.names_on_disk() == set()
        assert world.journals.kept_bytes == 0
