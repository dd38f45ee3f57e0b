"""A descriptor that this command was given, as whoever has it as well left it: it may block, or refuse to."""

import os
import select


def write_all(descriptor: int, data: bytes) -> None:
    """Writes all of it, however long that takes: not for the event loop.

    Raises:
        OSError: The descriptor does not take it; BrokenPipeError if nobody reads it any more.
    """
    left = memoryview(data)
    while left:
        try:
            left = left[os.write(descriptor, left) :]
        except BlockingIOError:
            _wait_for_room(descriptor)


def _wait_for_room(descriptor: int) -> None:
    room = select.poll()  # select() knows no descriptors from 1024 on
    room.register(descriptor, select.POLLOUT)
    room.poll()
