"""What the command itself says: answers on standard output, complaints on standard error."""

import contextlib
import sys

from guyline.cli.descriptor import write_all


def say(text: str) -> None:
    """Prints an answer, at once.

    Raises:
        BrokenPipeError: Nobody reads it any more.
    """
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def say_json(value: object) -> None:
    """Prints an answer for programs, on one line."""
    import json

    say(json.dumps(value))


def complain(text: str) -> None:
    """Prints a complaint. Where nobody reads complaints, nobody misses one.

    Past Python's own stream: a write that is stuck would hold its lock, and with it whoever flushes it on the way out.
    """
    text = f"{text}\n"
    shown = text.replace("\n", "\r\n") if _is_raw() else text
    with contextlib.suppress(OSError):
        write_all(sys.stderr.fileno(), shown.encode(sys.stderr.encoding, "backslashreplace"))


def _is_raw() -> bool:
    """Whether standard error is a terminal that is lent to a process: it then takes a line feed for nothing more."""
    import termios

    try:
        return not termios.tcgetattr(sys.stderr.fileno())[1] & termios.OPOST
    except termios.error:
        return False
