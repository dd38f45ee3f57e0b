"""Text that knows of each of its bytes where in the output it comes from."""

import enum
import re
from bisect import bisect_right
from collections.abc import Iterable
from functools import cached_property
from itertools import accumulate
from typing import NamedTuple, Self

from guyline.agentd.view import utf8

CUT_NOTE = b" ... [truncated]"
"""What a line ends in that was cut for its length."""


class Kind(enum.Enum):
    """What a piece is. All but literal ones are cut nowhere."""

    LITERAL = enum.auto()  # the very bytes of the output
    TOKEN = enum.auto()  # in the place of a secret
    FOLDED = enum.auto()  # the last state of a line
    NOTE = enum.auto()  # in the place of a line's rest


class Piece(NamedTuple):
    """Some text, and from where to where in the output it stands for what is there."""

    data: bytes
    start: int
    end: int
    kind: Kind = Kind.LITERAL
    redactions: int = 0  # how many secrets were replaced in it
    cut_bytes: int = 0  # what a cut line is short of


class Text:
    """Pieces in the order of the output. Places in the text (``at``) count its bytes; offsets are the output's."""

    def __init__(self, pieces: Iterable[Piece] = ()) -> None:
        self.pieces = tuple(pieces)

    def __repr__(self) -> str:
        return f"<Text of {len(self)} bytes in {len(self.pieces)} pieces>"

    def __len__(self) -> int:
        return len(self.data)

    @cached_property
    def data(self) -> bytes:
        """All of it."""
        return b"".join(piece.data for piece in self.pieces)

    @cached_property
    def _begins(self) -> list[int]:
        return [0, *accumulate(len(piece.data) for piece in self.pieces)][:-1]

    def floor(self, at: int) -> int:
        """The last place up to ``at`` where it may be cut."""
        if not 0 < at < len(self):
            return max(0, min(at, len(self)))
        index = bisect_right(self._begins, at) - 1
        begin, piece = self._begins[index], self.pieces[index]
        return begin + utf8.begin_of(piece.data, at - begin) if piece.kind is Kind.LITERAL else begin

    def ceil(self, at: int) -> int:
        """The first place from ``at`` on where it may be cut."""
        if not 0 < at < len(self):
            return max(0, min(at, len(self)))
        index = bisect_right(self._begins, at) - 1
        begin, piece = self._begins[index], self.pieces[index]
        if piece.kind is Kind.LITERAL:
            return begin + utf8.end_of(piece.data, at - begin)
        return at if at == begin else begin + len(piece.data)

    def first(self, at: int) -> Self:
        """The text before a place where it may be cut."""
        return self._between(0, at)

    def last(self, at: int) -> Self:
        """The text from a place on where it may be cut."""
        return self._between(at, len(self))

    def offset_of(self, at: int) -> int:
        """Where in the output the byte at ``at`` is; of a piece that is no literal, where that begins."""
        index = bisect_right(self._begins, at) - 1
        piece = self.pieces[index]
        return piece.start + (at - self._begins[index] if piece.kind is Kind.LITERAL else 0)

    def end_of(self, at: int) -> int:
        """Where in the output the byte at ``at`` ends; of a piece that is no literal, where that ends."""
        index = bisect_right(self._begins, at) - 1
        piece = self.pieces[index]
        return self.offset_of(at) + 1 if piece.kind is Kind.LITERAL else piece.end

    def is_folded_in(self, begin: int, end: int) -> bool:
        """Whether a folded line is between two places."""
        return any(piece.kind is Kind.FOLDED for piece in self._between(begin, end).pieces)

    def with_lines_cut(self, most: int) -> Self:
        """The same, with lines of at most ``most`` bytes; longer ones end in the note."""
        pieces: list[Piece] = []
        at = 0
        for line in re.finditer(rb"(?m)^[^\n]{%d,}" % (most + 1), self.data):
            pieces += self._between(at, line.start()).pieces
            pieces += self._cut(line.start(), line.end(), most)
            at = line.end()
        return type(self)((*pieces, *self._between(at, len(self)).pieces)) if at else self

    def _cut(self, begin: int, end: int, most: int) -> tuple[Piece, ...]:
        room = begin + most - len(CUT_NOTE)
        index = bisect_right(self._begins, room) - 1
        folded = self.pieces[index]
        if folded.kind is not Kind.FOLDED:
            kept = self.floor(room)
            # Of a line that is all stripped codes up to here nothing is kept; the note stands for the whole.
            note = Piece(CUT_NOTE, self.offset_of(kept), self.end_of(end - 1), Kind.NOTE, cut_bytes=end - kept)
            return (*self._between(begin, kept).pieces, note)
        kept = self._begins[index] + utf8.begin_of(folded.data, room - self._begins[index])
        data = folded.data[: kept - self._begins[index]] + CUT_NOTE
        cut = folded._replace(data=data, end=self.end_of(end - 1), cut_bytes=end - kept)
        return (*self._between(begin, self._begins[index]).pieces, cut)

    def _between(self, begin: int, end: int) -> Self:
        if begin >= end:
            return type(self)()
        first = bisect_right(self._begins, begin) - 1
        last = bisect_right(self._begins, end - 1) - 1
        pieces = list(self.pieces[first : last + 1])
        pieces[-1] = _first_of(pieces[-1], end - self._begins[last])
        pieces[0] = _rest_of(pieces[0], begin - self._begins[first])
        return type(self)(pieces)


def _first_of(piece: Piece, length: int) -> Piece:
    if length >= len(piece.data):
        return piece
    assert piece.kind is Kind.LITERAL
    return piece._replace(data=piece.data[:length], end=piece.start + length)


def _rest_of(piece: Piece, at: int) -> Piece:
    if at == 0:
        return piece
    assert piece.kind is Kind.LITERAL
    return piece._replace(data=piece.data[at:], start=piece.start + at)
