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
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()
    except OSError:
        return
