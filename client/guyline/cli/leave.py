"""The way out."""

import contextlib
import os
import sys
from typing import NoReturn

from guyline.cli.say import complain

UNWRITABLE = 125
"""Guyline itself failed: nobody gets its answer."""

BROKEN_PIPE = 141
"""What a shell says of a command that SIGPIPE ended."""


def leave(code: int) -> NoReturn:
    """Exits at once: nothing is torn down (gRPC and the interpreter take 10 ms over it), no thread is waited for."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        code = code or BROKEN_PIPE
    except (OSError, ValueError) as why:  # closed, or no room
        if not code:
            complain(f"guyline: {getattr(why, 'strerror', None) or why}")
        code = code or UNWRITABLE
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.flush()  # a complaint that nobody gets changes nothing
    abandon(code)


def abandon(code: int) -> NoReturn:
    """Exits on the spot, also where a thread is stuck in a write: it holds its stream's lock against any flush."""
    os._exit(code)
