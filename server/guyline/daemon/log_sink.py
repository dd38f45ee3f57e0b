"""Where log lines go: a descriptor that somebody may have stopped reading.

Standard library only: the keeper logs too.
"""

import os
import select
import stat

# A pipe that polls as writable takes this much without blocking (PIPE_BUF).
_PIECE_BYTES = 4096


class LogSink:
    """Writes lines to a descriptor and never blocks on it.

    A log whose reader has stopped must not stop the daemon. What finds no room is dropped, and counted: the next line
    that finds room again is followed by their number.
    """

    def __init__(self, descriptor: int) -> None:
        self._own = _non_blocking(descriptor)
        self._descriptor = descriptor if self._own is None else self._own  # the one given stays its owner's to close
        self._poll = select.poll()
        self._poll.register(self._descriptor, select.POLLOUT)
        self._is_torn = False  # the last line found room for its beginning only
        self.dropped_lines = 0

    def msg(self, line: str) -> None:
        """Writes one line, or drops it if there is no room for it now."""
        if not self._write(f"{line}\n"):
            self.dropped_lines += 1
        elif self.dropped_lines and self._write(f'{{"event":"log lines dropped","lines":{self.dropped_lines}}}\n'):
            self.dropped_lines = 0

    def close(self) -> None:
        """Gives back its own descriptor; lines are dropped from now on. A daemon never does this, a test does."""
        self._poll.unregister(self._descriptor)
        if self._own is not None:
            os.close(self._own)
            self._own = None

    # structlog calls a logger by the level's name.
    debug = info = warning = warn = error = critical = exception = log = msg

    def _write(self, text: str) -> bool:
        whole = rest = (b"\n" if self._is_torn else b"") + text.encode(errors="backslashreplace")
        try:
            while rest and self._has_room():
                rest = rest[os.write(self._descriptor, rest[:_PIECE_BYTES]) :]
        except OSError:
            pass  # nobody holds the other end, or it is full after all: there is nobody to tell
        if len(rest) < len(whole):
            self._is_torn = bool(rest)
        return not rest

    def _has_room(self) -> bool:
        return any(state & select.POLLOUT for _, state in self._poll.poll(0))


def _non_blocking(descriptor: int) -> int | None:
    """The same pipe or terminal once more, with flags of its own. None: not possible, or not needed.

    A terminal whose reader has stopped polls as writable, and blocks all the same. The flag cannot be set on the
    descriptor itself: whoever shares it, a shell for one, would get it too.
    """
    if not (stat.S_ISFIFO(os.fstat(descriptor).st_mode) or os.isatty(descriptor)):
        return None
    try:
        return os.open(f"/proc/self/fd/{descriptor}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:  # another user's
        return None
