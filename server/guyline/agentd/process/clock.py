"""The two clocks by which things grow old."""

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Clock:
    """What time it is, in seconds. Simulated in tests."""

    wall: Callable[[], float] = time.time
    """Since the epoch. May jump, when somebody sets it."""

    steady: Callable[[], float] = time.monotonic
    """Since some moment of this boot. Never jumps, and stands still while the machine is suspended."""

    def steady_at(self, moment: float) -> float:
        """The steady time of a moment by the wall clock. One that is to come, since that was set, counts as now."""
        return self.steady() - max(0.0, self.wall() - moment)
