"""What tests of several parts of the agent share."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import pytest

from tests.agentd.keeper.hanging_fs import HangingFileSystem, NotPermitted


@pytest.fixture
def dead_mount(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HangingFileSystem]:
    """A mount that does not answer; skips the test where there can be none."""
    folder = tmp_path_factory.mktemp("dead")
    try:
        mount = HangingFileSystem(folder).__enter__()
    except NotPermitted as why:
        pytest.skip(f"no file system of our own here: {why}")
    yield mount
    mount.__exit__()


@pytest.fixture
def deaf_port() -> Iterator[int]:
    """One whose backlog is full: who connects is not answered."""
    with ExitStack() as stack:
        deaf = stack.enter_context(socket.socket())
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        for _ in range(4):
            caller = stack.enter_context(socket.socket())
            caller.setblocking(False)
            with suppress(BlockingIOError):
                caller.connect(deaf.getsockname())
        yield deaf.getsockname()[1]
