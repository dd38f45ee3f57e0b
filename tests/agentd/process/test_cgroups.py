"""A cgroup for each command: nothing that comes of it can hide, and nothing of the cgroup stays."""

import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from guyline.agent.v1.agent_info_service_pb2 import Feature, GetInfoRequest
from guyline.agent.v1.process_pb2 import DESCENDANTS_CGROUP, UNKNOWN_END_KEEPER_LOST
from guyline.agent.v1.process_service_pb2 import (
    SIGNAL_SCOPE_ALL,
    SIGNAL_SCOPE_GROUP,
    SignalRequest,
    SignalResponse,
    StartResponse,
)
from tests.agentd.keeper.lives import logged, lose_agent
from tests.agentd.process.process_parts import a_line, attach, ended, printed, refusal, run, seconds, started
from tests.support import agent_without_cgroups, cgroup, proc
from tests.support.agent import AgentProcess, RunningAgent
from tests.support.clock import DEADLINE, until
from tests.support.program import program

GRACE = 0.05


@pytest.fixture
async def agent() -> AsyncIterator[RunningAgent]:
    """An agent that gives each command a cgroup, however long that takes here."""
    if why := cgroup.why_impossible():
        pytest.skip(why)
    async with RunningAgent(settings={"process_cgroups": "on"}) as running:
        yield running


@asynccontextmanager
async def with_daemon(agent: RunningAgent) -> AsyncIterator[tuple[StartResponse, int]]:
    """A command that runs, and the pid of a daemon that has escaped from its session."""
    async with started(agent, " ".join(program("daemon")) + "; exec sleep 60") as start:
        yield start, int((await attach(agent, start.process_id, until=a_line)).data)


@asynccontextmanager
async def with_stubborn(agent: RunningAgent) -> AsyncIterator[tuple[StartResponse, int]]:
    """The same, of one that has escaped and ignores SIGTERM."""
    async with started(agent, f"setsid {' '.join(program('stubborn'))} & exec sleep 60") as start:
        yield start, int((await attach(agent, start.process_id, until=a_line)).data.split()[1])


async def kill_all(agent: RunningAgent, process_id: str, number: int = signal.SIGKILL) -> SignalResponse:
    """Signals all that came of the command, and waits until they are gone."""
    request = SignalRequest(process_id=process_id, signal=number, scope=SIGNAL_SCOPE_ALL, wait=seconds(DEADLINE))
    return await agent.processes.Signal(request, wait_for_ready=True)


def group_of(agent: RunningAgent, process_id: str) -> Path:
    """The command's cgroup."""
    folder = agent.process.cgroups()
    assert folder
    return folder / process_id


async def cgroup_feature(agent: RunningAgent) -> Feature:
    """What the agent says about cgroups."""
    features = {each.name: each for each in (await agent.info.GetInfo(GetInfoRequest())).features}
    return features["process.cgroup"]


# Who is in it.


async def test_the_feature_says_that_each_command_has_one(agent: RunningAgent) -> None:
    """A client that relies on it can ask."""
    feature = await cgroup_feature(agent)

    assert (feature.enabled, feature.reason) == (True, "")


async def test_all_that_comes_of_a_command_is_in_its_cgroup_from_birth(agent: RunningAgent) -> None:
    """Its first child already, and a daemon; the agent itself is not."""
    async with with_daemon(agent) as (start, daemon):
        group = group_of(agent, start.process_id)

        await until(lambda: cgroup.members(group) == {start.process.pid, daemon})  # its parent is just ending
        assert not {agent.keeper_pid, agent.worker_pid} & cgroup.members(group)


async def test_an_escaped_daemon_is_told_as_left_over(agent: RunningAgent) -> None:
    """It left the group and the session; that is how it was overlooked before."""
    over = await run(agent, program("daemon"))

    assert list(over.exit.descendants_left) == [DESCENDANTS_CGROUP]
    assert over.exit.code == 0
    assert not (await kill_all(agent, over.process_id)).survivors
    assert not proc.is_alive(int(over.data))


async def test_a_signal_to_all_reaches_what_has_escaped_and_one_to_the_group_does_not(agent: RunningAgent) -> None:
    """The caller chooses whether a daemon is meant."""
    async with with_daemon(agent) as (start, daemon):
        to_group = SignalRequest(
            process_id=start.process_id, signal=15, scope=SIGNAL_SCOPE_GROUP, wait=seconds(DEADLINE)
        )
        await agent.processes.Signal(to_group)
        was_alive = proc.is_alive(daemon)
        answer = await kill_all(agent, start.process_id, signal.SIGTERM)

        assert was_alive
        assert not answer.survivors
        assert not proc.is_alive(daemon)


async def test_what_has_escaped_and_survives_is_named(agent: RunningAgent) -> None:
    """ "Killed" must not be said while a server still holds its port."""
    async with with_stubborn(agent) as (start, stubborn):
        request = SignalRequest(process_id=start.process_id, signal=15, scope=SIGNAL_SCOPE_ALL, wait=seconds(GRACE))
        await ended_by(agent, request)
        answer = await agent.processes.Signal(request)

        assert [survivor.pid for survivor in answer.survivors] == [stubborn]


async def ended_by(agent: RunningAgent, request: SignalRequest) -> None:
    """Sends the signal and waits for the end of the command itself."""
    await agent.processes.Signal(request)
    await ended(agent, request.process_id)


async def test_what_flees_faster_than_it_can_be_listed_is_killed(agent: RunningAgent) -> None:
    """The kernel kills the cgroup as a whole; a list of pids would be stale before it is read."""
    async with started(agent, f"{' '.join(program('fleeing'))} & exec sleep 60") as start:
        await attach(agent, start.process_id, until=printed(b"fleeing\n"))
        answer = await kill_all(agent, start.process_id)

        assert not answer.survivors
        await until(lambda: not group_of(agent, start.process_id).exists())


async def test_the_ladder_reaches_what_has_escaped_also_by_the_next_worker(agent: RunningAgent) -> None:
    """TERM for all, then KILL, with a worker killed in between."""
    async with with_stubborn(agent) as (start, stubborn):
        request = SignalRequest(
            process_id=start.process_id, signal=15, scope=SIGNAL_SCOPE_ALL, grace=seconds(10 * GRACE)
        )
        await agent.processes.Signal(request)
        await agent.kill_worker()

        await proc.dead(stubborn)
        await agent.serves_again()
        await until(lambda: not group_of(agent, start.process_id).exists())

        assert (await ended(agent, start.process_id)).exit.signal == signal.SIGTERM


# Over the agent's own deaths.


async def test_after_the_keepers_death_all_is_still_found(agent: RunningAgent) -> None:
    """The daemon's parent is some other process now; only the cgroup says whose it was."""
    async with with_daemon(agent) as (start, daemon):
        await agent.kill_keeper()
        await agent.serves_again()
        answer = await kill_all(agent, start.process_id)

        assert not answer.survivors
        assert not proc.is_alive(daemon)
        assert (await ended(agent, start.process_id)).exit.unknown == UNKNOWN_END_KEEPER_LOST
        await until(lambda: not group_of(agent, start.process_id).exists())


async def test_after_the_death_of_both_all_is_still_found(agent: RunningAgent) -> None:
    """Nobody knows how it ended, but everybody that came of it can be ended."""
    async with with_daemon(agent) as (start, daemon):
        await lose_agent(agent)
        await agent.start_again()
        answer = await kill_all(agent, start.process_id)

        assert not answer.survivors
        assert not proc.is_alive(daemon)
        assert not proc.is_alive(start.process.pid)


async def test_the_agents_end_reaches_daemons_that_an_earlier_keeper_had_adopted(agent: RunningAgent) -> None:
    """They are no descendants of this keeper; "nothing remains" holds for them too."""
    over = await run(agent, program("daemon"))
    await agent.kill_keeper()
    await agent.serves_again()
    assert proc.is_alive(int(over.data))
    await agent.stop()

    assert not proc.is_alive(int(over.data))


# What becomes of the cgroup.


async def test_it_is_removed_with_the_command(agent: RunningAgent) -> None:
    """A thousand commands an hour must not leave a thousand cgroups."""
    over = await run(agent, "true")

    assert not group_of(agent, over.process_id).exists()


async def test_it_is_removed_with_the_last_that_was_left_over(agent: RunningAgent) -> None:
    """Whenever that is; until then a signal finds them by it."""
    over = await run(agent, program("daemon"))
    assert group_of(agent, over.process_id).exists()

    os.kill(int(over.data), signal.SIGKILL)
    await until(lambda: not group_of(agent, over.process_id).exists())


async def test_those_that_the_command_has_made_below_it_are_removed_too(agent: RunningAgent) -> None:
    """A container engine makes its own, and does not always tidy up. Who lives there is found as well."""
    async with with_daemon(agent) as (start, daemon):
        group = group_of(agent, start.process_id)
        (group / "inner/most").mkdir(parents=True)
        (group / "inner/most/cgroup.procs").write_text(str(daemon))
        answer = await kill_all(agent, start.process_id)

        assert not answer.survivors
        assert not proc.is_alive(daemon)
        await until(lambda: not group.exists())


async def test_threads_in_cgroups_of_their_own_are_found_by_their_process(agent: RunningAgent) -> None:
    """The kernel lists no processes of a threaded cgroup; it does so at the one above it."""
    async with with_daemon(agent) as (start, daemon):
        group = group_of(agent, start.process_id)
        (group / "inner").mkdir()
        (group / "inner/cgroup.type").write_text("threaded")
        (group / "inner/cgroup.threads").write_text(str(daemon))
        answer = await kill_all(agent, start.process_id)

        assert not answer.survivors
        assert not proc.is_alive(daemon)
        await until(lambda: not group.exists())


async def test_what_a_killed_keeper_left_is_removed_by_the_next(agent: RunningAgent) -> None:
    """Between making it and spawning, between the end and removing it."""
    group = group_of(agent, "made-and-never-used")
    group.mkdir()
    await agent.kill_keeper()
    await agent.serves_again()

    assert not group.exists()


async def test_an_empty_folder_that_somebody_removed_is_made_again(agent: RunningAgent) -> None:
    """It looks like something forgotten, and the agent must neither stumble over that nor go on without cgroups."""
    folder = agent.process.cgroups()
    assert folder
    folder.rmdir()
    async with with_daemon(agent) as (start, daemon):
        assert daemon in cgroup.members(group_of(agent, start.process_id))

    await until(lambda: not group_of(agent, start.process_id).exists())
    folder.rmdir()
    await agent.stop()


async def test_a_command_that_cannot_be_started_leaves_none(agent: RunningAgent, tmp_path: Path) -> None:
    """It was made for nothing."""
    (tmp_path / "garbage").write_bytes(b"\x7fELF garbage")
    (tmp_path / "garbage").chmod(0o755)
    refused = await refusal(run(agent, [str(tmp_path / "garbage")]))

    assert refused.reason == "COMMAND_NOT_RUNNABLE"
    assert refused.facts["errno"] == "ENOEXEC"
    folder = agent.process.cgroups()
    assert folder
    assert not [each for each in folder.iterdir() if each.is_dir()]


# Where it is not to be had.


async def test_a_command_runs_without_one_if_no_more_can_be_made(agent: RunningAgent) -> None:
    """A cgroup is worth less than the command."""
    folder = agent.process.cgroups()
    assert folder
    (folder / "cgroup.max.descendants").write_text("0")
    over = await run(agent, "echo done")

    assert (over.data, over.exit.code) == (b"done\n", 0)
    assert over.process_id in await logged(agent, "a command gets no cgroup")


async def test_without_cgroups_the_feature_says_why_and_commands_run() -> None:
    """An agent must not fail for want of what most containers lack."""
    if why := cgroup.why_not_hidden():
        pytest.skip(why)
    process = AgentProcess(settings={"process_cgroups": "on"}, program=(agent_without_cgroups.__file__,))
    async with RunningAgent(process=process, owns_process=True) as agent:
        over = await run(agent, "echo done")
        feature = await cgroup_feature(agent)
        await logged(agent, "commands get no cgroups")

    assert over.data == b"done\n"
    assert not feature.enabled
    assert "no cgroup v2 is mounted" in feature.reason


async def test_switched_off_it_says_so() -> None:
    """For whoever wonders why a daemon was not found."""
    async with RunningAgent(settings={"process_cgroups": "off"}) as agent:
        feature = await cgroup_feature(agent)
        over = await run(agent, program("daemon"))
        os.kill(int(over.data), signal.SIGKILL)

    assert (feature.enabled, feature.reason) == (False, "--process-cgroups is off")
    assert not over.exit.descendants_left
