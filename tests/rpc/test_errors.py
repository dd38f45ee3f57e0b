"""The table from errors to statuses, and the room that a status has."""

import pkgutil
from collections.abc import Iterator
from importlib import import_module

import grpc
import grpc.aio
import pytest
from google.rpc.error_details_pb2 import BadRequest

import guyline
from guyline.agent.v1 import process_service_pb2 as pb
from guyline.error.v1 import reason_pb2
from guyline.errors import GuylineError, InvalidInput, Violation
from guyline.rpc.caller import Context
from guyline.rpc.errors import CODES, to_status
from tests.rpc.serving import Puppet, details, serving


def our_errors() -> Iterator[type[GuylineError]]:
    """Every class of error that any module of the daemons defines."""
    for module in pkgutil.walk_packages(guyline.__path__, "guyline."):
        if module.name.endswith("errors"):
            import_module(module.name)
    pending = [GuylineError]
    while pending:
        pending += (found := pending.pop()).__subclasses__()
        if found.__module__.startswith("guyline."):
            yield found


def test_every_reason_is_a_name_of_the_enum() -> None:
    """Reasons are the API: a client in another language has the enum and nothing else."""
    named = {error.__name__: error.reason for error in our_errors() if hasattr(error, "reason")}

    reason_names = set(reason_pb2.Reason.keys())
    assert named["ShuttingDown"] == "SHUTTING_DOWN"
    assert [name for name, reason in named.items() if f"REASON_{reason}" not in reason_names] == []


def test_every_error_with_a_reason_has_a_code() -> None:
    """Outside the families there is only DEFECT."""
    orphans = [error for error in our_errors() if hasattr(error, "reason") and not issubclass(error, tuple(CODES))]

    assert orphans == []


def test_no_two_families_share_a_code() -> None:
    """Clients that cannot read details still tell the families apart."""
    assert len(set(CODES.values())) == len(CODES)


async def test_the_largest_error_arrives_whole_enough_to_be_read() -> None:
    """Metadata over 8 KiB would be refused by the peer, and the caller be told nothing at all."""

    async def handle(_context: Context) -> None:
        violations = [Violation(f"field{i}." + "x" * 500, "ä" * 500) for i in range(50)]
        raise InvalidInput(*violations, **{f"fact{i}": "€" * 300 for i in range(20)})

    async with serving(Puppet(handle=handle)) as served:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await served.processes.List(pb.ProcessServiceListRequest())

    status, info = details(caught.value)
    violations = BadRequest()
    assert info.reason == "INVALID_INPUT"
    assert status.message == caught.value.details()
    assert status.details[1].Unpack(violations)
    assert violations.field_violations[0].field.startswith("field0.")


def test_at_most_twenty_violations_are_sent() -> None:
    """More help nobody."""
    status = to_status(InvalidInput(*[Violation(f"f{i}", "no") for i in range(100)]))

    violations = BadRequest()
    assert status.details[1].Unpack(violations)
    assert [each.field for each in violations.field_violations] == [f"f{i}" for i in range(20)]


def test_text_that_is_no_utf_8_can_be_sent() -> None:
    """File names may hold any bytes, and stand in messages."""
    status = to_status(InvalidInput(Violation("directory", "no such directory: 'caf\udce9'"), path="caf\udce9"))

    assert "caf\N{REPLACEMENT CHARACTER}" in status.message
