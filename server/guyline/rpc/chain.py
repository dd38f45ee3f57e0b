"""What every call goes through before and after its handler, in this order: request id, access log and metrics,
recovery, authentication, rights.

It is no chain of grpc.aio interceptors. Those are asked anew for every call, and each wraps the handler again; here
each method is wrapped once, when it is added, and a call costs one coroutine more.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from typing import Any, TypeAlias

import grpc

from guyline.rpc.access import EVERYBODY
from guyline.rpc.authentication import Authentication
from guyline.rpc.call import Call, CallObserver
from guyline.rpc.caller import Context
from guyline.rpc.last import Last
from guyline.rpc.metadata import Metadata
from guyline.rpc.method import Method
from guyline.rpc.open_call import OpenCall

WireHandler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"  # takes and gives bytes


# Stands for every method that is not there.
_UNKNOWN = Method(
    rpc="",
    access=EVERYBODY,
    handler=bytes,
    request_streams=False,
    response_streams=False,
    parse=bytes,
    serialize=bytes,
    control=None,
)


class NoLastMessage(Exception):
    """A stream that is declared to end with a last message did not."""


class Chain:
    """Wraps the methods of one server, and knows its open calls."""

    def __init__(
        self,
        *,
        authentication: Authentication,
        observers: Sequence[CallObserver],
        max_calls: int,
        max_request_bytes: int,
        hop: str,
        store_id: str | None,
    ) -> None:
        self.authentication = authentication
        self.observers = tuple(observers)
        self.max_calls = max_calls
        self.max_request_bytes = max_request_bytes
        self.hop = hop
        self.store_id = store_id
        self.is_draining = False
        self.open_calls: set[OpenCall] = set()
        self.last_end = float("-inf")  # loop time at which the status of a call was last sent
        self._drained = asyncio.Event()

    def wrap(self, method: Method) -> WireHandler:
        """The handler to give to gRPC. Bytes go in and out, so that messages are parsed, and counted, in here.

        To gRPC every request is a stream, since it calls the handlers of those before it has read anything.
        """
        if method.ends_with_last:
            return grpc.stream_unary_rpc_method_handler(self._unary_stream_with_last(method))
        if method.response_streams:
            serve = self._stream_stream(method) if method.request_streams else self._unary_stream(method)
            return grpc.stream_stream_rpc_method_handler(serve)
        serve = self._stream_unary(method) if method.request_streams else self._unary_unary(method)
        return grpc.stream_unary_rpc_method_handler(serve)

    def refuse(self, rpc: str) -> WireHandler:
        """Refuses a method that is not there. The call is logged and counted like any other."""

        async def serve(_data: AsyncIterator[bytes], context: Context) -> None:
            async with self._opened(_UNKNOWN, context, rpc=rpc) as call:
                await call.admit()

        return grpc.stream_stream_rpc_method_handler(serve)

    def cut(self, *, streams_only: bool) -> None:
        """Ends open calls with SHUTTING_DOWN, as soon as each can be told so; cut again, a stuck one ends too.

        What only waits is as good as a stream. The end of a client's stream commits nothing, so it may be cut as well.
        """
        for each in tuple(self.open_calls):
            method = each.method
            is_stream = method.request_streams or method.response_streams or method.only_waits
            if not method.served_while_draining and (is_stream or not streams_only):
                each.cut()

    def closed(self, call: OpenCall) -> None:
        """Forgets a call that is over."""
        self.open_calls.discard(call)
        self.last_end = asyncio.get_running_loop().time()
        if self.is_draining and not self.open_calls:
            self._drained.set()

    async def drained(self, timeout: float) -> bool:
        """Waits until no call is open, or ``timeout`` seconds; returns whether none is. Cancelling is safe.

        Asked while draining only.
        """
        if not self.open_calls:
            return True
        self._drained.clear()
        try:
            async with asyncio.timeout(timeout):
                await self._drained.wait()
        except TimeoutError:
            return False
        return True

    def _opened(self, method: Method, context: Context, *, rpc: str | None = None) -> OpenCall:
        metadata = Metadata(context.invocation_metadata() or ())
        call = Call(
            rpc=rpc or method.rpc,
            known=rpc is None,
            streams=method.response_streams,
            metadata=metadata,
            request_id=metadata.request_id(),
        )
        return OpenCall(method, call, context, self)

    def _unary_unary(self, method: Method) -> Any:
        async def serve(_data: AsyncIterator[bytes], context: Context) -> bytes:
            async with self._opened(method, context) as call:
                await call.admit()
                return call.to_response(await method.handler(await call.request(), context))

        return serve

    def _unary_stream(self, method: Method) -> Any:
        async def serve(_data: AsyncIterator[bytes], context: Context) -> None:
            async with self._opened(method, context) as call:
                await call.admit()
                async with aclosing(method.handler(await call.request(), context)) as messages:
                    async for message in messages:
                        await call.send(message)

        return serve

    def _unary_stream_with_last(self, method: Method) -> Any:
        async def serve(_data: AsyncIterator[bytes], context: Context) -> bytes:
            async with self._opened(method, context) as call:
                await call.admit()
                async with aclosing(method.handler(await call.request(), context)) as messages:
                    async for message in messages:
                        if isinstance(message, Last):
                            return call.to_response(message.message)
                        await call.send(message)
                raise NoLastMessage(method.rpc)

        return serve

    def _stream_unary(self, method: Method) -> Any:
        async def serve(data: AsyncIterator[bytes], context: Context) -> bytes:
            async with self._opened(method, context) as call:
                await call.admit()
                async with aclosing(call.to_requests(data)) as requests:
                    return call.to_response(await method.handler(requests, context))

        return serve

    def _stream_stream(self, method: Method) -> Any:
        async def serve(data: AsyncIterator[bytes], context: Context) -> None:
            async with self._opened(method, context) as call:
                await call.admit()
                async with (
                    aclosing(call.to_requests(data)) as requests,
                    aclosing(method.handler(requests, context)) as messages,
                ):
                    async for message in messages:
                        await call.send(message)

        return serve
