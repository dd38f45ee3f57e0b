"""From a stretch of output to text: made plain if asked for, and without secrets."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Self

from guyline.agentd.view import plain, utf8
from guyline.agentd.view.redaction import NOTHING_SECRET, Secrets, Span, token
from guyline.agentd.view.text import Kind, Piece, Text
from guyline.agentd.view.window import Window

_CONTEXT_BYTES = 8192
_MOST_ATTEMPTS = 4


def context_bytes(secrets: Secrets) -> int:
    """How much of what comes before a stretch is needed to understand its beginning."""
    return _CONTEXT_BYTES + secrets.longest_bytes


@dataclass(frozen=True)
class Rendered:
    """Text, and from where to where it shows the output."""

    text: Text
    start: int
    end: int

    def first(self, at_most: int) -> Self:
        """As much of the beginning."""
        at = self.text.floor(at_most)
        if at >= len(self.text):
            return self
        text = self.text.first(at)
        return replace(self, text=text, end=text.pieces[-1].end if text.pieces else self.start)

    def last(self, at_most: int) -> Self:
        """As much of the end."""
        at = self.text.ceil(len(self.text) - at_most)
        if at <= 0:
            return self
        text = self.text.last(at)
        return replace(self, text=text, start=text.pieces[0].start if text.pieces else self.end)

    def with_lines_cut(self, most: int) -> Self:
        """The same with shorter lines."""
        return replace(self, text=self.text.with_lines_cut(most))


@dataclass(frozen=True)
class Renderer:
    """Makes text of windows: what it makes of a stretch is the same wherever the window ends."""

    plain: bool
    secrets: Secrets = NOTHING_SECRET

    def render(self, window: Window, *, final: bool) -> Rendered:
        """The text of a window's stretch.

        Args:
            window: What to render.
            final: Nothing comes behind it: what looks like a beginning is all there is.
        """
        start = self._snapped(window)
        end = len(window.data) if final else self._syntax_end(window.data)
        spans, known_to = self._hidden(window, start, end, final=final)
        shown_to = max(start, known_to)
        text = _Drawing(window, spans, plain=self.plain).text(start, shown_to)
        return Rendered(text, window.offset + start, window.offset + shown_to)

    def excerpt(self, window: Window, stop: int, *, final: bool) -> bytes:
        """The text of a window's stretch up to an offset, with a token for each secret of which it holds any part.

        What comes behind is looked at as well. Ends before what may yet become a secret, unless this is ``final``.
        """
        start, end = window.start - window.offset, len(window.data)
        spans, known_to = self._hidden(window, start, end, final=final)
        return _Drawing(window, spans, plain=self.plain).text(start, min(stop - window.offset, known_to)).data

    def _hidden(self, window: Window, start: int, end: int, *, final: bool) -> tuple[list[Span], int]:
        """What must not be shown of the data, and up to where that is known: then something begins that may become so.

        What a terminal's codes had broken up is found in the text alone. Then the stretch of output in which it was is
        taken for the secret.
        """
        data = window.data
        spans = self.secrets.spans(data, torn=window.torn)
        held_bytes = 0 if final else self.secrets.unfinished(data)
        # What is drawn here ends where it will be shown to: more of a line that is drawn anew would give another text.
        end = end if final else _behind_secret(spans, min(end, len(data) - held_bytes))
        if not self.secrets or plain.is_plain(data):
            return spans, end
        if not self.plain:
            return self._hidden_with_codes(window, spans, end, held_bytes, final=final)
        spans, _, known_to = self._without_broken_up(window, spans, start, end)
        return spans, end if final else _behind_secret(spans, known_to)

    def _hidden_with_codes(
        self, window: Window, spans: list[Span], end: int, held_bytes: int, *, final: bool
    ) -> tuple[list[Span], int]:
        """As above, where the codes are kept: who gets them can remove them, or have a terminal draw all of it."""
        spans, between_bytes, known_to = self._without_codes_between(window, spans, end)
        spans = _with_whole_rows(window.data, spans, end)
        spans, drawn_bytes, row = self._without_broken_up(window, spans, 0, end)
        if final:
            return self._without_moved(window, spans, end), end
        if drawn_bytes > max(held_bytes, between_bytes):  # else it is known better where in a line it begins
            known_to = min(known_to, max(row, plain.last_written(window.data, end)))
        known_to = _behind_secret(spans, known_to)
        if known_to < end:  # as above: that is another text
            spans, _, _ = self._without_broken_up(window, spans, 0, known_to)
        return self._without_moved(window, spans, known_to), known_to

    def _without_moved(self, window: Window, spans: list[Span], end: int) -> list[Span]:
        """The spans, with the rows that a terminal draws with a secret in them once the tokens are there: these are of
        another width than what they replace, so that tabs and moves behind them lead elsewhere.
        """
        if not (spans and plain.is_overwritten(window.data, 0, end)):
            return spans
        for _ in range(_MOST_ATTEMPTS):
            shown = _Drawing(window, spans, plain=False).text(0, end)
            whole = Window(0, shown.data, 0, torn=window.torn)
            drawn = _Drawing(whole, [], plain=True).text(0, len(shown))
            found = _in_output(drawn, self.secrets.spans(_without_tokens(drawn.data, spans), torn=window.torn), 0)
            if not found:
                break
            rows = [(*plain.row_around(shown.data, a, b, since=0, until=len(shown)), name) for a, b, name in found]
            spans = _united([*spans, *_in_output(shown, [Span(*row) for row in rows], window.offset)])
        return spans

    def _snapped(self, window: Window) -> int:
        """Where in the data the stretch begins, without the rest of a character or code."""
        start = utf8.end_of(window.data, window.start - window.offset)
        return plain.code_around(window.data, start) if self.plain else start

    def _syntax_end(self, data: bytes) -> int:
        """Where in the data the last whole character and code end."""
        codes = plain.unfinished(data) if self.plain else 0
        return len(data) - max(codes, utf8.unfinished(data))

    def _without_codes_between(self, window: Window, spans: list[Span], end: int) -> tuple[list[Span], int, int]:
        """The spans, with those that are secrets once the codes are gone, and what then begins at the end.

        Of that, how long it is, and where in the data.
        """
        between = plain.between_codes(window.data, 0, end)
        text = Text(Piece(window.data[a:b], window.offset + a, window.offset + b) for a, b in between)
        found = _in_output(text, self.secrets.spans(text.data, torn=window.torn), window.offset)
        held = self.secrets.unfinished(text.data)
        since = text.offset_of(len(text) - held) - window.offset if held else end
        return _united([*spans, *found]), held, since

    def _without_broken_up(
        self, window: Window, spans: list[Span], start: int, end: int
    ) -> tuple[list[Span], int, int]:
        """As above, for what a terminal draws."""
        context, text = self._drawn(window, spans, start, end)
        for _ in range(_MOST_ATTEMPTS):
            found = self._broken_up(context, text, window)
            if not found:
                break
            spans = _united([*spans, *found])
            context, text = self._drawn(window, spans, start, end)
        held = min(self.secrets.unfinished(_masked(context) + _masked(text)), len(text))
        return spans, held, text.offset_of(len(text) - held) - window.offset if held else end

    def _drawn(self, window: Window, spans: list[Span], start: int, end: int) -> tuple[Text, Text]:
        """What comes before the stretch, and the stretch."""
        return _Drawing(window, spans, plain=True).text(0, start), _Drawing(window, spans, plain=True).text(start, end)

    def _broken_up(self, context: Text, text: Text, window: Window) -> list[Span]:
        """Where in the data are the secrets that are still in the text."""
        both = Text((*context.pieces, *text.pieces))
        return _in_output(both, self.secrets.spans(_masked(both), torn=window.torn), window.offset)


def _in_output(text: Text, found: list[Span], offset: int) -> list[Span]:
    """Where in the output, counted from an offset, are the spans of a text."""
    return [Span(text.offset_of(a) - offset, text.end_of(b - 1) - offset, name) for a, b, name in found]


def _masked(text: Text) -> bytes:
    """The text with tokens that no secret is found in."""
    return b"".join(b"\0" * len(each.data) if each.kind is Kind.TOKEN else each.data for each in text.pieces)


def _without_tokens(data: bytes, spans: list[Span]) -> bytes:
    """The same with nothing in place of whole tokens that any secret could be found in."""
    for word in {token(span.name) for span in spans}:
        data = data.replace(word, b"\0" * len(word))
    return data


def _behind_secret(spans: list[Span], at: int) -> int:
    """``at``, or the end of the secret in which it lies: where a whole one is known to be, its token can be shown."""
    return next((span.end for span in spans if span.start < at < span.end), at)


def _with_whole_rows(data: bytes, spans: list[Span], end: int) -> list[Span]:
    """The spans, with all of a row of which one holds a move: without that the rest of it is drawn elsewhere."""
    whole: list[Span] = []
    at = 0
    for span in spans:
        if span.end > at and plain.is_overwritten(data, span.start, span.end):
            start, at = plain.row_around(data, span.start, span.end, since=at, until=end)
            whole.append(Span(start, at, span.name))
    return _united([*spans, *whole]) if whole else spans


def _united(spans: list[Span]) -> list[Span]:
    """In order, and no two overlap; of those that begin together the longest gives the name."""
    united: list[Span] = []
    for span in sorted(spans, key=lambda each: (each.start, -each.end)):
        if united and span.start < united[-1].end:
            united[-1] = united[-1]._replace(end=max(united[-1].end, span.end))
        else:
            united.append(span)
    return united


class _Drawing:
    """Makes pieces of one stretch of a window; ``spans`` are places in its data."""

    def __init__(self, window: Window, spans: list[Span], *, plain: bool) -> None:
        self._data = window.data
        self._offset = window.offset
        self._spans = spans
        self._ends = [span.end for span in spans]
        self._plain = plain
        self._told = -1  # up to and with this one, spans have their token
        self._pieces: list[Piece] = []

    def text(self, begin: int, end: int) -> Text:
        if begin < end:
            if self._plain and not plain.is_plain(self._data[begin:end]):
                self._add_plain(begin, end)
            else:
                self._add(begin, end)
        return Text(self._pieces)

    def _add_plain(self, begin: int, end: int) -> None:
        while (move := plain.next_move(self._data, begin, end)) < end:
            line = max(begin, self._data.rfind(b"\n", begin, move) + 1)
            self._add_between_codes(begin, line)
            newline = self._data.find(b"\n", move, end)
            begin = newline if newline >= 0 else end
            self._add_line(line, begin)
        self._add_between_codes(begin, end)

    def _add_between_codes(self, begin: int, end: int) -> None:
        for start, stop in plain.between_codes(self._data, begin, end):
            self._add(start, stop)

    def _add_line(self, begin: int, end: int) -> None:
        may_be_overwritten = plain.is_overwritten(self._data, begin, end)
        for row_begin, row_end in plain.rows(self._data, begin, end):
            if row_begin > begin and self._pieces and not self._pieces[-1].data.endswith(b"\n"):
                self._append(b"\n", row_begin - 1, row_begin, Kind.LITERAL)
            first, last = plain.without_returns(self._data, row_begin, row_end)
            if first == last:
                continue
            if not (may_be_overwritten and plain.is_overwritten(self._data, first, last)):
                self._add_between_codes(first, last)
            elif self._is_secret(first, last):
                self._add(first, last)
            else:
                self._fold(first, last)

    def _is_secret(self, begin: int, end: int) -> bool:
        """Whether all of a stretch is in one secret."""
        index = bisect_left(self._ends, end)
        return index < len(self._spans) and self._spans[index].start <= begin

    def _fold(self, begin: int, end: int) -> None:
        tokens: list[str] = []

        def shown(since: int, to: int) -> plain.Cells:
            cells: plain.Cells = []
            for start, stop, secret in self._parts(since, to):
                if secret is None:
                    cells += plain.to_cells(self._data[start:stop])
                    continue
                width = len(plain.to_cells(self._data[start:stop]))
                word = token(secret).decode(errors="surrogateescape") if secret else ""
                cells += [word, *[""] * (width - 1)]
                tokens.append(word)
            return cells

        data = plain.last_state(self._data, begin, end, shown)
        count = sum(data.count(word.encode(errors="surrogateescape")) for word in {*tokens} - {""})
        if data:
            self._append(data, begin, end, Kind.FOLDED, redactions=count)

    def _add(self, begin: int, end: int) -> None:
        """Adds a stretch without codes."""
        if not self._spans:
            self._append(self._data[begin:end], begin, end, Kind.LITERAL)
            return
        for start, stop, secret in self._parts(begin, end):
            if secret is None:
                self._append(self._data[start:stop], start, stop, Kind.LITERAL)
            elif secret:
                self._append(token(secret), start, self._ends[self._told], Kind.TOKEN, redactions=1)

    def _append(self, data: bytes, begin: int, end: int, kind: Kind, *, redactions: int = 0) -> None:
        self._pieces.append(Piece(data, self._offset + begin, self._offset + end, kind, redactions))

    def _parts(self, begin: int, end: int) -> Iterator[tuple[int, int, str | None]]:
        """Divides a stretch: the third is None for what is no secret, a name for what is, empty if that was told."""
        index = bisect_right(self._ends, begin)
        while begin < end:
            if index == len(self._spans) or self._spans[index].start >= end:
                yield begin, end, None
                return
            span = self._spans[index]
            if begin < span.start:
                yield begin, span.start, None
                begin = span.start
            stop = min(end, span.end)
            is_new = index > self._told
            self._told = index
            yield begin, stop, span.name if is_new else ""
            begin = stop
            index += 1
