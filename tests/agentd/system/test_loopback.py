"""Whether somebody listens on a port, asked without leaving a trace."""

import asyncio
import errno
import os
import socket
from contextlib import suppress

import pytest

from guyline.agentd.system.loopback import is_listening
from tests.support import proc
from tests.support.clock import DEADLINE, until


def free_port() -> int:
    """One on which nobody listens."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return int(unused.getsockname()[1])


async def test_a_port_is_open_as_long_as_somebody_listens() -> None:
    """Before and after, it is not."""
    number = free_port()

    assert not await is_listening(number)
    async with await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", number):
        assert await is_listening(number)
    assert not await is_listening(number)


async def test_who_does_not_answer_in_time_is_not_there(deaf_port: int) -> None:
    """Nor is anything left open."""
    held_before = proc.descriptors(os.getpid())

    async with asyncio.timeout(DEADLINE):
        assert not await is_listening(deaf_port)

    assert proc.descriptors(os.getpid()) == held_before


async def test_an_attempt_that_is_cancelled_leaves_nothing_behind(deaf_port: int) -> None:
    """Neither a task nor a descriptor."""
    held_before, tasks_before = proc.descriptors(os.getpid()), asyncio.all_tasks()
    asking = asyncio.ensure_future(is_listening(deaf_port))
    await until(lambda: len(proc.descriptors(os.getpid())) > len(held_before))

    asking.cancel()
    with suppress(asyncio.CancelledError):
        await asking

    assert proc.descriptors(os.getpid()) == held_before
    assert asyncio.all_tasks() == tasks_before


async def test_want_of_descriptors_does_not_mean_that_nobody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    """Told so, somebody would start a second server."""
    held_before = proc.descriptors(os.getpid())
    opened: list[socket.socket] = []

    def one_alone(*kind: int) -> socket.socket:
        if opened:
            raise OSError(errno.EMFILE, "Too many open files")
        opened.append(real(*kind))
        return opened[0]

    real = socket.socket
    monkeypatch.setattr(socket, "socket", one_alone)

    with pytest.raises(OSError, match="Too many open files"):
        await is_listening(1)

    monkeypatch.undo()
    assert proc.descriptors(os.getpid()) == held_before


async def test_a_machine_without_one_kind_of_addresses_has_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """IPv6 may be switched off."""

    def of_ipv4(family: socket.AddressFamily, kind: int) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        return real(family, kind)

    real = socket.socket
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setattr(socket, "socket", of_ipv4)
        assert await is_listening(server.getsockname()[1])
        monkeypatch.undo()


async def test_a_port_that_answers_itself_is_not_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once in many thousand times the kernel picks the port itself to connect from, and TCP lets that be."""
    number = free_port()

    class Unlucky(socket.socket):
        def setblocking(self, flag: bool, /) -> None:
            super().setblocking(flag)
            if self.family == socket.AF_INET:
                self.bind(("127.0.0.1", number))

    monkeypatch.setattr(socket, "socket", Unlucky)

    assert not await is_listening(number)

    monkeypatch.undo()
    async with await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", number, reuse_address=False):
        assert await is_listening(number), "it is free again at once"
