"""How many /bin/true per second bare Popen does while a number of them is alive.

python -m tests.bench.popen_rate TOTAL AT_ONCE
"""

import subprocess
import sys
import time
from collections import deque


def _main(total: int, at_once: int) -> None:
    start = time.perf_counter()
    alive: deque[subprocess.Popen[bytes]] = deque()
    for _ in range(total):
        if len(alive) == at_once:
            alive.popleft().wait()
        alive.append(subprocess.Popen(["/bin/true"]))
    for each in alive:
        each.wait()
    print(total / (time.perf_counter() - start))


if __name__ == "__main__":
    _main(*map(int, sys.argv[1:]))
