"""How long to go on without an agent, and how often to ask for it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from guyline.client.errors import GuylineError, Outcome

_FIRST_DELAY = 0.05
_LONGEST_DELAY = 1.0


class Outage:
    """Counts the time and the tries since a caller last got anywhere. Knows no clock: it is told the time.

    ``patience`` is in seconds. Progress ends the outage, so that a stream that lives for days can break any number of
    times, while one that only ever breaks is given up.
    """

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._since: float | None = None
        self._tries = 0
        self._may_have_run = False  # what the caller wants, by one of the tries so far

    def __repr__(self) -> str:
        return f"<outage of {self._tries} tries>"

    def progress(self) -> None:
        """The caller got something; the next failure begins a new outage."""
        self.over()
        self._may_have_run = True

    def over(self) -> None:
        """The agent has answered, if only that the caller is to ask again; the next failure begins a new outage."""
        self._since = None
        self._tries = 0

    def begin(self, now: float) -> None:
        """The time runs from now on, and not only from the first failure."""
        self._since = now

    def waited(self, seconds: float) -> None:
        """For so long the agent was there, and did as the caller had asked: it waited, say, for somebody else."""
        if self._since is not None:
            self._since += seconds

    def left(self, now: float) -> float:
        """Seconds until patience is over."""
        return self._patience if self._since is None else max(0.0, self._since + self._patience - now)

    def tried(self, outcome: Outcome) -> None:
        """A try has failed, and there will be another."""
        self._may_have_run |= outcome is not Outcome.NOT_STARTED

    @contextmanager
    def all_tries_told(self) -> Iterator[None]:
        """Has errors that leave the block speak of all tries: the last one may have been refused, and the first not."""
        try:
            yield
        except GuylineError as error:
            if self._may_have_run:
                error.outcome = Outcome.MAY_HAVE_RUN
            raise

    def failed(self, now: float, *, retry_after: float | None = None, luck: float | None = None) -> float | None:
        """Returns how many seconds to wait before the next try, or None once patience is over.

        The delay is ``luck`` (0 to 1, random by default) of 50 ms that double up to 1 s, so that many clients of one
        agent do not come back in step; ``retry_after``, where the agent said it, comes before.
        """
        if self._since is None:
            self._since = now
        ceiling = min(_LONGEST_DELAY, _FIRST_DELAY * 2 ** min(self._tries, 10))
        self._tries += 1
        delay = (retry_after or 0.0) + ceiling * (_random() if luck is None else luck)
        left = self.left(now)
        return min(delay, left) if left > 0 else None


def _random() -> float:
    # Importing `random` would cost every command 3 ms; this needs no quality.
    return int.from_bytes(os.urandom(4)) / 2**32
