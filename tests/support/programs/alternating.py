"""Prints numbered lines by turns to both outputs, each once the line before was taken: every one is a run of its own.

    alternating.py LINES BYTES

Each line has so many bytes, of at most 4096.
"""

import fcntl
import os
import select
import sys


def line(number: int, size: int) -> bytes:
    """Returns the line; even ones go to standard output."""
    return b"%0*d\n" % (size - 1, number)


def _main() -> None:
    lines, size = map(int, sys.argv[1:])
    taken = {1: select.poll(), 2: select.poll()}
    for output, poll in taken.items():
        fcntl.fcntl(output, fcntl.F_SETPIPE_SZ, 4096)  # a pipe of one page is writable only while it is empty
        poll.register(output, select.POLLOUT)
    for number in range(lines):
        output = 1 + number % 2
        os.write(output, line(number, size))
        taken[output].poll()


if __name__ == "__main__":
    _main()
