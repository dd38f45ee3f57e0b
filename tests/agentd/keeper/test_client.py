"""What a worker does when its keeper has died and it cannot take its place at once."""

import asyncio
import errno
import os
import socket

import pytest

from guyline.agentd.keeper import client as keeper_client
from guyline.agentd.keeper import messages as m
from guyline.agentd.keeper.client import KeeperClient, KeeperGone
from guyline.agentd.keeper.table import Exit
from guyline.agentd.process.faults import no_fault
from tests.agentd.keeper.test_keeper import CONFIG
from tests.support.clock import DEADLINE


class Events:
    """Takes note of what the client tells."""

    def __init__(self) -> None:
        self.lost = asyncio.Event()
        self.not_replaced = asyncio.Event()

    def exited(self, process_id: str, exit_: Exit) -> None:
        raise AssertionError(f"nothing was started: {process_id}, {exit_}")

    def shut_down(self, grace: float) -> None:
        raise AssertionError(f"nobody ends the agent: {grace}")

    def stop(self) -> None:
        raise AssertionError("nobody ends the agent")

    def keeper_lost(self) -> None:
        self.lost.set()

    def keeper_not_replaced(self) -> None:
        self.not_replaced.set()


@pytest.fixture
def no_memory_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes a keeper's place cannot be made."""

    def refuse(name: str) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), name)

    monkeypatch.setattr(os, "memfd_create", refuse)


def connected() -> tuple[KeeperClient, Events, m.Connection]:
    """A client, and its keeper's end of the socket."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    welcome = m.Welcome(m.FORMAT, "store", 1, CONFIG.to_json(), "", "", {})
    client, events = KeeperClient(m.Connection(ours), welcome, {}, no_fault), Events()
    client.listen(events)
    return client, events, m.Connection(theirs)


async def orphaned() -> tuple[KeeperClient, Events]:
    """A client whose keeper has just died."""
    client, events, keeper = connected()
    keeper.close()
    async with asyncio.timeout(DEADLINE):
        await events.lost.wait()
    return client, events


@pytest.mark.usefixtures("no_memory_files")
async def test_what_could_not_be_sent_is_not_waited_for() -> None:
    """No answer will ever come, and while one is missing all of the keeper's children are looked at each second."""
    client, _, keeper = connected()
    large = m.Start("a", "info", "/bin/true", ["x" * 2 * m.MAX_MESSAGE_BYTES], {}, [], [], {})
    with pytest.raises(OSError, match=os.strerror(errno.EMFILE)):
        await client.start(large, [0])
    with pytest.raises(OSError, match=os.strerror(errno.EMFILE)):
        await client.fence("b", "x" * 2 * m.MAX_MESSAGE_BYTES)
    with pytest.raises(OSError, match=os.strerror(errno.EMFILE)):
        await client.signal("a", 15, "x" * 2 * m.MAX_MESSAGE_BYTES, to_all=False)
    left = (dict(client._starts), dict(client._signals), dict(client.entries))

    keeper.send(m.Started("c", 1, 2, 3.0))
    async with asyncio.timeout(DEADLINE):
        await client.start(m.Start("c", "info", "/bin/true", ["true"], {}, [], [], {}), [0])

    assert left == ({}, {}, {})
    assert client._watchdog._timer is None
    client.close()
    keeper.close()


@pytest.mark.usefixtures("no_memory_files")
async def test_what_is_asked_of_a_lost_keeper_fails_at_once() -> None:
    """Nobody would ever answer."""
    client, _ = await orphaned()
    start = m.Start("a", "info", "/bin/true", ["true"], {}, [], [], {})

    async with asyncio.timeout(DEADLINE):
        with pytest.raises(KeeperGone):
            await client.start(start, [0])
        with pytest.raises(KeeperGone):
            await client.fence("b", "info")
        with pytest.raises(KeeperGone):
            await client.signal("a", 15, "caller", to_all=False)
    assert not client.entries, "the next keeper is not to take them for started"
    client.close()


@pytest.mark.usefixtures("no_memory_files")
async def test_who_can_never_take_the_place_gives_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker without a keeper would look alive, and do nothing that it is asked for."""
    monkeypatch.setattr(keeper_client, "_TRY_AGAIN_AFTER", 0.0)
    client, events = await orphaned()

    async with asyncio.timeout(DEADLINE):
        await events.not_replaced.wait()
    client.close()
