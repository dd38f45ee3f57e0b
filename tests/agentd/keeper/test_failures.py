"""What fails the keeper itself: its end would be that of all commands, so it leaves out, refuses or tries again."""

import errno
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from guyline.agentd.keeper import commands as keeper_commands
from guyline.agentd.keeper import messages as m
from guyline.agentd.keeper.cgroups import Cgroups
from guyline.agentd.keeper.commands import Commands
from guyline.agentd.keeper.log import KeeperLog
from guyline.agentd.keeper.oom import OomWatch
from guyline.agentd.keeper.records import RecordLog
from guyline.agentd.keeper.spawn import Spawner
from guyline.agentd.keeper.table import Entry, Exit
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


@pytest.mark.parametrize("size", [1, 2 * m.MAX_MESSAGE_BYTES], ids=["small", "in a memory file"])
def test_a_start_without_descriptors_is_answered_and_the_next_one_works(keeper: BareKeeper, size: int) -> None:
    """Whoever asked would wait until its deadline."""
    with proc.no_descriptor_left(keeper.pid):
        keeper.ask("/bin/true", "x" * size)
        failed = keeper.next(m.Failed)

    assert failed == m.Failed("a", errno.EMFILE, "")
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


# What nobody foresaw.


@pytest.fixture
def records(tmp_path: Path) -> Iterator[RecordLog]:
    """An empty one."""
    log = RecordLog(tmp_path / "records.log", store_id="store")
    yield log
    log.close()


def commands_with(records: RecordLog, *entries: Entry, spawn: Callable[..., int]) -> tuple[Commands, list[m.Message]]:
    """A keeper's commands without the keeper, and what they tell the worker."""
    told: list[m.Message] = []
    log = KeeperLog(is_json=True, is_quiet=True)
    commands = Commands(
        entries,
        log=records,
        spawner=cast("Spawner", SimpleNamespace(spawn=spawn)),
        cgroups=Cgroups(log=log),
        report=log,
        tell=told.append,
    )
    return commands, told


def never(*_: object, **_named: object) -> int:
    raise RuntimeError("a defect")


def running(process_id: str, *argv: str) -> Entry:
    """A command that has ended, and of whose end nobody has heard."""
    pid = os.posix_spawn(argv[0], argv, {})
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    entry = Entry(process_id, "info")
    entry.pid = pid
    return entry


def test_no_end_is_lost_for_what_is_not_known_of_another(records: RecordLog, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether memory had run out is a detail; a process without an end would seem to run for ever."""
    entries = [running("one", "/bin/true"), running("killed", "/bin/sh", "-c", "kill -9 $$")]
    zombies = [entry.pid or 0 for entry in entries]

    def next_zombie() -> os.waitid_result | None:
        return os.waitid(os.P_PID, zombies.pop(0), os.WEXITED | os.WNOWAIT) if zombies else None

    commands, told = commands_with(records, *entries, spawn=never)
    monkeypatch.setattr(OomWatch, "has_killed", never)
    monkeypatch.setattr(keeper_commands, "_first_zombie", next_zombie)
    commands.reap()

    assert [(message.process_id, Exit(*message.exit)[1:3]) for message in told if isinstance(message, m.Exited)] == [
        ("one", (0, None)),
        ("killed", (None, 9)),
    ]


def test_a_start_that_fails_in_the_middle_is_one_that_has_failed(records: RecordLog) -> None:
    """The next worker would take it for one that runs, and nobody would ever see its end."""
    commands, told = commands_with(records, spawn=never)
    reading, writing = os.pipe()
    request = m.Start("a", "info", "/bin/true", ["true"], {}, [], ["stdout"], {})
    with pytest.raises(RuntimeError):
        commands.start(request, [os.open("/", os.O_RDONLY), reading])
    commands.answer_failed(request, errno.EIO)

    assert told == [m.Failed("a", errno.EIO, "")]
    assert RecordLog.load(records.path).entries["a"].errno == errno.EIO
    with pytest.raises(BrokenPipeError):
        os.write(writing, b"x")  # nobody holds the other end any more
    os.close(writing)
