"""What `up --json` passes on of its agent's log."""

import asyncio
import errno
import os
from types import SimpleNamespace

import pytest

from guyline.cli import agent_log
from guyline.cli.agent_log import AgentLog
from tests.support.clock import until


async def test_a_piece_that_finds_no_room_silences_none_that_comes_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Standard error may be somebody's non-blocking pipe, or a file on a disk that is full for a while."""
    tried: list[bytes] = []

    def write(_descriptor: int, data: bytes) -> int:
        tried.append(data)
        if len(tried) == 1:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        return len(data)

    monkeypatch.setattr(agent_log, "os", SimpleNamespace(write=write))
    source = asyncio.StreamReader()
    log = AgentLog(source)
    log.let_go()
    passing_on = asyncio.create_task(log.pass_on())
    source.feed_data(b"one\n")
    await until(lambda: tried == [b"one\n"])
    source.feed_data(b"two\n")
    source.feed_eof()
    await passing_on
    log.finish()

    assert tried == [b"one\n", b"two\n"]
