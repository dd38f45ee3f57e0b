"""What fails the keeper itself: its end would be that of all commands, so it leaves out, refuses or tries again."""

import errno
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from guyline.agentd.keeper import messages as m
from tests.agentd.keeper.bare_keeper import BareKeeper
from tests.support import proc
from tests.support.clock import until


@pytest.fixture
def keeper(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BareKeeper]:
    """A keeper, and the test as its worker."""
    with BareKeeper(tmp_path_factory.mktemp("k"), process_cgroups="off") as running:
        yield running


async def logged(keeper: BareKeeper, text: str) -> None:
    log = Path(keeper.folder, "log")
    await until(lambda: text in log.read_text())


def test_an_end_is_told_also_while_no_descriptor_is_to_be_had(keeper: BareKeeper) -> None:
    """What is left over of the command cannot be looked for then; how it ended is known without."""
    command = keeper.start("/bin/sleep", "1000")
    with proc.no_descriptor_left(keeper.pid):
        os.kill(command.pid, signal.SIGTERM)
        exit_ = keeper.exit()

    assert (exit_.signal, exit_.left_in) == (signal.SIGTERM, ())
    assert proc.is_alive(keeper.start("/bin/sleep", "1000", process_id="b").pid)


async def test_the_next_worker_waits_for_descriptors_and_is_one(keeper: BareKeeper) -> None:
    """It is tried again ever later, and not at once and for ever."""
    command = keeper.start("/bin/sleep", "1000")
    with proc.no_descriptor_left(keeper.pid):
        keeper.lose_worker()
        await logged(keeper, '"next_in_seconds":0.2')
    keeper.be_worker()

    assert keeper.table["a"].pid == command.pid
    assert {child.pid for child in proc.children(keeper.pid)} == {keeper.worker_pid, command.pid}


async def test_an_upgrade_without_descriptors_leaves_the_old_one_running(keeper: BareKeeper) -> None:
    """It can be asked for again."""
    command = keeper.start("/bin/sleep", "1000")
    with proc.no_descriptor_left(keeper.pid):
        keeper.send(m.Upgrade(sys.executable))
        await logged(keeper, "upgrade failed")

    assert keeper.signal(signal.SIGTERM) == 0
    assert keeper.exit().signal == signal.SIGTERM
    assert not proc.is_alive(command.pid)


async def test_a_shutdown_that_can_look_for_nobody_looks_again(keeper: BareKeeper) -> None:
    """A daemon that has left its session is found as soon as it can be."""
    daemon = keeper.start("/usr/bin/setsid", "--fork", "/bin/sleep", "1000")
    keeper.exit()
    (left,) = (child.pid for child in proc.children(keeper.pid) if child.pid != keeper.worker_pid)
    with proc.no_descriptor_left(keeper.pid):
        os.kill(keeper.pid, signal.SIGTERM)
        await logged(keeper, "some processes cannot be looked for")
        assert proc.is_alive(left)
    await until(lambda: not proc.is_alive(left))

    assert daemon.pid != left


def test_a_request_that_fails_in_an_unforeseen_way_is_answered_and_ends_nothing(keeper: BareKeeper) -> None:
    """Whoever asked must not wait for ever, and nobody else is to notice."""
    command = keeper.start("/bin/sleep", "1000")

    assert keeper.signal(1 << 40) == errno.EIO  # no system call takes such a number
    assert proc.is_alive(command.pid)
    assert keeper.signal(signal.SIGTERM) == 0
