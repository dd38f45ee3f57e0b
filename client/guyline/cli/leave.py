"""The way out."""

import contextlib
import os
import sys
from typing import NoReturn

BROKEN_PIPE = 141
"""What a shell says of a command that SIGPIPE ended."""


def leave(code: int) -> NoReturn:
    """Exits at once: nothing is torn down (gRPC and the interpreter take 10 ms over it), no thread is waited for."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        code = code or BROKEN_PIPE
    except (OSError, ValueError):
        code = code or 1  # closed, or nowhere to write to
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.flush()  # a complaint that nobody gets changes nothing
    os._exit(code)
