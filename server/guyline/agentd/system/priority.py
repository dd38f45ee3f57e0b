"""Niceness and OOM score: what this process has, and what it may give to another."""

import os
from pathlib import Path

_SCORE = Path("/proc/self/oom_score_adj")


def own_nice() -> int:
    return os.getpriority(os.PRIO_PROCESS, 0)


def own_oom_score() -> int:
    return int(_SCORE.read_text())


def may_be_nice(nice: int) -> bool:
    """Whether this process may have this niceness. Tried out, as a capability alone may not be enough."""
    own = own_nice()
    if nice >= own:
        return True
    try:
        os.setpriority(os.PRIO_PROCESS, 0, nice)
    except OSError:
        return False
    os.setpriority(os.PRIO_PROCESS, 0, own)
    return True


def may_have_oom_score(score: int) -> bool:
    """The same of its OOM score."""
    own = own_oom_score()
    if score >= own:
        return True
    try:
        _SCORE.write_text(str(score))
    except OSError:
        return False
    _SCORE.write_text(str(own))
    return True
