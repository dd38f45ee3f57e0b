"""Whether a file is still the one that was read."""

import os
from typing import NamedTuple


class State(NamedTuple):
    """Differs once the file was written, replaced, or given other permissions."""

    device: int
    inode: int
    mode: int
    size: int
    modified: int  # nanoseconds since the epoch, as the next
    changed: int


def state_of(status: os.stat_result) -> State:
    """The state as ``stat`` found it."""
    return State(status.st_dev, status.st_ino, status.st_mode, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
