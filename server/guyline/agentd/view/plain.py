r"""What a terminal would show of a line: without codes, and of what was overwritten the last state alone.

A terminal's full emulation (as by ``pyte``) is not what a log needs: it has a width at which it wraps, a height beyond
which it forgets, and takes some hundred times as long. Here a line is as long as it is, and every character one column
wide. Moves to other lines begin a new one: what was drawn anew over several lines comes again each time.
"""

import re
from collections.abc import Callable, Iterator
from typing import TypeAlias

# Each begins with a set of bytes, for which the engine looks ten times as fast as for alternatives.
_CSI = rb"(?:(?<=\x1b)\[|(?<=\xc2)\x9b)([0-?]*+)[ -/]*+"  # behind the first byte; then a final one, @ to ~

_CODE = re.compile(
    rb"[\x00-\x08\x0b-\x1f\x7f\xc2](?:" + _CSI + rb"([@-~])?"  # without a final byte: torn, or something is between
    rb"|(?<=\x1b)(?:"
    rb"\][^\x07\x1b\n]*(?:\x07|\x1b\\)?"  # OSC (titles, links), up to BEL or ST
    rb"|[PX^_][^\x1b\n]*(?:\x1b\\)?"  # DCS, SOS, PM, APC, up to ST
    rb"|[ -/]*[0-~]?"  # character sets, and what has a single character
    rb")|(?<=\xc2)[\x80-\x9f]|(?<![\x1b\xc2]))"  # other control characters
)
"""A code and its like, also a torn one; none reaches over the end of a line."""

_WHOLE_CODE = re.compile(
    rb"[\x1b\xc2](?:" + _CSI + rb"[@-~]|(?<=\x1b)(?:"
    rb"\][^\x07\x1b\n]*(?:\x07|\x1b\\)|[PX^_][^\x1b\n]*\x1b\\|[ -/]*[0-OQ-WYZ\\`-~]))"
)
_LONGEST_TORN_BYTES = 4096  # a longer code without an end is taken for one that never gets any

_IN_ROW = rb"(?<=\r)(?=[^\r\n])|(?<=\x08)|" + _CSI + rb"(?:[CDG`aPX@]|(?<=[12])[JK])"
_TO_OTHER_ROW = _CSI + rb"[ABEFHdf]|(?<=\x1b)[DEM]"

_MOVE_IN_ROW = re.compile(rb"[\r\x08\x1b\xc2](?:" + _IN_ROW + rb")")
"""After these a character may land on another one."""

_MOVE_TO_OTHER_ROW = re.compile(rb"[\x1b\xc2](?:" + _TO_OTHER_ROW + rb")")

_MOVE = re.compile(rb"[\r\x08\x1b\xc2](?:" + _IN_ROW + rb"|" + _TO_OTHER_ROW + rb")")

_SLICE_BYTES = 32 * 1024  # one search of the engine: nothing else in this program runs meanwhile
_OVERLAP_BYTES = 4096  # few codes are longer

_MOST_COLUMNS = 400
"""Wider than terminals are. Moves reach no further, and what is longer is not edited in its middle: that takes time."""

_NOTHING_TO_DO = bytes(range(0x20, 0x7F)) + b"\t\n" + bytes(range(0x80, 0xC2)) + bytes(range(0xC3, 0x100))

Cells: TypeAlias = list[str]
"""A line's columns; text in several bytes may be one of them, or none (what belongs to its neighbour on the left)."""

Shown: TypeAlias = Callable[[int, int], Cells]
"""What a stretch of the line without codes adds to it."""


def is_plain(data: bytes) -> bool:
    """Whether there is nothing in the data that is shown otherwise than it is. May say no when there is not."""
    return not data.translate(None, _NOTHING_TO_DO)


def code_around(data: bytes, at: int) -> int:
    """Where the code ends in whose middle ``at`` lies; ``at`` itself if it lies in none."""
    begin = max(data.rfind(b"\n", 0, at) + 1, at - 2 * _LONGEST_TORN_BYTES)
    if begin == at:
        return at
    newline = data.find(b"\n", at)
    for code in _matches(_CODE, data, begin, newline if newline >= 0 else len(data)):
        if code.end() > at:
            return code.end() if code.start() < at else at
    return at


def unfinished(data: bytes) -> int:
    """How many bytes at the end are the beginning of a code."""
    begin = max(data.rfind(b"\x1b"), data.rfind(b"\xc2\x9b"))
    if begin < max(0, len(data) - _LONGEST_TORN_BYTES, data.rfind(b"\n")):
        return 0
    code = _CODE.match(data, begin)
    is_torn = code and code.end() == len(data) and not _WHOLE_CODE.match(data, begin)
    return len(data) - begin if is_torn else 0


def next_move(data: bytes, begin: int, end: int) -> int:
    """Where the next code is that moves to where something may have been written; the end if there is none."""
    move = next(_matches(_MOVE, data, begin, end), None)
    return move.start() if move else end


def rows(data: bytes, begin: int, end: int) -> Iterator[tuple[int, int]]:
    """Divides a line into what is on one row of the terminal each."""
    for move in _matches(_MOVE_TO_OTHER_ROW, data, begin, end):
        yield begin, move.start()
        begin = move.end()
    yield begin, end


def row_around(data: bytes, begin: int, end: int, *, since: int, until: int) -> tuple[int, int]:
    """From where to where the row is in which a stretch lies, or the rows, between two places."""
    newline = data.find(b"\n", end, until)
    first = line = max(since, data.rfind(b"\n", since, begin) + 1)
    for row_begin, row_end in rows(data, line, newline if newline >= 0 else until):
        first = row_begin if row_begin <= begin else first
        if row_end >= end:
            return first, row_end
    return first, end


def without_returns(data: bytes, begin: int, end: int) -> tuple[int, int]:
    """A row without the carriage returns at both of its ends, which change nothing."""
    while begin < end and data[begin] == 0x0D:
        begin += 1
    while begin < end and data[end - 1] == 0x0D:
        end -= 1
    return begin, end


def is_overwritten(data: bytes, begin: int, end: int) -> bool:
    """Whether characters of this row may land on others. May say so when they do not."""
    return next(_matches(_MOVE_IN_ROW, data, begin, end), None) is not None


def between_codes(data: bytes, begin: int, end: int) -> Iterator[tuple[int, int]]:
    """What is no code."""
    for code in _matches(_CODE, data, begin, end):
        if code.start() > begin:
            yield begin, code.start()
        begin = code.end()
    if begin < end:
        yield begin, end


def last_state(data: bytes, begin: int, end: int, shown: Shown) -> bytes:
    """What a row shows in the end."""
    return "".join(_drawn(data, begin, end, shown).cells).encode(errors="surrogateescape")


def last_written(data: bytes, end: int) -> int:
    """Where that begins which was written up to ``end`` since the last move, if what comes next appends to its row.

    The end, if that lands elsewhere: what the row ends with is then not the beginning of anything.
    """
    *_, (begin, _) = rows(data, data.rfind(b"\n", 0, end) + 1, end)
    row = _drawn(data, begin, end, lambda since, to: to_cells(data[since:to]))
    if row.column < len(row.cells):
        return end
    *_, last = begin, *(move.end() for move in _matches(_MOVE_IN_ROW, data, begin, end))
    return last


def _drawn(data: bytes, begin: int, end: int, shown: Shown) -> "_Row":
    row = _Row()
    for code in _matches(_CODE, data, begin, end):
        row.write(shown(begin, code.start()))
        begin = code.end()
        if code[0] == b"\r":
            row.column = 0
        elif code[0] == b"\b":
            row.column = max(0, row.column - 1)
        elif code[2]:
            row.control(code[2], code[1])
    row.write(shown(begin, end))
    return row


def _matches(pattern: re.Pattern[bytes], data: bytes, begin: int, end: int) -> Iterator[re.Match[bytes]]:
    """As ``pattern.finditer``, in slices."""
    if end - begin <= _SLICE_BYTES:  # as of rows of a few bytes, of which there may be many
        return pattern.finditer(data, begin, end)
    return _matches_in_slices(pattern, data, begin, end)


def _matches_in_slices(pattern: re.Pattern[bytes], data: bytes, begin: int, end: int) -> Iterator[re.Match[bytes]]:
    while begin < end:
        stop = min(begin + _SLICE_BYTES, end)
        limit = min(stop + _OVERLAP_BYTES, end)
        for found in pattern.finditer(data, begin, limit):
            if found.start() >= stop:
                break
            whole = found if found.end() < limit else pattern.match(data, found.start(), end)
            assert whole, "it matches no less with more behind it"
            yield whole
            begin = whole.end()
        begin = max(begin, stop)


def to_cells(data: bytes) -> Cells:
    """A column for each character; what is no UTF-8 has one for each byte."""
    return list(data.decode(errors="surrogateescape"))


class _Row:
    """A line of a terminal, of any width."""

    def __init__(self) -> None:
        self.cells: Cells = []
        self.column = 0

    def write(self, cells: Cells) -> None:
        if not cells:
            return
        if "\t" in cells:
            self._write_tabbed(cells)
            return
        self._reach(self.column)
        self.cells[self.column : self.column + len(cells)] = cells
        self.column += len(cells)

    def control(self, final: bytes, parameter: bytes) -> None:
        """Does what a CSI code says about this row; the parameter defaults as usual."""
        count = min(int(parameter[:6]), _MOST_COLUMNS) if parameter.isdigit() else 0
        some = max(count, 1)
        is_editable = len(self.cells) <= _MOST_COLUMNS
        if final in b"Ca":
            self.column = min(self.column + some, max(_MOST_COLUMNS, self.column))
        elif final == b"D":
            self.column = max(0, self.column - some)
        elif final in b"G`":
            self.column = some - 1
        elif final in b"JK" and count == 0:
            del self.cells[self.column :]
        elif final in b"JK" and count == 2:
            self.cells.clear()
        elif is_editable:
            self._edit(final, count, some)

    def _edit(self, final: bytes, count: int, some: int) -> None:
        if final in b"JK" and count == 1:
            self.cells[: self.column + 1] = " " * min(self.column + 1, len(self.cells))
        elif final == b"P":
            del self.cells[self.column : self.column + some]
        elif final == b"X":
            self.cells[self.column : self.column + some] = " " * min(some, max(0, len(self.cells) - self.column))
        elif final == b"@" and self.column < len(self.cells):
            self.cells[self.column : self.column] = " " * some
            del self.cells[_MOST_COLUMNS:]

    def _reach(self, column: int) -> None:
        self.cells += " " * (column - len(self.cells))

    def _write_tabbed(self, cells: Cells) -> None:
        begin = 0
        for index, cell in enumerate(cells):
            if cell == "\t":
                self.write(cells[begin:index])
                self.column = (self.column // 8 + 1) * 8
                begin = index + 1
        self.write(cells[begin:])
