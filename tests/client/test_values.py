"""Values mean what the wire means."""

import pytest

from guyline.agent.v1 import process_pb2
from guyline.agent.v1 import process_service_pb2 as pb
from guyline.client import enums
from guyline.client.enums import WireEnum
from guyline.client.errors import Hop, Outcome
from guyline.client.values import Key
from guyline.client.wire import to_update
from guyline.error.v1 import reason_pb2

_RENAMED = {"OUTPUT_STREAM_UNSPECIFIED": "MERGED"}


@pytest.mark.parametrize(
    ("kind", "wire", "prefix"),
    [
        (enums.ProcessState, process_pb2.ProcessState, "PROCESS_STATE_"),
        (enums.UnknownEnd, process_pb2.UnknownEnd, "UNKNOWN_END_"),
        (enums.EndedBy, process_pb2.EndedBy, "ENDED_BY_"),
        (enums.Descendants, process_pb2.Descendants, "DESCENDANTS_"),
        (enums.OutputMode, process_pb2.OutputMode, "OUTPUT_MODE_"),
        (enums.WhenFull, process_pb2.WhenFull, "WHEN_FULL_"),
        (enums.OutputStream, process_pb2.OutputStream, "OUTPUT_STREAM_"),
        (enums.SignalScope, pb.SignalScope, "SIGNAL_SCOPE_"),
        (enums.TimeLimit, process_pb2.TimeLimit, "TIME_LIMIT_"),
        (enums.InputMode, process_pb2.InputMode, "INPUT_MODE_"),
        (enums.Resource, process_pb2.Resource, "RESOURCE_"),
        (enums.OutputStyle, pb.OutputStyle, "OUTPUT_STYLE_"),
        (enums.OutputWait, pb.OutputWait, "OUTPUT_WAIT_"),
        (enums.WaitOver, pb.WaitOver, "WAIT_OVER_"),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
def test_an_enum_has_the_names_and_numbers_of_the_wire(kind: type[WireEnum], wire: object, prefix: str) -> None:
    """They are converted by number, so a slip here would quietly turn one thing into another."""
    expected = {_RENAMED.get(name, name.removeprefix(prefix)): number for name, number in wire.items()}  # type: ignore[attr-defined]  # the wrappers have no common type

    assert {member.name: member.value for member in kind} == expected


def test_a_number_from_a_newer_agent_reads_as_zero() -> None:
    """A client keeps working with an agent that knows one thing more."""
    assert enums.ProcessState(99) is enums.ProcessState.UNSPECIFIED
    assert enums.OutputStream(99) is enums.OutputStream.MERGED


def test_output_is_cut_where_its_stream_or_its_time_changes() -> None:
    """A chunk has one of each, and together they are the data."""
    message = pb.AttachResponse(offset=100, data=b"outerr")
    for stream in (1, 2):
        message.runs.add(stream=process_pb2.OutputStream.ValueType(stream), length_bytes=3)
    for offset, second in ((100, 1), (104, 2)):
        message.times.add(offset=offset).printed_at.seconds = second

    chunks = to_update(message).chunks

    assert [(chunk.offset, chunk.data, chunk.stream.label) for chunk in chunks] == [
        (100, b"out", "stdout"),
        (103, b"e", "stderr"),
        (104, b"rr", "stderr"),
    ]
    assert [chunk.printed_at.timestamp() for chunk in chunks if chunk.printed_at] == [1, 1, 2]


def test_outcomes_and_hops_are_those_of_the_wire() -> None:
    """They travel as names."""
    assert {f"OUTCOME_{member}" for member in Outcome} == set(reason_pb2.Outcome.keys())
    assert {f"HOP_{member}" for member in Hop} == set(reason_pb2.Hop.keys())


def test_keys_are_never_the_same() -> None:
    """Two starts with one key would be one start."""
    assert len({Key.new().value for _ in range(1000)}) == 1000
