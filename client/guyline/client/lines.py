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

    gap: Gap | None
    data: bytearray = field(default_factory=bytearray)
    places: list[tuple[int, int]] = field(default_factory=list)
    """From which index of ``data`` on it stands where in the output: the other stream may print in the middle."""

    def add(self, chunk: Chunk) -> None:
        if not self.places or self.offset_of(len(self.data)) != chunk.offset:
            self.places.append((len(self.data), chunk.offset))
        self.data += chunk.data

    def cut(self, start: int) -> None:
        """Drops what stands before."""
        behind = [(index - start, offset) for index, offset in self.places if index > start]
        self.places = [(0, self.offset_of(start)), *behind]
        del self.data[:start]

    def offset_of(self, index: int) -> int:
        """Where in the output a byte of ``data``, or the one behind it, stands."""
        start, offset = self.places[-1]
        if start > index:
            start, offset = next(place for place in reversed(self.places) if place[0] <= index)
        return offset + index - start


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
        begun = self._begun.pop(chunk.stream, None) or _Begun(self._lost)
        self._lost = None
        data, searched = begun.data, len(begun.data)
        begun.add(chunk)
        start = 0
        while (stop := self._stop(data, start, searched)) is not None:
            is_whole = data.startswith(b"\n", stop)
            yield _line(begun, start, stop, chunk.stream, is_whole=is_whole)
            start = stop + is_whole
            begun.gap = None
        if start:
            begun.cut(start)
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
            yield _line(begun, 0, len(begun.data), stream, is_whole=True)

    def _stop(self, data: bytearray, start: int, searched: int) -> int | None:
        """Where the line that starts there is over, or too long; None if that is not seen yet. Before ``searched``
        nothing ends: a long line is not searched again for each piece of it.
        """
        latest = start + self._most
        newline = data.find(b"\n", max(start, searched), latest + 1)
        if newline >= 0:
            return newline
        behind = bytes(data[latest : latest + 2])
        if behind in (b"", b"\r"):
            return None
        if behind == b"\r\n":
            return latest + 1
        stops = range(latest, latest - _LONGEST_CHARACTER, -1)
        return next((stop for stop in stops if data[stop] >> 6 != _CONTINUES), latest)


def _line(begun: _Begun, start: int, stop: int, stream: OutputStream, *, is_whole: bool) -> Line:
    text = begun.data[start:stop].decode(errors="replace")
    offset = begun.offset_of(start)
    return Line(text.removesuffix("\r") if is_whole else text, offset=offset, stream=stream, gap=begun.gap)
