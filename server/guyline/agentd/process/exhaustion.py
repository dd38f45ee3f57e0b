"""Want of descriptors or memory, told to callers as something that passes."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from guyline.agentd.process.errors import SystemExhausted


@contextmanager
def exhaustion_told(what: str, *, halfway: bool = False) -> Iterator[None]:
    """Turns what the system refuses in the block into SystemExhausted.

    Args:
        what: For which the system has no room.
        halfway: Some of what was asked for may have been done by then.
    """
    try:
        yield
    except OSError as why:
        raise SystemExhausted(why.errno or errno.EMFILE, what, halfway=halfway) from why
