"""A gRPC server on one listener."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Self, TypeVar

import grpc
import grpc.aio

from guyline.daemon.address import Address, TcpAddress, UnixAddress
from guyline.rpc.authentication import Authentication
from guyline.rpc.call import CallObserver
from guyline.rpc.chain import Chain, WireHandler
from guyline.rpc.method import Method, to_methods
from guyline.rpc.registration import registered
from guyline.rpc.socket_path import make_way, private_mode
from guyline.rpc.standard import is_standard, standard_methods
from guyline.rpc.tls import CertificateFiles, CertificateNotUsable, Tls

Servicer = TypeVar("Servicer")

# How long calls that were cut may take to say so.
_CUT_SECONDS = 1.0

_DRAIN_SECONDS = 5.0

_READ_WITHIN = 0.2
"""Seconds that clients have to read their last message: once a connection has broken under a write of theirs, gRPC
drops what they have not read."""

# gRPC reads requests up to so many times their limit: only what has been read can be refused in so many words.
_READ_AT_MOST = 4


class CannotListen(Exception):
    """The address cannot be listened on, or TLS not be set up. Says why."""


class RpcServer:
    """Serves on one listener within its ``async with`` block; leaving the block drains it.

    Services are added before the block is entered.

    Args:
        address: Where to listen. Of a Unix socket the caller makes sure, by a lock, that no other daemon binds it.
        authentication: Tells who calls on this listener.
        observers: See every call.
        tls: None: in clear. A certificate that is renewed is used for the next connections.
        max_request_bytes: Larger request messages are refused (REQUEST_TOO_LARGE). One of more than four times as much
            is cut off by gRPC, with its own RESOURCE_EXHAUSTED; in the log that call is one its caller gave up.
        max_calls: More calls at once are refused (TOO_MANY_CALLS).
        hop: Where we are, as errors say it: a name of ``guyline.error.v1.Hop`` without its prefix.
        store_id: Names what is remembered here. A call that is for another store is refused (STORE_CHANGED); most name
            none. None: nobody asks.
        ends_with_process: Whether the process ends right after the block. Then gRPC's own stop is left out, which
            answers calls that come in meanwhile with a bare CANCELLED: until the process ends they are refused with a
            time to come back, and its end tells those after them UNAVAILABLE.

    Raises:
        CannotListen: On entering.
        SocketNotUsable: On entering, of a Unix socket.
    """

    def __init__(
        self,
        address: Address,
        *,
        authentication: Authentication,
        observers: Sequence[CallObserver] = (),
        tls: Tls | None = None,
        max_request_bytes: int = 4 << 20,
        max_calls: int = 4096,
        hop: str = "AGENT",
        store_id: str | None = None,
        ends_with_process: bool = False,
    ) -> None:
        self.address = address  # once entered, with the port that the system chose
        self._chain = Chain(
            authentication=authentication,
            observers=observers,
            max_calls=max_calls,
            max_request_bytes=max_request_bytes,
            hop=hop,
            store_id=store_id,
        )
        self._router = _Router(self._chain)
        self._tls = tls
        self._ends_with_process = ends_with_process
        self._server: grpc.aio.Server | None = None

    def __repr__(self) -> str:
        state = "draining" if self._chain.is_draining else "serving" if self._server else "new"
        return f"<RpcServer {self.address} {state}, {len(self._chain.open_calls)} calls>"

    def add(self, register: Callable[[Servicer, grpc.aio.Server], None], servicer: Servicer) -> None:
        """Serves a service: ``server.add(add_ProcessServiceServicer_to_server, ProcessService(...))``.

        Its handlers are ``async def`` for one response and async generators for a stream. A stream that always ends
        with a last message may say so (``guyline.rpc.last``), which saves its callers a wait.

        Raises:
            MethodWithoutRight: If one of its methods does not say which right it needs.
        """
        name, handlers = registered(register, servicer)
        self._router.add_service(name, to_methods(name, handlers))

    async def __aenter__(self) -> Self:
        credentials = None if self._tls is None else await asyncio.to_thread(_to_credentials, self._tls)
        if isinstance(self.address, UnixAddress):
            await asyncio.to_thread(make_way, self.address.path)
        server = grpc.aio.server(
            handlers=(self._router,),
            options=_options(self.address, _READ_AT_MOST * self._chain.max_request_bytes),
        )
        try:
            self._bind(server, credentials)
        except CannotListen:
            await server.start()  # one that was never started cannot be stopped, and leaks descriptors
            await server.stop(None)
            raise
        await server.start()
        self._server = server
        return self

    async def __aexit__(self, *_error: object) -> None:
        assert self._server is not None
        try:
            await self.drain()
            if self._ends_with_process:
                await asyncio.sleep(self._chain.last_end + _READ_WITHIN - asyncio.get_running_loop().time())
        finally:
            if not self._ends_with_process:
                await self._server.stop(None)
            elif isinstance(self.address, UnixAddress):
                await asyncio.to_thread(self.address.path.unlink, missing_ok=True)

    async def drain(self, grace: float = _DRAIN_SECONDS) -> None:
        """Ends serving: refuses new calls, ends streams with a time to come back, and lets unary calls finish.

        Those that only wait end as streams do. Returns within ``grace`` seconds and 1 more; what is not done after
        ``grace`` is cut. Until the end of the block new calls are still told when to come back. Cancelling is safe: it
        only leaves the rest to the end of the block.
        """
        if self._server is None or self._chain.is_draining:
            return
        self._chain.is_draining = True
        self._router.draining.set()
        self._chain.cut(streams_only=True)
        if not await self._chain.drained(grace):
            self._chain.cut(streams_only=False)
            await self._chain.drained(_CUT_SECONDS)

    def _bind(self, server: grpc.aio.Server, credentials: grpc.ServerCredentials | None) -> None:
        try:
            if isinstance(self.address, UnixAddress):
                with private_mode():
                    _add_port(server, self.address.uri, credentials)
            else:
                port = _add_port(server, self.address.host_and_port, credentials)
                self.address = TcpAddress(self.address.host, port)
        except RuntimeError as why:
            raise CannotListen(f"cannot listen on {self.address}: the address is in use or not ours") from why


def _add_port(server: grpc.aio.Server, target: str, credentials: grpc.ServerCredentials | None) -> int:
    if credentials is None:
        return server.add_insecure_port(target)
    return server.add_secure_port(target, credentials)


class _Router(grpc.GenericRpcHandler):
    """Finds the handler of a call.

    One lookup for all methods: of methods that are registered one by one, grpc.aio waits for each anew at every call.
    """

    def __init__(self, chain: Chain) -> None:
        self.draining = asyncio.Event()
        self._chain = chain
        self._services: list[str] = []
        self._handlers: dict[str, WireHandler] = {}
        self._has_standard = False

    def add_service(self, name: str, methods: Sequence[Method]) -> None:
        self._services.append(name)
        self._add(methods)

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> WireHandler:
        path = handler_call_details.method
        handler = self._handlers.get(path)
        if handler is not None:
            return handler
        rpc = path.removeprefix("/")
        if not self._has_standard and is_standard(rpc):
            self._has_standard = True
            self._add(standard_methods(self._services, draining=self.draining))
            return self.service(handler_call_details)
        return self._chain.refuse(rpc)

    def _add(self, methods: Sequence[Method]) -> None:
        self._handlers.update({f"/{each.rpc}": self._chain.wrap(each) for each in methods})


def _to_credentials(tls: Tls) -> grpc.ServerCredentials:
    try:
        return CertificateFiles(tls).credentials()
    except CertificateNotUsable as why:
        raise CannotListen(str(why)) from why


def _options(address: Address, max_message_bytes: int) -> list[tuple[str, int]]:
    options = [
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.max_send_message_length", -1),  # each service bounds what it sends
        ("grpc.so_reuseport", 0),  # else a second daemon could share the port in silence
        # Clients of quiet, hour-long streams may ping this often; more is answered by GOAWAY.
        ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
        ("grpc.keepalive_permit_without_calls", 1),
    ]
    if isinstance(address, TcpAddress):
        # Finds out about clients that vanished without a word. On a Unix socket the kernel says so.
        options += [("grpc.keepalive_time_ms", 30_000), ("grpc.keepalive_timeout_ms", 20_000)]
    return options
