"""What the C library's allocator keeps: heaps of its own for each thread, if nobody tells it otherwise."""

import platform
import subprocess
import sys

import pytest

from tests.support.clock import DEADLINE

_HEAPS_OF_EIGHT_THREADS = """
import ctypes, sys, threading
from guyline.agentd.system.allocator import keep_memory_together
libc = ctypes.CDLL(None)
if sys.argv[1] == "together":
    assert keep_memory_together()
all_there = threading.Barrier(8)
def work():
    all_there.wait()
    [bytearray(10_000) for _ in range(100)]
    all_there.wait()
threads = [threading.Thread(target=work) for _ in range(8)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
libc.malloc_info(0, ctypes.c_void_p.in_dll(libc, "stdout"))
libc.fflush(None)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc: others have one heap anyway")
@pytest.mark.parametrize(("how", "is_one"), [("together", True), ("as it is", False)])
def test_threads_share_one_heap(how: str, *, is_one: bool) -> None:
    """Otherwise each thread's heap keeps what was given back, and an agent grows."""
    command = [sys.executable, "-c", _HEAPS_OF_EIGHT_THREADS, how]
    said = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE, check=True).stdout

    assert (said.count("<heap ") == 1) is is_one
