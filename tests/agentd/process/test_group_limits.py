"""Limits for all that comes of a process together, which its cgroup holds."""

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest

from guyline.agent.v1.agent_info_service_pb2 import Feature, GetInfoRequest, UpgradeRequest
from guyline.agent.v1.process_pb2 import ENDED_BY_OOM_KILLER, GroupLimits, Privileges
from tests.agentd.process.process_parts import new_key, refusal, run, started, to_start
from tests.agentd.test_oom import EATER
from tests.support import agent_in_cgroup, proc
from tests.support.agent import AgentProcess, RunningAgent
from tests.support.cgroup_place import delegated

MIB = 1 << 20
LIMITS = {
    "memory": (GroupLimits(memory_bytes=64 * MIB), "memory.max", str(64 * MIB)),
    "cpu": (GroupLimits(cpus=1.5), "cpu.max", "150000 100000"),
    "pids": (GroupLimits(pids=20), "pids.max", "20"),
}


@asynccontextmanager
async def agent_with(controllers: Sequence[str], *, process_cgroups: str = "auto") -> AsyncIterator[RunningAgent]:
    """An agent alone in a cgroup that has these, as a service with ``Delegate=yes``."""
    with delegated(controllers) as group:
        process = AgentProcess(
            settings={"process_cgroups": process_cgroups}, program=(agent_in_cgroup.__file__, str(group))
        )
        async with RunningAgent(process=process, owns_process=True) as agent:
            yield agent


async def features(agent: RunningAgent) -> dict[str, Feature]:
    """Those of the limits, by the controller's name."""
    prefix = "process.limit."
    found = (await agent.info.GetInfo(GetInfoRequest(), wait_for_ready=True)).features
    return {each.name.removeprefix(prefix): each for each in found if each.name.startswith(prefix)}


def group_of(pid: int) -> Path:
    """The cgroup of version 2 in which a process lives."""
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    root = next(fields[1] for fields in mounts if fields[2] == "cgroup2")
    path = next(line[3:] for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines() if line.startswith("0::"))
    return Path(root + path)


def value_of(pid: int, file: str) -> str:
    """What is written in a file of its cgroup."""
    return (group_of(pid) / file).read_text().strip()


def limited(limits: GroupLimits) -> Privileges:
    """Nothing but these."""
    return Privileges(group_limits=limits)


# Where they are to be had.


@pytest.mark.parametrize("controller", LIMITS)
async def test_a_limit_is_the_cgroups(controller: str) -> None:
    """Whatever a command makes of itself, what comes of it stays below the limit."""
    limits, file, value = LIMITS[controller]
    async with agent_with([controller]) as agent:
        feature = (await features(agent))[controller]
        async with started(agent, "sleep 60 & setsid sleep 60 & wait", privileges=limited(limits)) as start:
            assert (feature.enabled, feature.reason) == (True, "")
            assert group_of(start.process.pid).name == start.process_id
            assert value_of(start.process.pid, file) == value


async def test_who_has_too_many_processes_cannot_make_more() -> None:
    """A fork bomb in one command is nothing to the others."""
    script = "i=0; while [ $i -lt 50 ]; do sleep 60 & i=$((i+1)); done; wait"
    async with agent_with(["pids"]) as agent:
        over = await run(agent, script, privileges=limited(GroupLimits(pids=20)))
        other = await run(agent, "sleep 0 & wait; echo fine")

    assert over.exit.code != 0
    assert b"fork" in over.data
    assert other.data == b"fine\n"


async def test_who_takes_too_much_memory_is_killed_and_the_exit_says_by_whom() -> None:
    """By the count of its own cgroup: another's kill is not its."""
    async with agent_with(["memory"]) as agent:
        over = await run(agent, EATER, privileges=limited(GroupLimits(memory_bytes=64 * MIB)))
        other = await run(agent, "kill -KILL $$", privileges=limited(GroupLimits(memory_bytes=64 * MIB)))

    assert (over.exit.signal, over.exit.ended_by) == (9, ENDED_BY_OOM_KILLER)
    assert (other.exit.signal, other.exit.ended_by == ENDED_BY_OOM_KILLER) == (9, False)


async def test_limits_outlive_worker_keeper_and_upgrade() -> None:
    """Every keeper finds itself in the leaf into which the first has moved, and goes no deeper."""
    async with agent_with(["pids"]) as agent:
        leaf = group_of(agent.keeper_pid)
        places = [group_of(agent.worker_pid)]
        await agent.info.Upgrade(UpgradeRequest())
        await proc.dead(agent.worker_pid)
        await agent.serves_again()
        places += [group_of(agent.keeper_pid), group_of(agent.worker_pid)]
        await agent.kill_keeper()
        await agent.serves_again()
        places += [group_of(agent.keeper_pid), group_of(agent.worker_pid)]
        async with started(agent, ["sleep", "60"], privileges=limited(GroupLimits(pids=20))) as start:
            assert value_of(start.process.pid, "pids.max") == "20"

        assert set(places) == {leaf}
        assert leaf.name.endswith("-agent")
        assert (await features(agent))["pids"].enabled


async def test_by_default_only_those_with_a_limit_wait_for_a_cgroup() -> None:
    """With an old C library one costs a millisecond; whoever asks for a limit gets it all the same."""
    async with agent_with(["pids"], process_cgroups="auto") as agent:
        info = await agent.info.GetInfo(GetInfoRequest())
        is_for_all = next(each.enabled for each in info.features if each.name == "process.cgroup")
        async with started(agent, ["sleep", "60"]) as start:
            assert (group_of(start.process.pid).name == start.process_id) == is_for_all


async def test_a_limited_command_can_be_another_user() -> None:
    """Both at once."""
    async with agent_with(["pids"]) as agent:
        privileges = Privileges(user=str(os.geteuid()), umask=0o77, group_limits=GroupLimits(pids=20))
        over = await run(agent, "umask", directory="/", privileges=privileges)

    assert over.data == b"0077\n"


async def test_a_folder_that_somebody_removed_gets_its_controllers_again() -> None:
    """It looks like something forgotten."""
    async with agent_with(["pids"]) as agent:
        folder = group_of(agent.keeper_pid)
        (folder.parent / folder.name.removesuffix("-agent")).rmdir()
        async with started(agent, ["sleep", "60"], privileges=limited(GroupLimits(pids=20))) as start:
            assert value_of(start.process.pid, "pids.max") == "20"


# Where they are not.


@pytest.mark.parametrize("controller", LIMITS)
async def test_a_limit_that_cannot_be_set_is_refused_and_the_reason_told(controller: str) -> None:
    """A command without the limit that was asked for is not what was asked for."""
    limits, _, _ = LIMITS[controller]
    async with RunningAgent(settings={"process_cgroups": "off"}) as agent:
        feature = (await features(agent))[controller]
        request = to_start("true", key=new_key(), privileges=limited(limits))
        refused, again = await refusal(agent.processes.Start(request)), await refusal(agent.processes.Start(request))

    assert (feature.enabled, feature.reason) == (False, "--process-cgroups is off")
    assert (refused.code, refused.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "FEATURE_OFF")
    assert refused.facts["feature"] == f"process.limit.{controller}"
    assert feature.reason in refused.message
    assert again.reason == "FEATURE_OFF"
