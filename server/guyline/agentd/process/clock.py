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
