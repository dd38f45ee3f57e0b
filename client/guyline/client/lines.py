"""Output cut into lines."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from guyline.client.argument import to_size
from guyline.client.enums import OutputStream
from guyline.client.values import Chunk, Gap, Line

LINE_BYTES = 64 * 1024
"""A longer line comes in pieces of this size."""

_CONTINUES = 0b10  # the first two bits of a byte that continues a character in UTF-8
_LONGEST_CHARACTER = 4


@dataclass
class _Begun:
    """A line without an end so far."""

    offset: int
    gap: Gap | None
    data: bytearray = field(default_factory=bytearray)


class LineSplitter:
    """Chunks in, lines out. Each stream has lines of its own. Bounded: keeps at most one line of each stream."""

    def __init__(self, *, max_line_bytes: int = LINE_BYTES) -> None:
        self._most = max(_LONGEST_CHARACTER, to_size("max_line_bytes", max_line_bytes))
        self._begun: dict[OutputStream, _Begun] = {}
        self._lost: Gap | None = None  # before what comes next, of whichever stream

    def feed(self, chunk: Chunk) -> Iterator[Line]:
        """The lines that the chunk ends. What is lost cuts a line in two, and is said of the one behind it."""
        if chunk.gap is not None:
            yield from self._ended()
            self._lost = Gap(self._lost.start if self._lost else chunk.gap.start, chunk.gap.stop)
        if not chunk.data:
            return
        begun = self._begun.pop(chunk.stream, None) or _Begun(chunk.offset, self._lost)
        self._lost = None
        data, searched = begun.data, len(begun.data)
        # Between the pieces of a stream the other one may have printed: offsets go on with the new piece.
        shift = chunk.offset - len(data)
        data += chunk.data
        start = 0
        while (stop := self._stop(data, start, searched)) is not None:
            is_whole = data.startswith(b"\n", stop)
            yield _line(data[start:stop], begun, chunk.stream, is_whole=is_whole)
            start = stop + is_whole
            begun.offset, begun.gap = shift + start, None
        del data[:start]
        if data:
            self._begun[chunk.stream] = begun

    def rest(self) -> Iterator[Line]:
        """What has no end yet, because there is none. If something is lost behind it, an empty line says so."""
        yield from self._ended()
        if (lost := self._lost) is not None:
            self._lost = None
            yield Line("", offset=lost.stop, stream=OutputStream.MERGED, gap=lost)

    def _ended(self) -> Iterator[Line]:
        """What has no end and gets none."""
        rest, self._begun = self._begun, {}
        for stream, begun in rest.items():
            yield _line(begun.data, begun, stream, is_whole=True)

    def _stop(self, data: bytearray, start: int, searched: int) -> int | None:
        """Where the line that starts there is over, or too long; None if that is not seen yet. Before ``searched``
        nothing ends: a long line is not searched again for each piece of it.
        """
        newline = data.find(b"\n", max(start, searched), start + self._most + 1)
        if newline >= 0:
            return newline
        if len(data) - start <= self._most:
            return None
        latest = start + self._most
        stops = range(latest, latest - _LONGEST_CHARACTER, -1)
        return next((stop for stop in stops if data[stop] >> 6 != _CONTINUES), latest)


def _line(data: bytearray, begun: _Begun, stream: OutputStream, *, is_whole: bool) -> Line:
    text = data.decode(errors="replace")
    return Line(text.removesuffix("\r") if is_whole else text, offset=begun.offset, stream=stream, gap=begun.gap)
