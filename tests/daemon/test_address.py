"""Addresses to listen on."""

import pytest

from guyline.daemon.address import TcpAddress, WrongAddress, to_address, to_tcp_address


@pytest.mark.parametrize("text", ["unix:/run/x.sock", "tcp://127.0.0.1:80", "tcp://[::1]:0", "tcp://my-host.local:1"])
def test_an_address_reads_as_it_is_written(text: str) -> None:
    """What logs and errors show can be given as a flag again."""
    assert str(to_address(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "unix:",
        "unix:x",
        "unix:/a,b",
        "tcp://",
        "tcp://host",
        "tcp://:1",
        "tcp://::1:1",
        "tcp://h:70000",
        "tcp://a@h:1",
    ],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    """gRPC would take some of these for something else."""
    with pytest.raises(WrongAddress):
        to_address(text)


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("h", False)],
)
def test_only_what_no_other_machine_reaches_is_loopback(host: str, loopback: bool) -> None:
    """It decides whether a token is demanded."""
    assert TcpAddress(host, 1).is_loopback is loopback


def test_ipv6_stands_in_brackets() -> None:
    """As in URLs."""
    assert to_tcp_address("[::1]:9").host_and_port == "[::1]:9"
