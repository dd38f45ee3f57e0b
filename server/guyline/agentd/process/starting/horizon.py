"""Since when keys are known that were forgotten before their time: a number in a file."""

import json
from pathlib import Path


class HorizonFile:
    """Holds one point in time, in seconds since the epoch. Survives the worker and the agent."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> float:
        """Zero if there never was one."""
        try:
            return float(json.loads(self._path.read_text()))
        except FileNotFoundError:
            return 0.0

    def write(self, horizon: float) -> None:
        """Raises OSError; the old one then stays."""
        fresh = self._path.with_suffix(".new")
        fresh.write_text(json.dumps(horizon))
        fresh.replace(self._path)
