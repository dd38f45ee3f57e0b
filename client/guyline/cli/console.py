"""The terminal in which this command runs, lent to a process elsewhere, and given back whatever happens."""

import asyncio
import contextlib
import os
import re
import signal
import termios
import tty
from collections.abc import Callable
from typing import Any, Self

from guyline.cli.inherited import heeded
from guyline.cli.sink import STDERR, STDOUT
from guyline.cli.stop import stop

STDIN = 0

_MODES = re.compile(rb"\x1b\[\?([0-9;]+)([hl])")
_PARTIAL_MODE = re.compile(rb"\x1b(?:\[(?:\?[0-9;]{0,40})?)?$")
_ON_AT_REST = {b"7", b"25"}
"""Lines wrap, the cursor is seen."""
_WORTH_UNDOING = {b"1", b"7", b"9", b"25", b"47", b"66", b"1000", b"1001", b"1002", b"1003", b"1004", b"1005", b"1006"}
_WORTH_UNDOING |= {b"1015", b"1016", b"1047", b"1049", b"2004"}
"""Application keys, mouse, alternate screen, bracketed paste: what full-screen programs switch on, and off again."""
_PLAIN = b"\x1b[0m"


def size() -> tuple[int, int] | None:
    """Columns and rows of the terminal that this command writes to, or reads; None if there is none."""
    for descriptor in (STDOUT, STDIN, STDERR):
        with contextlib.suppress(OSError):
            found = os.get_terminal_size(descriptor)
            if found.columns and found.lines:
                return found.columns, found.lines
    return None


class Console:
    """Gives every key to this command as it is, for the length of a ``with`` block. Where no keyboard is, does nothing.

    While this command is stopped its terminal is as it was. ``changed`` is called when the window's size has changed,
    and when the command goes on: anything may have happened to the screen meanwhile.
    """

    def __init__(self, *, changed: Callable[[], None]) -> None:
        self._changed = changed
        self._before: list[Any] | None = None  # as termios has it
        handlers = {
            signal.SIGTSTP: self._stop,
            signal.SIGCONT: self._go_on,
            signal.SIGWINCH: changed,
        }
        self._handlers = {number: handlers[number] for number in heeded(handlers)}

    def __enter__(self) -> Self:
        if os.isatty(STDIN):
            self._before = termios.tcgetattr(STDIN)
            self._make_raw()
        for number, handler in self._handlers.items():
            asyncio.get_running_loop().add_signal_handler(number, handler)
        return self

    def __exit__(self, *_: object) -> None:
        for number in self._handlers:
            asyncio.get_running_loop().remove_signal_handler(number)
        self.restore()

    def restore(self) -> None:
        """Makes the terminal as it was. Also for those who leave without saying good-bye."""
        if self._before is not None:
            with contextlib.suppress(termios.error):  # the terminal itself is gone
                termios.tcsetattr(STDIN, termios.TCSANOW, self._before)

    def _make_raw(self) -> None:
        with contextlib.suppress(termios.error):  # as above
            tty.setraw(STDIN, termios.TCSANOW)

    def _stop(self) -> None:
        self.restore()
        stop(self._stop)
        self._go_on()  # without a SIGCONT, if it was not stopped

    def _go_on(self) -> None:
        if self._before is not None:
            self._make_raw()
        self._changed()


class Screen:
    """Remembers what a process has switched on in the terminal, to undo what it does not undo itself."""

    def __init__(self) -> None:
        self._changed: dict[bytes, None] = {}
        self._rest = b""

    def show(self, data: bytes) -> None:
        """Takes note of what is shown."""
        data = self._rest + data
        for modes, switch in _MODES.findall(data):
            for mode in modes.split(b";"):
                if mode in _WORTH_UNDOING and switch != _at_rest(mode):
                    self._changed[mode] = None
                else:
                    self._changed.pop(mode, None)
        partial = _PARTIAL_MODE.search(data)
        self._rest = partial[0] if partial else b""

    def undone(self) -> bytes:
        """What makes the terminal as it was, as far as it is different; nothing if it is not."""
        undo = [b"\x1b[?%s%s" % (mode, _at_rest(mode)) for mode in reversed(self._changed)]
        self._changed.clear()
        return b"".join(undo) + _PLAIN if undo else b""


def _at_rest(mode: bytes) -> bytes:
    return b"h" if mode in _ON_AT_REST else b"l"
