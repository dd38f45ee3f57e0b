"""Commands that only look: whoever has seen enough leaves them, and nothing is lost."""

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager

from guyline.cli.inherited import heeded
from guyline.cli.leave import abandon


@contextmanager
def left_by_ctrl_c() -> Iterator[None]:
    """Has Ctrl-C exit on the spot, for the length of the block: the end of the event loop joins a stuck write."""
    loop = asyncio.get_running_loop()
    numbers = heeded((signal.SIGINT,))
    for number in numbers:
        loop.add_signal_handler(number, abandon, 128 + number)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
