"""What the tests of the agent's lives and deaths share: commands under a test's control, and readers that resume."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Protocol, Self

import grpc
import grpc.aio
from google.rpc import error_details_pb2, status_pb2

from guyline.agent.v1.process_pb2 import Exit, Process
from guyline.agent.v1.process_service_pb2 import AttachRequest, ProcessServiceListRequest, StartRequest
from guyline.agent.v1.process_service_pb2_grpc import ProcessServiceStub
from tests.support import proc
from tests.support.agent import RunningAgent
from tests.support.clock import DEADLINE


class Agent(Protocol):
    """What a reader needs of an agent."""

    processes: ProcessServiceStub


class Tap:
    """A command that prints what the test pours, and exits with 7 once the test turns it off.

    It holds a named pipe open for reading, in the agent's own folder.
    """

    def __init__(self, agent: RunningAgent, name: str = "tap") -> None:
        self.path = agent.process.folder / name
        os.mkfifo(self.path)
        self._source = os.open(self.path, os.O_RDWR)  # for reading too, so that opening waits for nobody
        self.request = StartRequest(command=f"cat {self.path}; exit 7")

    def pour(self, data: bytes) -> None:
        """At most 64 KiB that have not been printed yet."""
        assert os.write(self._source, data) == len(data)

    def turn_off(self) -> None:
        """Only once the command has printed something: it must have the pipe open."""
        os.close(self._source)
        self._source = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._source >= 0:
            self.turn_off()


class Reader:
    """Follows one process through every break, as the SDK does, and keeps all that it printed."""

    def __init__(self, agent: Agent, process_id: str) -> None:
        self.printed = bytearray()
        self.exit: Exit | None = None
        self.statuses: list[grpc.aio.AioRpcError] = []  # how its streams broke
        self.was_told_to_retry = False  # in the stream itself
        self._agent = agent
        self._process_id = process_id
        self._cursor = b""
        self._grown = asyncio.Condition()
        self._task: asyncio.Task[None] | None = None
        self._has_ended = False

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._follow())
        return self

    async def __aexit__(self, *error: object) -> None:
        assert self._task
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def until(self, text: bytes) -> None:
        """Waits until ``text`` has been printed."""
        await self._wait_for(lambda: text in self.printed or self.exit is not None)
        assert text in self.printed

    async def end(self) -> Exit:
        """Waits for the exit."""
        await self._wait_for(lambda: self.exit is not None)
        assert self.exit
        return self.exit

    async def over(self) -> None:
        """Waits for the exit, or for the first break."""
        await self._wait_for(lambda: self.exit is not None or bool(self.statuses))

    async def broken(self, times: int = 1) -> grpc.aio.AioRpcError:
        """Waits until a stream has broken so often, and returns that break."""
        await self._wait_for(lambda: len(self.statuses) >= times)
        return self.statuses[times - 1]

    async def _wait_for(self, condition: Callable[[], bool]) -> None:
        """Waits until it holds; what has ended the reading meanwhile is raised here."""
        assert self._task
        async with asyncio.timeout(DEADLINE), self._grown:
            await self._grown.wait_for(lambda: condition() or self._has_ended)
        if not condition():
            await self._task

    async def _follow(self) -> None:
        try:
            await self._follow_to_the_end()
        finally:
            self._has_ended = True
            async with self._grown:
                self._grown.notify_all()

    async def _follow_to_the_end(self) -> None:
        while self.exit is None:
            try:
                await self._follow_once()
            except grpc.aio.AioRpcError as why:
                async with self._grown:
                    self.statuses.append(why)
                    self._grown.notify_all()
                if why.code() != grpc.StatusCode.UNAVAILABLE:
                    raise

    async def _follow_once(self) -> None:
        request = AttachRequest(process_id=self._process_id, cursor=self._cursor)
        async for message in self._agent.processes.Attach(request, wait_for_ready=True):
            assert not message.data or message.offset == len(self.printed), "nothing is skipped, nothing comes twice"
            self._cursor = message.control.cursor or self._cursor
            self.was_told_to_retry |= message.control.HasField("retry")
            async with self._grown:
                self.printed += message.data
                if message.HasField("exit"):
                    self.exit = message.exit
                self._grown.notify_all()


@asynccontextmanager
async def started(agent: Agent, request: StartRequest) -> AsyncIterator[tuple[Process, Reader]]:
    """A process, and a reader that follows it within the block."""
    process = (await agent.processes.Start(request)).process
    async with Reader(agent, process.process_id) as reader:
        yield process, reader


async def run(agent: Agent, *argv: str) -> Reader:
    """A process that ran to its end, and what it printed."""
    async with started(agent, StartRequest(argv=argv)) as (_, reader):
        await reader.end()
    return reader


async def inherited_by_a_command(agent: RunningAgent) -> list[str]:
    """The numbers of all descriptors that a command finds open."""
    reader = await run(agent, "sh", "-c", "ls /proc/$$/fd; true")
    return reader.printed.decode().split()


async def listed(agent: Agent) -> dict[str, Process]:
    """All processes that the agent knows, by id."""
    answer = await agent.processes.List(ProcessServiceListRequest(max_ended=1000), wait_for_ready=True)
    return {process.process_id: process for process in answer.processes}


async def logged(agent: RunningAgent, text: str, *, times: int = 1) -> str:
    """Waits until the agent's log says it so often; returns the log."""
    async with asyncio.timeout(DEADLINE):
        while (log := await asyncio.to_thread(agent.process.log)).count(text) < times:  # noqa: ASYNC110 - a file tells nobody
            await asyncio.sleep(0.01)
    return log


async def gone(pids: Sequence[int]) -> None:
    """Waits until all of them have ended."""
    await asyncio.gather(*(proc.dead(pid) for pid in pids))


async def lose_agent(agent: RunningAgent) -> None:
    """Kills both at once, so that neither takes the other's place."""
    os.kill(agent.worker_pid, signal.SIGSTOP)
    os.kill(agent.keeper_pid, signal.SIGKILL)
    os.kill(agent.worker_pid, signal.SIGKILL)
    await gone([agent.keeper_pid, agent.worker_pid])
    agent.process.keeper_was_replaced(0)


def details_of(error: grpc.aio.AioRpcError) -> tuple[error_details_pb2.ErrorInfo, error_details_pb2.RetryInfo | None]:
    """The reason, and when to come back."""
    trailers = error.trailing_metadata() or ()
    packed = next(value for key, value in trailers if key == "grpc-status-details-bin")
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    has_retry = False
    for detail in status_pb2.Status.FromString(packed if isinstance(packed, bytes) else packed.encode()).details:
        detail.Unpack(info)
        has_retry |= detail.Unpack(retry)
    return info, retry if has_retry else None
