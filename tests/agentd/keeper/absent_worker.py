"""A worker that leaves its work to a test: hands its socket over and waits.

absent_worker.py SOCKET
"""

import array
import socket
import sys


def _main() -> None:
    with socket.socket(socket.AF_UNIX) as test:
        test.connect(sys.argv[1])
        test.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [3]))])
        socket.socket(fileno=3).close()
        test.recv(1)  # the end of the test


if __name__ == "__main__":
    _main()
