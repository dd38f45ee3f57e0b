"""Values on the command line: text that people write, as what it means. Others are refused with the reason."""

import re
from argparse import ArgumentTypeError
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from guyline.cli import keys

if TYPE_CHECKING:
    from guyline.client.conditions import Condition
    from guyline.client.options import ResourceLimit

_UNITS = {"ms": 0.001, "s": 1.0, "": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
ULIMITS = {
    "as": "ADDRESS_SPACE",
    "core": "CORE",
    "cpu": "CPU",
    "data": "DATA",
    "fsize": "FILE_SIZE",
    "memlock": "LOCKED_MEMORY",
    "nofile": "OPEN_FILES",
    "nproc": "PROCESSES",
    "stack": "STACK",
}
"""What limits.conf(5) calls them, by which name the client knows them."""
_SIZES = {"": 1, "b": 1, "k": 1024, "m": 1024**2, "g": 1024**3}
_LONGEST_DAYS = 36500
_MOST, _MOST_SMALL = 2**63 - 1, 2**32 - 1
"""What the wire has room for."""


def to_unicode(text: str) -> str:
    """Text that the wire has room for."""
    if not is_unicode(text):
        import os

        raise ArgumentTypeError(f"{os.fsencode(text)!r} is not UTF-8, and nothing else can be passed on")
    return text


def is_unicode(text: str) -> bool:
    """Whether it was UTF-8 when it was given."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def to_given(text: str) -> str:
    """Any text but an empty one, such as the name of a file here."""
    if not text:
        raise ArgumentTypeError("it is empty; give a value, or leave the option out (is a variable not set?)")
    return text


def to_text(text: str) -> str:
    """A name or a place. An empty one is mostly a variable that is not set, and never means that there is none."""
    return to_unicode(to_given(text))


def to_process(text: str) -> str:
    """A process's id, or how it begins."""
    if text.startswith("-"):
        raise ArgumentTypeError(f"{text!r} is no process; options stand before `--`")
    return to_unicode(text)


def to_variable(text: str) -> tuple[str, str]:
    """A variable; of a name alone, with the value that it has here."""
    import os

    name, equals, value = text.partition("=")
    if not name:
        raise ArgumentTypeError(f"{text!r} has no name; give K=V, or K to pass your own K on")
    to_unicode(name)
    if not equals and name not in os.environ:
        raise ArgumentTypeError(f"{name} is not set here; give {name}=VALUE")
    value = value if equals else os.environ[name]
    if not is_unicode(value):
        raise ArgumentTypeError(f"the value of {name} is not UTF-8")  # it is not shown: it may be a secret
    return name, value


def to_label(text: str) -> tuple[str, str]:
    """A label with its value."""
    name, equals, value = to_unicode(text).partition("=")
    if not name or not equals:
        raise ArgumentTypeError(f"{text!r} is no label; give K=V")
    return name, value


def to_wanted_label(text: str) -> tuple[str, str | None]:
    """A label to look for; a name alone: whatever its value."""
    name, equals, value = to_unicode(text).partition("=")
    if not name:
        raise ArgumentTypeError(f"{text!r} has no name; give K=V, or K for any value")
    return name, value if equals else None


def to_count(text: str) -> int:
    """A whole number from zero on."""
    if not (text.isascii() and text.isdecimal()):
        raise ArgumentTypeError(f"{text!r} is no number")
    return _at_most(_MOST_SMALL, text, 1)


def _at_most(most: int, digits: str, unit: int) -> int:
    if len(digits) > len(str(most)) or int(digits) * unit > most:  # Python refuses to read thousands of digits
        raise ArgumentTypeError(f"{digits[:32]!r} is too large; the most is {most // unit}")
    return int(digits) * unit


def to_nice(text: str) -> int:
    """A niceness."""
    if not re.fullmatch(r"-?[0-9]{1,2}", text) or not -20 <= int(text) <= 19:
        raise ArgumentTypeError(f"{text!r} is no niceness; give -20 to 19")
    return int(text)


def to_oom_score(text: str) -> int:
    """How ready the kernel is to kill it."""
    if not re.fullmatch(r"-?[0-9]{1,4}", text) or not -1000 <= int(text) <= 1000:
        raise ArgumentTypeError(f"{text!r} is no OOM score; give -1000 to 1000")
    return int(text)


def to_umask(text: str) -> int:
    """A umask."""
    if not re.fullmatch(r"0?[0-7]{1,3}", text):
        raise ArgumentTypeError(f"{text!r} is no umask; give three octal digits, such as 027")
    return int(text, 8)


def to_ulimit(text: str) -> "ResourceLimit":
    """A limit of one resource, soft and hard; the hard one is the soft one if it is left out."""
    from guyline.client.enums import Resource
    from guyline.client.options import ResourceLimit

    name, _, limits = text.partition("=")
    soft, colon, hard = limits.partition(":")
    if name not in ULIMITS:
        raise ArgumentTypeError(f"{name!r} is no resource; give one of {', '.join(ULIMITS)}, as in nofile=1024:4096")
    least = _to_limit(soft)
    return ResourceLimit(Resource[ULIMITS[name]], least, _to_limit(hard) if colon else least)


def _to_limit(text: str) -> int | None:
    return None if text == "unlimited" else to_bytes(text)


def to_cpus(text: str) -> float:
    """CPUs' worth of time."""
    if not re.fullmatch(r"[0-9]+(?:\.[0-9]+)?", text) or not float(text):
        raise ArgumentTypeError(f"{text!r} is no number of CPUs; give 0.5, 2")
    if float(text) > _MOST_SMALL:
        raise ArgumentTypeError(f"{text[:32]!r} is too large")
    return float(text)


def to_bytes(text: str) -> int:
    """A size."""
    match = re.fullmatch(r"([0-9]+)([bkmg]?)", text.lower())
    if not match:
        raise ArgumentTypeError(f"{text!r} is no size; give 64k, 100m, 2g")
    return _at_most(_MOST, match[1], _SIZES[match[2]])


def to_small_bytes(text: str) -> int:
    """A size of less than 4 GiB."""
    return _at_most(_MOST_SMALL, str(to_bytes(text)), 1)


def to_since(text: str) -> int | datetime:
    """An offset, or a time."""
    if text.isascii() and text.isdecimal():
        return _at_most(_MOST, text, 1)
    try:
        if text[:1].isdecimal() and text[-1:] in _UNITS:
            return datetime.now(UTC) - timedelta(seconds=to_duration(text))
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ArgumentTypeError(
            f"{text!r} is no time; give 90s, 10m, 2h, or 2026-11-21T10:00:00, or a number of bytes"
        ) from None


def to_tail(text: str) -> tuple[int, bool]:
    """A number, and whether it counts lines."""
    match = re.fullmatch(r"([0-9]+)([bkmg]?)", text.lower())
    if not match:
        raise ArgumentTypeError(f"{text!r} is neither a number of lines nor a size such as 64k")
    return _at_most(_MOST, match[1], _SIZES[match[2]]), not match[2]


def to_optional_duration(text: str) -> float:
    """A length of time that may be left out."""
    try:
        return to_duration(text)
    except ArgumentTypeError as why:  # most likely it was not meant as one
        raise ArgumentTypeError(f"{why}; without one it goes last") from why


def to_duration(text: str) -> float:
    """A length of time in seconds."""
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d|)", text)
    if not match:
        raise ArgumentTypeError(f"{text!r} is no length of time; give 500ms, 5s, 2m")
    seconds = float(match[1]) * _UNITS[match[2]]
    if seconds > _LONGEST_DAYS * _UNITS["d"]:
        raise ArgumentTypeError(f"{text[:32]!r} is too long; the most is {_LONGEST_DAYS}d")
    return seconds


def to_keys(text: str) -> bytes:
    """Keys such as ``ctrl-p,ctrl-q``; ``none`` is none."""
    try:
        return keys.to_keys(text)
    except ValueError as why:
        raise ArgumentTypeError(str(why)) from why


def to_signal(text: str) -> int:
    """A signal's number."""
    import signal

    if text.isascii() and text.isdecimal() and 1 <= int(text) <= signal.NSIG - 1:
        return int(text)
    name = text.upper().removeprefix("SIG")
    if f"SIG{name}" in signal.Signals.__members__:
        return signal.Signals[f"SIG{name}"]
    raise ArgumentTypeError(f"{text!r} is no signal; `kill -l` lists them")


def to_condition(text: str) -> "tuple[str, Condition]":
    """Something to wait for, as written and as it is."""
    from guyline.client.conditions import Exited, FileExists, PortOpen, Printed

    kind, _, rest = to_unicode(text).partition(":")
    if text == "exit":
        return text, Exited()
    if len(text) > 2 and text[0] == text[-1] == "/":
        return text, Printed(text[1:-1])
    if kind == "port" and rest.isascii() and rest.isdecimal() and 0 < int(rest) < 65536:
        return text, PortOpen(int(rest))
    if kind == "file" and rest:
        return text, FileExists(rest)
    raise ArgumentTypeError(f"{text!r} is nothing to wait for; give exit, /PATTERN/, port:NUMBER or file:PATH")


def to_cursor(text: str) -> bytes:
    """A cursor as `view --json` gives it."""
    import base64

    try:
        return base64.b64decode(to_given(text), validate=True)
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is no cursor; `guyline view --json` gives one") from None
