"""An agent, as a Python object."""

import os
from collections.abc import AsyncGenerator, Callable, Collection, Mapping, Sequence
from contextlib import aclosing
from types import TracebackType
from typing import Self, Unpack
from weakref import WeakSet

from guyline.agent.v1 import agent_info_service_pb2 as info_pb
from guyline.agent.v1 import process_service_pb2 as pb
from guyline.client.address import UnixAddress, default_address, to_address
from guyline.client.argument import check_callable, check_text, invalid, to_bytes, to_seconds, to_size
from guyline.client.canceling import cancel
from guyline.client.completed import MAX_OUTPUT_BYTES, Collected, CommandFailed, Completed, StillRunning
from guyline.client.connection import Connection
from guyline.client.credentials import to_credentials
from guyline.client.enums import InputMode, OutputMode, ProcessState, WhenFull
from guyline.client.following import FollowedList, FollowedOutput, follow
from guyline.client.opened import Opened
from guyline.client.options import RunOptions, StartOptions, or_default, refuse_others
from guyline.client.pacing import Pacing
from guyline.client.process import AsyncProcess
from guyline.client.requests import (
    to_attach_request,
    to_list_request,
    to_run_request,
    to_start_request,
    written_down,
)
from guyline.client.running import OutputCallback, collect, fed
from guyline.client.values import AgentInfo, Canceled, Key, Listing, ProcessInfo, Upgrade, WatchEvent
from guyline.client.wire import to_agent_info, to_process_info, to_watch_events

_EVERY_ENDED = 2**32 - 1
_UPGRADE_WITHIN = 120.0
_SHORTEST_KEEPALIVE = 0.1  # seconds, as the agent has them
_LONGEST_KEEPALIVE = 600.0


class AsyncAgent:
    """An agent: starts commands in its workspace and follows them. Use it as an async context manager.

        async with AsyncAgent() as agent:
            built = await agent.run(["make", "-j8"], check=True)
            print(built.text)

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
        InvalidInput: An argument is wrong: the address is none, say, or ``insecure`` is not to be had for it.
    """

    def __init__(
        self,
        address: str | None = None,
        *,
        chat_id: str | None = None,
        token_file: str | os.PathLike[str] | None = None,
        ca_file: str | os.PathLike[str] | None = None,
        insecure: bool = False,
        patience: float = 60.0,
        connect_timeout: float = 1.0,
        keepalive: float = 15.0,
        on_absence: Callable[[bool], None] | None = None,
    ) -> None:
        patience = to_seconds("patience", patience)
        connect_timeout = to_seconds("connect_timeout", connect_timeout)
        keepalive = to_seconds("keepalive", keepalive)
        if chat_id is not None:
            check_text("chat_id", chat_id)
            if not (chat_id and chat_id.isascii() and chat_id.isprintable()):
                raise invalid("chat_id", "is empty, or no printable ASCII; give None to name no chat")
        if not _SHORTEST_KEEPALIVE <= keepalive <= _LONGEST_KEEPALIVE:
            raise invalid("keepalive", f"is {keepalive} s, not {_SHORTEST_KEEPALIVE} to {_LONGEST_KEEPALIVE}")
        if on_absence is not None:
            check_callable("on_absence", on_absence)
        where = to_address(default_address() if address is None else address)
        self._connection = Connection(
            address=where,
            credentials=to_credentials(where, token_file=token_file, ca_file=ca_file, insecure=insecure),
            metadata=(("coder-chat-id", chat_id),) if chat_id is not None else (),
            patience=patience,
            connect_timeout=connect_timeout,
            on_absence=on_absence,
        )
        self._keepalive = keepalive
        self._handles: WeakSet[AsyncProcess] = WeakSet()

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
        try:
            for handle in list(self._handles):
                await handle.aclose()
        finally:
            await self._connection.close()

    async def run(
        self,
        command: str | Sequence[str],
        *,
        on_output: OutputCallback | None = None,
        **options: Unpack[RunOptions],
    ) -> Completed:
        """Runs a command to its end.

        Cancelling leaves the command to itself; ``timeout`` ends it. It waits while ``on_output`` does. If it cannot be
        given all of its ``input``, it is ended: it would wait for the rest for ever, or take a part for the whole.

        Args:
            command: A line for ``sh -c``, or a program and its arguments.
            on_output: Called with each piece of output, as it comes. What it raises is raised here.
            **options: See ``RunOptions`` and ``StartOptions``.

        Raises:
            CommandFailed: It did not exit with zero, and ``check`` was asked for.
            StillRunning: ``detach_after`` is over.
            GuylineError: As ``open``.
        """
        refuse_others(options, RunOptions, of="AsyncAgent.run")
        if on_output is not None:
            check_callable("on_output", on_output)
        data = None
        if (given := options.get("input")) is not None:
            if options.get("terminal") is not None:
                description = "a terminal has no end; use `open` and `write`"
                raise invalid("input", description)
            if options.get("stdin") is InputMode.NONE:
                raise invalid("input", "is given, and with `stdin` NONE there is nobody to read it")
            data = to_bytes("input", given)
            options["stdin"] = or_default(options.get("stdin"), InputMode.PIPE)
        most = to_size("max_output_bytes", or_default(options.get("max_output_bytes"), MAX_OUTPUT_BYTES))
        # What a start that is repeated with its key has been given before is passed over.
        next_input = None if data is None else 0
        process = await self._open(command, options, detach_after=options.get("detach_after"), next_input=next_input)
        collected = Collected(or_default(options.get("output"), OutputMode.MERGED), most=most)
        async with process:
            is_fed = await fed(process, data, collect(process, collected, on_output))
            if process.detached:
                raise StillRunning(process.id, collected.output, None if is_fed else await process.input_position())
            completed = collected.completed(process.id, await process.wait())
        if options.get("check") and not completed.exit.succeeded:
            raise CommandFailed(process.info.command or process.info.argv, completed)
        return completed

    async def open(
        self, command: str | Sequence[str], *, detach_after: float | None = None, **options: Unpack[StartOptions]
    ) -> AsyncProcess:
        """Starts a command and follows it; read ``output`` of the handle, or ``wait``.

        Args:
            command: A line for ``sh -c``, or a program and its arguments.
            detach_after: Seconds from the start on after which ``output`` ends, although the process goes on. A handle
                from ``attach`` follows it further.
            **options: See ``StartOptions``. By default the process waits for a slow reader.

        Raises:
            CommandNotRunnable: The program cannot be executed.
            InvalidInput: An argument is wrong, or the directory cannot be used (``DirectoryNotUsable``).
            Exhausted: A limit of the agent or of its system is reached.
            FeatureOff: A limit is asked for that the agent cannot set where it is.
            PrivilegeMissing: The agent may not start this.
            KeyConflict: The key was used for another start.
            AgentUnreachable: The agent did not come back in time; ``outcome`` says whether the command may run.
            StoreChanged: Another agent answers now; whether the command was started cannot be said.
        """
        refuse_others(options, StartOptions, of="AsyncAgent.open")
        return await self._open(command, options, detach_after=detach_after, next_input=None)

    async def _open(
        self,
        command: str | Sequence[str],
        options: StartOptions,
        *,
        detach_after: float | None,
        next_input: int | None,
    ) -> AsyncProcess:
        start = to_start_request(command, options, when_full=WhenFull.PAUSE)
        request = to_run_request(start, detach_after=detach_after)
        pacing = Pacing(is_wanted=WhenFull(start.when_full) is WhenFull.PAUSE)
        followed = FollowedOutput(request, pacing=pacing, keepalive=self._keepalive)
        messages = follow(self._connection, followed)
        first = await anext(messages)
        assert isinstance(first, pb.RunResponse), "a Run is repeated until it has answered"
        return self._handle(
            to_process_info(first.process),
            pacing=pacing,
            attached=first.attached and options.get("key") is not None,
            opened=Opened(followed, first, messages, pacing=pacing),
            next_input=next_input,
            repeats_input=next_input is not None and options.get("key") is not None,
        )

    async def start(self, command: str | Sequence[str], **options: Unpack[StartOptions]) -> AsyncProcess:
        """Starts a command and returns at once. Its oldest output makes room for the newest.

        Args:
            command: A line for ``sh -c``, or a program and its arguments.
            **options: See ``StartOptions``.

        Raises:
            GuylineError: As ``open``.
        """
        refuse_others(options, StartOptions, of="AsyncAgent.start")
        request = to_start_request(command, options, when_full=WhenFull.DROP_OLDEST)
        response = await self._connection.ask(lambda line: line.processes.Start, request, repeatable=True)
        pacing = Pacing(is_wanted=WhenFull(request.when_full) is WhenFull.PAUSE)
        attached = response.attached and options.get("key") is not None  # else it is this start, repeated
        return self._handle(to_process_info(response.process), pacing=pacing, attached=attached)

    async def attach(self, process_id: str, *, paces: bool = False) -> AsyncProcess:
        """Gives a handle on a process that somebody has started.

        Args:
            process_id: Which.
            paces: Whether the output read through the handle is what a process started with PAUSE waits for.

        Raises:
            ProcessNotFound: There is no such process, or it is another chat's.
        """
        request = to_attach_request(process_id, {"tail_bytes": 0, "snapshot": True})
        followed = FollowedOutput(request, pacing=Pacing(is_wanted=False), keepalive=self._keepalive)
        async with aclosing(follow(self._connection, followed)) as messages:
            first = await anext(messages)
        return self._handle(to_process_info(first.process), pacing=Pacing(is_wanted=paces))

    async def cancel(self, target: str | Key, *, grace: float | None = None, wait: float | None = None) -> Canceled:
        """Ends a process, by its id, or what was or would be started under a key. Neither runs on, or will ever run.

        Args:
            target: Which one.
            grace: Seconds between SIGTERM and SIGKILL, up to 600. None: 5.
            wait: Seconds to wait until everybody is gone, up to 600. None: do not.

        Raises:
            ProcessNotFound: There is no such process. (An unknown key is no error.)
            KeyExpired: The key is too old to say whether it was used.
        """
        return await cancel(self._connection, target, grace=grace, wait=wait)

    async def remove(self, process_id: str) -> None:
        """Has the agent forget an ended process and what it printed.

        Raises:
            ProcessRunning: It runs.
            ProcessNotFound: There is no such process.
        """
        with written_down("remove"):
            request = pb.ProcessServiceRemoveRequest(process_id=process_id)
        await self._connection.ask(lambda line: line.processes.Remove, request, repeatable=False)

    async def list(
        self,
        *,
        labels: Mapping[str, str | None] | None = None,
        states: Collection[ProcessState] = (),
        id_prefix: str = "",
        usage: bool = False,
        max_ended: int | None = 10,
    ) -> Listing:
        """Lists the processes that the caller may see: all that run, and the newest that have ended.

        Args:
            labels: Only those with all of these. None as the value: whatever the value.
            states: Only those in one of these states. Empty: in any.
            id_prefix: Only those whose id begins so.
            usage: Say how much the running ones use. Costs the agent a look at all processes of its system.
            max_ended: How many ended ones at most. None: all.
        """
        request = to_list_request(
            labels=labels or {},
            states=states,
            id_prefix=id_prefix,
            usage=usage,
            max_ended=_EVERY_ENDED if max_ended is None else max_ended,
        )
        found: dict[str, ProcessInfo] = {}
        while True:
            page = await self._connection.ask(lambda line: line.processes.List, request, repeatable=True)
            for process in page.processes:
                found.pop(process.process_id, None)  # it has ended between two pages, and stands where it belongs now
                found[process.process_id] = to_process_info(process)
            if not page.next_page_token:
                return Listing(processes=tuple(found.values()), ended_total=page.ended_total)
            request.page_token = page.next_page_token

    async def watch(self, *, labels: Mapping[str, str | None] | None = None) -> AsyncGenerator[WatchEvent, None]:
        """Follows the list of processes: everything, then ``Synced``, then changes. Never ends by itself.

        After a ``Reset`` everything comes again. Cancelling is safe.

        Args:
            labels: Only processes with all of these, as for ``list``.

        Raises:
            AgentUnreachable: The agent did not come back in time.
            StoreChanged: Another agent answers now.
        """
        with written_down("labels"):
            followed = FollowedList(labels=labels or {}, keepalive=self._keepalive)
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
        with written_down("upgrade"):
            request = info_pb.UpgradeRequest(interpreter=interpreter)
        response = await self._connection.ask(
            lambda line: line.info.Upgrade,
            request,
            repeatable=False,
            answer_within=_UPGRADE_WITHIN,
        )
        return Upgrade(from_version=response.from_version, to_version=response.to_version)

    def _handle(
        self,
        info: ProcessInfo,
        *,
        pacing: Pacing,
        attached: bool = False,
        opened: Opened | None = None,
        next_input: int | None = None,
        repeats_input: bool = False,
    ) -> AsyncProcess:
        process = AsyncProcess(
            self._connection,
            info,
            pacing=pacing,
            keepalive=self._keepalive,
            attached=attached,
            opened=opened,
            next_input=next_input,
            repeats_input=repeats_input,
        )
        self._handles.add(process)
        return process
