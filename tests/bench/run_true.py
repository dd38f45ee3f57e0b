"""``Run`` of /bin/true, from the call to its exit, everything recorded, beside spawning in C plus an empty call."""

from functools import partial

from guyline.agent.v1.process_service_pb2 import RunRequest, StartRequest
from tests.bench.harness import Aim, Figure, in_ms, interleaved, seconds
from tests.bench.reference import bare_server, empty_call, spawn_in_c
from tests.support import cgroup
from tests.support.agent import RunningAgent

_ROUNDS = 1_000
_OWN_CGROUP = {"process_cgroups": "on"}
_AIMS = (Aim("ratio", "<=", 1.6), Aim("ratio", "<=", 2.5))


async def run_true(agent: RunningAgent) -> None:
    """Runs /bin/true and follows it to its end."""
    last = None
    async for last in agent.processes.Run(RunRequest(start=StartRequest(argv=["/bin/true"]))):  # noqa: B007 - the last
        pass
    assert last is not None
    assert last.exit.code == 0
    assert last.exit.HasField("code")


async def measure() -> list[Figure]:
    """Returns p50 and p99: beside sums with the agent's own and with a bare empty call, and of commands in cgroups."""
    with spawn_in_c() as spawn:
        async with RunningAgent() as agent, RunningAgent(settings=_OWN_CGROUP) as grouping, bare_server() as bare:
            run, grouped, spawned, call, bare_call = await interleaved(
                _ROUNDS,
                partial(seconds, partial(run_true, agent)),
                partial(seconds, partial(run_true, grouping)),
                spawn.seconds,
                partial(seconds, partial(empty_call, agent.channel)),
                partial(seconds, partial(empty_call, bare)),
            )
    figures = [
        *in_ms("run_true", run, spawned + call, "posix_spawn in C + empty call", aims=_AIMS),
        *in_ms("run_true.strict", run, spawned + bare_call, "posix_spawn in C + bare call"),
    ]
    if not cgroup.why_impossible():
        figures += in_ms("run_true.own_cgroup", grouped, spawned + call, "posix_spawn in C + empty call")
    return figures
