"""Whether somebody listens on a port of this machine."""

import asyncio
import contextlib
import errno
import socket
import struct

_ADDRESSES = ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"))
_ANSWER_WITHIN = 1.0  # seconds; a full backlog or a packet filter leaves one without an answer
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


async def is_listening(port: int) -> bool:
    """Whether a connection is accepted on a loopback address, of IPv4 or IPv6; it is closed at once.

    Takes no longer than a second. Cancelling leaves nothing open.

    Raises:
        OSError: There is no descriptor or no memory for a socket.
    """
    with contextlib.ExitStack() as opened:
        sockets = [
            (opened.enter_context(connection), address)
            for family, address in _ADDRESSES
            if (connection := _socket(family))
        ]
        return any(await asyncio.gather(*(_accepts(connection, address, port) for connection, address in sockets)))


def _socket(family: socket.AddressFamily) -> socket.socket | None:
    """None: this machine has no such addresses."""
    try:
        return socket.socket(family, socket.SOCK_STREAM)
    except OSError as why:
        if why.errno != errno.EAFNOSUPPORT:
            raise
        return None


async def _accepts(connection: socket.socket, address: str, port: int) -> bool:
    with contextlib.suppress(OSError), connection:
        connection.setblocking(False)
        async with asyncio.timeout(_ANSWER_WITHIN):
            await asyncio.get_running_loop().sock_connect(connection, (address, port))
        if connection.getsockname()[:2] != (address, port):
            return True
        # Where nobody listens, the kernel may pick the very port as the source, and TCP then answers itself. Closed
        # in order, that would keep the port from whoever is waited for.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    return False
