"""How this command lets itself be stopped: by Ctrl-Z, or `kill -TSTP`."""

import asyncio
import signal
import threading
from collections.abc import Callable


def stop(told: Callable[[], object]) -> None:
    """Stops this command, and returns once it goes on. By SIGTSTP, which the kernel heeds only where a shell can have
    it go on: where this command leads its session, say, it goes on at once.

    Args:
        told: What the event loop calls at a SIGTSTP: out of the way for as long as this lasts.
    """
    loop = asyncio.get_running_loop()
    loop.remove_signal_handler(signal.SIGTSTP)
    signal.pthread_kill(threading.get_ident(), signal.SIGTSTP)  # no other thread
    loop.add_signal_handler(signal.SIGTSTP, told)  # here it goes on
