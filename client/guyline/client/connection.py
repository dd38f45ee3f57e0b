"""The way to one agent: dials, dials again after a break, and makes sure that it is still the same agent."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import TypeVar

import grpc.aio

from guyline.agent.v1.agent_info_service_pb2 import GetInfoRequest, GetInfoResponse
from guyline.agent.v1.agent_info_service_pb2_grpc import AgentInfoServiceStub
from guyline.agent.v1.process_service_pb2_grpc import ProcessServiceStub
from guyline.client import fork
from guyline.client.absence import Absence
from guyline.client.address import Address
from guyline.client.credentials import Credentials, Secrets
from guyline.client.deadline import Deadline
from guyline.client.errors import PASSING, AgentUnreachable, GuylineError, Outcome, StoreChanged, Unavailable
from guyline.client.patience import Outage
from guyline.client.status import to_error, unreachable

Metadata = tuple[tuple[str, str], ...]
Response = TypeVar("Response")

ANSWER_WITHIN = 30.0
"""Seconds after which a connection on which a call gets no answer counts as dead."""

_BUSY_WITHIN = 5.0
"""Seconds that there are at least for the answer to whether anybody is there: the agent may be busy, or its machine."""

_STORE_ID = "guyline-store-id"

_OPTIONS = (
    # A restarted worker is found in 0.05 to 0.1 s. (The minimum is left alone: it is the connect timeout as well.)
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 100),
    # Otherwise a new channel inherits the back-off of the one before.
    ("grpc.use_local_subchannel_pool", 1),
    # The agent is dialled itself, whatever `http_proxy` says.
    ("grpc.enable_http_proxy", 0),
    ("grpc.max_receive_message_length", 64 * 1024 * 1024),
)


class Line:
    """One channel and what can be called on it. Close it after use."""

    def __init__(self, channel: grpc.aio.Channel, metadata: Metadata) -> None:
        self.channel = channel
        self._count_as_closed = fork.opened(channel)
        self._metadata = metadata
        self.metadata = metadata
        self.processes = ProcessServiceStub(channel)
        self.info = AgentInfoServiceStub(channel)
        self.calls = 0

    def expect(self, store_id: str) -> None:
        """An agent of any other store is to refuse the calls: gRPC dials again by itself, and anybody may answer."""
        self.metadata = (*self._metadata, (_STORE_ID, store_id))

    async def close(self) -> None:
        """Hangs up. What is under way is cancelled."""
        await self.channel.close()
        self._count_as_closed()


class Connection:
    """Reaches one agent for as long as it is the same one. ``close`` ends it, and whatever is under way on it.

    Args:
        address: Where the agent is.
        credentials: What it takes to be let in.
        metadata: Sent with every call.
        patience: For how many seconds without any progress a caller waits for the agent to come back.
        connect_timeout: For how many seconds ``open`` waits for an agent that has not answered yet. Where a connection
            is neither refused nor answered, five at least.
        on_absence: See ``Absence``.
    """

    def __init__(
        self,
        *,
        address: Address,
        credentials: Credentials,
        metadata: Metadata,
        patience: float,
        connect_timeout: float,
        on_absence: Callable[[bool], None] | None = None,
    ) -> None:
        self.address = address
        self.patience = patience
        self.store_id = ""
        self._credentials = credentials
        self._metadata = metadata
        self._connect_timeout = connect_timeout
        self._line: Line | None = None
        self._lines: set[Line] = set()  # all that are open, dropped ones on which somebody still calls among them
        self._absence = Absence(on_absence)
        self._stranger = ""  # the store of the agent that answers in place of the other
        self._is_closed = False
        self._closing = asyncio.Event()

    def __repr__(self) -> str:
        return f"<connection to {self.address}, {'up' if self._line else 'down'}>"

    async def open(self) -> GetInfoResponse:
        """Meets the agent and remembers its store. Cancelling is safe. A closed connection may be opened again, also to
        another agent.

        Raises:
            AgentUnreachable: Nobody answered in time.
            SocketNotTrusted: Somebody else might.
        """
        self.store_id = self._stranger = ""
        self._is_closed = False
        self._closing = asyncio.Event()
        outage = Outage(self._connect_timeout)
        outage.begin(asyncio.get_running_loop().time())
        with self._absence.waited_out():
            return await self._until_answered(outage)

    async def close(self) -> None:
        """Hangs up. What is under way, or waits for the agent, ends with an error."""
        self._is_closed = True
        self._closing.set()
        self._absence.wake()
        self._line = None
        while self._lines:
            await self._lines.pop().close()

    @asynccontextmanager
    async def line(self) -> AsyncIterator[Line]:
        """Gives the line to call on, and dials if there is none. Hold it for the length of the call.

        Raises:
            AgentUnreachable: There is no socket.
            SocketNotTrusted: There is one, but somebody else could listen there.
            StoreChanged: Another agent has answered.
            GuylineError: The connection is closed.
            RuntimeError: gRPC does not work here, since a parent process forked while an agent was open.
        """
        fork.check()
        if self._stranger:
            raise self._changed(Outcome.NOT_STARTED)
        self._check_open()
        line = self._line or await self._dial()
        line.calls += 1
        try:
            yield line
        finally:
            line.calls -= 1
            if line is not self._line and not line.calls:
                self._lines.discard(line)
                await line.close()

    def drop(self, line: Line) -> None:
        """Takes the line for dead. Others that call on it find out by themselves; the last one hangs up."""
        if line is self._line:
            self._line = None

    async def ask(
        self,
        method: Callable[[Line], Callable[..., Awaitable[Response]]],
        request: object,
        *,
        repeatable: bool,
        answer_within: float = ANSWER_WITHIN,
        deadline: Deadline | None = None,
    ) -> Response:
        """Makes a unary call, again after a break if that does no harm. Cancelling is safe for the connection.

        What was refused because too much was going on is repeated as well, if nothing came of it; and so is any call
        for as long as there is nobody to send it to.

        Args:
            method: Picks the stub's method.
            request: Its request.
            repeatable: Whether repeating it does no harm even if it did arrive.
            answer_within: Seconds; beyond those that the agent is asked to wait.
            deadline: Until when that is, if it is.

        Raises:
            AgentUnreachable: ``patience`` is over, or the answer was lost and the call is not to be repeated.
            StoreChanged: Another agent answers now.
            GuylineError: The agent refused.
        """
        outage = Outage(self.patience)
        with outage.all_tries_told():
            while True:
                waits = deadline.ask() if deadline else 0.0
                since = asyncio.get_running_loop().time()
                try:
                    if not repeatable:
                        await self._connect(outage)
                    return await self.ask_once(method, request, answer_within=answer_within + waits)
                except PASSING as error:
                    repeats = isinstance(error, Unavailable) and repeatable
                    if not (repeats or error.outcome is Outcome.NOT_STARTED):
                        raise
                    outage.waited(min(asyncio.get_running_loop().time() - since, waits))
                    await self.wait_out(outage, error)

    async def _connect(self, outage: Outage) -> None:
        """Returns once there is a connection. What fails until then was not sent, of which gRPC says nothing: that
        nobody listens, and that the answer was lost, are the same to it but for words.
        """
        if self._line is not None and self._line.channel.get_state() is grpc.ChannelConnectivity.READY:
            return
        try:
            await self._greet(outage)
        except GuylineError as error:
            error.outcome = Outcome.NOT_STARTED
            raise

    async def wait_out(self, outage: Outage, error: GuylineError) -> None:
        """After one of ``PASSING``: returns when the next try makes sense. Cancelling is safe.

        Raises:
            GuylineError: ``error`` itself, or what came in its place, once patience is over.
            StoreChanged: Another agent answers.
        """
        outage.tried(error.outcome)
        if isinstance(error, Unavailable):
            await self.restore(outage, error)
        else:
            await self._pause(outage, error)

    async def restore(self, outage: Outage, error: Unavailable) -> None:
        """After ``error``: returns once the agent answers again. Cancelling is safe.

        Raises:
            AgentUnreachable: Patience is over; it names ``error``'s outcome.
            StoreChanged: Another agent answers.
        """
        with self._absence.waited_out():
            await self._pause(outage, error)
            try:
                await self._until_answered(outage)
            except (*PASSING, StoreChanged) as last:
                last.outcome = error.outcome  # of what the caller wanted, not of the question whether anybody is there
                raise

    async def _until_answered(self, outage: Outage) -> GetInfoResponse:
        while True:
            try:
                return await self._greet(outage)
            except PASSING as error:
                await self._pause(outage, error)

    async def _greet(self, outage: Outage) -> GetInfoResponse:
        left = outage.left(asyncio.get_running_loop().time())
        within = min(max(left, _BUSY_WITHIN), ANSWER_WITHIN)
        info = await self.ask_once(lambda line: line.info.GetInfo, GetInfoRequest(), answer_within=within)
        self._recognise(info.store_id)
        self._absence.ended()
        return info

    async def _pause(self, outage: Outage, error: GuylineError) -> None:
        self._check_open()
        delay = outage.failed(asyncio.get_running_loop().time(), retry_after=error.retry_after)
        if delay is None:
            raise error
        with suppress(TimeoutError):
            async with asyncio.timeout(delay):
                await (self._closing.wait() if error.retry_after else self._absence.over())
        self._check_open()

    def _check_open(self) -> None:
        if self._is_closed:
            raise GuylineError("the connection was closed by this program")

    def meaning(self, failure: grpc.aio.AioRpcError) -> GuylineError:
        """What a failed call means, as the exception to raise."""
        error = to_error(failure, address=str(self.address))
        if not isinstance(error, StoreChanged):
            return error
        self._stranger = error.facts.get("store_id", "unknown")
        return self._changed(error.outcome)

    def _recognise(self, store_id: str) -> None:
        if self.store_id and self.store_id != store_id:
            self._stranger = store_id
            raise self._changed(Outcome.NOT_STARTED)
        self.store_id = store_id
        if self._line is not None:
            self._line.expect(store_id)

    def _changed(self, outcome: Outcome) -> StoreChanged:
        return StoreChanged(
            f"another agent answers at {self.address}: its store is {self._stranger}, and {self.store_id} was asked "
            "before",
            facts={"address": str(self.address), "store_id": self._stranger, "expected_store_id": self.store_id},
            outcome=outcome,
        )

    async def ask_once(
        self,
        method: Callable[[Line], Callable[..., Awaitable[Response]]],
        request: object,
        *,
        answer_within: float | None = ANSWER_WITHIN,
    ) -> Response:
        """Makes a call without a second try. ``request`` may be an iterator of them. Errors are those of ``ask``."""
        async with self.line() as line:
            try:
                return await method(line)(request, timeout=answer_within, metadata=line.metadata)
            except grpc.aio.AioRpcError as failure:
                error = self.meaning(failure)
                if isinstance(error, AgentUnreachable):
                    self.drop(line)
                # Without its cause: users never meet gRPC's exceptions.
                raise error from None
            except asyncio.CancelledError:
                if was_asked_to_cancel():
                    raise
                raise self.cut_short(line) from None

    def cut_short(self, line: Line) -> GuylineError:
        """What it means that a call was cancelled, though nobody here asked for it: gRPC says both the same way."""
        if self._is_closed:
            return GuylineError("the connection was closed by this program while a call was under way")
        self.drop(line)
        return unreachable(str(self.address), "it cut the call short")

    async def _dial(self) -> Line:
        # In a thread, since both look at the disk.
        await asyncio.to_thread(self.address.check)
        secrets = await asyncio.to_thread(self._credentials.read)
        self._check_open()  # it may have been closed meanwhile, and nobody would close this one
        if self._line is None:
            self._line = Line(self._to_channel(secrets), self._metadata + secrets.metadata)
            self._lines.add(self._line)
            if self.store_id:
                self._line.expect(self.store_id)
        return self._line

    def _to_channel(self, secrets: Secrets) -> grpc.aio.Channel:
        options = list(_OPTIONS)
        if not self._credentials.tls:
            return grpc.aio.insecure_channel(self.address.target, options)
        tls = grpc.ssl_channel_credentials(secrets.authorities)
        return grpc.aio.secure_channel(self.address.target, tls, options)


def was_asked_to_cancel() -> bool:
    """Whether somebody cancelled this task: a server that cancels a call raises CancelledError in its caller, too."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0
