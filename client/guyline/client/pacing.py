"""Which of a handle's streams its process waits for, if it is slow."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class Stream(Protocol):
    """A stream of the process's output."""

    def call_anew(self) -> None:
        """Ends the call that is under way, and goes on with another where it was."""


class Pacing:
    """Lets one stream of a handle ask for the pacing of its process: the agent gives it to whoever asked last.

    A stream that is read comes before one that only waits for the exit: that one takes everything at once, and the
    process would print on, past a slow reader. Among readers the first comes first. When it leaves, the next calls
    anew, to ask for itself.

    Args:
        is_wanted: Whether the handle's streams are to pace the process at all.
    """

    def __init__(self, *, is_wanted: bool) -> None:
        self._is_wanted = is_wanted
        self._readers: list[Stream] = []
        self._waiters: list[Stream] = []
        self._asked: Stream | None = None  # the last that did

    def __repr__(self) -> str:
        return f"<pacing of {len(self._readers)} readers, {len(self._waiters)} waiters>"

    @contextmanager
    def among(self, stream: Stream, *, reads: bool) -> Iterator[None]:
        """For the length of the block the stream is one of those that may pace."""
        streams = self._readers if reads else self._waiters
        streams.append(stream)
        self._settle()
        try:
            yield
        finally:
            streams.remove(stream)
            self._settle()

    def asks(self, stream: Stream) -> bool:
        """Whether the stream is to ask for it, in the call that it is about to make."""
        if not self._is_wanted or stream is not self._first():
            return False
        self.asked(stream)
        return True

    def asked(self, stream: Stream) -> None:
        """The stream has the pacing, without a question: it starts the process."""
        self._asked = stream

    def end(self) -> None:
        """The process has exited, and waits for nobody."""
        self._is_wanted = False

    def _first(self) -> Stream | None:
        return next(iter(self._readers + self._waiters), None)

    def _settle(self) -> None:
        first = self._first()
        if self._is_wanted and first is not None and first is not self._asked:
            first.call_anew()
