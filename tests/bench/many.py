"""A thousand live processes, each followed: what they cost keeper and worker, and whether each end is seen."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import grpc.aio

from guyline.agent.v1.process_service_pb2 import AttachRequest, StartRequest
from tests.bench.harness import Aim, Figure
from tests.support import proc
from tests.support.agent import RunningAgent

PROCESSES = 1_000
_QUIET_SECONDS = 5.0
_STARTS_AT_ONCE = 16


@asynccontextmanager
async def live(agent: RunningAgent, count: int) -> AsyncIterator[list[str]]:
    """Starts processes that wait, and gives their ids; at the end of the block each prints ``done`` and exits 0."""
    gate = agent.process.folder / f"gate-{count}"
    os.mkfifo(gate)
    opened = os.open(gate, os.O_RDWR)  # stays open to the end: a line waits in it for who has not come to read yet
    turns = asyncio.Semaphore(_STARTS_AT_ONCE)

    async def start() -> str:
        async with turns:
            waiting = StartRequest(argv=["sh", "-c", 'read x < "$0"; echo done', str(gate)])
            return (await agent.processes.Start(waiting, timeout=60)).process_id

    try:
        ids = await asyncio.gather(*(start() for _ in range(count)))
        yield ids
        os.write(opened, b"\n" * count)
        await asyncio.gather(*(ended_well(agent, process_id) for process_id in ids))
    finally:
        os.close(opened)


async def ended_well(agent: RunningAgent, process_id: str, attached: asyncio.Semaphore | None = None) -> bool:
    """Follows a process of ``live`` to its end; tells whether both its output and its exit came.

    Releases ``attached`` with each message: the first one comes at once.
    """
    data = b""
    try:
        async for message in agent.processes.Attach(AttachRequest(process_id=process_id)):
            if attached is not None:
                attached.release()
            data += message.data
            if message.HasField("exit"):
                return data == b"done\n" and message.exit.HasField("code") and message.exit.code == 0
    except grpc.aio.AioRpcError as why:
        print(f"a follower broke off: {why.code().name} {why.details()}")
    return False


@dataclass(frozen=True)
class Use:
    """What a process uses: proportional memory in KiB, CPU in percent of one core over a quiet while."""

    memory: float
    cpu: float


async def _use(*pids: int) -> list[Use]:
    before = [_cpu_seconds(pid) for pid in pids]
    await asyncio.sleep(_QUIET_SECONDS)  # what is measured is a time in which nothing happens
    after = [_cpu_seconds(pid) for pid in pids]
    spent = [100 * (late - early) / _QUIET_SECONDS for early, late in zip(before, after, strict=True)]
    return [Use(proc.proportional_bytes(pid) / 1024, cpu) for pid, cpu in zip(pids, spent, strict=True)]


def _cpu_seconds(pid: int) -> float:
    found = proc.status(pid)
    assert found is not None, f"process {pid} is gone"
    return found.cpu_seconds


async def measure() -> list[Figure]:
    """Returns memory and CPU beside the idle agent's, and how many ends were missed."""
    async with RunningAgent() as agent:
        keeper_idle, worker_idle = await _use(agent.keeper_pid, agent.worker_pid)
        async with live(agent, PROCESSES) as ids:
            attached = asyncio.Semaphore(0)
            followers = [asyncio.create_task(ended_well(agent, process_id, attached)) for process_id in ids]
            for _ in ids:
                await attached.acquire()
            keeper, worker = await _use(agent.keeper_pid, agent.worker_pid)
        seen = sum(await asyncio.gather(*followers))
    grown = keeper.memory + worker.memory - keeper_idle.memory - worker_idle.memory
    idle = "idle agent"
    return [
        Figure("many.keeper_memory", keeper.memory, "KiB", keeper_idle.memory, idle),
        Figure("many.worker_memory", worker.memory, "KiB", worker_idle.memory, idle),
        Figure("many.memory_each", grown / PROCESSES, "KiB", aim=Aim("value", "<=", 64)),
        Figure("many.keeper_cpu", keeper.cpu, "%", keeper_idle.cpu, idle),
        Figure("many.worker_cpu", worker.cpu, "%", worker_idle.cpu, idle),
        Figure("many.ends_missed", PROCESSES - seen, "", aim=Aim("value", "<=", 0)),
    ]
