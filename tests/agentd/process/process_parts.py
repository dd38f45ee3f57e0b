"""What the stories about processes share: starting, following to the end, and reading what a refusal says."""

import asyncio
import os
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import grpc
import grpc.aio
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc.error_details_pb2 import (
    BadRequest,
    ErrorInfo,
    RetryInfo,
)
from google.rpc.status_pb2 import Status

from guyline.agent.v1.process_pb2 import Exit, IdempotencyKey, OutputRun, Process
from guyline.agent.v1.process_service_pb2 import (
    SIGNAL_SCOPE_ALL,
    AttachRequest,
    AttachResponse,
    ProcessEvent,
    ProcessServiceWatchRequest,
    RunRequest,
    RunResponse,
    SignalRequest,
    StartRequest,
    StartResponse,
    WriteInputRequest,
    WriteInputResponse,
)
from tests.support.agent import RunningAgent
from tests.support.clock import DEADLINE

MIB = 1024 * 1024

Response: TypeAlias = RunResponse | AttachResponse
Stream: TypeAlias = "grpc.aio.UnaryStreamCall[Any, Any]"
Metadata: TypeAlias = tuple[tuple[str, str], ...]


def to_start(program: str | Sequence[str], **fields: Any) -> StartRequest:
    """A command line, or a program with its arguments."""
    if isinstance(program, str):
        return StartRequest(command=program, **fields)
    return StartRequest(argv=program, **fields)


def new_key(*, age: float = 0.0) -> IdempotencyKey:
    """A key that nobody has used, made ``age`` seconds ago."""
    key = IdempotencyKey(value=str(uuid.uuid4()))
    key.created_at.FromNanoseconds(round((time.time() - age) * 1e9))
    return key


def in_chat(chat_id: str | uuid.UUID) -> Metadata:
    """What a caller sends that acts for a chat."""
    return (("coder-chat-id", str(chat_id)),)


def seconds(value: float) -> Duration:
    """A duration as the wire has it."""
    duration = Duration()
    duration.FromNanoseconds(round(value * 1e9))
    return duration


def to_seconds(value: Duration | Timestamp) -> float:
    """The opposite."""
    return value.seconds + value.nanos / 1e9


@dataclass
class Followed:
    """What a follower was told, from its first message to its last."""

    messages: list[Response] = field(default_factory=list)

    @property
    def data(self) -> bytes:
        return b"".join(message.data for message in self.messages)

    @property
    def runs(self) -> list[OutputRun]:
        return [run for message in self.messages for run in message.runs]

    @property
    def times(self) -> list[tuple[int, float]]:
        """From which offset on output was printed when, in seconds since the epoch."""
        return [(time.offset, to_seconds(time.printed_at)) for message in self.messages for time in message.times]

    @property
    def gaps(self) -> list[tuple[int, int]]:
        gaps = [message.control.gap for message in self.messages if message.control.HasField("gap")]
        return [(getattr(gap, "from"), gap.to) for gap in gaps]  # `from` is a word of the language

    @property
    def process(self) -> Process:
        """The process as the last message that told of it had it."""
        return next(message.process for message in reversed(self.messages) if message.HasField("process"))

    @property
    def process_id(self) -> str:
        return self.process.process_id

    @property
    def cursor(self) -> bytes:
        return self.messages[-1].control.cursor

    @property
    def attached(self) -> bool:
        """Whether Run started nothing, since its key had been used."""
        first = self.messages[0]
        assert isinstance(first, RunResponse)
        return first.attached

    @property
    def has_ended(self) -> bool:
        return bool(self.messages) and self.messages[-1].control.HasField("ended")

    @property
    def exit(self) -> Exit:
        assert self.has_ended, "the stream ended without the process's end"
        return self.messages[-1].exit

    def of_stream(self, stream: int) -> bytes:
        """What one of the two printed."""
        found = b""
        for message in self.messages:
            offset = 0
            for run in message.runs:
                if run.stream == stream:
                    found += message.data[offset : offset + run.length_bytes]
                offset += run.length_bytes
            assert offset == len(message.data), "the runs cover the data"
        return found


async def follow(stream: Stream, *, until: Callable[[Followed], bool] = lambda _: False) -> Followed:
    """Takes a stream to its end, or until it has told enough; then it is cancelled."""
    followed = Followed()
    try:
        async with asyncio.timeout(DEADLINE):
            async for message in stream:
                followed.messages.append(message)
                if until(followed):
                    break
    finally:
        stream.cancel()
    return followed


def printed(text: bytes) -> Callable[[Followed], bool]:
    """For ``follow``: until this was printed."""
    return lambda followed: text in followed.data


def a_line(followed: Followed) -> bool:
    """For ``follow``: until a whole line was printed."""
    return followed.data.endswith(b"\n")


async def run(
    agent: RunningAgent,
    program: str | Sequence[str],
    *,
    metadata: Metadata = (),
    times: bool = False,
    **fields: Any,
) -> Followed:
    """Runs a command to its end."""
    request = RunRequest(start=to_start(program, **fields), times=times)
    return await follow(agent.processes.Run(request, metadata=metadata))


async def attach(
    agent: RunningAgent,
    process_id: str,
    *,
    metadata: Metadata = (),
    until: Callable[[Followed], bool] = lambda _: False,
    **fields: Any,
) -> Followed:
    """Follows a process from wherever the fields say, to its end or until it has told enough."""
    request = AttachRequest(process_id=process_id, **fields)
    return await follow(agent.processes.Attach(request, metadata=metadata), until=until)


def write_input(
    agent: RunningAgent, process_id: str, data: bytes = b"", **fields: Any
) -> "grpc.aio.UnaryUnaryCall[WriteInputRequest, WriteInputResponse]":
    """One call of WriteInput."""
    return agent.processes.WriteInput(WriteInputRequest(process_id=process_id, data=data, **fields))


async def snapshot(agent: RunningAgent, process_id: str, **fields: Any) -> Followed:
    """What a process has printed so far, and how it stands."""
    return await attach(agent, process_id, snapshot=True, **fields)


@asynccontextmanager
async def started(
    agent: RunningAgent, program: str | Sequence[str], *, metadata: Metadata = (), **fields: Any
) -> AsyncIterator[StartResponse]:
    """A process for the length of the block; at its end it is killed with all of its session."""
    start = await agent.processes.Start(to_start(program, **fields), metadata=metadata)
    try:
        yield start
    finally:
        await end(agent, start.process_id)


async def end(agent: RunningAgent, process_id: str) -> None:
    """Kills a process and its session, and waits until nobody of them is left. One that has ended is no error."""
    request = SignalRequest(process_id=process_id, signal=9, scope=SIGNAL_SCOPE_ALL, wait=seconds(DEADLINE))
    try:
        assert not (await agent.processes.Signal(request)).survivors
    except grpc.aio.AioRpcError as why:
        if why.code() is not grpc.StatusCode.FAILED_PRECONDITION:
            raise


@dataclass(frozen=True)
class Refusal:
    """Why a call failed, as a client in any language can read it."""

    code: grpc.StatusCode
    message: str
    reason: str
    facts: dict[str, str]
    violations: tuple[tuple[str, str], ...]
    """Field and description of each."""
    retry_after: float | None
    """Seconds."""

    @property
    def fields(self) -> list[str]:
        return [field for field, _ in self.violations]


async def refusal(call: "Stream | Awaitable[object]") -> Refusal:
    """What a call that must fail says; a stream is taken to its end."""
    try:
        async with asyncio.timeout(DEADLINE):
            if isinstance(call, Awaitable):
                await call
            else:
                async for _ in call:
                    pass
    except grpc.aio.AioRpcError as why:
        return _to_refusal(why)
    raise AssertionError("the call was not refused")


def _to_refusal(why: grpc.aio.AioRpcError) -> Refusal:
    trailer = {key: value for key, value in why.trailing_metadata() or ()}  # noqa: C416 - it yields pairs, and is no dict
    status = Status.FromString(trailer["grpc-status-details-bin"])
    info, bad, retry = ErrorInfo(), BadRequest(), RetryInfo()
    assert any(each.Unpack(info) for each in status.details), "every failure has an ErrorInfo"
    any(each.Unpack(bad) for each in status.details)
    retries = any(each.Unpack(retry) for each in status.details)
    return Refusal(
        code=why.code(),
        message=why.details() or "",
        reason=info.reason,
        facts=dict(info.metadata),
        violations=tuple((each.field, each.description) for each in bad.field_violations),
        retry_after=to_seconds(retry.retry_delay) if retries else None,
    )


class Speaker:
    """A process that prints what a test has it say, and ends when told to."""

    def __init__(self, process_id: str, pid: int, fifo: int) -> None:
        self.process_id = process_id
        self.pid = pid
        self._fifo = fifo

    def say(self, text: bytes) -> None:
        """At most 4 KiB, so that it never blocks."""
        assert os.write(self._fifo, text) == len(text)

    def stop(self) -> None:
        """Only after something it said was seen: it may not even have opened its input before."""
        if self._fifo >= 0:
            os.close(self._fifo)
            self._fifo = -1


@asynccontextmanager
async def speaker(agent: RunningAgent, folder: Path, **fields: Any) -> AsyncIterator[Speaker]:
    """Starts one; it is gone when the block ends."""
    path = folder / f"fifo-{uuid.uuid4()}"
    os.mkfifo(path)
    async with started(agent, ["cat", str(path)], **fields) as start:
        speaking = Speaker(start.process_id, start.process.pid, os.open(path, os.O_RDWR | os.O_CLOEXEC))
        try:
            yield speaking
        finally:
            speaking.stop()


def put_by(event: ProcessEvent) -> Process | None:
    """The process that is new or has changed. None: one was removed."""
    if event.HasField("removed"):
        return None
    return event.ended if event.HasField("ended") else event.put


async def changed(agent: RunningAgent, process_id: str, condition: Callable[[Process], bool]) -> Process:
    """Watches until a process is as the condition wants it."""
    stream = agent.processes.Watch(ProcessServiceWatchRequest())
    try:
        async with asyncio.timeout(DEADLINE):
            async for message in stream:
                for event in message.events:
                    process = put_by(event)
                    if process and process.process_id == process_id and condition(process):
                        return process
    finally:
        stream.cancel()
    raise AssertionError("the watch ended by itself")


async def ended(agent: RunningAgent, process_id: str) -> Process:
    """Waits for a process's end."""
    return await changed(agent, process_id, lambda process: process.HasField("exit"))


async def output_closed(agent: RunningAgent, process_id: str) -> Process:
    """Waits until nobody can print to a process's output any more."""
    return await changed(agent, process_id, lambda process: not process.output_open)


def assert_invalid(refused: Refusal, *fields: str) -> None:
    """It is the caller's mistake, of exactly these fields, and nothing was started."""
    assert refused.code is grpc.StatusCode.INVALID_ARGUMENT, refused
    assert refused.reason == "INVALID_INPUT"
    assert refused.facts["outcome"] == "NOT_STARTED"
    assert refused.fields == list(fields)
    assert all(description for _, description in refused.violations)
