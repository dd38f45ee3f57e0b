"""What the C library's allocator keeps of the memory that is given back to it."""

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # malloc.h
_THRESHOLD = 256 * 1024
"""Bytes: twice a message of output, which would otherwise be mapped and cleared anew each time. With glibc's 128 KiB
output takes 1.7 times the CPU. Once set, it no longer grows with the largest block that was given back (mallopt(3)).
"""


def keep_memory_together() -> bool:
    """Makes all threads use one heap, and gives large blocks back at once. To be called before there are threads.

    Otherwise each thread gets a heap that is never given back: after 15 minutes of mixed work, 29 MB lay idle in a
    worker that used 12 MB. Threads that share a heap hardly wait for it: the interpreter runs one of them at a time.

    Returns whether the C library can do so: musl has nothing to set, and no such heaps.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    options = {_M_ARENA_MAX: 1, _M_MMAP_THRESHOLD: _THRESHOLD, _M_TRIM_THRESHOLD: _THRESHOLD}
    return mallopt is not None and all(mallopt(option, value) == 1 for option, value in options.items())
