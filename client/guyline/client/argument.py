"""Arguments as they are given where no type checker looks: the wrong ones are refused before anything is sent."""

import math
import os
from collections.abc import AsyncIterable, Iterable
from pathlib import Path

from guyline.client.requests import invalid
from guyline.client.values import Bytes


def check_text(argument: str, given: object) -> None:
    """Refuses what is no text.

    Raises:
        InvalidInput: As all of these.
    """
    if not isinstance(given, str):
        raise invalid(argument, f"is {_kind(given)}, where text is expected")


def check_seconds(argument: str, given: object) -> None:
    """Refuses what is no length of time. NaN is none: no clock ever gets there, and none is before it."""
    if not isinstance(given, int | float) or math.isnan(given):
        raise invalid(argument, f"is {_kind(given)}, where a number of seconds is expected")


def check_timeout(argument: str, given: object) -> None:
    """The same, of one that may be None."""
    if given is not None:
        check_seconds(argument, given)


def check_bytes(argument: str, given: object) -> None:
    """Refuses what is no size."""
    if not isinstance(given, int):
        raise invalid(argument, f"is {_kind(given)}, where a whole number of bytes is expected")


def check_data(argument: str, given: object) -> None:
    """Refuses what can hold no bytes. Of an iterable the pieces are looked at as they come."""
    if isinstance(given, str) or not isinstance(given, Bytes | Iterable | AsyncIterable):
        raise invalid(argument, f"is {_kind(given)}, where bytes or an iterable of bytes are expected")


def to_path(argument: str, given: object) -> Path | None:
    """A path, however it is written; None stays None."""
    if given is None:
        return None
    if not isinstance(given, str | os.PathLike):
        raise invalid(argument, f"is {_kind(given)}, where a path is expected")
    if not (path := Path(given)).name:
        raise invalid(argument, "is empty; give None to have none")
    return path


def _kind(given: object) -> str:
    """What it is, without showing it: it may be a secret."""
    if isinstance(given, float):
        return str(given)
    return "None" if given is None else f"of type {type(given).__name__}"
