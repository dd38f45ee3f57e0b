"""Cursors: where a stream goes on, opaque to clients."""

import struct
from typing import NamedTuple

from guyline.errors import InvalidInput, Violation

_LAYOUT = struct.Struct(">B16sQ")
_VERSION = 1


class Cursor(NamedTuple):
    """A position in something, and which incarnation of it: an old cursor never points into a replacement."""

    incarnation: bytes  # 16 bytes
    position: int

    def to_bytes(self) -> bytes:
        return _LAYOUT.pack(_VERSION, self.incarnation, self.position)

    @classmethod
    def from_bytes(cls, data: bytes) -> "Cursor":
        """Raises:
        InvalidInput: This is no cursor.
        """
        if len(data) != _LAYOUT.size or data[0] != _VERSION:
            raise InvalidInput(
                Violation("cursor", "is none of ours; pass `control.cursor` on as it came, or leave it out")
            )
        _, incarnation, position = _LAYOUT.unpack(data)
        return cls(incarnation, position)
