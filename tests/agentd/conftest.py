"""What tests of several parts of the agent share."""

from collections.abc import Iterator

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
