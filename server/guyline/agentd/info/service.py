"""``guyline.agent.v1.AgentInfoService``: unpack, ask, pack."""

from collections.abc import Awaitable, Callable

from guyline.agent.v1 import agent_info_service_pb2 as pb
from guyline.agent.v1.agent_info_service_pb2_grpc import AgentInfoServiceServicer
from guyline.agentd.info.info import Description, DiskUse, Feature, Limits, Upgrade
from guyline.errors import InvalidInput, Violation
from guyline.rpc.caller import Context
from guyline.rpc.moments import to_duration, to_timestamp

_LONGEST_PATH_BYTES = 4096


class AgentInfoService(AgentInfoServiceServicer):
    """What the agent is, and how its code is replaced.

    Args:
        describe: Says what the agent is now.
        upgrade: Takes the interpreter's absolute path, empty for the present one; answers when the new code is about
            to take over.
    """

    def __init__(
        self, *, describe: Callable[[], Awaitable[Description]], upgrade: Callable[[str], Awaitable[Upgrade]]
    ) -> None:
        self._describe = describe
        self._upgrade = upgrade

    async def GetInfo(self, _request: pb.GetInfoRequest, _context: Context) -> pb.GetInfoResponse:
        """Who the agent is, what it can do here, its limits and what it holds."""
        return to_info(await self._describe())

    async def Upgrade(self, request: pb.UpgradeRequest, _context: Context) -> pb.UpgradeResponse:
        """Replaces the running code."""
        upgrade = await self._upgrade(to_interpreter(request.interpreter))
        return pb.UpgradeResponse(from_version=upgrade.from_version, to_version=upgrade.to_version)


def to_interpreter(path: str) -> str:
    """The path as given, if it can name an interpreter.

    Raises:
        InvalidInput: If it is relative, too long, or holds a NUL.
    """
    problem = ""
    if path and not path.startswith("/"):
        problem = f"{path[:64]!r} is no absolute path; leave it empty to keep the interpreter"
    elif "\0" in path:
        problem = "holds a NUL"
    elif len(path.encode()) > _LONGEST_PATH_BYTES:
        problem = f"is longer than {_LONGEST_PATH_BYTES} bytes"
    if problem:
        raise InvalidInput(Violation("interpreter", problem))
    return path


def to_info(description: Description) -> pb.GetInfoResponse:
    """The description as the wire has it."""
    return pb.GetInfoResponse(
        agent_id=description.agent_id,
        store_id=description.store_id,
        instance_id=description.instance_id,
        version=description.version,
        features=map(_to_feature, description.features),
        limits=_to_limits(description.limits),
        keeper_pid=description.keeper_pid,
        worker_pid=description.worker_pid,
        started_at=to_timestamp(description.started_at),
        worker_started_at=to_timestamp(description.worker_started_at),
        disk_use=_to_disk_use(description.disk_use),
        running_processes=description.running_processes,
        journal_degraded=description.journal_degraded,
    )


def _to_feature(feature: Feature) -> pb.Feature:
    return pb.Feature(name=feature.name, enabled=feature.enabled, reason=feature.reason)


def _to_limits(limits: Limits) -> pb.Limits:
    return pb.Limits(
        max_processes=limits.max_processes,
        journal_bytes=limits.journal_bytes,
        journal_quota_bytes=limits.journal_quota_bytes,
        ended_retention=to_duration(limits.ended_retention),
        key_retention=to_duration(limits.key_retention),
        max_request_bytes=limits.max_request_bytes,
        max_chunk_bytes=limits.max_chunk_bytes,
        shutdown_grace=to_duration(limits.shutdown_grace),
        max_ended=limits.max_ended,
        max_keys=limits.max_keys,
        max_chat_processes=limits.max_chat_processes,
        max_followers=limits.max_followers,
        input_bytes=limits.input_bytes,
        input_quota_bytes=limits.input_quota_bytes,
    )


def _to_disk_use(use: DiskUse) -> pb.DiskUse:
    return pb.DiskUse(journal_bytes=use.journal_bytes, record_bytes=use.record_bytes, free_bytes=use.free_bytes)
