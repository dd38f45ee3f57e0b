"""What the tests of the call chain share."""

import gc
from collections.abc import AsyncIterator, Iterator

import pytest

from tests.rpc.serving import Log, logged


@pytest.fixture(autouse=True)
def grpc_ends_between_tests() -> Iterator[None]:
    """Ends gRPC's polling thread here, where no loop runs.

    It ends with the last object of gRPC's, and otherwise that is in whatever step of a later test the garbage
    collector comes by.
    """
    yield
    gc.collect()


@pytest.fixture
async def log() -> AsyncIterator[Log]:
    """What is logged during the test."""
    async with logged() as log:
        yield log


@pytest.fixture(autouse=True)
def logs_are_kept_off_the_console(log: Log) -> None:
    """Every test of this folder logs into a pipe, whether it looks or not."""
    del log
