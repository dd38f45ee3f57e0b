"""Whether the agent is away, for all who wait for it."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

TOLD_AFTER = 2.0
"""Seconds that an absence lasts before anybody is told: a worker that was replaced is back long before."""


class Absence:
    """Wakes everybody as soon as one of them finds the agent back, and tells whoever wants to know of a long absence.

    Args:
        tell: Called with True when the agent has been away for ``after`` seconds, and then with False when it is back.
            Nothing is said of an end that did not come: whoever waits no longer knows why.
        after: Seconds.
    """

    def __init__(self, tell: Callable[[bool], None] | None, *, after: float = TOLD_AFTER) -> None:
        self._tell = tell
        self._after = after
        self._waiting = 0
        self._came_back = asyncio.Event()  # set once, when the agent answers again; then there is a new one
        self._timer: asyncio.TimerHandle | None = None
        self._was_told = False

    def __repr__(self) -> str:
        return f"<absence that {self._waiting} wait out>"

    @contextmanager
    def waited_out(self) -> Iterator[None]:
        """The agent does not answer; the block asks until it does."""
        self._waiting += 1
        if self._tell and not (self._timer or self._was_told):
            self._timer = asyncio.get_running_loop().call_later(self._after, self._tell_away, self._tell)
        try:
            yield
        finally:
            self._waiting -= 1
            if not self._waiting:
                self._forget()

    async def over(self) -> None:
        """Returns when somebody has found the agent back, or nobody looks for it any more. Cancelling is safe."""
        await self._came_back.wait()

    def wake(self) -> None:
        """Has all return that wait for the agent."""
        self._came_back.set()
        self._came_back = asyncio.Event()

    def ended(self) -> None:
        """It has answered. Of many callers of an agent that is only there for moments, some would otherwise always
        come too late.
        """
        if not self._waiting:
            return
        self.wake()
        if self._tell and self._was_told:
            self._tell(False)
        self._forget()

    def _tell_away(self, tell: Callable[[bool], None]) -> None:
        self._timer = None
        self._was_told = True
        tell(True)

    def _forget(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None
        self._was_told = False
