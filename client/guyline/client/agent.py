"""An agent, as a Python object."""

import os
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from types import TracebackType
from typing import Self
from weakref import WeakSet

from guyline.agent.v1 import agent_info_service_pb2 as info_pb
from guyline.agent.v1 import process_service_pb2 as pb
from guyline.client.address import UnixAddress, default_address, to_address
from guyline.client.connection import Connection
from guyline.client.credentials import to_credentials
from guyline.client.following import FollowedList, FollowedOutput, follow
from guyline.client.process import Opened, Process
from guyline.client.values import AgentInfo, Key, Listing, OutputMode, ProcessInfo, Upgrade, WatchEvent, WhenFull
from guyline.client.wire import (
    to_agent_info,
    to_process_info,
    to_start_request,
    to_watch_events,
)

_UPGRADE_WITHIN = 120.0


class AsyncAgent:
    """An agent: starts commands in its workspace and follows them. Use it as an async context manager.

        async with AsyncAgent() as agent:
            process = await agent.run(["make", "-j8"])
            async for chunk in process.output():
                sys.stdout.buffer.write(chunk.data)
            exit = await process.wait()

    A lost connection is dialled again, and streams go on where they stopped, for as long as ``patience`` bears it.
    Leaving the block hangs up; processes go on.

    Args:
        address: ``unix:PATH`` or ``tcp://HOST:PORT``. None: ``GUYLINE_AGENT_ADDRESS``, else the socket of this user's
            agent.
        chat_id: The chat on whose behalf to call: only its processes are seen, and it owns what is started.
        token_file: Holds the token, one line. TCP listeners want one.
        ca_file: Certificates in PEM that vouch for a TCP listener. None: the public ones.
        insecure: No TLS. Only for listeners on this machine.
        patience: Seconds for which a call or stream that gets nowhere waits for the agent to come back.
        connect_timeout: Seconds to wait, on entering, for an agent that has not answered yet.
        keepalive: Seconds after which a quiet stream shows that it is alive, 0.1 to 600. After 2.5 times as long
            without a sign the connection is taken for dead.
        on_absence: Called with True when the agent has not answered for 2 seconds although something waits for it, and
            with False when it is back after that. Must be quick and raise nothing.

    Raises:
        InvalidInput: The address is none, or ``insecure`` is not to be had for it.
    """

    def __init__(
        self,
        address: str | None = None,
        *,
        chat_id: str | None = None,
        token_file: Path | None = None,
        ca_file: Path | None = None,
        insecure: bool = False,
        patience: float = 60.0,
        connect_timeout: float = 1.0,
        keepalive: float = 15.0,
        on_absence: Callable[[bool], None] | None = None,
    ) -> None:
        where = to_address(address or default_address())
        self._connection = Connection(
            address=where,
            credentials=to_credentials(where, token_file=token_file, ca_file=ca_file, insecure=insecure),
            metadata=(("coder-chat-id", chat_id),) if chat_id else (),
            patience=patience,
            connect_timeout=connect_timeout,
            on_absence=on_absence,
        )
        self._keepalive = keepalive
        self._handles: WeakSet[Process] = WeakSet()

    @property
    def is_local(self) -> bool:
        """Whether it is reached by a Unix socket, so that paths here are paths there."""
        return isinstance(self._connection.address, UnixAddress)

    def __repr__(self) -> str:
        return f"<agent at {self._connection.address}>"

    async def __aenter__(self) -> Self:
        """Meets the agent.

        Raises:
            AgentUnreachable: Nobody answered within ``connect_timeout``.
            SocketNotTrusted: Somebody else could answer on the socket.
        """
        try:
            await self._connection.open()
        except BaseException:
            await self._connection.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for handle in list(self._handles):
            await handle.aclose()
        await self._connection.close()

    async def run(
        self,
        command: str | Sequence[str],
        *,
        directory: str | os.PathLike[str] = "",
        env: Mapping[str, str] | None = None,
        output: OutputMode = OutputMode.MERGED,
        when_full: WhenFull = WhenFull.PAUSE,
        kept_bytes: int = 0,
        background: bool = False,
        key: Key | None = None,
    ) -> Process:
        """Starts a command and follows it; read ``output`` of the handle, or ``wait``.

        Args:
            command: A line for ``sh -c``, or a program and its arguments.
            directory: Where to start it; ``~`` is the agent's home directory. Empty: the agent's default.
            env: Variables on top of the agent's own.
            output: Whether stdout and stderr can be told apart.
            when_full: Whether the process waits for a slow reader, as in a shell's pipeline, or its oldest
                output is lost.
            kept_bytes: How much of its output is kept. Zero: the agent's default.
            background: Kept with the process, without effect.
            key: Makes the start repeatable by others too. None: a fresh one, so that it is repeatable here.

        Raises:
            CommandNotRunnable: The program cannot be executed.
            InvalidInput: An argument is wrong, or the directory cannot be used.
            Exhausted: A limit of the agent or of its system is reached.
            AgentUnreachable: The agent did not come back in time; ``outcome`` says whether the command may run.
            StoreChanged: Another agent answers now; whether the command was started cannot be said.
        """
        start = to_start_request(
            command,
            directory=os.fspath(directory),
            env=env or {},
            output=output,
            when_full=when_full,
            kept_bytes=kept_bytes,
            background=background,
            key=key or Key.new(),
        )
        paces = when_full is WhenFull.PAUSE
        followed = FollowedOutput(pb.RunRequest(start=start), paces=paces, keepalive=self._keepalive)
        messages = follow(self._connection, followed)
        first = await anext(messages)
        assert isinstance(first, pb.RunResponse), "a Run is repeated until it has answered"
        return self._handle(
            Process(
                self._connection,
                to_process_info(first.process),
                paces=paces,
                keepalive=self._keepalive,
                attached=first.attached,
                opened=Opened(first, messages),
            )
        )

    async def start(
        self,
        command: str | Sequence[str],
        *,
        directory: str | os.PathLike[str] = "",
        env: Mapping[str, str] | None = None,
        output: OutputMode = OutputMode.MERGED,
        when_full: WhenFull = WhenFull.DROP_OLDEST,
        kept_bytes: int = 0,
        background: bool = False,
        key: Key | None = None,
    ) -> Process:
        """Starts a command and returns at once. Arguments and errors are those of ``run``."""
        request = to_start_request(
            command,
            directory=os.fspath(directory),
            env=env or {},
            output=output,
            when_full=when_full,
            kept_bytes=kept_bytes,
            background=background,
            key=key or Key.new(),
        )
        response = await self._connection.ask(lambda line: line.processes.Start, request, repeatable=True)
        return self._handle(
            Process(
                self._connection,
                to_process_info(response.process),
                paces=when_full is WhenFull.PAUSE,
                keepalive=self._keepalive,
                attached=response.attached,
            )
        )

    async def attach(self, process_id: str, *, paces: bool = False) -> Process:
        """Gives a handle on a process that somebody has started.

        Args:
            process_id: Which.
            paces: Whether the output read through the handle is what a process started with PAUSE waits for.

        Raises:
            NotFound: There is no such process, or it is another chat's.
        """
        request = pb.AttachRequest(process_id=process_id, tail_bytes=0, snapshot=True)
        followed = FollowedOutput(request, paces=False, keepalive=self._keepalive)
        async with aclosing(follow(self._connection, followed)) as messages:
            first = await anext(messages)
        info = to_process_info(first.process)
        return self._handle(Process(self._connection, info, paces=paces, keepalive=self._keepalive))

    async def list(self, *, max_ended: int = 10, id_prefix: str = "") -> Listing:
        """Lists the processes that the caller may see: all that run, and the newest ``max_ended`` that have ended.

        Only those whose ids begin with ``id_prefix``, if it is given.
        """
        request = pb.ProcessServiceListRequest(max_ended=max_ended, filter=pb.ProcessFilter(id_prefix=id_prefix))
        found: dict[str, ProcessInfo] = {}
        while True:
            page = await self._connection.ask(lambda line: line.processes.List, request, repeatable=True)
            found |= {process.process_id: to_process_info(process) for process in page.processes}
            if not page.next_page_token:
                return Listing(processes=tuple(found.values()), ended_total=page.ended_total)
            request.page_token = page.next_page_token

    async def watch(self) -> AsyncGenerator[WatchEvent, None]:
        """Follows the list of processes: everything, then ``Synced``, then changes. Never ends by itself.

        After a ``Reset`` everything comes again. Cancelling is safe.

        Raises:
            AgentUnreachable: The agent did not come back in time.
            StoreChanged: Another agent answers now.
        """
        followed = FollowedList(keepalive=self._keepalive)
        async with aclosing(follow(self._connection, followed)) as messages:
            async for message in messages:
                for event in to_watch_events(message):
                    yield event

    async def info(self) -> AgentInfo:
        """Returns who the agent is, what it can do and what it holds."""
        request = info_pb.GetInfoRequest()
        return to_agent_info(await self._connection.ask(lambda line: line.info.GetInfo, request, repeatable=True))

    async def upgrade(self, *, interpreter: str = "") -> Upgrade:
        """Has the agent's running code replaced by what is installed now. Processes go on; streams resume.

        Args:
            interpreter: The Python that has the new code, as an absolute path. Empty: the one that runs now.

        Raises:
            WrongState: The new code does not run or cannot take over; the old one goes on.
        """
        response = await self._connection.ask(
            lambda line: line.info.Upgrade,
            info_pb.UpgradeRequest(interpreter=interpreter),
            repeatable=False,
            answer_within=_UPGRADE_WITHIN,
        )
        return Upgrade(from_version=response.from_version, to_version=response.to_version)

    def _handle(self, process: Process) -> Process:
        self._handles.add(process)
        return process
