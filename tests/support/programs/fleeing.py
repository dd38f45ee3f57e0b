"""Flees: forks into a new session and exits, again and again, so that its pid is never the same for long.

    fleeing.py [--lifetime SECONDS]

Prints ``fleeing`` when it has begun, and gives up after ``--lifetime`` seconds (default 60).
"""

import argparse
import os
import time


def _main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--lifetime", type=float, default=60.0)
    ends_at = time.monotonic() + parser.parse_args().lifetime
    has_told = False
    while time.monotonic() < ends_at:
        if os.fork():
            os._exit(0)
        os.setsid()
        if not has_told:
            os.write(1, b"fleeing\n")
            has_told = True


if __name__ == "__main__":
    _main()
