"""Standard input, output and error, whatever this command was started with."""

import os
import sys
from io import TextIOWrapper

_IF_CLOSED = (
    os.O_RDONLY,  # at its end
    os.O_RDONLY,  # takes nothing, and says so: what was to be written is not lost in silence
    os.O_WRONLY,  # nobody wants to read complaints
)


def complete() -> None:
    """Puts something in the place of closed descriptors, before another file takes their numbers."""
    for descriptor, mode in enumerate(_IF_CLOSED):
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, mode), True)  # the lowest number that is free: this one
    # Python has none where a descriptor was closed. Their descriptors stay open whatever becomes of them.
    if sys.stdin is None:
        sys.stdin = open(0, closefd=False)  # noqa: SIM115 - as long as the process
    if sys.stdout is None:
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115 - as above
    if sys.stderr is None:
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115 - as above


def show_everything() -> None:
    """Has characters that the encoding does not know written as escapes, instead of none of the text."""
    for stream in (sys.stdout, sys.stderr):
        assert isinstance(stream, TextIOWrapper), "they are what Python makes of descriptors"
        stream.reconfigure(errors="backslashreplace")
