"""Keys that mean this command and not the process."""

from collections.abc import Callable

DETACH_KEYS = b"\x10\x11"
"""Ctrl-P Ctrl-Q, as elsewhere."""


class DetachKeys:
    """Finds the sequence in what is typed. Its beginning is held back until the next key tells.

    Args:
        sequence: Empty: there is none.
        pressed: Called once it is found.
    """

    def __init__(self, sequence: bytes, *, pressed: Callable[[], None] = lambda: None) -> None:
        self._sequence = sequence
        self._pressed = pressed
        self._held = b""
        self.found = False

    def feed(self, data: bytes) -> bytes:
        """Returns what is for the process. Once the sequence is ``found``, what follows it is nobody's."""
        if not self._sequence:
            return data
        data = self._held + data
        before, found, _ = data.partition(self._sequence)
        if found:
            self.found = True
            self._pressed()
            self._held = b""
            return before
        length = next((n for n in range(len(self._sequence) - 1, 0, -1) if data.endswith(self._sequence[:n])), 0)
        self._held = data[len(data) - length :]
        return data[: len(data) - length]


def to_keys(text: str) -> bytes:
    """Parses ``ctrl-p,ctrl-q``; ``none`` is no sequence.

    Raises:
        ValueError: A key is neither a character nor ``ctrl-`` and one of a to z or @[\\]^_.
    """
    if text == "none":
        return b""
    return b"".join(map(_to_key, text.split(",")))


def _to_key(name: str) -> bytes:
    if len(name) == 1 and name.isascii():
        return name.encode()
    prefix, _, character = name.lower().partition("-")
    if prefix == "ctrl" and len(character) == 1 and ("a" <= character <= "z" or character in "@[\\]^_"):
        return bytes([ord(character.upper()) & 0x1F])
    raise ValueError(f"{name!r} is no key; give a character, or ctrl- and a letter")
