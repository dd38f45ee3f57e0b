"""Helper programs that tests start as children: one file each in ``programs/``, standard library only."""

import sys
from pathlib import Path

_PROGRAMS = Path(__file__).parent / "programs"


def program(name: str, *arguments: object) -> list[str]:
    """Returns the argv that runs ``programs/NAME.py``, without site-packages: it starts in 15 ms."""
    path = _PROGRAMS / f"{name}.py"
    assert path.exists(), f"no program {name!r} in {_PROGRAMS}"
    return [sys.executable, "-I", "-S", str(path), *map(str, arguments)]
