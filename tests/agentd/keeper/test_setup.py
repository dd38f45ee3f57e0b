"""What the keeper sets up in a command, seen from within the command, in each of the ways in which it is spawned."""

import errno
import os
import pty
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from guyline.agentd.keeper import messages as m
from guyline.agentd.keeper.setup import MalformedSetup, Setup
from tests.agentd.keeper.bare_keeper import BareKeeper
from tests.support import cgroup

SH = "/bin/sh"


@pytest.fixture(params=["off", "on"], ids=["shared-cgroup", "own-cgroup"])
def keeper(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[BareKeeper]:
    """A keeper, and the test as its worker. Into a cgroup commands are spawned in another way."""
    if request.param == "on" and (why := cgroup.why_impossible()):
        pytest.skip(why)
    with BareKeeper(tmp_path_factory.mktemp("k"), process_cgroups=request.param) as running:
        yield running


@contextmanager
def terminal() -> Iterator[tuple[int, str]]:
    """The master of a pseudo-terminal, and the path of its slave."""
    master, slave = pty.openpty()
    try:
        yield master, os.ttyname(slave)
    finally:
        os.close(slave)
        os.close(master)


def shown(master: int, *, until: bytes) -> bytes:
    """What appears on a terminal, up to a text."""
    data = b""
    while until not in data:
        data += os.read(master, 1024)
    return data


# Terminals.


def test_a_terminal_controls_the_session_and_is_all_three_descriptors(keeper: BareKeeper) -> None:
    """``ps`` shows it, ^C reaches the command, and a shell has job control."""
    script = "tty; [ -t 1 ] && [ -t 2 ] && cut -d' ' -f5-8 /proc/$$/stat && ls /proc/$$/fd && : < /dev/tty && echo over"
    with terminal() as (master, path):
        started = keeper.start(SH, "-c", script, setup=Setup(terminal=path))
        device = Path(path).stat().st_rdev
        place, numbers, *rest = shown(master, until=b"over").decode().split("\r\n")

    assert place == path
    assert numbers.split()[:3] == [str(started.pid), str(started.pid), str(device)]
    assert " ".join(rest).split() == ["0", "1", "2", "over"]


def test_a_terminal_that_is_gone_is_a_failed_start(keeper: BareKeeper) -> None:
    """The command does not run without what it was to have."""
    with terminal() as (_, path):
        pass
    keeper.ask("/bin/true", setup=Setup(terminal=path))

    assert keeper.next(m.Failed).errno in {errno.ENOENT, errno.EIO}


def test_a_terminal_can_be_had_when_the_keeper_has_more_descriptors_than_the_command_may(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """It is opened in the child, which has the keeper's descriptors until it executes, and its own limit."""
    with BareKeeper(tmp_path_factory.mktemp("k"), descriptor_limit=64) as keeper, terminal() as (master, path):
        for number in range(60):
            keeper.start("/bin/sleep", "60", process_id=f"p{number}")
        keeper.start(SH, "-c", "tty", setup=Setup(terminal=path))

        assert path.encode() in shown(master, until=b"\n")


# The set-up itself.


def test_a_set_up_survives_the_way_to_the_keeper() -> None:
    """What is not set is not sent."""
    whole = Setup(
        terminal="/dev/pts/7",
        uid=1,
        gid=2,
        groups=(3, 4),
        umask=0o77,
        nice=-5,
        oom_score=0,
        limits={"RLIMIT_CPU": (1, None)},
        memory_bytes=1 << 20,
        cpus=0.5,
        pids=7,
    )
    request = m.Start("a", "", SH, [SH], {}, [], [], whole.to_json())
    arrived = m.decode(m.encode(request))

    assert isinstance(arrived, m.Start)
    assert Setup.from_json(arrived.setup) == whole
    assert Setup().to_json() == {}
    assert Setup.from_json({}) == Setup()


@pytest.mark.parametrize(
    "field",
    [
        {"color": "red"},
        {"terminal": "pts/7"},
        {"terminal": "/dev/\0"},
        {"uid": -1},
        {"uid": True},
        {"gid": "root"},
        {"groups": [1, None]},
        {"groups": 1},
        {"umask": 0o1000},
        {"nice": 20},
        {"oom_score": 1001},
        {"limits": {"RLIMIT_COFFEE": [1, 1]}},
        {"limits": {"RLIMIT_CPU": [1]}},
        {"limits": {"RLIMIT_CPU": [-1, 1]}},
        {"limits": []},
        {"memory_bytes": 0},
        {"cpus": "1"},
        {"pids": 1.5},
    ],
    ids=repr,
)
def test_what_is_no_set_up_is_refused(field: dict[str, object]) -> None:
    """The edge refuses it long before; the keeper relies on nobody."""
    with pytest.raises(MalformedSetup, match=next(iter(field))):
        Setup.from_json(field)


def test_a_start_with_what_is_no_set_up_fails_and_crashes_nothing(keeper: BareKeeper) -> None:
    """A worker gone mad must not take the commands of a whole day with it."""
    folder = os.open("/", os.O_PATH)
    keeper.connection.send(m.Start("a", "", SH, [SH], {}, [], [], {"color": "red"}), [folder])
    os.close(folder)

    assert keeper.next(m.Failed).errno == errno.EINVAL
    assert keeper.start("/bin/true", process_id="b").pid
