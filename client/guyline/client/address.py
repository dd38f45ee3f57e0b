"""Where an agent is, and whether what is there can be trusted."""

import os
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from guyline.client.argument import check_text, invalid
from guyline.client.errors import AgentUnreachable, Outcome, SocketNotTrusted

ADDRESS_VARIABLE = "GUYLINE_AGENT_ADDRESS"

_OTHERS_MAY_WRITE = stat.S_IWGRP | stat.S_IWOTH


@dataclass(frozen=True)
class UnixAddress:
    """A Unix socket on this machine."""

    path: Path

    def __str__(self) -> str:
        return f"unix:{self.path}"

    @property
    def target(self) -> str:
        """The address as gRPC writes it: a URI."""
        return f"unix://{quote(bytes(self.path))}"

    def check(self) -> None:
        """Looks whether only this user or root can be listening. Touches the disk: not for the event loop.

        Raises:
            AgentUnreachable: There is no socket.
            SocketNotTrusted: The socket or its directory belongs to somebody else, or others may change it.
        """
        try:
            directory = self.path.parent.stat()
            status = self.path.lstat()
        except OSError as why:
            raise AgentUnreachable(
                f"no agent at {self}: {why.strerror}", facts={"address": str(self)}, outcome=Outcome.NOT_STARTED
            ) from why
        if not stat.S_ISSOCK(status.st_mode):
            raise self._distrust(self.path, "it is no socket")
        for path, found in ((self.path.parent, directory), (self.path, status)):
            if found.st_uid not in {os.geteuid(), 0}:
                raise self._distrust(path, f"it belongs to user {found.st_uid}")
            if found.st_mode & _OTHERS_MAY_WRITE:
                raise self._distrust(path, f"others may write to it (mode {stat.S_IMODE(found.st_mode):04o})")

    def _distrust(self, path: Path, why: str) -> SocketNotTrusted:
        return SocketNotTrusted(
            f"{path} is not to be trusted: {why}; somebody else could answer there",
            facts={"address": str(self), "path": str(path)},
            outcome=Outcome.NOT_STARTED,
        )


@dataclass(frozen=True)
class TcpAddress:
    """A TCP port, here or elsewhere."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"tcp://{self.target}"

    @property
    def target(self) -> str:
        """The address as gRPC writes it."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def check(self) -> None:
        """Nothing can be seen from here: TLS says who answers."""


Address = UnixAddress | TcpAddress


def to_address(text: str) -> Address:
    """Parses ``unix:PATH`` or ``tcp://HOST:PORT``; an IPv6 host stands in brackets.

    Raises:
        InvalidInput: It is neither, or the path has a comma in it.
    """
    check_text("address", text)
    if text.startswith("unix:") and text != "unix:":
        return _to_unix_address(Path(text.removeprefix("unix:")).absolute())
    host, _, port = text.removeprefix("tcp://").rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if text.startswith("tcp://") and host and port.isascii() and port.isdecimal() and 0 < int(port) < 65536:
        return TcpAddress(host=host, port=int(port))
    raise invalid("address", f"{text!r} is neither unix:PATH nor tcp://HOST:PORT")


def _to_unix_address(path: Path) -> UnixAddress:
    if "," in str(path):  # even written as %2C it would be the end of one path and the beginning of another
        raise invalid("address", f"the socket's path {str(path)!r} has a comma, which gRPC cannot dial; give another")
    return UnixAddress(path)


def default_address() -> str:
    """What ``GUYLINE_AGENT_ADDRESS`` says, else the socket on which an agent of this user listens by default."""
    return os.environ.get(ADDRESS_VARIABLE) or f"unix:{default_socket()}"


def default_socket() -> Path:
    """The socket of an agent that was told no other: in the runtime directory, else below the temporary one."""
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    if runtime.startswith("/"):  # the specification has relative paths ignored
        return Path(runtime) / "guyline/agent.sock"
    return Path(tempfile.gettempdir()) / f"guyline-{os.getuid()}/agent.sock"
