"""Shows metrics to Prometheus over HTTP."""

import asyncio
from typing import TYPE_CHECKING, Self

from guyline.daemon.address import TcpAddress

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

# A scraper sends a few hundred bytes at once.
_LONGEST_REQUEST_BYTES = 8192
_REQUEST_SECONDS = 5.0

_MOST_AT_ONCE = 8


class MetricsServer:
    """Answers ``GET /metrics`` on the loop within its ``async with`` block: one small request a connection.

    Raises:
        OSError: On entering, if the address cannot be listened on.
    """

    def __init__(self, registry: "CollectorRegistry", address: TcpAddress) -> None:
        self.address = address  # once entered, with the port that the system chose
        self._registry = registry
        self._open: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(
            self._serve, self.address.host, self.address.port, limit=_LONGEST_REQUEST_BYTES
        )
        port = self._server.sockets[0].getsockname()[1]
        self.address = TcpAddress(self.address.host, port)
        return self

    async def __aexit__(self, *_error: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        try:
            async with asyncio.timeout(_REQUEST_SECONDS):
                if len(self._open) > _MOST_AT_ONCE:
                    writer.write(_response("503 Service Unavailable", b"too many at once\n"))
                else:
                    writer.write(self._answer(await reader.readuntil(b"\r\n\r\n")))
                await writer.drain()
        except (TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # no HTTP, too slow, or gone: nobody to answer
        finally:
            self._open.discard(task)
            writer.close()

    def _answer(self, request: bytes) -> bytes:
        method, _, rest = request.partition(b" ")
        path = rest.partition(b" ")[0].partition(b"?")[0]
        if path != b"/metrics":
            return _response("404 Not Found", b"the metrics are at /metrics\n")
        if method != b"GET":
            return _response("405 Method Not Allowed", b"only GET\n")
        from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest  # noqa: PLC0415 (loaded by now)

        return _response("200 OK", generate_latest(self._registry), content_type=CONTENT_TYPE_LATEST)


def _response(status: str, body: bytes, *, content_type: str = "text/plain") -> bytes:
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body
