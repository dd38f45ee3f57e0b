"""Every method says which right it needs, and nobody gets by without it."""

from importlib import import_module
from pathlib import Path

import grpc
import grpc.aio
import pytest
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import Default

import guyline
from guyline.access.v1 import access_pb2
from guyline.agent.v1 import process_service_pb2 as pb
from guyline.daemon.caller import Caller, Right
from guyline.rpc.access import MethodWithoutRight, access_to
from guyline.rpc.metadata import Metadata
from tests.rpc.serving import Log, Puppet, details, serving


class Auditor:
    """Everybody may read, and nothing else."""

    async def authenticate(self, metadata: Metadata, *, request_id: str) -> Caller:
        del metadata
        return Caller(name="auditor", rights=frozenset({Right.READ}), trusted=True, request_id=request_id)


async def test_a_caller_without_the_right_is_refused_before_the_handler_runs(log: Log) -> None:
    """An auditor reads everything and touches nothing."""
    async with serving(Puppet(), authentication=Auditor()) as served:
        await served.processes.List(pb.ProcessServiceListRequest())
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await served.processes.Start(pb.StartRequest())
        assert await log.find("call ended", code="PERMISSION_DENIED", caller="auditor")

    info = details(caught.value)[1]
    assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
    assert (info.reason, info.metadata["right"]) == ("RIGHT_MISSING", "exec")


def our_methods() -> list[MethodDescriptor]:
    """Every method of every service of ours."""
    folders = [Path(folder) for folder in guyline.__path__]
    paths = [path.relative_to(folder.parent) for folder in folders for path in folder.rglob("*_pb2.py")]
    files = [import_module(".".join(path.with_suffix("").parts)).DESCRIPTOR for path in paths]
    services = [service for file in files for service in file.services_by_name.values()]
    return [method for service in services for method in service.methods]


def test_every_method_of_ours_says_which_right_it_needs() -> None:
    """A method without one would be refused at the start of a daemon; better to see it here."""
    methods = our_methods()

    assert len(methods) >= 8
    assert all(access_to(method).right for method in methods)


def test_a_method_that_says_nothing_is_refused() -> None:
    """Forgetting the option must never mean that everybody may."""
    file = FileDescriptorProto(name="tests/rpc/silent.proto", package="tests.rpc.silent", syntax="proto3")
    file.message_type.add(name="Nothing")
    method = file.service.add(name="Silent").method.add(name="Do")
    method.input_type = method.output_type = ".tests.rpc.silent.Nothing"
    Default().Add(file)
    silent = Default().FindServiceByName("tests.rpc.silent.Silent").methods[0]

    with pytest.raises(MethodWithoutRight, match=r"tests\.rpc\.silent\.Silent\.Do"):
        access_to(silent)


def test_rights_are_numbered_as_on_the_wire() -> None:
    """They are one list, kept twice so that domains need no generated code."""
    wire = {name.removeprefix("RIGHT_"): number for name, number in access_pb2.Right.items() if number}

    assert {right.name: right.value for right in Right} == wire
