"""Since when keys are known that were forgotten before their time: a number in a file."""

import json
import math
import os
import time
from collections.abc import Callable
from pathlib import Path

from guyline.daemon.logging import get_logger

log = get_logger("keys")


class HorizonFile:
    """Holds one point in time, in seconds since the epoch. Survives the worker, the agent, and a loss of power."""

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.time) -> None:
        self._path = path
        self._clock = clock

    def read(self) -> float:
        """Zero if there never was one; now if it cannot be read, since nobody can say then what was forgotten."""
        try:
            return _to_time(self._path.read_text())
        except FileNotFoundError:
            return 0.0
        except (OSError, ValueError) as why:
            log.warning("keys that are not known are refused if they are older than this", problem=str(why))
            return self._begin_anew()

    def write(self, horizon: float) -> None:
        """Raises OSError; the old one then stays."""
        fresh = self._path.with_suffix(".new")
        with fresh.open("w") as file:
            file.write(json.dumps(horizon))
            file.flush()
            os.fsync(file.fileno())  # else the name may come to disk before what it names
        fresh.replace(self._path)

    def _begin_anew(self) -> float:
        now = self._clock()
        try:
            self.write(now)  # else it would be later with each worker
        except OSError as why:
            log.warning("the horizon of keys cannot be written", problem=str(why))
        return now


def _to_time(text: str) -> float:
    """Raises ValueError."""
    value = json.loads(text)
    if not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{text[:40]!r} is no point in time")
    return float(value)
