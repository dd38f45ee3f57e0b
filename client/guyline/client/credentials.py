"""What it takes to be let in: a token, and whom to believe that the agent is the agent."""

import os
from dataclasses import dataclass, field
from pathlib import Path

from guyline.client.address import Address, UnixAddress
from guyline.client.argument import to_path
from guyline.client.errors import InvalidInput, Violation

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True)
class Secrets:
    """What the files held when they were read. Never shown."""

    authorities: bytes | None = field(repr=False)
    """Certificates in PEM to believe; None: those that gRPC brings."""
    metadata: tuple[tuple[str, str], ...] = field(repr=False)


@dataclass(frozen=True)
class Credentials:
    """Where the secrets are. They are read anew for each connection, so they can be replaced under a running client."""

    tls: bool = False
    token_file: Path | None = None
    ca_file: Path | None = None

    def read(self) -> Secrets:
        """Reads the files. Touches the disk: not for the event loop.

        Raises:
            InvalidInput: One of them cannot be read, or holds no token.
        """
        token = b"" if self.token_file is None else _content(self.token_file, "token_file").strip()
        if self.token_file is not None and (not token.isascii() or len(token.split()) != 1):
            raise _wrong("token_file", f"{self.token_file} does not hold a token: one line of ASCII")
        return Secrets(
            authorities=None if self.ca_file is None else _content(self.ca_file, "ca_file"),
            metadata=(("authorization", f"Bearer {token.decode()}"),) if token else (),
        )


def to_credentials(
    address: Address,
    *,
    token_file: str | os.PathLike[str] | None,
    ca_file: str | os.PathLike[str] | None,
    insecure: bool,
) -> Credentials:
    """What fits the address: a Unix socket needs nothing, TCP is TLS unless it cannot leave the machine.

    Raises:
        InvalidInput: ``insecure`` for an address that is not on this machine, or a file without a name.
    """
    token, authorities = to_path("token_file", token_file), to_path("ca_file", ca_file)
    if isinstance(address, UnixAddress):
        return Credentials(token_file=token)
    if insecure and address.host not in _LOOPBACK:
        raise _wrong("insecure", f"{address} is not on this machine, and everybody on the way could read along")
    return Credentials(tls=not insecure, token_file=token, ca_file=authorities)


def _content(path: Path, argument: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as why:
        raise _wrong(argument, f"cannot read {path}: {why.strerror}") from why


def _wrong(argument: str, description: str) -> InvalidInput:
    return InvalidInput(f"{argument}: {description}", violations=(Violation(argument, description),))
