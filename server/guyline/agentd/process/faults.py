"""Named places in a start and in an end. In production nothing happens there; tests have the worker die at them."""

from typing import Protocol


class FaultPoint(Protocol):
    """Called with the place's name when it is reached."""

    def __call__(self, name: str, /) -> None: ...


def no_fault(_name: str, /) -> None:
    """What every fault point does in production."""


STEPS = (
    "start.looked_up",
    "start.prepared",
    "start.sent",
    "start.answered",
    "start.taken_up",
    "output.taken",
    "exit.seen",
    "exit.drained",
    "output.released",
    "output.ended",
    "exit.told",
)
"""Those that a command meets that prints something, in this order (the middle ones may swap)."""

INPUT_STEPS = ("input.accepted", "input.passed", "input.ending", "input.closed")
"""Those that one meets besides that reads something to its end."""

LIMIT_STEPS = ("limit.noted", "ladder.signalled")
"""Those that one meets that a limit of time ends."""
