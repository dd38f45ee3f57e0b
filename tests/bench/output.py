"""Output of one and of eight processes to their followers beside a bare gRPC stream of the same bytes."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import partial

from guyline.agent.v1.process_service_pb2 import RunRequest, StartRequest
from guyline.agent.v1.process_service_pb2_grpc import ProcessServiceStub
from tests.bench.harness import Aim, Figure, interleaved
from tests.bench.reference import bare_server
from tests.support.agent import RunningAgent

_ROUNDS = 7
_BYTES = 192 * 1024 * 1024  # of all processes together
_BLOCK = 64 * 1024
_WARM_UP = 18  # processes whose journals fill the agent's quota of 1 GiB
_AIM = Aim("ratio", ">=", 0.8)
# Of mallopt(3). Left to itself glibc gives the buffer of each message back to the system and takes it again, or not, by
# chance: a bare server does the same work twice as fast in one process as in the next.
_KEEPS_MEMORY = {"MALLOC_TRIM_THRESHOLD_": str(256 << 20), "MALLOC_MMAP_THRESHOLD_": str(32 << 20)}


async def measure() -> list[Figure]:
    """Returns megabytes per second, all processes together: beside a bare server as it comes, and at its best."""
    figures = []
    async with RunningAgent() as agent, bare_server() as channel, bare_server(_KEEPS_MEMORY) as best_channel:
        bare, best = ProcessServiceStub(channel), ProcessServiceStub(best_channel)
        # From then on journals take the memory of older ones. Before that it may be memory that was never used, which
        # the host of a virtual machine hands out page by page: up to twice as slow, and by chance.
        for _ in range(_WARM_UP):
            await _follow(agent.processes, _print(64 << 20), 64 << 20)
        for processes in (1, 8):
            each = _BYTES // processes
            messages = await _follow(agent.processes, _print(each), each)
            same = [str(messages), str(each // messages)]
            ours, theirs, their_best = await interleaved(
                _ROUNDS,
                partial(_rate, processes, partial(_follow, agent.processes, _print(each), each)),
                partial(_rate, processes, partial(_follow, bare, same, 0)),
                partial(_rate, processes, partial(_follow, best, same, 0)),
            )
            name = f"output.{processes}_processes"
            beside = f"bare stream, messages of {each // messages // 1024} KiB"
            figures += [
                Figure(name, ours.median, "MB/s", theirs.median, beside, _AIM),
                Figure(f"{name}.strict", ours.median, "MB/s", their_best.median, f"{beside}, at its best"),
            ]
    return figures


def _print(size: int) -> list[str]:
    return ["dd", "if=/dev/zero", f"bs={_BLOCK}", f"count={size // _BLOCK}", "status=none"]


async def _follow(stub: ProcessServiceStub, argv: list[str], size: int) -> int:
    """Runs the command, takes all that it prints, and returns how many messages with data that took."""
    received = messages = 0
    async for message in stub.Run(RunRequest(start=StartRequest(argv=argv))):
        received += len(message.data)
        messages += bool(message.data)
    assert received >= size, f"{received} of {size} bytes came"
    return messages


async def _rate(times: int, follow: Callable[[], Awaitable[int]]) -> float:
    start = time.perf_counter()
    await asyncio.gather(*(follow() for _ in range(times)))
    return _BYTES / 1e6 / (time.perf_counter() - start)
