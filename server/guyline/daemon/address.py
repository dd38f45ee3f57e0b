"""Where a daemon listens: ``unix:PATH`` or ``tcp://HOST:PORT``."""

import ipaddress
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

_HOST_AND_PORT = re.compile(r"(?:\[(?P<ipv6>[0-9A-Fa-f:.]+)\]|(?P<host>[A-Za-z0-9._-]+)):(?P<port>[0-9]{1,5})")

# What `sun_path` holds on Linux, without the NUL behind it.
LONGEST_SOCKET_PATH_BYTES = 107


class WrongAddress(ValueError):
    """Says what is wrong with an address, with its value, and what a right one looks like."""


@dataclass(frozen=True)
class UnixAddress:
    """A Unix socket in the file system; the path is absolute."""

    path: Path

    def __str__(self) -> str:
        return f"unix:{self.path}"

    @property
    def uri(self) -> str:
        """As gRPC wants it. Not ``unix://``: it would count the slashes among the 107 bytes of a path, and two that the
        path itself begins with are one.
        """
        return f"unix:{quote(b'/' + bytes(self.path).lstrip(b'/'))}"


@dataclass(frozen=True)
class TcpAddress:
    """A TCP port. ``host`` is a name or an address, of IPv6 without brackets; port 0 lets the system choose."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"tcp://{self.host_and_port}"

    @property
    def host_and_port(self) -> str:
        """As gRPC and URLs want it: IPv6 in brackets."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


Address = UnixAddress | TcpAddress


def to_address(text: str) -> Address:
    """Reads an address.

    Raises:
        WrongAddress: If it is none, or a socket path is relative, too long or has a comma.
    """
    if text.startswith("unix:"):
        return _to_unix_address(text)
    if text.startswith("tcp://"):
        return to_tcp_address(text.removeprefix("tcp://"))
    raise WrongAddress(f"{text!r} is no address; give unix:PATH or tcp://HOST:PORT")


def to_tcp_address(text: str) -> TcpAddress:
    """Reads ``HOST:PORT``; IPv6 stands in brackets.

    Raises:
        WrongAddress: If it is not of this form.
    """
    match = _HOST_AND_PORT.fullmatch(text)
    if match is None or int(match["port"]) > 65535:
        raise WrongAddress(f"{text!r} is no HOST:PORT; give for example 127.0.0.1:7000 or [::1]:7000")
    return TcpAddress(match["ipv6"] or match["host"], int(match["port"]))


def _to_unix_address(text: str) -> UnixAddress:
    path = Path(text.removeprefix("unix:"))
    if not path.is_absolute():
        raise WrongAddress(f"{text!r} does not name an absolute path; give unix:/DIRECTORY/NAME")
    length = len(bytes(path))
    if length > LONGEST_SOCKET_PATH_BYTES:
        raise WrongAddress(
            f"the socket's path {str(path)!r} has {length} bytes, and the system allows "
            f"{LONGEST_SOCKET_PATH_BYTES}; give a shorter one"
        )
    if "," in str(path):
        raise WrongAddress(f"the socket's path {str(path)!r} has a comma, which gRPC cannot dial; give another")
    return UnixAddress(path)
