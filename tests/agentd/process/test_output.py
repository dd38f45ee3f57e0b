"""Taking output from the pipes when the system cannot give what that needs."""

import asyncio
import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from guyline.agentd.journal.runs import Stream
from guyline.agentd.process.streams.output import Output
from guyline.agentd.process.streams.source import PipeSource
from tests.agentd.journal.journal_parts import Outlet, Shelf
from tests.support.clock import until


class Timers:
    """Counts those of the loop that are set and not over."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.most_at_once = 0
        self._loop = asyncio.get_running_loop()
        self._call_later = self._loop.call_later
        self._set: list[asyncio.TimerHandle] = []
        monkeypatch.setattr(self._loop, "call_later", self._record)

    def _record(self, delay: float, callback: Callable[[], None]) -> asyncio.TimerHandle:
        self._set = [timer for timer in self._set if not timer.cancelled() and timer.when() > self._loop.time()]
        self._set.append(self._call_later(delay, callback))
        self.most_at_once = max(self.most_at_once, len(self._set))
        return self._set[-1]


class Wanting:
    """Taking, for want of a descriptor the first few times."""

    def __init__(self, times: int, take: Callable[[int, Stream], int]) -> None:
        self.left = times
        self._take = take

    def __call__(self, pipe: int, stream: Stream) -> int:
        """As ``Journal.take``."""
        if self.left:
            self.left -= 1
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return self._take(pipe, stream)


async def test_output_that_cannot_be_taken_now_is_tried_again_by_one_timer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of two streams set one, and each of these tried both: soon millions of them held the whole agent up."""
    journal = Shelf(tmp_path, separate=True).open()
    taking = Wanting(8, journal.take)
    monkeypatch.setattr(journal, "take", taking)
    with Outlet() as out, Outlet(Stream.STDERR) as err:
        output = Output(
            {each.stream: PipeSource(os.dup(each.reader)) for each in (out, err)},
            journal,
            grown=lambda: None,
            ended=lambda: None,
        )
        out.print(b"o")
        err.print(b"e")
        timers = Timers(monkeypatch)
        output.resume()
        await until(lambda: output.journal.size == 2)
        most_at_once = timers.most_at_once
        monkeypatch.undo()
        output.close()
        journal.close()

    assert not taking.left
    assert not output.is_stuck
    assert most_at_once == 2, "this one, and that of `until`"
