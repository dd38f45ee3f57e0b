"""Whether somebody listens on a port of this machine."""

import asyncio
import contextlib
import socket
import struct

_ADDRESSES = ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"))
_ANSWER_WITHIN = 1.0  # seconds; a full backlog or a packet filter leaves one without an answer
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


async def is_listening(port: int) -> bool:
    """Whether a connection is accepted on a loopback address, of IPv4 or IPv6; it is closed at once.

    Takes no longer than a second. Cancelling leaves nothing open.
    """
    return any(await asyncio.gather(*(_accepts(family, address, port) for family, address in _ADDRESSES)))


async def _accepts(family: socket.AddressFamily, address: str, port: int) -> bool:
    with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_STREAM) as connection:
        connection.setblocking(False)
        async with asyncio.timeout(_ANSWER_WITHIN):
            await asyncio.get_running_loop().sock_connect(connection, (address, port))
        if connection.getsockname()[:2] != (address, port):
            return True
        # Where nobody listens, the kernel may pick the very port as the source, and TCP then answers itself. Closed
        # in order, that would keep the port from whoever is waited for.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    return False
