"""Leaves a daemon behind, the old way: two forks and a session of its own, while standard output stays open.

    daemon.py [--lifetime SECONDS] [--say TEXT]

Prints the daemon's pid and exits 0 once it stands. The daemon prints ``--say`` when SIGUSR1 tells it to go, and
is gone after ``--lifetime`` seconds (default 60) in any case.
"""

import argparse
import os
import signal


def _stand(lifetime: float, say: str, tell: int) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    os.write(1, f"{os.getpid()}\n".encode())
    os.close(tell)
    if signal.sigtimedwait({signal.SIGUSR1}, lifetime) is not None:
        os.write(1, say.encode())


def _main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--lifetime", type=float, default=60.0)
    parser.add_argument("--say", default="")
    wanted = parser.parse_args()
    stands, tell = os.pipe()
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.close(stands)
            _stand(wanted.lifetime, wanted.say, tell)
        os._exit(0)
    os.close(tell)
    os.read(stands, 1)  # the end of the pipe: the daemon stands
    os._exit(0)


if __name__ == "__main__":
    _main()
