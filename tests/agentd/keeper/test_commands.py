"""Commands in the keeper's hands: real processes, asked for by a test in the worker's place."""

import errno
import os
import select
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from guyline.agentd.keeper import messages as m
from guyline.agentd.keeper.records import RecordLog
from guyline.agentd.system.proc import stat_of
from tests.agentd.keeper.bare_keeper import DESCRIPTOR_LIMIT, BareKeeper
from tests.support import cgroup, proc
from tests.support.clock import DEADLINE
from tests.support.program import program

SH = "/bin/sh"
GLIBC_OWN = 3 << 31
"""Two signals that nobody may use, and that posix_spawn has ignored."""


@pytest.fixture(params=["off", "on"], ids=["shared-cgroup", "own-cgroup"])
def process_cgroups(request: pytest.FixtureRequest) -> str:
    """Whether commands have cgroups of their own, for which they are spawned in another way."""
    wanted: str = request.param
    if wanted == "on" and (why := cgroup.why_impossible()):
        pytest.skip(why)
    return wanted


@pytest.fixture
def keeper(tmp_path_factory: pytest.TempPathFactory, process_cgroups: str) -> Iterator[BareKeeper]:
    """A keeper, and the test as its worker."""
    with BareKeeper(tmp_path_factory.mktemp("k"), process_cgroups=process_cgroups) as running:
        yield running


# Starting.


def test_a_repeated_id_is_answered_without_a_second_spawn(keeper: BareKeeper) -> None:
    """A worker that lost the answer asks again; the command must not run twice."""
    first = keeper.start(SH, "-c", "echo once; exec sleep 60")
    keeper.printed(at_least=5)
    second = keeper.start(SH, "-c", "echo once; exec sleep 60")

    assert second == first
    assert {child.pid for child in proc.children(keeper.pid)} == {keeper.worker_pid, first.pid}


def test_a_repeated_id_that_has_ended_is_answered_with_its_end(keeper: BareKeeper) -> None:
    """All that is known is told again."""
    first = keeper.start(SH, "-c", "exit 3")
    exit_ = keeper.exit()
    again = keeper.start(SH, "-c", "exit 4")

    assert again == first
    assert keeper.exit() == exit_


def test_a_program_that_is_missing_is_answered_with_the_errno_and_remembered(keeper: BareKeeper) -> None:
    """Never by an exit code that the program did not choose. The pipe is not held for it."""
    for _ in range(2):
        keeper.ask("/nowhere/program")
        assert keeper.next(m.Failed) == m.Failed("a", errno.ENOENT, "")

    assert not keeper.holds()
    assert RecordLog.load(keeper.folder / "records.log").entries["a"].errno == errno.ENOENT


def test_a_fence_is_on_disk_before_it_is_answered(keeper: BareKeeper) -> None:
    """From then on it holds, whatever dies next; and it is a start that has failed, as far as anybody can see."""
    keeper.send(m.Fence("a", "info"))
    answer = keeper.next(m.Failed)
    entry = RecordLog.load(keeper.folder / "records.log").entries["a"]

    assert answer == m.Failed("a", errno.ECANCELED, "")
    assert (entry.info, entry.errno, entry.pid, entry.exit) == ("info", errno.ECANCELED, None, None)


def test_a_fence_is_known_to_the_next_worker_until_it_is_forgotten(keeper: BareKeeper) -> None:
    """As any other start is."""
    keeper.send(m.Fence("a", "info"))
    keeper.next(m.Failed)
    keeper.lose_worker()
    keeper.be_worker()
    known = keeper.table["a"].errno
    keeper.send(m.Forget("a"))
    keeper.signal(0)  # all that was sent before has been done by then

    assert known == errno.ECANCELED
    assert "a" not in RecordLog.load(keeper.folder / "records.log").entries


def test_ends_are_numbered_in_their_order(keeper: BareKeeper) -> None:
    """By the keeper, which sees them all and outlives those who hear of them."""
    orders = []
    for name in "abc":
        keeper.start("/bin/true", process_id=name)
        orders.append(keeper.exit().order)

    assert orders == [1, 2, 3]
    assert RecordLog.load(keeper.folder / "records.log").ends == 3


def test_a_nul_in_an_argument_is_a_failed_start_and_no_crash(keeper: BareKeeper) -> None:
    """The edge refuses it long before; the keeper relies on nobody."""
    keeper.ask(SH, "-c", "a\0b")

    assert keeper.next(m.Failed).errno == errno.EINVAL
    assert keeper.start("/bin/true", process_id="b").pid


def test_a_command_has_a_session_and_a_directory_and_nothing_of_the_keepers(keeper: BareKeeper, tmp_path: Path) -> None:
    """No descriptor, no limit, no ignored or blocked signal, no place is inherited by accident."""
    script = "pwd; ulimit -n; ls /proc/$$/fd; exec cat /proc/self/status"
    started = keeper.start(SH, "-c", script, directory=str(tmp_path))
    place, limit, *lines = keeper.printed(at_least=1000).decode().splitlines()
    descriptors, status = [line for line in lines if line.isdigit()], [line for line in lines if ":" in line]
    facts = dict(line.split(":\t", 1) for line in status)

    assert (place, limit, descriptors) == (str(tmp_path), str(DESCRIPTOR_LIMIT), ["0", "1", "2"])
    assert (facts["NSsid"], facts["NSpgid"], facts["PPid"]) == (str(started.pid), str(started.pid), str(keeper.pid))
    assert int(facts["SigBlk"], 16) == 0
    assert int(facts["SigIgn"], 16) & ~GLIBC_OWN == 0


def test_commands_start_when_the_keeper_has_more_descriptors_than_they_may_have(
    tmp_path_factory: pytest.TempPathFactory, process_cgroups: str
) -> None:
    """It takes on the command's limit while it spawns, and must then get along without a new descriptor."""
    folder = tmp_path_factory.mktemp("k")
    with BareKeeper(folder, process_cgroups=process_cgroups, descriptor_limit=64) as keeper:
        started = [keeper.start("/bin/sleep", "60", process_id=f"p{number}") for number in range(60)]

        assert len(proc.descriptors(keeper.pid)) > 64
        assert all(proc.is_alive(each.pid) for each in started)


def test_the_start_time_is_the_kernels(keeper: BareKeeper) -> None:
    """With the pid it names a process for good, so it must be exact, whenever within a tick a process is born."""
    started = [keeper.start("/bin/sleep", "60", process_id=f"p{number}") for number in range(60)]
    stats = [stat_of(each.pid) for each in started]

    assert [each.start_ticks for each in started] == [stat.start_ticks for stat in stats if stat]


def test_what_is_no_start_is_ignored_and_its_descriptors_closed(keeper: BareKeeper) -> None:
    """A worker gone mad must not take the commands of a whole day with it."""
    before = len(proc.descriptors(keeper.pid))
    with Path("/dev/null").open("rb") as null:
        start = m.Start("a", "", SH, ["sh"], {}, [1, 2], ["stdout"], {})
        keeper.connection.send(start, [null.fileno()])  # too few
        keeper.connection.send(m.Stop(), [null.fileno()])  # the keeper's own word
        keeper.connection.send(m.Note("unknown", "note"), [null.fileno()])  # descriptors that belong to nothing

    assert keeper.signal(0, "unknown") == errno.ESRCH
    assert len(proc.descriptors(keeper.pid)) == before


# Ends.


@pytest.mark.parametrize(("script", "code", "number"), [("exit 0", 0, None), ("exit 255", 255, None)])
def test_an_exit_carries_the_code(keeper: BareKeeper, script: str, code: int, number: int | None) -> None:
    """As the wait status says, from one end of the range to the other."""
    keeper.start(SH, "-c", script)
    exit_ = keeper.exit()

    assert (exit_.code, exit_.signal, exit_.unknown, exit_.asked) == (code, number, None, None)


def test_an_exit_carries_the_signal_and_who_asked_for_it(keeper: BareKeeper) -> None:
    """The last signal that went through the agent; what came of it is the wait status."""
    keeper.start("/bin/sleep", "60")
    failure = keeper.signal(signal.SIGTERM)
    exit_ = keeper.exit()

    assert failure == 0
    assert (exit_.code, exit_.signal) == (None, signal.SIGTERM)
    assert exit_.asked is not None
    assert (exit_.asked.signal, exit_.asked.cause) == (signal.SIGTERM, "caller")


def test_no_signal_that_comes_after_the_end_counts_as_what_brought_it_about(keeper: BareKeeper) -> None:
    """Both may be news to a keeper that was busy, or, as here, held up."""
    started = keeper.start(SH, "-c", "echo x; exec >/dev/null; sleep 0.1; exit 0")
    keeper.printed(at_least=2)
    watch = os.pidfd_open(started.pid)
    os.kill(keeper.pid, signal.SIGSTOP)
    try:
        assert select.select([watch], [], [], DEADLINE)[0], "it goes on"
        keeper.send(m.Signal(1, "a", signal.SIGTERM, "caller", to_all=False))
    finally:
        os.kill(keeper.pid, signal.SIGCONT)
        os.close(watch)

    assert keeper.exit().asked is None
    assert keeper.next(m.Signalled).errno == errno.ESRCH


def test_an_exit_carries_what_the_command_used(keeper: BareKeeper) -> None:
    """CPU seconds and the largest resident set, from wait4."""
    work = "import time; block = bytes(30_000_000) + b'x'\nwhile time.process_time() < 0.1: block.count(b'x')"
    keeper.start(sys.executable, "-S", "-c", work)
    exit_ = keeper.exit()

    assert exit_.user_cpu + exit_.system_cpu >= 0.1
    assert exit_.peak_memory_bytes >= 30_000_000


def test_descendants_left_in_the_group_are_told(keeper: BareKeeper) -> None:
    """They never change the code."""
    keeper.start(SH, "-c", "sleep 60 & exit 0")
    exit_ = keeper.exit()

    assert (exit_.code, exit_.left_in) == (0, ("group",))


def test_descendants_left_in_the_session_are_told(keeper: BareKeeper) -> None:
    """A shell's background job has a group of its own."""
    job = "import os, time\nif pid := os.fork(): os.setpgid(pid, pid)\nelse: time.sleep(60)"
    keeper.start(sys.executable, "-S", "-c", job)
    exit_ = keeper.exit()

    assert (exit_.code, exit_.left_in) == (0, ("session",))


def test_no_signal_goes_out_once_the_command_was_reaped(keeper: BareKeeper) -> None:
    """Its number may be another's by then: even a group that still has members is left to those who look closer."""
    keeper.start(SH, "-c", "sleep 60 & echo $!; exit 0")
    keeper.exit()
    left = int(keeper.printed())

    assert keeper.signal(signal.SIGKILL) == errno.ESRCH
    assert proc.is_alive(left)


def test_an_end_is_on_disk_before_it_is_told(keeper: BareKeeper) -> None:
    """Whoever hears of an exit may rely on it, whatever dies next."""
    keeper.start(SH, "-c", "exit 7")
    exit_ = keeper.exit()

    assert RecordLog.load(keeper.folder / "records.log").entries["a"].exit == exit_


def test_orphans_are_reaped(keeper: BareKeeper) -> None:
    """Each zombie is a number that nobody else can have."""
    keeper.start(*program("daemon", "--lifetime", "0.01"))
    keeper.exit()
    daemon = int(keeper.printed())
    latest = time.monotonic() + DEADLINE
    while proc.status(daemon) is not None:
        assert time.monotonic() < latest, "the orphan stays a zombie"
        os.sched_yield()

    assert [child.pid for child in proc.children(keeper.pid)] == [keeper.worker_pid]
    assert keeper.is_quiet()


# What is held.


def test_a_running_command_keeps_its_descriptors_although_its_output_has_ended(keeper: BareKeeper) -> None:
    """Both must be recorded: until then the next worker may need them."""
    keeper.start("/bin/sleep", "60")
    keeper.send(m.Release(["a"]))
    keeper.signal(0)
    held = keeper.holds()
    keeper.signal(signal.SIGKILL)
    keeper.exit()

    assert (held, keeper.holds()) == (True, False)


def test_an_ended_command_keeps_its_descriptors_until_its_output_has_ended(keeper: BareKeeper) -> None:
    """The last bytes are still in the pipe."""
    keeper.start(SH, "-c", "echo last words")
    keeper.exit()
    held = keeper.holds()
    keeper.send(m.Release(["a"]))
    keeper.signal(0)

    assert (held, keeper.holds()) == (True, False)


def test_only_what_has_ended_can_be_forgotten(keeper: BareKeeper) -> None:
    """A running command that nobody knows could never be ended."""
    keeper.start("/bin/sleep", "60")
    keeper.send(m.Forget("a"))
    running = keeper.signal(signal.SIGKILL)
    keeper.exit()
    keeper.send(m.Forget("a"))
    keeper.signal(0)

    assert running == 0
    assert "a" not in RecordLog.load(keeper.folder / "records.log").entries
    assert not keeper.holds()


# The keeper's code changes.


def test_what_was_asked_of_the_old_code_the_new_one_does_and_commands_inherit_none_of_it(keeper: BareKeeper) -> None:
    """What the change of code itself inherits, the socket to the old worker above all, ends there."""
    os.kill(keeper.pid, signal.SIGSTOP)  # so that the start is unread when the code changes
    keeper.send(m.Upgrade(sys.executable))
    keeper.ask(SH, "-c", "ls /proc/$$/fd; echo; exit 5")
    os.kill(keeper.pid, signal.SIGCONT)
    printed = keeper.printed(at_least=7)
    keeper.make_way()

    assert printed == b"0\n1\n2\n\n"
    assert (keeper.table["a"].exit or keeper.exit()).code == 5


# The worker dies.


def test_what_a_worker_had_asked_for_before_it_died_is_done(keeper: BareKeeper) -> None:
    """And after that, an intent without an answer was never spawned."""
    os.kill(keeper.pid, signal.SIGSTOP)  # so that the message is still unread when the worker is dead
    keeper.ask(SH, "-c", "exit 5")
    keeper.send(m.Note("a", "noted"))
    keeper.lose_worker()
    os.kill(keeper.pid, signal.SIGCONT)
    keeper.be_worker()
    entry = keeper.table["a"]

    assert entry.pid is not None
    assert (entry.note, entry.info) == ("noted", "info")
    assert (entry.exit or keeper.exit()).code == 5


def test_the_next_worker_gets_every_end_note_and_descriptor(keeper: BareKeeper) -> None:
    """All that a worker must know is in the hand-over."""
    keeper.start("/bin/sleep", "60", process_id="runs")
    keeper.start(SH, "-c", "exit 6", process_id="ended")
    exit_ = keeper.exit()
    keeper.send(m.Note("runs", "noted"))
    keeper.lose_worker()
    keeper.be_worker()

    assert keeper.table["ended"].exit == exit_
    assert (keeper.table["runs"].note, keeper.table["runs"].exit) == ("noted", None)
    assert list(keeper.table["runs"].kept) == ["stdout"]
