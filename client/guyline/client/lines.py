"""Output cut into lines."""

from collections.abc import Iterator

from guyline.client.enums import OutputStream
from guyline.client.values import Chunk, Gap, Line

LINE_BYTES = 64 * 1024
"""A longer line comes in pieces of this size."""

_CONTINUES = 0b10  # the first two bits of a byte that continues a character in UTF-8
_LONGEST_CHARACTER = 4


class LineSplitter:
    """Chunks in, lines out. Each stream has lines of its own. Bounded: keeps at most one line of each stream."""

    def __init__(self, *, max_line_bytes: int = LINE_BYTES) -> None:
        self._most = max(_LONGEST_CHARACTER, max_line_bytes)
        self._begun: dict[OutputStream, Chunk] = {}

    def feed(self, chunk: Chunk) -> Iterator[Line]:
        """The lines that the chunk ends. What is lost cuts a line in two, and is said of the one behind it."""
        if chunk.gap is not None:
            yield from self.rest()
        begun = self._begun.pop(chunk.stream, None)
        data = begun.data + chunk.data if begun else chunk.data
        # Between the pieces of a stream the other one may have printed: offsets go on with the new piece.
        shift = chunk.offset - (len(data) - len(chunk.data))
        offset, gap = (begun.offset, begun.gap) if begun else (chunk.offset, chunk.gap)
        start = 0
        while (stop := self._stop(data, start)) is not None:
            yield _line(data[start:stop], offset, chunk.stream, gap)
            start = stop + data.startswith(b"\n", stop)
            offset, gap = shift + start, None
        if start < len(data) or gap is not None:
            self._begun[chunk.stream] = Chunk(offset, data[start:], chunk.stream, gap)

    def rest(self) -> Iterator[Line]:
        """What has no end yet, because there is none or because the rest is lost."""
        begun, self._begun = self._begun, {}
        for chunk in begun.values():
            yield _line(chunk.data, chunk.offset, chunk.stream, chunk.gap)

    def _stop(self, data: bytes, start: int) -> int | None:
        """Where the line that starts there is over, or too long; None if that is not seen yet."""
        newline = data.find(b"\n", start, start + self._most + 1)
        if newline >= 0:
            return newline
        if len(data) - start <= self._most:
            return None
        latest = start + self._most
        stops = range(latest, latest - _LONGEST_CHARACTER, -1)
        return next((stop for stop in stops if data[stop] >> 6 != _CONTINUES), latest)


def _line(data: bytes, offset: int, stream: OutputStream, gap: Gap | None) -> Line:
    return Line(text=data.decode(errors="replace").removesuffix("\r"), offset=offset, stream=stream, gap=gap)
