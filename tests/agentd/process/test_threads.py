"""Work in threads when the system has none left: said as something that passes, and never done behind one's back."""

import asyncio
import gc
import os
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from guyline.agentd.process.errors import SystemExhausted
from guyline.agentd.process.starting.lookup import Lookup
from guyline.agentd.process.threads import OwnThreads, in_thread
from guyline.agentd.process.waiting import conditions
from guyline.agentd.process.waiting.pattern import Pattern
from guyline.agentd.process.waiting.presence import Presence
from guyline.agentd.process.waiting.waits import ForFile, ForPattern, Over, Waits
from guyline.agentd.system.mounts import Mounts
from tests.agentd.process.simulated import simulated
from tests.support.clock import DEADLINE


class Threads(OwnThreads):
    """Asks whatever a test wants to know."""

    ask = OwnThreads._ask


@contextmanager
def no_thread_left() -> Iterator[None]:
    """None can be started for the length of the block, as at a limit of processes (EAGAIN)."""

    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        yield


async def test_what_was_refused_is_not_asked_later() -> None:
    """Nobody would close what it opens: the question stays in the queue until there is a thread."""
    asked: list[int] = []
    with Threads("test", threads=1) as threads:
        for ask in (threads.ask, in_thread):
            with no_thread_left(), pytest.raises(SystemExhausted) as refused:
                await ask(asked.append, 1)
            await ask(asked.append, 2)
            assert refused.value.facts["errno"] == "EAGAIN"

    assert asked == [2, 2]


async def test_what_was_refused_takes_no_memory() -> None:
    """Windows of output are asked about, and many ask again: together they are larger than the machine."""

    class Window:
        """Something large."""

    windows = [Window(), Window()]
    refused = [weakref.ref(window) for window in windows]
    with Threads("test", threads=1) as threads, no_thread_left():
        for ask in (threads.ask, in_thread):
            with suppress(SystemExhausted):
                await ask(repr, windows.pop())
        gc.collect()

        assert [left() for left in refused] == [None, None]


async def test_what_still_waits_for_a_thread_at_the_end_is_cancelled() -> None:
    """Whoever waits for it goes on."""
    is_over = threading.Event()
    with Threads("test", threads=1) as threads:
        first = threads.ask(is_over.wait, DEADLINE)
        second = threads.ask(int)
    is_over.set()

    assert await first
    with pytest.raises(asyncio.CancelledError):
        await second


async def test_an_error_in_a_thread_is_that_of_whoever_asked() -> None:
    """As if it had been asked without one; it is no want of threads, whatever it is."""

    def fail() -> None:
        raise RuntimeError("of its own")

    with Threads("test", threads=1) as threads:
        for ask in (threads.ask, in_thread):
            with pytest.raises(RuntimeError, match="of its own"):
                await ask(fail)


async def test_a_shared_thread_that_cannot_be_had_is_told() -> None:
    """Reading output, secrets and use of the machine want one."""
    with no_thread_left(), pytest.raises(SystemExhausted, match="no room for another thread"):
        await in_thread(int)


async def test_a_start_that_gets_no_thread_is_told_to_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a mount may hang, program and directory are looked up in threads."""
    monkeypatch.setattr(Mounts, "may_hang", lambda _self: True)
    with Lookup(timeout=DEADLINE, default_directory=None, home=Path("/")) as lookup:
        with no_thread_left(), pytest.raises(SystemExhausted):
            await lookup.find("true", "/", os.environ)
        found = await lookup.find("true", "/", os.environ)

    os.close(found.directory)
    assert found.directory_path == "/"


async def test_a_wait_that_gets_no_thread_to_search_in_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In place of a defect, for which nobody would try again."""
    monkeypatch.setattr(conditions, "_STEPS_AT_ONCE", 0)
    async with simulated(tmp_path) as world:
        process = await world.run()
        with Waits(Presence(home=tmp_path)) as waits, no_thread_left(), pytest.raises(SystemExhausted):
            await waits.first(process, [ForPattern(Pattern("x"), 0)], timeout=DEADLINE)


async def test_a_file_that_cannot_be_looked_for_is_not_there_for_now(tmp_path: Path) -> None:
    """It is looked for again as long as somebody waits for it."""
    async with simulated(tmp_path) as world:
        process = await world.start()
        with Presence(home=tmp_path) as presence, Waits(presence) as waits:
            with no_thread_left():
                before = await waits.first(process, [ForFile("~")], timeout=0)
            after = await waits.first(process, [ForFile("~")], timeout=DEADLINE)

    assert before.over is Over.TIMEOUT
    assert after.met == 0
