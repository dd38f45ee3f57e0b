"""One look at all processes serves all who ask, and never one who asked after it had begun."""

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from guyline.agentd.process.ending.census import Census, CensusTaker
from guyline.agentd.process.ending.lookout import Lookout
from guyline.agentd.process.tasks import Tasks
from guyline.agentd.system import proc
from tests.support.clock import DEADLINE


class Look:
    """A look at the processes that takes until it is let go."""

    def __init__(self, failure: OSError | None = None) -> None:
        self.begun = 0
        self._failure = failure
        self._may_end = threading.Semaphore(0)

    def __call__(self) -> dict[int, proc.Stat]:
        self.begun += 1
        assert self._may_end.acquire(timeout=DEADLINE)
        if self._failure:
            raise self._failure
        return proc.all_processes()

    def let_go(self, times: int = 1) -> None:
        """Ends so many looks."""
        self._may_end.release(times)


async def _begun(look: Look, times: int) -> None:
    async with asyncio.timeout(DEADLINE):
        while look.begun < times:  # noqa: ASYNC110 - it runs in a thread, which tells nobody
            await asyncio.sleep(0.001)


@asynccontextmanager
async def taker_with(look: Callable[[], dict[int, proc.Stat]]) -> AsyncIterator[CensusTaker]:
    """One that looks in this way."""
    with Lookout(look=look) as lookout:
        async with Tasks() as tasks:
            yield CensusTaker(tasks=tasks, lookout=lookout)


@asynccontextmanager
async def one_under_way() -> AsyncIterator[tuple[Look, CensusTaker, "asyncio.Task[Census]"]]:
    """A taker whose first census has begun, and who waits for it."""
    look = Look()
    async with taker_with(look) as taker:
        first = asyncio.create_task(taker.take())
        await _begun(look, 1)
        yield look, taker, first


async def test_a_census_knows_groups_and_sessions() -> None:
    """As the kernel says, of this process for one."""
    async with taker_with(proc.all_processes) as taker:
        census = await taker.take()

    me = census.stat_of(os.getpid())
    assert me is not None
    assert census.in_group(os.getpgrp())[os.getpid()] == me
    assert census.in_session(os.getsid(0))[os.getpid()] == me
    assert census.in_group(2**22 + 1) == census.in_session(2**22 + 1) == {}


async def test_all_who_ask_while_one_is_taken_share_the_next() -> None:
    """A thousand processes that are told to end cost two looks, not a thousand."""
    async with one_under_way() as (look, taker, first):
        later = [asyncio.create_task(taker.take()) for _ in range(1000)]
        look.let_go(2)
        censuses = await asyncio.gather(*later)

        assert look.begun == 2
        assert len(set(map(id, censuses))) == 1
        assert await first is not censuses[0]


async def test_one_that_has_begun_is_not_given_to_who_asks_then() -> None:
    """What the caller has just caused might be missing from it."""
    async with one_under_way() as (look, taker, first):
        second = asyncio.create_task(taker.take())
        look.let_go()
        await first
        await _begun(look, 2)

        assert not second.done()
        look.let_go()
        assert isinstance(await second, Census)


async def test_a_caller_that_gives_up_leaves_it_to_the_others() -> None:
    """Cancelling is safe."""
    look = Look()
    async with taker_with(look) as taker:
        gives_up, stays = asyncio.create_task(taker.take()), asyncio.create_task(taker.take())
        await _begun(look, 1)
        gives_up.cancel()
        look.let_go()

        assert isinstance(await stays, Census)


async def test_a_failure_reaches_who_asked_and_the_next_is_taken_anew() -> None:
    """No descriptor was left for a moment, for example."""
    look = Look(OSError("for a moment"))
    async with taker_with(look) as taker:
        look.let_go(2)
        for _ in range(2):
            with pytest.raises(OSError, match="for a moment"):
                await taker.take()

    assert look.begun == 2


async def test_who_still_waits_when_its_owner_ends_is_told() -> None:
    """Nobody waits for ever."""
    look = Look()
    async with taker_with(look) as taker:
        waits = asyncio.create_task(taker.take())
        await _begun(look, 1)
        look.let_go()
    with pytest.raises(asyncio.CancelledError):
        await waits
