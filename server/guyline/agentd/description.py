"""What the agent says of itself, gathered from the parts that know. Like ``main``, above the domains."""

import os
import shutil
import time
from importlib.metadata import version

from guyline.agentd.info.info import Description, DiskUse, Feature, Limits
from guyline.agentd.journal.journals import Journals
from guyline.agentd.journal.piece import PIECE_BYTES
from guyline.agentd.keeper.client import KeeperClient
from guyline.agentd.keeper.store import RECORDS
from guyline.agentd.process.processes import Processes
from guyline.agentd.process.starting.privileges import FEATURES
from guyline.agentd.settings import AgentSettings
from guyline.agentd.system.holes import why_no_holes_in_memory
from guyline.agentd.system.terminal import why_no_terminals
from guyline.agentd.system.transfer import why_no_transfer


class Describer:
    """Describes the agent as it is when asked."""

    def __init__(
        self, *, settings: AgentSettings, keeper: KeeperClient, journals: Journals, processes: Processes
    ) -> None:
        self.version = version("guyline")  # of the running code: what is installed may be replaced
        self._settings = settings
        self._keeper = keeper
        self._journals = journals
        self._processes = processes
        self._began_at = time.time()
        self._tried = (
            _feature("process.terminal", why_no_terminals()),
            _feature("input.splice", why_no_transfer()),
            _feature("input.punch_hole", why_no_holes_in_memory()),
        )

    async def describe(self) -> Description:
        keeper, processes = self._keeper, self._processes
        return Description(
            agent_id="",
            store_id=keeper.store_id,
            instance_id=keeper.instance_id,
            version=self.version,
            features=self._features(),
            limits=self._limits(),
            keeper_pid=keeper.keeper_pid,
            worker_pid=os.getpid(),
            started_at=keeper.started_at,
            worker_started_at=self._began_at,
            disk_use=self._disk_use(),
            running_processes=len(processes.running),
            journal_degraded=any(process.output.journal.is_degraded for process in processes),
        )

    def _features(self) -> tuple[Feature, ...]:
        journals = (Feature(name=f.name, enabled=f.enabled, reason=f.reason) for f in self._journals.features())
        keeper = self._keeper
        cgroup = _feature("process.cgroup", keeper.why_no_cgroups)
        limits = (_feature(feature, keeper.why_no_limits[limit]) for limit, feature in FEATURES.items())
        return (*journals, *self._tried, cgroup, *limits)

    def _limits(self) -> Limits:
        settings = self._settings
        return Limits(
            max_processes=self._processes.bounds.max_processes,
            journal_bytes=settings.journal_bytes,
            journal_quota_bytes=settings.journal_quota_bytes,
            ended_retention=settings.ended_retention,
            key_retention=settings.key_retention,
            max_request_bytes=settings.max_request_bytes,
            max_chunk_bytes=PIECE_BYTES,
            shutdown_grace=settings.shutdown_grace,
            max_ended=settings.max_ended,
            max_keys=settings.max_keys,
            max_chat_processes=self._processes.bounds.max_chat_processes,
            max_followers=self._processes.bounds.max_followers,
            input_bytes=settings.input_bytes,
            input_quota_bytes=settings.input_quota_bytes,
        )

    def _disk_use(self) -> DiskUse:
        folder = self._settings.state_dir
        return DiskUse(
            journal_bytes=self._journals.kept_bytes,
            record_bytes=(folder / RECORDS).stat().st_size,
            free_bytes=shutil.disk_usage(folder).free,
        )


def _feature(name: str, why_not: str) -> Feature:
    return Feature(name=name, enabled=not why_not, reason=why_not)
