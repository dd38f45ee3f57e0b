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
"""All of them, in the order in which a command that prints something meets them (the middle ones may swap)."""
