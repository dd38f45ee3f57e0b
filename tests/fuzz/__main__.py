"""Feeds garbage to what reads bytes, and stops at the first thing that was not foreseen.

    python -m tests.fuzz [NAME ...]

``SECONDS_EACH`` in the environment bounds each target (default 20).
"""

import argparse
import os
import subprocess
import sys
import tempfile

from tests.fuzz.seeds import NAMES


def _fuzz(name: str, seconds: str) -> bool:
    print(f"== {name}, {seconds} s", flush=True)
    with tempfile.TemporaryDirectory(prefix="gl-") as grown:
        command = [sys.executable, "-m", "tests.fuzz.run", name, seconds, grown]
        return subprocess.run(command, check=False).returncode == 0


def main() -> int:
    """Runs the targets that the command line names, or all; returns 1 if one of them found something."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("names", nargs="*", metavar="NAME", choices=[[], *NAMES], help=", ".join(NAMES))
    names = parser.parse_args().names or NAMES
    found = [name for name in names if not _fuzz(name, os.environ.get("SECONDS_EACH", "20"))]
    print(f"found something: {', '.join(found)}; the input lies in tests/fuzz/corpus" if found else "found nothing")
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main())
