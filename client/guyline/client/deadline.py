"""Until when an agent is to wait for something, over all calls that ask for it and all their tries."""

import asyncio
import math

from google.protobuf.duration_pb2 import Duration

from guyline.client.wire import to_duration


class Deadline:
    """Time that runs from the first try on. One that comes after a break asks for what is left of it.

    Args:
        seconds: None: for ever.
        field: Where the request says how long the agent is to wait.
        longest: Seconds for which one call may.
    """

    def __init__(self, seconds: float | None, field: Duration, *, longest: float = math.inf) -> None:
        self._seconds = math.inf if seconds is None else seconds
        self._since: float | None = None
        self._field = field
        self._longest = longest
        self.is_last = False
        """Whether the time is over once the agent has waited for as long as it was asked to last."""

    def ask(self) -> float:
        """Writes into the request for how long to wait from now on; returns it, in seconds."""
        now = asyncio.get_running_loop().time()
        if self._since is None:
            self._since = now
            left = self._seconds
        else:
            left = max(0.0, self._since + self._seconds - now)
        self.is_last = left <= self._longest
        seconds = min(left, self._longest)
        self._field.CopyFrom(to_duration(seconds))
        return seconds
