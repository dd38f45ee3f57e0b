"""As whom, and with how much of the machine, a process runs."""

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from guyline.agentd.keeper.setup import Limit, Setup
from guyline.agentd.process.errors import FeatureOff, PrivilegeMissing
from guyline.agentd.process.starting.priority import Priority
from guyline.agentd.process.starting.users import Identity
from guyline.errors import GuylineError

FEATURES = {"memory_bytes": "process.limit.memory", "cpus": "process.limit.cpu", "pids": "process.limit.pids"}
"""What a limit of the process's cgroup wants of the agent, by its field here."""

_SETTINGS = {
    "uid": "user",
    "groups": "user",
    "gid": "group",
    "umask": "umask",
    "nice": "nice",
    "oom_score": "oom_score",
    "limits": "resource_limits",
}
"""What the caller calls a part of the keeper's set-up."""


@dataclass(frozen=True, kw_only=True)
class Privileges:
    """What a start asks for, checked. Empty, zero and None: as the agent has it, or its default."""

    user: str = ""  # name or number
    group: str = ""  # name or number
    umask: int | None = None
    nice: int | None = None
    oom_score: int | None = None
    limits: Mapping[str, Limit] = field(default_factory=dict)  # by their names in ``resource``, such as RLIMIT_CPU
    memory_bytes: int = 0  # this and the next two: of all that comes of the process
    cpus: float = 0.0
    pids: int = 0

    def essence(self) -> dict[str, Any]:
        """Tells them from others: what is set."""
        as_the_agent = asdict(AS_THE_AGENT)
        return {name: value for name, value in asdict(self).items() if value != as_the_agent[name]}

    def demand_features(self, why_off: Mapping[str, str]) -> None:
        """Checks that the agent can set the limits that are asked for.

        Args:
            why_off: For each limit the reason why it cannot be set; empty if it can.

        Raises:
            FeatureOff: One of them it cannot.
        """
        for name, feature in FEATURES.items():
            if getattr(self, name) and (reason := why_off[name]):
                raise FeatureOff(feature, reason)

    def to_setup(self, identity: Identity, default: Priority) -> Setup:
        """What the keeper is to set up for it."""
        return Setup(
            uid=identity.uid,
            gid=identity.gid,
            groups=identity.groups,
            umask=self.umask,
            nice=default.nice if self.nice is None else self.nice,
            oom_score=default.oom_score if self.oom_score is None else self.oom_score,
            limits=self.limits,
            memory_bytes=self.memory_bytes,
            cpus=self.cpus,
            pids=self.pids,
        )


AS_THE_AGENT = Privileges()


def setup_failure(part: str, number: int) -> GuylineError | None:
    """What a caller is told if the keeper could not set this part up; None: it is none of the privileges."""
    if part in FEATURES:
        return FeatureOff(FEATURES[part], f"the system refuses it: {os.strerror(number)}")
    return PrivilegeMissing(f"privileges.{_SETTINGS[part]}", number) if part in _SETTINGS else None
