"""A handle on one process: what it printed, how it ended, signals."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import datetime
from signal import SIGKILL, SIGTERM
from types import TracebackType
from typing import Self

from guyline.agent.v1 import process_service_pb2 as pb
from guyline.client.connection import Connection
from guyline.client.errors import Defect
from guyline.client.following import FollowedOutput, OutputMessage, follow
from guyline.client.values import Chunk, Exit, ProcessInfo, ProcessState, Signalled, SignalScope
from guyline.client.wire import Update, to_duration, to_signalled, to_timestamp, to_update

_ANSWER_WITHIN = 30.0


@dataclass(frozen=True)
class Opened:
    """A stream of output of which the first message has come."""

    first: OutputMessage
    rest: AsyncGenerator[OutputMessage, None]

    async def messages(self) -> AsyncGenerator[OutputMessage, None]:
        """All of it, the first message as well."""
        async with aclosing(self.rest):
            yield self.first
            async for message in self.rest:
                yield message


class Process:
    """One process of the agent. It goes on whatever becomes of this handle, and of this program.

    A handle from ``AsyncAgent.run`` holds the open stream of the process's output until ``output`` takes it over.
    Close it if you want neither output nor exit: leave its ``async with`` block, or the agent's.
    """

    def __init__(
        self,
        connection: Connection,
        info: ProcessInfo,
        *,
        paces: bool,
        keepalive: float,
        attached: bool = False,
        opened: Opened | None = None,
    ) -> None:
        self.info = info
        """The process as of the last message about it."""
        self.attached = attached
        """Whether the start's key had been used before, so that nothing was started now."""
        self._connection = connection
        self._paces = paces
        self._readers = 0
        self._keepalive = keepalive
        self._opened = opened

    def __repr__(self) -> str:
        return f"<process {self.id} {self.info.state.label}>"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    @property
    def id(self) -> str:
        """Names the process for all time."""
        return self.info.process_id

    async def aclose(self) -> None:
        """Lets go of the stream that the handle holds. The process goes on."""
        opened, self._opened = self._opened, None
        if opened is not None:
            await opened.rest.aclose()

    async def output(
        self,
        *,
        from_offset: int | None = None,
        tail_bytes: int | None = None,
        since: datetime | None = None,
        snapshot: bool = False,
        times: bool = False,
    ) -> AsyncGenerator[Chunk, None]:
        """What the process printed and prints, as it comes, until it has exited. A break of the connection is not seen.

        What descendants print after that is kept as well: ask again, with ``from_offset``.
        Cancelling is safe. A loop that may be left early should be inside ``contextlib.aclosing``.

        Args:
            from_offset: Begin there instead of at the beginning.
            tail_bytes: Begin so many bytes before what is printed now.
            since: Begin with what was printed then, by the agent's clock, to the second. One without a time zone is
                local. Of the three, the first that is given counts.
            snapshot: End once everything printed by now has come.
            times: Say of each chunk when it was printed.

        Raises:
            OutOfRange: ``from_offset`` is beyond what was printed so far.
            AgentUnreachable: The agent did not come back in time.
            StoreChanged: The process is not known any more.
        """
        plain = from_offset is None and tail_bytes is None and since is None and not snapshot and not times
        updates = self._take_opened() if plain else None
        if updates is None:
            updates = self._attach(
                from_offset=from_offset, tail_bytes=tail_bytes, since=since, snapshot=snapshot, times=times
            )
        self._readers += not snapshot
        try:
            async with aclosing(updates):
                async for update in updates:
                    for chunk in update.chunks:
                        yield chunk
        finally:
            self._readers -= not snapshot

    async def wait(self) -> Exit:
        """Returns how the process ended, once it has. Cancelling is safe.

        Output that nobody has asked for by then is dropped.

        Raises:
            AgentUnreachable: The agent did not come back in time.
            StoreChanged: The process is not known any more.
        """
        if self.info.exit is not None:
            return self.info.exit
        async with aclosing(self._take_opened() or self._attach(tail_bytes=0)) as updates:
            async for update in updates:
                if update.exit is not None:
                    return update.exit
        raise Defect(f"the output of process {self.id} ended, and the agent did not say how the process did")

    async def signal(
        self,
        number: int = SIGTERM,
        *,
        scope: SignalScope = SignalScope.GROUP,
        grace: float | None = None,
        wait: float | None = None,
    ) -> Signalled:
        """Sends a signal to the process and its descendants.

        Args:
            number: As on Linux.
            scope: The process group, or the session and the cgroup besides.
            grace: Seconds between the steps of the ladder INT, TERM, KILL, which is climbed from ``number`` on for as
                long as somebody is alive. None: no ladder.
            wait: Seconds to wait until everybody is gone. None: do not.

        Raises:
            WrongState: It has ended, and nobody is left in the scope.
            NotFound: It is not known any more.
        """
        request = pb.SignalRequest(process_id=self.id, signal=number, scope=pb.SignalScope.ValueType(scope))
        if grace is not None:
            request.grace.CopyFrom(to_duration(grace))
        if wait is not None:
            request.wait.CopyFrom(to_duration(wait))
        response = await self._connection.ask(
            lambda line: line.processes.Signal,
            request,
            repeatable=number == SIGKILL,  # nobody can count these
            answer_within=_ANSWER_WITHIN + (wait or 0.0),
        )
        signalled = to_signalled(response)
        self.info = signalled.process
        return signalled

    def _take_opened(self) -> AsyncGenerator[Update, None] | None:
        opened, self._opened = self._opened, None
        return self._updates(opened.messages()) if opened is not None else None

    def _attach(
        self,
        *,
        from_offset: int | None = None,
        tail_bytes: int | None = None,
        since: datetime | None = None,
        snapshot: bool = False,
        times: bool = False,
    ) -> AsyncGenerator[Update, None]:
        # Only one stream paces a process: whoever merely looks, or waits, must not take that from a slow reader.
        paces = self._paces and not snapshot and not self._readers
        request = pb.AttachRequest(
            process_id=self.id,
            from_offset=from_offset,
            tail_bytes=tail_bytes,
            since=to_timestamp(since) if since else None,
            snapshot=snapshot,
            paces=paces,
            times=times,
        )
        followed = FollowedOutput(request, paces=paces, keepalive=self._keepalive)
        return self._updates(follow(self._connection, followed))

    async def _updates(self, messages: AsyncGenerator[OutputMessage, None]) -> AsyncGenerator[Update, None]:
        async with aclosing(messages):
            async for message in messages:
                update = to_update(message)
                self.info = _updated(self.info, update)
                yield update


def _updated(info: ProcessInfo, update: Update) -> ProcessInfo:
    info = update.info or info
    if update.exit is None or info.exit is not None:
        return info
    state = ProcessState.UNKNOWN if update.exit.unknown is not None else ProcessState.EXITED
    return replace(info, exit=update.exit, state=state)
