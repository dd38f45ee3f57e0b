"""Who ended a command that got SIGKILL: the kernel, because memory ran out, or somebody."""

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from guyline.agent.v1.process_pb2 import ENDED_BY_CALLER, ENDED_BY_ITSELF, ENDED_BY_OOM_KILLER
from guyline.agent.v1.process_service_pb2 import SignalRequest, StartRequest
from tests.agentd.keeper.lives import run, started
from tests.support import agent_in_cgroup
from tests.support.agent import AgentProcess, RunningAgent

_ROOT = Path("/sys/fs/cgroup")
_LIMIT_BYTES = 160 << 20  # keeper and workers take 60 MB of it
_EAT = "block = bytearray(1 << 20); blocks = [bytes(len(block)) + bytes([1]) * len(block) for _ in range(400)]"
EATER = (sys.executable, "-S", "-c", _EAT)
"""Wants 400 MB."""


@pytest.fixture
def small_cgroup() -> Iterator[Path]:
    """A memory cgroup with little room, of version 1 or 2, for commands to move into."""
    is_v1 = (_ROOT / "memory").is_dir()
    group = (_ROOT / "memory" if is_v1 else _ROOT) / f"guyline-test-{uuid.uuid4()}"
    limits = ["memory.limit_in_bytes", "memory.memsw.limit_in_bytes"] if is_v1 else ["memory.max", "memory.swap.max"]
    try:
        group.mkdir()
    except OSError as why:
        pytest.skip(f"no memory cgroup can be made here: {why}")
    try:
        (group / limits[0]).write_text(str(_LIMIT_BYTES))
        with suppress(OSError):  # accounting of swap is an option of the kernel
            (group / limits[1]).write_text(str(_LIMIT_BYTES) if is_v1 else "0")
        yield group
    except (FileNotFoundError, PermissionError) as why:  # open() tries to make it, which cgroup v2 refuses
        pytest.skip(f"no memory controller here: {why}")
    finally:
        group.rmdir()


@asynccontextmanager
async def agent_inside(group: Path, *, process_cgroups: str = "auto") -> AsyncIterator[RunningAgent]:
    """An agent in the cgroup, as in a container: its commands are born there, or below."""
    settings = {"process_cgroups": process_cgroups}
    process = AgentProcess(settings=settings, program=(agent_in_cgroup.__file__, str(group)))
    async with RunningAgent(process=process, owns_process=True) as agent:
        yield agent


@pytest.mark.parametrize("process_cgroups", ["off", "on"])
async def test_a_command_that_the_kernel_killed_for_memory_is_told_from_others(
    small_cgroup: Path, process_cgroups: str
) -> None:
    """The word "killed" alone sends people looking for a person; the answer is to give it more memory."""
    async with agent_inside(small_cgroup, process_cgroups=process_cgroups) as agent:
        reader = await run(agent, *EATER)

    assert reader.exit is not None
    assert (reader.exit.signal, reader.exit.ended_by) == (signal.SIGKILL, ENDED_BY_OOM_KILLER)


async def test_each_such_kill_is_told_also_by_the_successor_of_a_keeper(small_cgroup: Path) -> None:
    """What was counted before says nothing about the next kill."""
    async with agent_inside(small_cgroup) as agent:
        first, second = await run(agent, *EATER), await run(agent, *EATER)
        await agent.kill_keeper()
        await agent.serves_again()
        third = await run(agent, *EATER)

    exits = [reader.exit for reader in (first, second, third) if reader.exit]
    assert [exit_.ended_by for exit_ in exits] == [ENDED_BY_OOM_KILLER] * 3


async def test_a_kill_by_somebody_is_not_blamed_on_the_kernel(small_cgroup: Path) -> None:
    """Not even in a cgroup in which the kernel has killed before."""
    async with agent_inside(small_cgroup) as agent:
        await run(agent, *EATER)
        async with started(agent, StartRequest(argv=["sleep", "60"])) as (process, reader):
            os.kill(process.pid, signal.SIGKILL)
            exit_ = await reader.end()

    assert (exit_.signal, exit_.ended_by) == (signal.SIGKILL, ENDED_BY_ITSELF)


async def test_a_kill_by_a_caller_is_the_callers(agent: RunningAgent) -> None:
    """The third who may have sent a nine."""
    async with started(agent, StartRequest(argv=["sleep", "60"])) as (process, reader):
        await agent.processes.Signal(SignalRequest(process_id=process.process_id, signal=signal.SIGKILL))
        exit_ = await reader.end()

    assert (exit_.signal, exit_.ended_by) == (signal.SIGKILL, ENDED_BY_CALLER)


async def test_the_keeper_is_the_last_to_be_killed_and_commands_are_ordinary(agent: RunningAgent) -> None:
    """The kernel weighs by this score; a command that inherited the keeper's would be spared at everybody's cost."""
    ordinary = max(0, score_of("self"))
    reader = await run(agent, "cat", "/proc/self/oom_score_adj")

    assert int(reader.printed) == ordinary
    assert score_of(agent.keeper_pid) == (-1000 if may_be_spared() else score_of("self"))


def score_of(pid: int | str) -> int:
    return int(Path(f"/proc/{pid}/oom_score_adj").read_text())


def may_be_spared() -> bool:
    """Whether this user's processes may lower their score: CAP_SYS_RESOURCE."""
    lower = ["sh", "-c", "echo -1000 > /proc/self/oom_score_adj"]
    return subprocess.run(lower, stderr=subprocess.DEVNULL, check=False).returncode == 0
