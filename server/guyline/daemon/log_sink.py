"""Where log lines go: a descriptor that somebody may have stopped reading."""

import os
import select

# A pipe that polls as writable takes this much without blocking (PIPE_BUF).
_PIECE_BYTES = 4096


class LogSink:
    """Writes lines to a descriptor and never blocks on it.

    A log whose reader has stopped must not stop the daemon. What finds no room is dropped, and counted: the next line
    that finds room again is followed by their number.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor  # stays its owner's to close
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLOUT)
        self.dropped_lines = 0

    def msg(self, line: str) -> None:
        """Writes one line, or drops it if there is no room for it now."""
        if not self._write(f"{line}\n"):
            self.dropped_lines += 1
        elif self.dropped_lines and self._write(f'{{"event":"log lines dropped","lines":{self.dropped_lines}}}\n'):
            self.dropped_lines = 0

    # structlog calls a logger by the level's name.
    debug = info = warning = warn = error = critical = exception = log = msg

    def _write(self, text: str) -> bool:
        rest = text.encode(errors="backslashreplace")
        while rest:
            if not self._has_room():
                return False
            try:
                rest = rest[os.write(self._descriptor, rest[:_PIECE_BYTES]) :]
            except OSError:
                return False  # nobody holds the other end, or it is full after all: there is nobody to tell
        return True

    def _has_room(self) -> bool:
        return any(state & select.POLLOUT for _, state in self._poll.poll(0))
