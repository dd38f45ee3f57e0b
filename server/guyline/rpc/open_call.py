"""A call under way: checks it, counts it, ends it with the right status, and can be cut short."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator
from types import TracebackType
from typing import Any, Protocol, Self

import grpc
import grpc.aio

from guyline.errors import (
    CutByShutdown,
    InvalidInput,
    MethodUnknown,
    RequestTooLarge,
    ShuttingDown,
    StoreChanged,
    TooManyCalls,
    Violation,
)
from guyline.rpc.authentication import Authentication
from guyline.rpc.call import Call, CallObserver
from guyline.rpc.caller import Context, set_caller
from guyline.rpc.metadata import STORE_ID
from guyline.rpc.method import Method
from guyline.rpc.recovery import end_of_cancelled, fail, to_failure

# A reader that does not even take the goodbye in this time gets none.
_GOODBYE_SECONDS = 0.2


_LONGEST_STORE_ID = 64  # so much of a stranger's is said back


class Rules(Protocol):
    """What all calls of a server have in common."""

    authentication: Authentication
    observers: tuple[CallObserver, ...]
    hop: str
    store_id: str | None
    max_calls: int
    max_request_bytes: int
    is_draining: bool
    open_calls: set["OpenCall"]

    def closed(self, call: "OpenCall") -> None:
        """The call is over, and its status sent."""


class OpenCall:
    """Entered when a call comes in and left when its handler is done, however that ended. It counts as open, and is not
    reported as ended, until gRPC has sent its status.

    Everything that goes wrong inside the ``async with`` block, be it in these checks or in the handler, becomes the
    call's status here, and nowhere else.
    """

    def __init__(self, method: Method, call: Call, context: Context, rules: Rules) -> None:
        self.method = method
        self.call = call
        self._context = context
        self._rules = rules
        self._task = asyncio.current_task()
        self._sending = False
        self._cut = False
        self._ending = False

    def __repr__(self) -> str:
        state = "ending" if self._ending else "cut" if self._cut else "sending" if self._sending else "running"
        return f"<OpenCall {self.call.rpc} {self.call.request_id} {state}>"

    async def __aenter__(self) -> Self:
        self._rules.open_calls.add(self)
        for observer in self._rules.observers:
            observer.began(self.call)
        return self

    async def admit(self) -> None:
        """Lets the call pass if the server takes calls, has room, knows the caller, they have the right and mean it."""
        if not self.call.known:
            raise MethodUnknown(self.call.rpc)
        if self._rules.is_draining and not self.method.served_while_draining:
            raise ShuttingDown
        if len(self._rules.open_calls) > self._rules.max_calls:
            raise TooManyCalls(self._rules.max_calls)
        access = self.method.access
        if not access.everybody:
            call = self.call
            call.caller = await self._rules.authentication.authenticate(call.metadata, request_id=call.request_id)
            access.demand(call.caller)
            self._check_store()
            set_caller(call.caller)
        for observer in self._rules.observers:
            observer.admitted(self.call)

    def _check_store(self) -> None:
        expected = self.call.metadata.get(STORE_ID)
        own = self._rules.store_id
        if expected is not None and own is not None and expected != own:
            raise StoreChanged(own, expected=expected[:_LONGEST_STORE_ID])

    async def request(self) -> Any:
        """The one message of a call that is no client's stream.

        gRPC itself would read it before there is a call to speak of: one that never came whole would leave no trace.
        """
        data: Any = await self._context.read()
        if data is grpc.aio.EOF:
            raise InvalidInput(Violation("request", "is missing: no whole message came"))
        return self.to_request(data)

    def to_request(self, data: bytes) -> Any:
        """Counts and parses a request message."""
        self.call.messages_in += 1
        self.call.bytes_in += len(data)
        if len(data) > self._rules.max_request_bytes:
            raise RequestTooLarge(len(data), self._rules.max_request_bytes)
        return self.method.to_request(data)

    async def to_requests(self, messages: AsyncIterator[bytes]) -> AsyncGenerator[Any, None]:
        """The same for each message of a client's stream, which ends cleanly too when it is cut."""
        async for data in messages:
            yield self.to_request(data)

    def to_response(self, message: Any) -> bytes:
        """Counts a response message, and serialises it unless it is ``encoded.with_bytes`` already."""
        data = message if isinstance(message, bytes) else self.method.serialize(message)
        self.call.messages_out += 1
        self.call.bytes_out += len(data)
        return data

    async def send(self, message: Any) -> None:
        """Sends one message of a stream, waiting for a slow reader."""
        data = self.to_response(message)
        self._sending = True
        await self._context.write(data)
        self._sending = False
        if self._cut:
            raise CutByShutdown

    def cut(self) -> None:
        """Ends the call with SHUTTING_DOWN. One that is sending does so first; cut again, it stops even then."""
        if self._cut or not (self._sending or self._ending):
            assert self._task is not None
            self._task.cancel()
        self._cut = True

    async def __aexit__(
        self, _type: type[BaseException] | None, error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        try:
            await self._end(error)
        finally:
            self.call.seconds = time.perf_counter() - self.call.started
            assert self._task is not None
            # The task is gRPC's: it ends once the response and the status are sent. Nobody waits for a log line.
            self._task.add_done_callback(self._sent)

    def _sent(self, _task: object) -> None:
        self._rules.closed(self)
        for observer in self._rules.observers:
            observer.ended(self.call)

    async def _end(self, error: BaseException | None) -> None:
        """Sends the status if the call has failed. Returns if ``error`` is to go on as it is."""
        self._ending = True
        if isinstance(error, asyncio.CancelledError) and self._cut:
            assert self._task is not None
            while self._task.uncancel():  # it was our cancel, and the handler has heeded it
                pass
            error = CutByShutdown()
        if isinstance(error, asyncio.CancelledError | grpc.aio.InternalError):
            # A failed write says the same: the caller has gone. A handler's own status may be on its way already.
            self.call.code = self._own_code() or end_of_cancelled(self._context)
            raise asyncio.CancelledError from error
        if isinstance(error, Exception) and not isinstance(error, grpc.aio.AbortError):
            failure = to_failure(error)
            if self.call.messages_in > 1:
                failure.may_have_run = True  # the handler has had the messages before
            if isinstance(failure, CutByShutdown) and not self._sending:
                await self._say_goodbye(failure.retry_after)
            await fail(self.call, self._context, failure, hop=self._rules.hop)
        self.call.code = self._own_code() or grpc.StatusCode.OK

    def _own_code(self) -> grpc.StatusCode | None:
        """The one that the handler has set, if it has."""
        code: grpc.StatusCode | None = self._context.code()
        return code

    async def _say_goodbye(self, retry_after: float) -> None:
        message = self.method.retry(retry_after)
        if message is None:
            return
        try:
            async with asyncio.timeout(_GOODBYE_SECONDS):
                await self._context.write(message)
        except (TimeoutError, grpc.aio.InternalError):
            return  # it is a courtesy: the status that follows says the same
        self.call.messages_out += 1
        self.call.bytes_out += len(message)
