"""Ignores SIGINT, SIGTERM and SIGHUP; prints ``ready`` and its pid, then waits.

    stubborn.py [--lifetime SECONDS] [--child]

``--child`` forks one that does the same, in the same group. Both are gone after ``--lifetime`` seconds (default 60).
"""

import argparse
import os
import signal


def _main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--lifetime", type=float, default=60.0)
    parser.add_argument("--child", action="store_true")
    wanted = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    if wanted.child:
        os.fork()
    os.write(1, f"ready {os.getpid()}\n".encode())
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    signal.sigtimedwait({signal.SIGUSR1}, wanted.lifetime)


if __name__ == "__main__":
    _main()
