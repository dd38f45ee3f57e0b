"""Addresses, and which sockets are trusted."""

import asyncio
import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from guyline.client import AgentUnreachable, AsyncAgent, InvalidInput, SocketNotTrusted
from guyline.client.address import TcpAddress, UnixAddress, default_address, to_address
from tests.client.scripted import ScriptedAgent


@pytest.fixture
def listening() -> Iterator[Path]:
    """A socket of this user in a directory of this user's own."""
    with tempfile.TemporaryDirectory(prefix="gl-") as folder, socket.socket(socket.AF_UNIX) as listener:
        path = Path(folder) / "agent.sock"
        listener.bind(str(path))
        path.chmod(0o600)
        yield path


def test_an_address_is_a_socket_or_a_port() -> None:
    """The two ways to an agent, and IPv6 with its brackets."""
    assert to_address("unix:/run/a.sock") == UnixAddress(Path("/run/a.sock"))
    assert to_address("tcp://localhost:7000") == TcpAddress("localhost", 7000)
    assert to_address("tcp://[::1]:7000").target == "[::1]:7000"


@pytest.mark.parametrize(
    "text", ["", "unix:", "tcp://host", "tcp://:1", "tcp://h:0", "tcp://h:65536", "h:1", "tcp://h:²"]
)
def test_anything_else_is_refused_with_the_value(text: str) -> None:
    """A typo is met where it was made, not as a connection that fails."""
    with pytest.raises(InvalidInput) as caught:
        to_address(text)

    assert repr(text) in str(caught.value)


@pytest.mark.parametrize("name", ["a#b", "a?b", "a%41", "a b", "ü", "[::1]"])
async def test_a_socket_may_have_any_name(scripted: ScriptedAgent, name: str) -> None:
    """gRPC takes an address for a URI, in which some characters mean something."""
    socket = Path(scripted.address.removeprefix("unix:"))
    await asyncio.to_thread(socket.with_name(name).hardlink_to, socket)

    async with AsyncAgent(f"unix:{socket.with_name(name)}") as agent:
        assert (await agent.info()).store_id == scripted.store_id


async def test_two_slashes_are_as_good_as_one(scripted: ScriptedAgent) -> None:
    """In a URI a host would stand behind them."""
    async with AsyncAgent(scripted.address.replace("unix:/", "unix://")) as agent:
        assert (await agent.info()).store_id == scripted.store_id


def test_a_path_with_a_comma_is_refused() -> None:
    """gRPC takes it for two paths, of which the second would be dialled without a look at who listens there."""
    with pytest.raises(InvalidInput, match="'/run/a,/run/b' has a comma"):
        to_address("unix:/run/a,/run/b")


def test_the_environment_names_the_agent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs inside a workspace are told once where its agent is."""
    monkeypatch.setenv("GUYLINE_AGENT_ADDRESS", "tcp://localhost:1")
    assert default_address() == "tcp://localhost:1"

    monkeypatch.delenv("GUYLINE_AGENT_ADDRESS")
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/7")
    assert default_address() == "unix:/run/user/7/guyline/agent.sock"

    monkeypatch.setenv("XDG_RUNTIME_DIR", "relative")
    assert default_address().endswith(f"/guyline-{os.getuid()}/agent.sock")


def test_a_private_socket_is_trusted(listening: Path) -> None:
    """The ordinary case."""
    UnixAddress(listening).check()


def test_a_directory_that_others_may_write_is_not_trusted(listening: Path) -> None:
    """Whoever may write there can put a socket of his own in the agent's place."""
    listening.parent.chmod(0o777)

    with pytest.raises(SocketNotTrusted, match="others may write"):
        UnixAddress(listening).check()


def test_a_socket_that_others_may_write_is_not_trusted(listening: Path) -> None:
    """Nobody but its owner has any business with an agent of this kind."""
    listening.chmod(0o666)

    with pytest.raises(SocketNotTrusted, match="others may write"):
        UnixAddress(listening).check()


def test_what_belongs_to_somebody_else_is_not_trusted(listening: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands, and what is in their environment, would go to a stranger."""
    owner = listening.stat().st_uid
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    if owner == 0:  # root is trusted by everybody, so the socket must be somebody's
        os.chown(listening, 4242, -1)

    with pytest.raises(SocketNotTrusted, match="belongs to user"):
        UnixAddress(listening).check()


def test_a_file_that_is_no_socket_is_not_dialled(listening: Path) -> None:
    """A wrong path is said to be one."""
    plain = listening.with_name("plain")
    plain.touch(0o600)

    with pytest.raises(SocketNotTrusted, match="no socket"):
        UnixAddress(plain).check()


async def test_a_client_checks_before_it_dials(listening: Path) -> None:
    """Not a byte goes to a socket that is not trusted."""
    await asyncio.to_thread(listening.chmod, 0o666)

    with pytest.raises(SocketNotTrusted):
        async with AsyncAgent(f"unix:{listening}"):
            pass


async def test_an_agent_that_is_not_there_is_said_at_once() -> None:
    """No agent at all is not an outage to be borne with patience."""
    with pytest.raises(AgentUnreachable, match="no agent at"):
        async with AsyncAgent("unix:/nonexistent/agent.sock", patience=600, connect_timeout=0):
            pass


def test_a_token_does_not_leave_the_machine_in_clear() -> None:
    """`insecure` is for listeners on this machine alone."""
    with pytest.raises(InvalidInput, match="not on this machine"):
        AsyncAgent("tcp://192.0.2.1:7000", insecure=True)
