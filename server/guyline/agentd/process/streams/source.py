"""Where a process's output comes from: a pipe, or a terminal."""

import os
from contextlib import suppress
from typing import Protocol

from guyline.agentd.process.errors import NoTerminal
from guyline.agentd.system.terminal import Size, is_end, set_size, size_of
from guyline.agentd.system.transfer import drain_terminal

_FILL_BYTES = 64 * 1024
"""What a pipe holds unless it was enlarged."""


class Source(Protocol):
    """Output that is to be had, and a pipe from which it goes to the journal. Owns its descriptors."""

    pipe: int
    """What the journal takes from; non-blocking."""

    watched: int
    """What is readable when there is something to be had."""

    is_at_end: bool
    """Whether nothing comes any more but what is in the pipe. (A plain pipe tells of its end by itself.)"""

    def fill(self) -> None:
        """Brings what is to be had now into the pipe."""

    def close(self) -> None:
        """Closes the descriptors."""


class PipeSource:
    """The reading end of the pipe that the process writes to."""

    is_at_end = False

    def __init__(self, pipe: int) -> None:
        self.pipe = self.watched = pipe

    def fill(self) -> None:
        """The process does that."""

    def close(self) -> None:
        os.close(self.pipe)


class TerminalSource:
    """A terminal's master. The kernel gives its bytes to no file, but to a pipe, and that one gives them on.

    So there is no moment in which only this process has them.
    """

    def __init__(self, master: int, *, pipe: int, pipe_in: int) -> None:
        self.watched = master
        self.pipe = pipe
        self.is_at_end = False
        self._pipe_in = pipe_in
        self._is_closed = False

    def fill(self) -> None:
        if self.is_at_end:
            return
        try:
            with suppress(BlockingIOError):
                drain_terminal(self.watched, self._pipe_in, _FILL_BYTES)
        except OSError as why:
            if not is_end(why):
                raise
            self.is_at_end = True

    def resize(self, process_id: str, size: Size) -> None:
        """Raises NoTerminal if nobody has it open any more."""
        if self._is_closed:
            raise NoTerminal(process_id)
        set_size(self.watched, size)

    @property
    def size(self) -> Size | None:
        """None once nobody has it open any more."""
        return None if self._is_closed else size_of(self.watched)

    def close(self) -> None:
        self._is_closed = True
        for descriptor in (self.watched, self.pipe, self._pipe_in):
            os.close(descriptor)
