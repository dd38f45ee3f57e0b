"""What the keeper sets up in a command, seen from within the command, in each of the ways in which it is spawned."""

import errno
import os
import pty
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from guyline.agentd.keeper import messages as m
from guyline.agentd.keeper.records import RecordLog
from guyline.agentd.keeper.setup import MalformedSetup, Setup
from tests.agentd.keeper.bare_keeper import BareKeeper
from tests.support import agent_without_privileges, cgroup, proc

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
    master, slave = pty.openpty()
    path = os.ttyname(slave)
    os.close(master)
    with os.fdopen(slave, "rb"):  # so that its number stays taken, and nobody else gets that path
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


# As whom, and with how much.

ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
NOBODY = 65534
CAP_SYS_RESOURCE = 24  # linux/capability.h


def facts_of(keeper: BareKeeper, setup: Setup) -> dict[str, str]:
    """What ``/proc/self/status`` says of a command that was set up so."""
    keeper.start("/bin/cat", "/proc/self/status", setup=setup)
    assert keeper.exit().code == 0
    return dict(line.split(":\t", 1) for line in keeper.printed(at_least=1000).decode().splitlines())


@ROOT
def test_a_command_runs_as_another_user_with_that_ones_groups_and_no_privilege(keeper: BareKeeper) -> None:
    """Nothing of root's is left over: no id, no group, no capability."""
    facts = facts_of(keeper, Setup(uid=NOBODY, gid=1, groups=(2, 7)))

    assert (facts["Uid"].split(), facts["Gid"].split()) == ([str(NOBODY)] * 4, ["1"] * 4)
    assert facts["Groups"].split() == ["2", "7"]
    assert int(facts["CapEff"], 16) == int(facts["CapPrm"], 16) == 0


@ROOT
def test_the_terminal_belongs_to_the_user_who_runs_there(keeper: BareKeeper) -> None:
    """Programs open their terminal again by its name, which only its owner may."""
    with terminal() as (master, path):
        keeper.start(SH, "-c", f": < {path} && echo opened", setup=Setup(terminal=path, uid=NOBODY))

        assert b"opened" in shown(master, until=b"\n")


def test_a_command_that_is_set_up_inherits_no_signal_and_no_descriptor(keeper: BareKeeper) -> None:
    """A fork has what its parent has: handlers, masks, sockets."""
    facts = facts_of(keeper, Setup(umask=0o27))
    keeper.start(SH, "-c", "ls /proc/$$/fd; kill -TERM $$", process_id="b", setup=Setup(umask=0o27))

    assert facts["Umask"] == "0027"
    # Two signals are the C library's own, which nobody else can name: they stay as they were inherited.
    own = sum(1 << number - 1 for number in set(range(1, signal.NSIG)) - signal.valid_signals())
    assert [int(facts[name], 16) & ~own for name in ("SigBlk", "SigIgn", "SigCgt", "SigPnd")] == [0, 0, 0, 0]
    assert keeper.exit().signal == signal.SIGTERM
    assert keeper.printed("b", at_least=6) == b"0\n1\n2\n"


def test_niceness_and_oom_score_are_the_commands_alone(keeper: BareKeeper) -> None:
    """The keeper and the next command keep theirs."""
    own = os.getpriority(os.PRIO_PROCESS, 0)
    script = "cut -d' ' -f19 /proc/self/stat; cat /proc/self/oom_score_adj"
    before = Path(f"/proc/{keeper.pid}/oom_score_adj").read_text()
    keeper.start(SH, "-c", script, setup=Setup(nice=min(own + 3, 19), oom_score=900))
    keeper.start(SH, "-c", script, process_id="b")

    assert keeper.printed(at_least=5).split()[:2] == [b"%d" % min(own + 3, 19), b"900"]
    assert keeper.printed("b", at_least=4).split()[:2] == [b"%d" % own, b"0"]
    assert Path(f"/proc/{keeper.pid}/oom_score_adj").read_text() == before
    assert os.getpriority(os.PRIO_PROCESS, keeper.pid) == own


LIMITS = {
    "RLIMIT_CPU": ("Max cpu time", 100, 200),
    "RLIMIT_FSIZE": ("Max file size", 1 << 20, 1 << 21),
    "RLIMIT_DATA": ("Max data size", 100 << 20, 200 << 20),
    "RLIMIT_STACK": ("Max stack size", 4 << 20, 4 << 20),
    "RLIMIT_CORE": ("Max core file size", 0, 0),
    "RLIMIT_NOFILE": ("Max open files", 50, 60),
    "RLIMIT_AS": ("Max address space", 16 << 20, 32 << 20),
    "RLIMIT_NPROC": ("Max processes", 500, 600),
    "RLIMIT_MEMLOCK": ("Max locked memory", 0, 4096),
}


@pytest.mark.parametrize("name", LIMITS)
def test_each_limit_holds_for_the_command(keeper: BareKeeper, name: str) -> None:
    """Also where it is less than the keeper itself has in use."""
    title, soft, hard = LIMITS[name]
    keeper.start("/bin/cat", "/proc/self/limits", setup=Setup(limits={name: (soft, hard)}))
    lines = keeper.printed(at_least=1000).decode().splitlines()

    assert next(line for line in lines if line.startswith(title))[len(title) :].split()[:2] == [str(soft), str(hard)]


@pytest.mark.skipif(not proc.has_capability(CAP_SYS_RESOURCE), reason="needs CAP_SYS_RESOURCE")
def test_a_limit_can_be_lifted_and_descriptors_as_far_as_the_kernel_goes(keeper: BareKeeper) -> None:
    """Of descriptors there is no "without limit"."""
    lifted = Setup(limits={"RLIMIT_CORE": (None, None), "RLIMIT_NOFILE": (50, None)})
    keeper.start(SH, "-c", "ulimit -c; ulimit -n; ulimit -Hn", setup=lifted)

    most = Path("/proc/sys/fs/nr_open").read_text().strip()
    assert keeper.printed(at_least=15).decode().split() == ["unlimited", "50", most]


@pytest.mark.parametrize(
    ("setup", "part"),
    [
        (Setup(uid=NOBODY), "uid"),
        (Setup(gid=NOBODY), "gid"),
        (Setup(groups=(NOBODY,)), "groups"),
        (Setup(nice=-20), "nice"),
        (Setup(oom_score=-1000), "oom_score"),
        (Setup(limits={"RLIMIT_CORE": (0, 0), "RLIMIT_MEMLOCK": (1, None)}), "limits"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_part_that_is_not_allowed_is_named_and_remembered(
    tmp_path_factory: pytest.TempPathFactory, setup: Setup, part: str
) -> None:
    """Whoever reads "operation not permitted" alone looks for the fault in the program."""
    if why := agent_without_privileges.why_impossible():
        pytest.skip(why)
    with BareKeeper(tmp_path_factory.mktemp("k"), privileged=False) as keeper:
        keeper.ask("/bin/true", setup=setup)
        failed = keeper.next(m.Failed)
        keeper.lose_worker()
        keeper.be_worker()

        assert (failed.errno in {errno.EPERM, errno.EACCES}, failed.part) == (True, part)
        assert (keeper.table["a"].errno, keeper.table["a"].failed_part) == (failed.errno, part)
        assert RecordLog.load(keeper.folder / "records.log").entries["a"].failed_part == part
        assert keeper.start("/bin/true", process_id="b").pid


def test_a_program_that_is_missing_is_no_part_of_the_set_up(keeper: BareKeeper) -> None:
    """Its errno is the program's."""
    keeper.ask("/nowhere/program", setup=Setup(umask=0))

    assert keeper.next(m.Failed) == m.Failed("a", errno.ENOENT, "")


def test_a_nul_in_an_argument_is_a_failed_start_also_of_one_that_is_set_up(keeper: BareKeeper) -> None:
    """The edge refuses it long before; the keeper relies on nobody."""
    keeper.ask(SH, "-c", "a\0b", setup=Setup(umask=0))

    assert keeper.next(m.Failed).errno == errno.EINVAL
    assert keeper.start("/bin/true", process_id="b").pid


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
