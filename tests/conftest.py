"""What all tests share: agents to talk to, and the promise that a session leaves nothing behind."""

import asyncio
import gc
import os
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import grpc.aio
import pytest
from blockbuster import blockbuster_ctx

from tests.support import proc
from tests.support.agent import AgentProcess, RunningAgent
from tests.support.bare import bare_agent
from tests.support.clock import DEADLINE

_MAY_NOT_BLOCK = ("guyline.client", "guyline.rpc")


@pytest.fixture(scope="session", autouse=True)
def nothing_left_behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Fails the session if a process, a descriptor or a temporary file outlives it.

    So that none can hide, orphans are adopted, and the temporary directory is one of the session's own.
    """
    tmp_path_factory.getbasetemp()  # stays where it is: pytest keeps the last few for people to look at
    grpc.aio.init_grpc_aio()  # what gRPC opens once per process it then keeps, rather than close and open it again
    asyncio.run(_warm_up())
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory(prefix="gl-") as root:
        patch.setenv("TMPDIR", root)
        patch.setattr(tempfile, "tempdir", root)
        proc.adopt_orphans()
        children, descriptors = _children(), _descriptors()

        yield

        gc.collect()
        left = _what_stays(lambda: _children() - children)
        proc.kill(int(each.partition(" ")[0]) for each in left)
        opened = _what_stays(lambda: _descriptors() - descriptors)
        files = sorted(map(str, Path(root).rglob("*")))
    grpc.aio.shutdown_grpc_aio()
    assert not left, f"processes left behind: {sorted(left)}"
    assert not opened, f"descriptors left behind: {sorted(opened)}"
    assert not files, f"files left behind: {files}"


async def _warm_up() -> None:
    """Opens what gRPC opens at its first use."""
    async with bare_agent() as socket, grpc.aio.insecure_channel(f"unix:{socket}") as channel:
        await channel.channel_ready()


def _children() -> Counter[str]:
    proc.reap_adopted()
    return Counter(f"{child.pid} ({child.name}) {proc.command_line(child.pid)}" for child in proc.children(os.getpid()))


def _descriptors() -> Counter[str]:
    return Counter(proc.descriptors(os.getpid()))


def _what_stays(found: Callable[[], Counter[str]]) -> Counter[str]:
    """Asks until nothing is found, or for as long as things may take to go: gRPC's threads tell nobody when."""
    latest = time.monotonic() + DEADLINE
    while (now := found()) and time.monotonic() < latest:
        time.sleep(0.01)
    return now


@pytest.fixture(autouse=True)
def no_blocking_calls() -> Iterator[None]:
    """Fails a test in which the client, or what daemons share, makes a blocking call on the event loop."""
    with blockbuster_ctx([module for module in _MAY_NOT_BLOCK if find_spec(module)]):
        yield


@pytest.fixture
async def agent() -> AsyncIterator[RunningAgent]:
    """An agent of the test's own, which it may break."""
    async with RunningAgent() as running:
        yield running
        print(await asyncio.to_thread(running.process.log))  # shown by pytest if the test failed


@pytest.fixture(scope="session")
def shared_agent_process(nothing_left_behind: None) -> Iterator[AgentProcess]:
    """The process behind ``shared_agent``."""
    del nothing_left_behind  # it comes first, so that it looks last
    process = AgentProcess()
    process.start()
    try:
        yield process
    finally:
        process.close()


@pytest.fixture
async def shared_agent(shared_agent_process: AgentProcess) -> AsyncIterator[RunningAgent]:
    """One agent for all tests that leave it as they found it: processes ended, nothing killed, nothing stopped."""
    async with RunningAgent(process=shared_agent_process) as running:
        before = shared_agent_process.log_size()
        yield running
        print(await asyncio.to_thread(running.process.log, before))
