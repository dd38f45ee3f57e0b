"""An empty unary call to the agent beside the same to a bare gRPC server: what interceptors cost."""

from functools import partial

from tests.bench.harness import Figure, in_ms, interleaved, seconds
from tests.bench.reference import bare_server, empty_call
from tests.support.agent import RunningAgent

_ROUNDS = 3_000


async def measure() -> list[Figure]:
    """Returns p50 and p99 of the call."""
    async with RunningAgent() as agent, bare_server() as bare:
        calls = [partial(seconds, partial(empty_call, channel)) for channel in (agent.channel, bare)]
        ours, theirs = await interleaved(_ROUNDS, *calls)
    return in_ms("empty_call", ours, theirs, "bare grpc.aio call")
