"""How important processes are to the machine, unless their start says."""

from typing import NamedTuple

from guyline.agentd.system import priority
from guyline.daemon.logging import get_logger

log = get_logger("priority")


class Priority(NamedTuple):
    """What a process gets. None: as the agent has it."""

    nice: int | None = None
    oom_score: int | None = None

    def as_far_as_allowed(self) -> "Priority":
        """Without what this agent may not give, which is logged: a process that has to do without it still runs."""
        nice, oom_score = self
        if nice is not None and not priority.may_be_nice(nice):
            log.warning("processes do not get their niceness: it is below the agent's own", process_nice=nice)
            nice = None
        if oom_score is not None and not priority.may_have_oom_score(oom_score):
            log.warning(
                "processes do not get their OOM score: it is below the agent's own", process_oom_score=oom_score
            )
            oom_score = None
        return Priority(nice, oom_score)
