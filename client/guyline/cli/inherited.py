"""What this command was given by whoever started it."""

import signal
from collections.abc import Iterable


def heeded(numbers: Iterable[signal.Signals]) -> tuple[signal.Signals, ...]:
    """Those that are not ignored: what nohup(1), or a shell's `trap ''`, has had ignored is to stay so."""
    return tuple(number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN)
