"""A Unix socket in front of another that breaks things by name: cuts, pauses, lost replies."""

import asyncio
import random
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self, TypeVar

import grpc
import grpc.aio

from tests.support.clock import DEADLINE

Response = TypeVar("Response")

_PIECE_BYTES = 64 * 1024
_HEADER_BYTES = 9
_DATA, _HEADERS = 0, 1
_END_STREAM = 1


async def answered(call: Callable[[], Awaitable[Response]]) -> Response:
    """Calls until somebody answers: for a while gRPC still gives calls to a connection that has just been cut.

    Raises:
        grpc.aio.AioRpcError: The call failed in another way.
        TimeoutError: Nobody answered by the deadline.
    """
    async with asyncio.timeout(DEADLINE):
        while True:
            try:
                return await call()
            except grpc.aio.AioRpcError as why:
                if why.code() is not grpc.StatusCode.UNAVAILABLE:
                    raise


class ReplyFinder:
    """Finds replies in what an HTTP/2 server sends. Bytes in, a count out; it never looks inside a frame."""

    def __init__(self) -> None:
        self._header = bytearray()
        self._skip = 0

    def feed(self, data: bytes) -> int:
        """Takes the next bytes; returns how many frames that carry a message, or end a call, began in them."""
        replies = 0
        view = memoryview(data)
        while view:
            if self._skip:
                taken = min(self._skip, len(view))
                self._skip -= taken
            else:
                taken = min(_HEADER_BYTES - len(self._header), len(view))
                self._header += view[:taken]
                if len(self._header) == _HEADER_BYTES:
                    replies += self._is_reply()
                    self._skip = int.from_bytes(self._header[:3])
                    self._header.clear()
            view = view[taken:]
        return replies

    def _is_reply(self) -> bool:
        kind, flags = self._header[3], self._header[4]
        return kind == _DATA or (kind == _HEADERS and bool(flags & _END_STREAM))


class Link:
    """Passes connections on to the socket at ``target`` until told to break them. Client side: ``address``.

    Leaving the ``async with`` block closes everything.
    """

    def __init__(self, target: Path) -> None:
        self.cuts = 0
        """How many connections were cut so far, by command or at random."""
        self.lost = asyncio.Event()
        """Set once a reply was swallowed."""
        self._target = target
        self._folder = tempfile.TemporaryDirectory(prefix="gl-")
        self._path = Path(self._folder.name) / "link.sock"
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._loses_replies = False
        self._budgets: Iterator[int] = iter(())
        self._open: set[asyncio.StreamWriter] = set()
        self._pairs: set[asyncio.Task[None]] = set()

    @property
    def address(self) -> str:
        """Where clients connect, as gRPC writes it: ``unix:PATH``."""
        return f"unix:{self._path}"

    @property
    def socket(self) -> Path:
        """Where clients connect."""
        return self._path

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_unix_server(self._accept, self._path)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self._flowing.set()
        self.cut()
        await asyncio.gather(*self._pairs)
        await self._server.wait_closed()
        self._folder.cleanup()

    def lead_to(self, target: Path) -> None:
        """Has new connections go to another socket."""
        self._target = target

    def cut(self) -> None:
        """Breaks all connections now, whatever is under way in either direction. New ones are accepted."""
        self.cuts += len(self._open) // 2
        for end in self._open:
            end.transport.abort()

    def cut_at_random(self, *, seed: int, cuts: int, at_most_bytes: int) -> None:
        """Lets each of the next ``cuts`` connections break after some bytes of reply, 1 to ``at_most_bytes``."""
        source = random.Random(seed)
        self._budgets = iter([source.randint(1, at_most_bytes) for _ in range(cuts)])

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Holds everything up in both directions for the length of the block; nothing is lost."""
        self._flowing.clear()
        try:
            yield
        finally:
            self._flowing.set()

    @contextmanager
    def replies_lost(self) -> Iterator[None]:
        """Requests arrive, but what comes back is swallowed; ``lost`` says when that was a reply.

        The connection is broken at the block's end: after missing bytes it could only confuse.
        """
        self.lost.clear()
        self._loses_replies = True
        try:
            yield
        finally:
            self._loses_replies = False
            self.cut()

    async def _accept(self, from_client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        pair = asyncio.current_task()
        assert pair is not None
        self._pairs.add(pair)
        ends = [to_client]
        try:
            from_target, to_target = await asyncio.open_unix_connection(self._target)
            ends.append(to_target)
            self._open.update(ends)
            async with asyncio.TaskGroup() as both:
                both.create_task(self._pass_requests(from_client, to_target))
                both.create_task(self._pass_replies(from_target, to_client))
        except* OSError:  # nobody listens there, or one end was cut; the other goes with it
            pass
        finally:
            self._pairs.discard(pair)
            self._open.difference_update(ends)
            for end in ends:
                end.transport.abort()

    async def _pass_requests(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while data := await source.read(_PIECE_BYTES):
            await self._flowing.wait()
            sink.write(data)
            await sink.drain()
        raise ConnectionResetError  # ends the other direction as well

    async def _pass_replies(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        budget = next(self._budgets, None)
        replies = ReplyFinder()
        while data := await source.read(_PIECE_BYTES):
            await self._flowing.wait()
            found = replies.feed(data)
            if self._loses_replies:
                if found:
                    self.lost.set()
                continue
            sink.write(data if budget is None else data[:budget])
            await sink.drain()
            if budget is not None:
                budget -= len(data)
                if budget <= 0:
                    self.cuts += 1
                    break
        raise ConnectionResetError
