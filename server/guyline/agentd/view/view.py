"""The view of a stretch of output: its beginning, its end, and a note of how much was left out between them."""

from dataclasses import dataclass

from guyline.agentd.view.rendering import Rendered, Renderer
from guyline.agentd.view.window import Window

DEFAULT_BYTES = 32_768
DEFAULT_LINE_BYTES = 2048


@dataclass(frozen=True)
class Shape:
    """How long a view and its lines may be, in bytes, notes included."""

    most_bytes: int = DEFAULT_BYTES
    most_line_bytes: int = DEFAULT_LINE_BYTES


@dataclass(frozen=True)
class Omission:
    """What was left out, from one offset to another."""

    start: int
    end: int


@dataclass(frozen=True)
class View:
    """What is shown of the output between two offsets."""

    text: bytes
    start: int
    end: int
    omission: Omission | None
    cut_lines: int
    cut_bytes: int  # of these lines
    redactions: int

    is_enough: bool
    """Whether larger windows would not make it any better."""


def note_of(omitted_bytes: int) -> bytes:
    """What stands between beginning and end."""
    return b"\n\n... [omitted %d bytes] ...\n\n" % omitted_bytes


def compose(head: Window, tail: Window | None, *, end: int, final: bool, shape: Shape, renderer: Renderer) -> View:
    """The view from ``head.start`` to ``end``, or to what comes before it that may be the beginning of something.

    What the beginning shows is that of ``head.start`` up to the omission, what the end shows that behind it.

    Args:
        head: The beginning; all of it, without a ``tail``. Empty where that is lost.
        tail: The end, behind a gap or what need not be read. Empty where that is lost.
        end: Where the view ends if nothing is held back.
        final: Nothing will come behind ``end``.
        shape: How much is shown.
        renderer: Makes text of the windows.
    """
    if tail is None:
        return _of_all(head.start, renderer.render(head, final=final), shape)
    first = _without_torn_end(renderer.render(head, final=False), head, shape)
    last = _without_torn_begin(renderer.render(tail, final=final), tail, shape)
    lengths = len(first.text), len(last.text)
    room = shape.most_bytes - len(note_of(end - head.start))
    is_enough = not (head.limited or tail.limited) or (
        sum(lengths) > shape.most_bytes
        and all(length >= room // 2 for length, window in zip(lengths, (head, tail), strict=True) if window.limited)
    )
    return _view(head.start, *_fitted(first, last, shape.most_bytes), is_enough=is_enough)


def _of_all(start: int, whole: Rendered, shape: Shape) -> View:
    whole = whole.with_lines_cut(shape.most_line_bytes)
    if len(whole.text) <= shape.most_bytes:
        return _view(start, whole, None, is_enough=True)
    return _view(start, *_fitted(whole, whole, shape.most_bytes), is_enough=True)


def _fitted(first: Rendered, last: Rendered, most_bytes: int) -> tuple[Rendered, Rendered]:
    """As much as fits with the note: half of it beginning, half of it end, or more of one if the other is short."""
    shown = _cut(first, last, most_bytes - len(_note_between(first.first(0), last.last(0))))
    longer = _cut(first, last, most_bytes - len(_note_between(*shown)))
    # With what it gives the beginning the end may lose something that is cut nowhere, and the note become longer again.
    is_fit = len(longer[0].text) + len(_note_between(*longer)) + len(longer[1].text) <= most_bytes
    return longer if is_fit else shown


def _cut(first: Rendered, last: Rendered, room: int) -> tuple[Rendered, Rendered]:
    beginning = first.first(max(room // 2, room - len(last.text)))
    return beginning, last.last(room - len(beginning.text))


def _note_between(beginning: Rendered, end: Rendered) -> bytes:
    return note_of(end.start - beginning.end)


def _without_torn_end(head: Rendered, window: Window, shape: Shape) -> Rendered:
    """The beginning, with its lines cut. Of a line that goes on, nobody knows how long it is, or what becomes of it."""
    if window.limited:
        line = head.text.data.rfind(b"\n") + 1
        is_folded = head.text.is_folded_in(line, len(head.text))
        head = head.first(line if is_folded else line + shape.most_line_bytes)
    return head.with_lines_cut(shape.most_line_bytes)


def _without_torn_begin(tail: Rendered, window: Window, shape: Shape) -> Rendered:
    """The end, with its lines cut. Of a line that had begun before, only its end is shown, if there is nothing else."""
    text = tail.text
    if window.limited and window.begins_in_line:
        newline = text.data.find(b"\n")
        line = newline if newline >= 0 else len(text)
        if 0 <= newline < len(text) - 1:
            tail = tail.last(len(text) - newline - 1)
        elif not text.is_folded_in(0, line):
            tail = tail.last(len(text) - line + shape.most_line_bytes)
    return tail.with_lines_cut(shape.most_line_bytes)


def _view(start: int, first: Rendered, last: Rendered | None, *, is_enough: bool) -> View:
    pieces = (*first.text.pieces, *(last.text.pieces if last else ()))
    omission = Omission(first.end, last.start) if last else None
    return View(
        text=first.text.data + (note_of(omission.end - omission.start) + last.text.data if omission and last else b""),
        start=start,
        end=last.end if last else first.end,
        omission=omission,
        cut_lines=sum(piece.cut_bytes > 0 for piece in pieces),
        cut_bytes=sum(piece.cut_bytes for piece in pieces),
        redactions=sum(piece.redactions for piece in pieces),
        is_enough=is_enough,
    )
