"""Ends its first thread and lives on in another, so that to the kernel it looks like one that has ended.

Ignores SIGTERM. Prints its pid once the first thread has ended, and is gone after a minute.
"""

import ctypes
import os
import signal
import threading
from pathlib import Path


def _live_on() -> None:
    stat = Path("/proc/self/stat")
    while stat.read_text().rpartition(")")[2].split()[0] != "Z":
        os.sched_yield()
    os.write(1, f"{os.getpid()}\n".encode())
    signal.sigtimedwait((), 60.0)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    threading.Thread(target=_live_on).start()
    ctypes.CDLL(None).pthread_exit(None)
