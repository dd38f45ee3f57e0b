"""Want of descriptors or memory, told to callers as something that passes."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from guyline.agentd.process.errors import SystemExhausted

EXHAUSTED = frozenset(
    {errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ENOSPC, errno.EDQUOT, errno.ETOOMANYREFS}
)
"""What the system says that has no room for something now."""


@contextmanager
def exhaustion_told(what: str, *, halfway: bool = False) -> Iterator[None]:
    """Turns what the system refuses in the block for want of room into SystemExhausted; callers then try again.

    Any other OSError stays what it is, a defect: it need not pass.

    Args:
        what: For which the system has no room.
        halfway: Some of what was asked for may have been done by then.
    """
    try:
        yield
    except OSError as why:
        if why.errno not in EXHAUSTED:
            raise
        raise SystemExhausted(why.errno, what, halfway=halfway) from why
