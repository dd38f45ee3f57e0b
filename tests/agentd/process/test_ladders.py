"""A ladder that was promised is climbed to its end, whatever stands in the way."""

import errno
import os
import pwd
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest

from guyline.agent.v1.process_pb2 import ENDED_BY_CALLER, ENDED_BY_ITSELF, TIME_LIMIT_TIMEOUT, Privileges, TimeLimits
from guyline.agent.v1.process_service_pb2 import (
    SIGNAL_SCOPE_ALL,
    SIGNAL_SCOPE_GROUP,
    ProcessServiceCancelRequest,
    ProcessServiceListRequest,
    SignalRequest,
    SignalScope,
)
from guyline.agentd.process.errors import SignalNotPermitted
from guyline.agentd.system.cgroup import Cgroup
from guyline.agentd.system.proc import stat_of
from tests.agentd.process.process_parts import a_line, attach, ended, refusal, seconds, started, to_start
from tests.agentd.process.simulated import simulated
from tests.support import agent_that_may_not_kill, agent_without_privileges, cgroup, proc
from tests.support.agent import AgentProcess, RunningAgent
from tests.support.clock import DEADLINE, until
from tests.support.program import program

NOBODY = pwd.getpwnam("nobody")


@contextmanager
def led_by_itself() -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A program that leads a session of its own, and when it began, in clock ticks."""
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as leader:
        stat = stat_of(leader.pid)
        assert stat
        yield leader, stat.start_ticks


# Want of descriptors.


async def test_a_cancel_holds_although_there_is_no_descriptor_when_it_comes(agent: RunningAgent) -> None:
    """It has answered, and who asks for the end of a runaway does so while everything is short."""
    async with started(agent, program("stubborn")) as start:
        await attach(agent, start.process_id, until=a_line)
        request = ProcessServiceCancelRequest(process_id=start.process_id, grace=seconds(0.1))
        with proc.no_descriptor_left(agent.worker_pid):
            await agent.processes.Cancel(request)
            await until(lambda: "a ladder cannot go on now" in agent.process.log())
        over = await ended(agent, start.process_id)

    assert over.exit.signal == signal.SIGKILL


async def test_a_ladder_that_finds_no_descriptor_goes_on_when_there_are_some(agent: RunningAgent) -> None:
    """Nobody else would: whoever cancels again is told that it is under way."""
    async with started(agent, program("stubborn")) as start:
        await attach(agent, start.process_id, until=a_line)
        request = ProcessServiceCancelRequest(process_id=start.process_id, grace=seconds(0.3))
        await agent.processes.Cancel(request)
        with proc.no_descriptor_left(agent.worker_pid):
            await until(lambda: "a ladder cannot go on now" in agent.process.log())
        over = await ended(agent, start.process_id)

    assert over.exit.signal == signal.SIGKILL


async def test_who_asks_in_want_of_descriptors_is_told_that_it_passes(agent: RunningAgent) -> None:
    """And whether something may have been done: a signal that is sent twice does not always do the same."""
    async with started(agent, program("stubborn")) as start:
        await attach(agent, start.process_id, until=a_line)
        signalling = SignalRequest(process_id=start.process_id, signal=signal.SIGTERM, scope=SIGNAL_SCOPE_ALL)
        with proc.no_descriptor_left(agent.worker_pid):
            signalled = await refusal(agent.processes.Signal(signalling))
            listed = await refusal(agent.processes.List(ProcessServiceListRequest(usage=True)))

    assert signalled.reason == listed.reason == "SYSTEM_EXHAUSTED"
    assert (signalled.facts["outcome"], listed.facts["outcome"]) == ("MAY_HAVE_RUN", "NOT_STARTED")


async def test_a_limit_that_strikes_while_there_is_no_descriptor_ends_the_command(agent: RunningAgent) -> None:
    """It strikes once; nobody is there who would ask again."""
    limits = TimeLimits(timeout=seconds(0.5), grace=seconds(0.1))
    async with started(agent, program("stubborn"), time_limits=limits) as start:
        with proc.no_descriptor_left(agent.worker_pid):
            await until(lambda: "a ladder cannot go on now" in agent.process.log())
        over = await ended(agent, start.process_id)

    assert over.struck == TIME_LIMIT_TIMEOUT
    assert over.exit.signal == signal.SIGKILL


async def test_a_signal_that_the_keeper_had_no_room_for_is_sent_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It looks whether a command of a keeper before it is still the same, which takes a descriptor."""
    sent: list[int] = []

    async def has_room_at_last(_process_id: str, number: int, _cause: str, **_: bool) -> int:
        sent.append(number)
        if len(sent) <= 3:
            return errno.EMFILE
        os.killpg(real.pid, number)
        return 0

    async with simulated(tmp_path) as world:
        monkeypatch.setattr(world.keeper, "signal", has_room_at_last)
        process = await world.start()
        with led_by_itself() as (real, start_ticks):
            process.pid, process.start_ticks = real.pid, start_ticks
            await world.processes.canceling.end(process, grace=0.0)
            await until(lambda: real.poll() is not None)

    assert sent[:4] == [signal.SIGTERM] * 4


async def test_no_ladder_leads_above_the_kill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whom not even that may reach, nor its cgroup, is told of: SIGTERM would be no more welcome."""

    async def may_not(_process_id: str, _number: int, _cause: str, **_: bool) -> int:
        return errno.EPERM

    def threaded() -> None:
        raise OSError(errno.EOPNOTSUPP, "a threaded cgroup cannot be killed as a whole")

    async with simulated(tmp_path) as world:
        process = await world.start()
        cgroup = Cgroup(str(tmp_path))
        monkeypatch.setattr(cgroup, "kill", threaded)
        monkeypatch.setattr(world.keeper, "signal", may_not)
        monkeypatch.setattr(world.keeper, "cgroup_of", lambda _: cgroup)
        with pytest.raises(SignalNotPermitted):
            await world.processes.signals.end(process, signal.SIGKILL, to_all=True, grace=0.1, wait=None)

        assert process.note.ladder is None


class WholeGroup(Cgroup):
    """A cgroup as far as it takes to end who is in it, which here is whoever is in the process group."""

    def __init__(self, group: int) -> None:
        super().__init__("/nowhere")
        self._group = group

    def members(self) -> set[int]:
        return set()

    def kill(self) -> bool:
        os.killpg(self._group, signal.SIGKILL)
        return True


async def test_who_may_not_be_signalled_is_killed_with_the_cgroup(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel asks for no permission there: so a limit of time holds for `sudo`, too."""

    async def may_not(_process_id: str, _number: int, _cause: str, **_: bool) -> int:
        return errno.EPERM

    async with simulated(tmp_path) as world:
        process = await world.start()
        with led_by_itself() as (real, start_ticks):
            process.pid, process.start_ticks = real.pid, start_ticks
            monkeypatch.setattr(world.keeper, "signal", may_not)
            with pytest.raises(SignalNotPermitted):
                await world.processes.canceling.end(process, grace=0.0)
            monkeypatch.setattr(world.keeper, "cgroup_of", lambda _: WholeGroup(real.pid))
            await world.processes.canceling.end(process, grace=0.0)
            await until(lambda: real.poll() is not None)

    assert real.returncode == -signal.SIGKILL


async def test_a_cancel_climbs_anew_where_a_ladder_was_left_to_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A defect may have ended it; that it is noted must not be taken for its being under way."""
    sent: list[int] = []

    async def reaches_with_the_second_kill(_process_id: str, number: int, _cause: str, **_: bool) -> int:
        sent.append(number)
        if sent.count(signal.SIGKILL) == 2:
            os.killpg(real.pid, number)
        elif number == signal.SIGKILL:
            raise RuntimeError("a defect")
        return 0

    async with simulated(tmp_path) as world:
        monkeypatch.setattr(world.keeper, "signal", reaches_with_the_second_kill)
        process = await world.start()
        with led_by_itself() as (real, start_ticks):
            process.pid, process.start_ticks = real.pid, start_ticks
            await world.processes.canceling.end(process, grace=0.0)
            await until(lambda: signal.SIGKILL in sent)
            await world.processes.canceling.end(process, grace=0.0)
            await until(lambda: real.poll() is not None)

    assert sent == [signal.SIGTERM, signal.SIGKILL] * 2


# Signals without a name.


@pytest.mark.parametrize(("number", "ends_by"), [(35, 35), (40, signal.SIGTERM)])
async def test_a_ladder_may_begin_at_a_signal_without_a_name(
    shared_agent: RunningAgent, number: int, ends_by: int
) -> None:
    """Programs use the real-time signals for their own ends; the ladder above them begins with TERM."""
    ignores = "import signal, time; signal.signal(40, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
    async with started(shared_agent, [sys.executable, "-I", "-S", "-c", ignores]) as start:
        await attach(shared_agent, start.process_id, until=a_line)
        request = SignalRequest(process_id=start.process_id, signal=number, grace=seconds(0.1), wait=seconds(DEADLINE))
        answer = await shared_agent.processes.Signal(request)

    assert not answer.survivors
    assert answer.process.exit.signal == ends_by


# Who has ended, and who has not.


async def test_a_process_whose_first_thread_has_ended_is_alive(shared_agent: RunningAgent) -> None:
    """To the kernel it looks like one that waits for its parent; the ladder must not stop before it."""
    async with started(shared_agent, program("leaderless")) as start:
        await attach(shared_agent, start.process_id, until=a_line)
        request = ProcessServiceCancelRequest(process_id=start.process_id, grace=seconds(0.1), wait=seconds(DEADLINE))
        answer = await shared_agent.processes.Cancel(request)

    assert answer.process.exit.signal == signal.SIGKILL


# Other users.


@pytest.fixture
async def plain_agent() -> AsyncIterator[RunningAgent]:
    """An agent without privileges, as of any user but root."""
    if why := agent_without_privileges.why_impossible():
        pytest.skip(why)
    process = AgentProcess(settings={"process_cgroups": "off"}, program=(agent_without_privileges.__file__,))
    async with RunningAgent(process=process, owns_process=True) as running:
        yield running


def root_is_missing() -> str:
    """Says what is missing to run something as another user; empty: nothing."""
    has_all = os.geteuid() == 0 and shutil.which("setpriv")
    return "" if has_all else "to run something as another user takes root and setpriv (util-linux)"


@pytest.fixture
def as_nobody(tmp_path: Path) -> list[str]:
    """What goes before a command so that it runs as another user, as with ``sudo``: also of an unprivileged agent."""
    if why := root_is_missing():
        pytest.skip(why)
    usual = shutil.which("setpriv")
    assert usual
    if os.statvfs(tmp_path).f_flag & os.ST_NOSUID:
        pytest.skip("no program runs as its owner in the temporary directory")
    own = str(shutil.copy(usual, tmp_path))
    os.chown(own, NOBODY.pw_uid, NOBODY.pw_gid)
    Path(own).chmod(0o4755)
    return [own, f"--reuid={NOBODY.pw_uid}"]


@contextmanager
def killed_in_the_end(pid: int) -> Iterator[None]:
    """The agent could not do so."""
    try:
        yield
    finally:
        proc.kill([pid])


def is_nobodys(pid: int) -> bool:
    uids = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("Uid:"))
    return uids.split()[1:4] == [str(NOBODY.pw_uid)] * 3


async def test_who_may_not_be_signalled_keeps_nobody_else_alive(
    plain_agent: RunningAgent, as_nobody: list[str]
) -> None:
    """A job under ``sudo`` is left; the agent's own stubborn shell beside it is not."""
    script = f"set -m; {' '.join(as_nobody)} sleep 60 & echo $!; trap '' TERM; while :; do sleep 0.01; done"
    start = await plain_agent.processes.Start(to_start(["bash", "-c", script], directory="/"))
    job = int((await attach(plain_agent, start.process_id, until=a_line)).data)
    with killed_in_the_end(job):
        await until(lambda: is_nobodys(job))
        request = ProcessServiceCancelRequest(process_id=start.process_id, grace=seconds(0.1))
        await plain_agent.processes.Cancel(request)
        over = await ended(plain_agent, start.process_id)

        assert over.exit.signal == signal.SIGKILL
        assert proc.is_alive(job)


async def test_a_kill_that_was_refused_counts_for_nothing(plain_agent: RunningAgent, as_nobody: list[str]) -> None:
    """Somebody else kills the command, as this test does."""
    start = await plain_agent.processes.Start(to_start([*as_nobody, "sleep", "60"], directory="/"))
    with killed_in_the_end(start.process.pid):
        await until(lambda: is_nobodys(start.process.pid))
        refused = await refusal(plain_agent.processes.Signal(to_kill(start.process_id)))
    over = await ended(plain_agent, start.process_id)

    assert refused.reason == "SIGNAL_NOT_PERMITTED"
    assert (over.exit.signal, over.exit.ended_by) == (signal.SIGKILL, ENDED_BY_ITSELF)


async def test_a_kill_that_only_the_cgroup_can_carry_out_was_asked_for_all_the_same() -> None:
    """The kernel kills a cgroup for whoever owns it. The exit said that the command ended by itself."""
    if why := root_is_missing() or cgroup.why_impossible():
        pytest.skip(why)
    process = AgentProcess(settings={"process_cgroups": "on"}, program=(agent_that_may_not_kill.__file__,))
    async with RunningAgent(process=process, owns_process=True) as agent:
        as_nobody = Privileges(user="nobody")
        start = await agent.processes.Start(to_start(["sleep", "60"], directory="/", privileges=as_nobody))
        await agent.processes.Signal(to_kill(start.process_id))
        over = await ended(agent, start.process_id)

    assert (over.exit.signal, over.exit.ended_by) == (signal.SIGKILL, ENDED_BY_CALLER)


def to_kill(process_id: str) -> SignalRequest:
    """SIGKILL for all that came of it."""
    return SignalRequest(process_id=process_id, signal=signal.SIGKILL, scope=SIGNAL_SCOPE_ALL)


@pytest.mark.parametrize("scope", [SIGNAL_SCOPE_GROUP, SIGNAL_SCOPE_ALL])
async def test_a_command_that_may_not_be_signalled_at_all_is_no_success(
    plain_agent: RunningAgent, as_nobody: list[str], scope: SignalScope.ValueType
) -> None:
    """Whoever was told that it worked would wait for an end that does not come."""
    start = await plain_agent.processes.Start(to_start([*as_nobody, "sleep", "60"], directory="/"))
    with killed_in_the_end(start.process.pid):
        await until(lambda: is_nobodys(start.process.pid))
        request = SignalRequest(process_id=start.process_id, signal=9, scope=scope)
        refused = await refusal(plain_agent.processes.Signal(request))
        cancel = ProcessServiceCancelRequest(process_id=start.process_id)
        of_cancel = await refusal(plain_agent.processes.Cancel(cancel))

        assert (refused.code, refused.reason) == (grpc.StatusCode.PERMISSION_DENIED, "SIGNAL_NOT_PERMITTED")
        assert (refused.facts["process_id"], refused.facts["signal"]) == (start.process_id, "9")
        assert of_cancel.reason == "SIGNAL_NOT_PERMITTED"
        assert proc.is_alive(start.process.pid)
