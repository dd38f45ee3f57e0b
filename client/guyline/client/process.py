"""A handle on one process: what it printed, how it ended, its input, signals."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, nullcontext
from signal import SIGKILL, SIGTERM
from types import TracebackType
from typing import TYPE_CHECKING, Self, Unpack

from guyline.agent.v1 import process_pb2 as process_pb
from guyline.agent.v1 import process_service_pb2 as pb
from guyline.client.argument import to_bytes, to_timeout
from guyline.client.canceling import cancel
from guyline.client.completed import StillRunning
from guyline.client.connection import Connection
from guyline.client.deadline import Deadline
from guyline.client.enums import OutputStyle, OutputWait, SignalScope
from guyline.client.errors import AgentUnreachable, Defect
from guyline.client.lines import LINE_BYTES, LineSplitter
from guyline.client.opened import Opened
from guyline.client.options import OutputRange, refuse_others
from guyline.client.pacing import Pacing
from guyline.client.requests import to_signal_request, written_down
from guyline.client.streams import Streams
from guyline.client.values import Bytes, Canceled, Chunk, Exit, Line, ProcessInfo, Signalled
from guyline.client.wire import Update, to_signalled
from guyline.client.writing import Data, Writer

if TYPE_CHECKING:
    from guyline.client.conditions import Condition, Met
    from guyline.client.view import View


_LAST_WORD = 1.0
"""Seconds for an answer to who has waited, and had none."""


class AsyncProcess:
    """One process of the agent. It goes on whatever becomes of this handle, and of this program.

    A handle from ``AsyncAgent.open`` holds the open stream of the process's output until ``output`` takes it over.
    Before that nothing notices a break of the connection, and the process waits for no more than a minute after one.
    Close it if you want neither output nor exit: leave its ``async with`` block, or the agent's.
    """

    def __init__(
        self,
        connection: Connection,
        info: ProcessInfo,
        *,
        pacing: Pacing,
        keepalive: float,
        attached: bool = False,
        opened: Opened | None = None,
        next_input: int | None = None,
        repeats_input: bool = False,
    ) -> None:
        self.info = info
        """The process as of the last message about it."""
        self.attached = attached
        """Whether the key that the start was given had been used, by another start or by a lost try of this one."""
        self.detached = False
        """Whether ``output`` ended because of ``detach_after``, and not because the process did."""
        self._connection = connection
        self._streams = Streams(
            connection, info.process_id, pacing=pacing, keepalive=keepalive, opened=opened, told=self._told
        )
        self._writer = Writer(connection, info.process_id, next_offset=next_input, repeats=repeats_input)

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
        await self._streams.aclose()

    async def output(self, *, times: bool = False, **where: Unpack[OutputRange]) -> AsyncGenerator[Chunk, None]:
        """What the process printed and prints, as it comes, until it has exited. A break of the connection is not seen,
        unless a process that waits for slow readers loses its patience before this one reads on: a gap tells then.

        What descendants print after that is kept as well: ask again, with ``from_offset``.
        Cancelling is safe. A loop that may be left early should be inside ``contextlib.aclosing``.

        Args:
            times: Say of each chunk when it was printed.
            **where: Which part of it: see ``OutputRange``. Everything by default.

        Raises:
            OutOfRange: ``from_offset`` is beyond what was printed so far.
            AgentUnreachable: The agent did not come back in time.
            StoreChanged: The process is not known any more; or ProcessNotFound, if it was not at first.
        """
        refuse_others(where, OutputRange, of="AsyncProcess.output")
        async with aclosing(self._streams.read(times=times, **where)) as updates:
            async for update in updates:
                self.detached = update.detached
                for chunk in update.chunks:
                    yield chunk

    async def lines(
        self, *, max_line_bytes: int = LINE_BYTES, **where: Unpack[OutputRange]
    ) -> AsyncGenerator[Line, None]:
        """The same as lines of text. Each stream has lines of its own, if they are kept apart.

        Args:
            max_line_bytes: A longer line comes in pieces.
            **where: As of ``output``.

        Raises:
            GuylineError: As ``output``.
        """
        refuse_others(where, OutputRange, of="AsyncProcess.lines")
        splitter = LineSplitter(max_line_bytes=max_line_bytes)
        async with aclosing(self.output(**where)) as chunks:
            async for chunk in chunks:
                for line in splitter.feed(chunk):
                    yield line
        for line in splitter.rest():
            yield line

    async def wait(self, timeout: float | None = None) -> Exit:
        """Returns how the process ended, once it has. Cancelling is safe.

        Output that nobody has asked for by then is dropped.

        Args:
            timeout: Seconds to wait at most. None: for ever.

        Raises:
            StillRunning: The time is over; as far as the agent has said, the process goes on.
            AgentUnreachable: The agent did not come back in time.
            StoreChanged: The process is not known any more; or ProcessNotFound, if it was not at first.
        """
        timeout = to_timeout("timeout", timeout)
        if self.info.exit is not None:
            return self.info.exit
        is_told = asyncio.Event()
        try:
            async with asyncio.timeout(timeout):
                return await self._wait(is_told)
        except TimeoutError:
            if is_told.is_set():
                raise StillRunning(self.id) from None
        return await self._exit_now()

    async def _exit_now(self) -> Exit:
        """How it has ended by now. For who waits so shortly that the agent does not get a word in.

        An agent that is away has a second for it: whoever waits shortly does not want to wait for that, either.
        """
        from guyline.client.conditions import Exited, NotMet  # noqa: PLC0415 - as below

        try:
            async with asyncio.timeout(_LAST_WORD):
                met = await self.wait_for(Exited(), timeout=0)
        except (NotMet, TimeoutError, AgentUnreachable):
            raise StillRunning(self.id) from None
        assert met.process.exit is not None, "that is what was waited for"
        return met.process.exit

    async def _wait(self, is_told: asyncio.Event) -> Exit:
        """Sets ``is_told`` once the agent has said that it runs, when it was asked for that."""
        for _ in range(2):  # the opened stream may end before the process does, by its `detach_after`
            async with aclosing(self._streams.wait()) as updates:
                async for update, is_answer in updates:
                    if update.exit is not None:
                        return update.exit
                    if is_answer:  # what was sent before, and lies here, is none
                        is_told.set()
        raise Defect(f"the output of process {self.id} ended, and the agent did not say how the process did")

    async def wait_for(self, *conditions: "Condition", timeout: float | None = None) -> "Met":
        """Waits until one of several things holds: ``Exited``, ``Printed``, ``PortOpen``, ``FileExists``.

        What holds already is told at once; of several, the one that stands first. Cancelling is safe. A process that
        waits for the readers of this handle goes on meanwhile if there are none, here or elsewhere.

        Args:
            *conditions: 1 to 16.
            timeout: Seconds to wait at most. None: for ever.

        Raises:
            NotMet: The time is over; or only output was waited for, and there will be none.
            InvalidInput: A condition is wrong: a pattern that is none, say.
            ProcessNotFound: The process is not known any more.
        """
        from guyline.client import waiting  # noqa: PLC0415 - only waits need it, and every start-up would pay for it

        async with self._streams.flowing() if timeout != 0 else nullcontext():
            met = await waiting.wait_for(self._connection, self.id, conditions, timeout=timeout)
        self._learn(met.process)
        return met

    async def view(
        self,
        *,
        cursor: Bytes = b"",
        from_offset: int | None = None,
        style: OutputStyle = OutputStyle.PLAIN,
        wait: float | None = None,
        wait_for: OutputWait = OutputWait.EXIT,
        max_bytes: int = 0,
        max_line_bytes: int = 0,
    ) -> "View":
        """Shows the output as a person or a model wants to see it: beginning, a note of what is left out, end.

        Secrets that the start named in ``redact`` are not in it. Cancelling is safe.

        Args:
            cursor: Show what was printed since: of an earlier view, or of a match.
            from_offset: Show what was printed from here on. A cursor goes before it.
            style: Whether as printed, or made plain.
            wait: Seconds to wait at most for what ``wait_for`` says, as ``wait_for`` does. That they are over is no
                error.
            wait_for: The end, or anything new.
            max_bytes: How long the view may be: 1 KiB to 1 MiB. Zero: 32 KiB.
            max_line_bytes: Longer lines are cut: 64 to 65,536 bytes. Zero: 2,048.

        Raises:
            InvalidInput: A size is out of range.
            OutOfRange: The offset is beyond what was printed so far.
            ProcessNotFound: The process is not known any more.
        """
        from guyline.client import waiting  # noqa: PLC0415 - as above

        with written_down("view"):
            request = pb.GetOutputRequest(
                process_id=self.id,
                cursor=to_bytes("cursor", cursor),
                from_offset=from_offset,
                style=pb.OutputStyle.ValueType(style),
                wait_for=pb.OutputWait.ValueType(wait_for),
                max_bytes=max_bytes,
                max_line_bytes=max_line_bytes,
            )
        async with self._streams.flowing() if wait else nullcontext():
            seen = await waiting.view(self._connection, request, wait=wait)
        self._learn(seen.process)
        return seen

    async def write(self, data: Data, *, eof: bool = False, shared: bool = False) -> None:
        """Gives the process something to read; returns once the agent has accepted all of it.

        A process that does not read makes this wait. After a break of the connection it goes on at the byte where it
        stopped. Writers that share this handle take turns; of those on other handles, and in other programs, there
        should be none. If this is cancelled, a part may have been written; the next write goes on behind it.

        Args:
            data: Bytes, or pieces of them. What an async iterable gives is passed on as it comes; it must not
                wait for a write to the same handle itself.
            eof: Close the input behind it.
            shared: Others may write as well, as at the keyboards of one terminal. Then it goes on behind them; of much
                data, they may come in the middle.

        Raises:
            InputClosed: The process has ended or closed its input, or somebody said ``eof``.
            NoInput: It was started without: give ``stdin=InputMode.PIPE`` at the start.
            InputConflict: Somebody else has written meanwhile, and it is not ``shared``. Or, after a break, they have
                written so much that nobody can say what of this was accepted.
        """
        await self._writer.write(data, eof=eof, shared=shared)

    async def input_position(self) -> int:
        """Where the input goes on: how many bytes of it the agent has accepted, of whomever.

        Raises:
            NoInput: There is none.
            ProcessNotFound: The process is not known any more.
        """
        return await self._writer.position()

    async def close_input(self) -> None:
        """Closes the input behind what was written: the process then reads its end. Doing so twice is fine.

        Raises:
            WrongState: It has no input, or a terminal, which has no end: write its end-of-file character, mostly
                ``b"\\x04"``.
        """
        await self._writer.close()

    async def resize(self, columns: int, rows: int) -> None:
        """Sets the size of the process's terminal, in characters.

        Raises:
            NoTerminal: It has none.
        """
        with written_down("resize"):
            request = pb.ResizeRequest(process_id=self.id, size=process_pb.TerminalSize(columns=columns, rows=rows))
        await self._connection.ask(lambda line: line.processes.Resize, request, repeatable=True)

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
            number: As on Linux, from 1 on.
            scope: The process group, or the session and the cgroup besides.
            grace: Seconds between the steps of the ladder INT, TERM, KILL, which is climbed from ``number`` on for as
                long as somebody is alive. None: no ladder.
            wait: Seconds to wait until everybody is gone. None: do not.

        Raises:
            WrongState: It has ended, and nobody is left in the scope.
            SignalNotPermitted: It has become another user, whom the agent may not signal.
            NotFound: It is not known any more.
        """
        wait = to_timeout("wait", wait)
        request = to_signal_request(self.id, number, scope, grace=grace, wait=wait)
        response = await self._connection.ask(
            lambda line: line.processes.Signal,
            request,
            repeatable=number == SIGKILL,  # nobody can count these
            deadline=None if wait is None else Deadline(wait, request.wait),
        )
        signalled = to_signalled(response)
        self._learn(signalled.process)
        return signalled

    async def cancel(self, *, grace: float | None = None, wait: float | None = None) -> Canceled:
        """Ends the process with all that came of it: SIGTERM, then SIGKILL. Doing so after its end is fine.

        Args:
            grace: Seconds between the two, up to 600. None: 5.
            wait: Seconds to wait until everybody is gone, up to 600. None: do not.

        Raises:
            SignalNotPermitted: It has become another user, whom the agent may not signal.
            ProcessNotFound: It is not known any more.
        """
        canceled = await cancel(self._connection, self.id, grace=grace, wait=wait)
        self._learn(canceled.process or self.info)
        return canceled

    async def remove(self) -> None:
        """Has the agent forget the process, which must have ended, and what it printed.

        Raises:
            ProcessRunning: It runs.
            ProcessNotFound: It is not known any more.
        """
        request = pb.ProcessServiceRemoveRequest(process_id=self.id)
        await self._connection.ask(lambda line: line.processes.Remove, request, repeatable=False)

    def _told(self, update: Update) -> ProcessInfo:
        self._learn(update.of(self.info))
        return self.info

    def _learn(self, info: ProcessInfo) -> None:
        """An answer that was made before the process ended may come after the message that it has."""
        if self.info.exit is None or info.exit is not None:
            self.info = info
