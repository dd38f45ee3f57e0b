"""AgentInfoService: what goes in and out of the domain."""

import tempfile
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import grpc
import grpc.aio
import pytest

from guyline.agent.v1 import agent_info_service_pb2 as pb
from guyline.agent.v1.agent_info_service_pb2_grpc import AgentInfoServiceStub, add_AgentInfoServiceServicer_to_server
from guyline.agentd.info.info import Description, DiskUse, Feature, Limits, Upgrade
from guyline.agentd.info.service import AgentInfoService, to_info
from guyline.daemon.address import UnixAddress
from guyline.rpc.authentication import LocalAuthentication
from guyline.rpc.server import RpcServer

DESCRIPTION = Description(
    agent_id="",
    store_id="store",
    instance_id="instance",
    version="1.2",
    features=(Feature(name="journal.splice", enabled=False, reason="the kernel says no"),),
    limits=Limits(
        max_processes=1,
        journal_bytes=2,
        journal_quota_bytes=3,
        ended_retention=4.5,
        key_retention=5,
        max_request_bytes=6,
        max_chunk_bytes=7,
        shutdown_grace=8,
        max_ended=13,
        max_keys=14,
        max_chat_processes=9,
        max_followers=10,
        input_bytes=11,
        input_quota_bytes=12,
    ),
    keeper_pid=10,
    worker_pid=11,
    started_at=1_700_000_000.5,
    worker_started_at=1_700_000_001,
    disk_use=DiskUse(journal_bytes=20, record_bytes=21, free_bytes=22),
    running_processes=30,
    journal_degraded=True,
)


class Upgrades:
    """Remembers which interpreters it was asked to take."""

    def __init__(self) -> None:
        self.interpreters: list[str] = []

    async def upgrade(self, interpreter: str) -> Upgrade:
        self.interpreters.append(interpreter)
        return Upgrade(from_version="1", to_version="2")


@pytest.fixture
def upgrades() -> Upgrades:
    return Upgrades()


@pytest.fixture
async def agent(upgrades: Upgrades) -> AsyncIterator[AgentInfoServiceStub]:
    async def describe() -> Description:
        return DESCRIPTION

    with tempfile.TemporaryDirectory(prefix="gl-") as folder:
        address = UnixAddress(Path(folder) / "agent.sock")
        server = RpcServer(address, authentication=LocalAuthentication())
        service = AgentInfoService(describe=describe, upgrade=upgrades.upgrade)
        server.add(add_AgentInfoServiceServicer_to_server, service)
        async with server, grpc.aio.insecure_channel(str(address)) as channel:
            yield AgentInfoServiceStub(channel)


async def test_the_description_arrives_as_it_was_given(agent: AgentInfoServiceStub) -> None:
    """Clients decide by features and limits, operators by the rest."""
    info = await agent.GetInfo(pb.GetInfoRequest())

    assert (info.store_id, info.instance_id, info.version) == ("store", "instance", "1.2")
    assert [(each.name, each.enabled, each.reason) for each in info.features] == [
        ("journal.splice", False, "the kernel says no")
    ]
    assert (info.keeper_pid, info.worker_pid, info.running_processes) == (10, 11, 30)
    assert info.started_at.ToMilliseconds() == 1_700_000_000_500
    assert info.limits.ended_retention.ToMilliseconds() == 4500
    assert info.disk_use.free_bytes == 22


def test_no_field_is_forgotten() -> None:
    """A field added to the wire and not filled would be zero for ever."""
    info = to_info(replace(DESCRIPTION, agent_id="agent"))

    for message in (info, info.limits, info.disk_use):
        assert {field.name for field, _ in message.ListFields()} == set(message.DESCRIPTOR.fields_by_name)


@pytest.mark.parametrize("interpreter", ["", "/usr/bin/python3"])
async def test_an_upgrade_takes_the_interpreter_named(
    agent: AgentInfoServiceStub, upgrades: Upgrades, interpreter: str
) -> None:
    """None means the present one."""
    answer = await agent.Upgrade(pb.UpgradeRequest(interpreter=interpreter))

    assert (answer.from_version, answer.to_version) == ("1", "2")
    assert upgrades.interpreters == [interpreter]


@pytest.mark.parametrize("interpreter", ["python3", "/bin/py\0thon", "/" + "x" * 5000])
async def test_what_cannot_be_an_interpreter_is_refused_before_anything_happens(
    agent: AgentInfoServiceStub, upgrades: Upgrades, interpreter: str
) -> None:
    """A relative name would depend on where the agent was started."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await agent.Upgrade(pb.UpgradeRequest(interpreter=interpreter))

    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert str(caught.value.details()).startswith("interpreter: ")
    assert upgrades.interpreters == []
