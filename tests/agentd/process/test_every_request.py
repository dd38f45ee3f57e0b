"""What every request has in common, generated from the descriptors: each field missing, too long and malformed."""

from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message

from guyline.agent.v1.process_pb2 import TerminalSize
from guyline.agent.v1.process_service_pb2 import (
    AttachRequest,
    CloseInputRequest,
    GetOutputRequest,
    ProcessServiceCancelRequest,
    ProcessServiceListRequest,
    ProcessServiceRemoveRequest,
    ProcessServiceWaitRequest,
    ProcessServiceWatchRequest,
    ResizeRequest,
    RunRequest,
    SignalRequest,
    StartRequest,
    WriteInputRequest,
)
from tests.agentd.process.process_parts import assert_invalid, refusal, seconds, started, to_start
from tests.agentd.process.waiting_parts import EXIT, to_wait
from tests.support.agent import RunningAgent


def calls(agent: RunningAgent) -> dict[type[Message], Callable[[Any], Any]]:
    """What takes which request."""
    stub = agent.processes
    return {
        StartRequest: stub.Start,
        RunRequest: stub.Run,
        AttachRequest: stub.Attach,
        GetOutputRequest: stub.GetOutput,
        SignalRequest: stub.Signal,
        ProcessServiceListRequest: stub.List,
        ProcessServiceWatchRequest: stub.Watch,
        ProcessServiceWaitRequest: stub.Wait,
        ProcessServiceCancelRequest: stub.Cancel,
        ProcessServiceRemoveRequest: stub.Remove,
        WriteInputRequest: stub.WriteInput,
        CloseInputRequest: stub.CloseInput,
        ResizeRequest: stub.Resize,
    }


def fields_of(descriptor: Any, path: str = "") -> Iterator[tuple[str, FieldDescriptor]]:
    """Every field below a message, with its path; well-known types count as one, and so does what is repeated."""
    for each in descriptor.fields:
        yield path + each.name, each
        inner = each.message_type
        if inner and not each.is_repeated and not inner.file.name.startswith("google/"):
            yield from fields_of(inner, f"{path}{each.name}.")


def blank(kind: type[Message], process_id: str) -> Any:
    """A request of this kind that is right."""
    if kind is RunRequest:
        return RunRequest(start=to_start("true"))
    if kind is StartRequest:
        return to_start("true")
    if kind is ResizeRequest:
        return ResizeRequest(process_id=process_id, size=TerminalSize(columns=80, rows=24))
    if kind is ProcessServiceWaitRequest:
        return to_wait(process_id, EXIT)
    return kind() if kind in OF_ALL else kind(process_id=process_id)


def put(request: Any, path: str, value: Any) -> None:
    """Sets the field at a path."""
    *parents, name = path.split(".")
    for parent in parents:
        request = getattr(request, parent)
    if isinstance(value, Duration):
        getattr(request, name).CopyFrom(value)
    else:
        setattr(request, name, value)


OF_ALL: list[type[Message]] = [ProcessServiceListRequest, ProcessServiceWatchRequest]
"""Those that name no process."""
KINDS: list[type[Message]] = [
    StartRequest,
    RunRequest,
    AttachRequest,
    SignalRequest,
    ProcessServiceCancelRequest,
    ProcessServiceRemoveRequest,
    ProcessServiceWaitRequest,
    GetOutputRequest,
    WriteInputRequest,
    CloseInputRequest,
    ResizeRequest,
    *OF_ALL,
]
EVERY_FIELD = [(kind, path, each) for kind in KINDS for path, each in fields_of(kind.DESCRIPTOR)]
ENUMS = [(kind, path) for kind, path, each in EVERY_FIELD if each.enum_type and not each.is_repeated]
DURATIONS = [
    (kind, path)
    for kind, path, each in EVERY_FIELD
    if each.message_type and each.message_type.full_name == "google.protobuf.Duration"
]
TEXTS = [
    (kind, path)
    for kind, path, each in EVERY_FIELD
    if each.type == FieldDescriptor.TYPE_STRING and not each.is_repeated
]

LONGEST_CALL, LONGEST_LIFE = 600.0, 30 * 86400.0
OF_A_LIFE = {"timeout", "idle_timeout", "detach_after"}
"""What counts in a process's life rather than in a call's."""


@pytest.mark.parametrize("value", [-1, 77])
@pytest.mark.parametrize(("kind", "path"), ENUMS)
async def test_an_enum_has_no_other_values(
    shared_agent: RunningAgent, kind: type[Message], path: str, value: int
) -> None:
    """A newer client that asks for what this agent cannot do must hear so, rather than get something else."""
    async with started(shared_agent, ["sleep", "60"]) as start:
        request = blank(kind, start.process_id)
        put(request, path, value)

        assert_invalid(await refusal(calls(shared_agent)[kind](request)), path)


@pytest.mark.parametrize("value", [-1.0, LONGEST_CALL + 0.001, LONGEST_LIFE + 0.001, 1e9])
@pytest.mark.parametrize(("kind", "path"), DURATIONS)
async def test_a_duration_has_bounds(shared_agent: RunningAgent, kind: type[Message], path: str, value: float) -> None:
    """Ten minutes is the longest that any call waits, and nothing waits for less than nothing."""
    if path.rpartition(".")[2] in OF_A_LIFE and LONGEST_CALL < value < LONGEST_LIFE:
        value = -value
    async with started(shared_agent, ["sleep", "60"]) as start:
        request = blank(kind, start.process_id)
        put(request, path, seconds(value))

        assert_invalid(await refusal(calls(shared_agent)[kind](request)), path)


@pytest.mark.parametrize("kind", [RunRequest, AttachRequest, ProcessServiceWatchRequest])
async def test_a_keepalive_may_not_come_too_often(shared_agent: RunningAgent, kind: type[Message]) -> None:
    """A keepalive of a millisecond would be a way to keep the agent busy."""
    async with started(shared_agent, ["sleep", "60"]) as start:
        request = blank(kind, start.process_id)
        put(request, "keepalive", seconds(0.099))

        assert_invalid(await refusal(calls(shared_agent)[kind](request)), "keepalive")


@pytest.mark.parametrize("text", ["a\0b", "x" * 200_000])
@pytest.mark.parametrize(("kind", "path"), TEXTS)
async def test_no_text_may_hold_a_nul_or_be_endless(
    shared_agent: RunningAgent, kind: type[Message], path: str, text: str
) -> None:
    """Nor may it crash anything: the answer is a refusal that names what is wrong, and the agent goes on."""
    async with started(shared_agent, ["sleep", "60"]) as start:
        request = blank(kind, start.process_id)
        put(request, path, text)

        refused = await refusal(calls(shared_agent)[kind](request))

    if path == "process_id":
        assert refused.reason == "PROCESS_NOT_FOUND"
    else:
        assert refused.code is grpc.StatusCode.INVALID_ARGUMENT
        assert path in refused.fields
