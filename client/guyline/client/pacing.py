"""Which of a handle's streams its process waits for, if it is slow."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple, Protocol


class Stream(Protocol):
    """A stream of the process's output."""

    def call_anew(self) -> None:
        """Ends the call that is under way, and goes on with another where it was."""


class Asked(NamedTuple):
    """What a call asks for. At most one of the two."""

    paces: bool = False
    """The process is to wait for this stream, in place of any other."""
    drains: bool = False
    """It is to wait for nobody, unless some stream paces it."""


class Pacing:
    """Lets one stream of a handle ask for the pacing of its process: the agent gives it to whoever asked last.

    A stream that is read comes before one that only waits, and that has the process print on: past a slow reader, if
    that one had to come back after a break. Among readers the first comes first. When it leaves, the next calls anew,
    to ask for itself.

    Args:
        is_wanted: Whether the handle's streams are to pace the process at all.
    """

    def __init__(self, *, is_wanted: bool) -> None:
        self._is_wanted = is_wanted
        self._readers: list[Stream] = []
        self._waiters: list[Stream] = []
        self._asked: Stream | None = None  # the last that did
        self._paces: Stream | None = None  # the same, if the process was to wait for it

    @property
    def is_wanted(self) -> bool:
        """Whether the process may wait for readers, as far as that is this handle's concern."""
        return self._is_wanted

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

    def asks(self, stream: Stream) -> Asked:
        """What the stream is to ask for, in the call that it is about to make."""
        if not self._is_wanted or stream is not self._first():
            return Asked()
        is_read = stream in self._readers
        self._asked, self._paces = stream, stream if is_read else None
        return Asked(paces=is_read, drains=not is_read)

    def asked(self, stream: Stream) -> None:
        """The stream has the pacing, without a question: it starts the process."""
        self._asked = self._paces = stream

    def lacks(self, stream: Stream) -> bool:
        """Whether the process should wait for the stream, since there is no other, and does not."""
        others = any(each is not stream for each in self._readers + self._waiters)
        return self._is_wanted and not others and self._paces is not stream

    def end(self) -> None:
        """The process has exited, and waits for nobody."""
        self._is_wanted = False

    def _first(self) -> Stream | None:
        return next(iter(self._readers + self._waiters), None)

    def _settle(self) -> None:
        first = self._first()
        if self._is_wanted and first is not None and first is not self._asked:
            first.call_anew()
