"""PAUSE: the one case in which a reader may slow a process, as a shell's pipeline would."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from guyline.agentd.journal.runs import MAX_RUNS

MAX_UNSENT_CHANGES = MAX_RUNS // 4
"""As many changes of the stream may be unsent: of `MAX_RUNS` the journal gives up the older half, with its output."""


class Pacing:
    """Decides whether a process's pipe is read, by how much of its output one stream has not been sent yet.

    That counts bytes, and besides how often stdout and stderr alternate among them (``changes_since`` an offset), since
    a journal is bounded in both. While there is no such stream the process goes on as long as it is ``drained``.
    Without either for ``patience`` seconds it goes on for good: ``gave_up`` is called, once.
    """

    def __init__(
        self,
        *,
        bound: int,
        patience: float,
        position: int,
        changes_since: Callable[[int], int],
        resumed: Callable[[], None],
        gave_up: Callable[[], None],
    ) -> None:
        self._allowed_bytes = bound // 2
        self._changes_since = changes_since
        self._is_waiting = False
        self._patience = patience
        self._position = position  # what the pacing stream has been sent
        self._resumed = resumed
        self._gave_up = gave_up
        self._holder: object | None = None
        self._drains = 0
        self._is_over = False
        self._timer: asyncio.TimerHandle | None = None
        self._wait_for_holder()

    def must_wait(self, size: int) -> bool:
        """Whether a pipe whose journal has ``size`` bytes must not be read now."""
        if self._holder is None and self._drains:
            self._position = size
        eighths = 7 if self._is_waiting else 8  # once it waits it waits for a while, not for a message
        self._is_waiting = not self._is_over and (
            size - self._position > self._allowed_bytes * eighths // 8
            or self._changes_since(self._position) > MAX_UNSENT_CHANGES * eighths // 8
        )
        return self._is_waiting

    @contextmanager
    def held(self, holder: object, position: int) -> Iterator[None]:
        """For the length of the block this stream paces, in place of any other. Afterwards it has ``patience`` to come
        back.
        """
        self._holder = holder
        self._cancel_timer()
        self._move(position)
        try:
            yield
        finally:
            if holder is self._holder:
                self._holder = None
                self._without_holder()

    def advance(self, holder: object, position: int) -> None:
        """The stream has been sent everything before ``position``."""
        if holder is self._holder:
            self._move(position)

    @contextmanager
    def drained(self) -> Iterator[None]:
        """For the length of the block the process waits for nobody, unless a stream holds the pacing."""
        self._drains += 1
        self._without_holder()
        try:
            yield
        finally:
            self._drains -= 1
            self._without_holder()

    def close(self) -> None:
        self._is_over = True
        self._cancel_timer()

    def _move(self, position: int) -> None:
        self._position = position
        if self._is_waiting:
            self._resumed()

    def _without_holder(self) -> None:
        """Settles who paces while no stream does: those who drain, or else the one that is waited for."""
        if self._holder is not None:
            return
        self._cancel_timer()
        if not self._drains:
            self._wait_for_holder()
        elif self._is_waiting:
            self._resumed()

    def _wait_for_holder(self) -> None:
        if not self._is_over:
            self._timer = asyncio.get_running_loop().call_later(self._patience, self._give_up)

    def _give_up(self) -> None:
        self.close()
        self._gave_up()
        self._resumed()

    def _cancel_timer(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None
