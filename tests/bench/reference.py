"""What benchmarks measure beside: a bare gRPC server, and spawning in C."""

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import grpc.aio
from grpc_health.v1.health_pb2 import HealthCheckRequest
from grpc_health.v1.health_pb2_grpc import HealthStub

from tests.bench.harness import ReferenceMissingError
from tests.support.agent import RECONNECT_FAST
from tests.support.clock import DEADLINE

_ROOT = Path(__file__).parents[2]


@asynccontextmanager
async def bare_server(environment: Mapping[str, str] | None = None) -> AsyncIterator[grpc.aio.Channel]:
    """Runs the bare gRPC server in a process of its own and gives a channel on which it has answered once.

    ``environment`` comes on top of this process's own.
    """
    with tempfile.TemporaryDirectory(prefix="gl-") as folder:
        socket = f"{folder}/bare.sock"
        command = [sys.executable, "-m", "tests.bench.bare_server", socket]
        server = await asyncio.create_subprocess_exec(*command, cwd=_ROOT, env={**os.environ, **(environment or {})})
        try:
            async with grpc.aio.insecure_channel(f"unix:{socket}", RECONNECT_FAST) as channel:
                await empty_call(channel)
                yield channel
        finally:
            server.terminate()
            await server.wait()


async def empty_call(channel: grpc.aio.Channel) -> None:
    """Makes the smallest call that every server of ours answers: a health check."""
    await HealthStub(channel).Check(HealthCheckRequest(), wait_for_ready=True, timeout=DEADLINE)


class SpawnInC:
    """Starts /bin/true and waits for it, in a small C program."""

    def __init__(self, program: subprocess.Popen[bytes]) -> None:
        assert program.stdin is not None
        assert program.stdout is not None
        self._go, self._took = program.stdin.fileno(), program.stdout.fileno()

    async def seconds(self) -> float:
        """Does it once and returns how long that took, by the program's own clock. Holds the loop up meanwhile."""
        os.write(self._go, b".")
        return int.from_bytes(os.read(self._took, 8), sys.byteorder) / 1e9


@contextmanager
def spawn_in_c() -> Iterator[SpawnInC]:
    """Compiles and runs the C program for the length of the block.

    Raises:
        ReferenceMissingError: There is no C compiler.
    """
    compiler = shutil.which("cc")
    if compiler is None:
        raise ReferenceMissingError("there is no C compiler (cc) to build the reference with")
    with tempfile.TemporaryDirectory(prefix="gl-") as folder:
        binary = f"{folder}/spawn"
        subprocess.run([compiler, "-O2", "-o", binary, Path(__file__).with_name("spawn.c")], check=True)
        with subprocess.Popen([binary], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as program:
            yield SpawnInC(program)  # leaving the block closes its input, which ends it
