"""What the command itself says: answers on standard output, complaints on standard error."""

import sys


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
    """Prints a complaint. Where nobody reads complaints, nobody misses one."""
    try:
        text = f"{text}\n"
        sys.stderr.write(text.replace("\n", "\r\n") if _is_raw() else text)
        sys.stderr.flush()
    except OSError:
        return


def _is_raw() -> bool:
    """Whether standard error is a terminal that is lent to a process: it then takes a line feed for nothing more."""
    import termios

    try:
        return not termios.tcgetattr(sys.stderr.fileno())[1] & termios.OPOST
    except termios.error:
        return False
