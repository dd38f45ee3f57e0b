"""Arguments as they are given where no type checker looks: the wrong ones are refused before anything is sent."""

import math
import operator
import os
from collections.abc import AsyncIterable, Callable, Iterable
from pathlib import Path
from typing import SupportsFloat, SupportsIndex

from guyline.client.errors import InvalidInput, Violation
from guyline.client.values import Bytes


def invalid(field: str, description: str) -> InvalidInput:
    """The error that says so."""
    return InvalidInput(f"{field}: {description}", violations=(Violation(field, description),))


def check_text(argument: str, given: object) -> None:
    """Refuses what is no text, or none that a system call or the wire takes.

    Raises:
        InvalidInput: As all of these.
    """
    if not isinstance(given, str):
        raise invalid(argument, f"is {_kind(given)}, where text is expected")
    _check_writable(argument, given, str.encode)


def to_seconds(argument: str, given: object) -> float:
    """A length of time, whatever the number's type. NaN is none: no clock ever gets there, and none is before it."""
    try:
        if isinstance(given, SupportsFloat | SupportsIndex) and not math.isnan(seconds := float(given)):
            return seconds
    except OverflowError:
        raise invalid(argument, "is too large for a number of seconds") from None
    except (TypeError, ValueError):
        pass  # an array, or a NaN that says so
    raise invalid(argument, f"is {_kind(given)}, where a number of seconds is expected")


def to_timeout(argument: str, given: object) -> float | None:
    """The same, of one that may be None."""
    return None if given is None else to_seconds(argument, given)


def to_size(argument: str, given: object) -> int:
    """A number of bytes, of whatever type the whole number is."""
    if not isinstance(given, SupportsIndex):
        raise invalid(argument, f"is {_kind(given)}, where a whole number of bytes is expected")
    if (size := operator.index(given)) < 0:
        raise invalid(argument, f"is {size}, where a number of bytes is expected")
    return size


def check_data(argument: str, given: object) -> None:
    """Refuses what can hold no bytes. Of an iterable the pieces are looked at as they come."""
    if not isinstance(given, AsyncIterable):
        check_data_at_hand(argument, given)


def check_data_at_hand(argument: str, given: object) -> None:
    """The same, where no event loop is to wait for pieces."""
    if isinstance(given, str) or not isinstance(given, Bytes | Iterable):
        raise invalid(argument, f"is {_kind(given)}, where bytes or an iterable of bytes are expected")


def to_bytes(argument: str, given: object) -> bytes:
    """All of it, as it is now. Pieces are none: one that is wrong would be found when the others are written."""
    if not isinstance(given, Bytes):
        raise invalid(argument, f"is {_kind(given)}, where bytes are expected")
    try:
        return given.tobytes() if isinstance(given, memoryview) else bytes(given)
    except ValueError:
        raise invalid(argument, "is a memoryview that was released, where bytes are expected") from None


def check_callable(argument: str, given: object) -> None:
    """Refuses what cannot be called. A command would be running by the time that this is found."""
    if not callable(given):
        raise invalid(argument, f"is {_kind(given)}, where something to call is expected")


def to_path(argument: str, given: object) -> Path | None:
    """A path, however it is written; None stays None."""
    if given is None:
        return None
    text = os.fspath(given) if isinstance(given, str | os.PathLike) else None
    if not isinstance(text, str):
        raise invalid(argument, f"is {_kind(given)}, where a path is expected")
    _check_writable(argument, text, os.fsencode)  # a file may have a name that is no Unicode
    if (path := Path(text)) == Path():
        raise invalid(argument, "is empty; give None to have none")
    return path


def _check_writable(argument: str, text: str, encode: Callable[[str], bytes]) -> None:
    try:
        if b"\0" not in encode(text):
            return
    except UnicodeEncodeError:
        pass
    raise invalid(argument, "has a NUL in it, or half a character, and names nothing")


def _kind(given: object) -> str:
    """What it is, without showing it: it may be a secret."""
    if isinstance(given, float):
        return str(given)
    return "None" if given is None else f"of type {type(given).__name__}"
