"""A view shows beginning and end within its budget, cuts nothing that belongs together, and never tells a secret."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from guyline.agentd.view.view import DEFAULT_BYTES, Omission, Shape
from guyline.agentd.view.window import sizes
from tests.agentd.view.view_parts import TOKEN, Printed, look, parts, unhurried, without_codes

NOTE = b"\n\n... [omitted %d bytes] ...\n\n"
SMALL = Shape(most_bytes=200, most_line_bytes=40)

# Stories.


def test_nothing_printed_is_an_empty_view() -> None:
    """And no error, no note."""
    view = look(b"")

    assert (view.text, view.start, view.end, view.omission) == (b"", 0, 0, None)


@pytest.mark.parametrize("length", [16_383, 16_384, 16_385, 20_000, DEFAULT_BYTES])
def test_what_fits_is_shown_whole_without_a_seam(length: int) -> None:
    """Whoever joins two halves with a newline shows one that nobody printed."""
    printed = (b"0123456789" * 4000)[:length]

    view = look(printed, shape=Shape(most_line_bytes=65_536), sizes=sizes(DEFAULT_BYTES))

    assert view.text == printed
    assert view.omission is None


@pytest.mark.parametrize("length", [DEFAULT_BYTES + 1, 100_000, 3_000_000])
@pytest.mark.parametrize("plain", [True, False])
def test_what_is_too_long_fills_the_budget_to_the_byte_and_says_exactly_what_is_missing(
    length: int, plain: bool
) -> None:
    """The last line is often the one that matters: the note must not push it out."""
    printed = b"".join(b"line %d\n" % number for number in range(length // 6))[:length]

    view = look(printed, plain=plain, shape=Shape(), sizes=sizes(DEFAULT_BYTES))

    first, last = parts(view)
    assert view.omission
    assert DEFAULT_BYTES - 2 <= len(view.text) <= DEFAULT_BYTES
    assert printed[: view.omission.start] == first
    assert printed[view.omission.end :] == last
    assert abs(len(first) - len(last)) <= 2


def test_a_long_line_is_cut_and_counted() -> None:
    """A minified file in a log must not eat the budget, and must not pass for a whole line either."""
    view = look(b"short\n" + b"x" * 5000 + b"\nend", shape=Shape())

    assert view.text == b"short\n" + b"x" * 2032 + b" ... [truncated]\nend"
    assert (view.cut_lines, view.cut_bytes, view.omission) == (1, 5000 - 2032, None)


def test_a_line_of_exactly_the_limit_is_not_cut() -> None:
    """The limit is what is allowed."""
    assert look(b"x" * 2048 + b"\n", shape=Shape()).cut_lines == 0


def test_progress_longer_than_anybody_reads_is_its_last_state() -> None:
    """What was before it is shown, what is behind it too, and of the rest the note tells."""
    progress = b"".join(b"\rdownloading %d%%" % number for number in range(200_000))

    view = look(b"begin\n" + progress, shape=Shape(), sizes=sizes(DEFAULT_BYTES))

    assert view.omission
    assert view.omission.start == len(b"begin\n")
    assert parts(view) == (b"begin\n", b"downloading 199999%")


def test_of_an_endless_line_beginning_and_end_are_shown() -> None:
    """Nobody knows how long it is without reading all of it."""
    printed = b"".join(b"%d " % number for number in range(500_000))

    view = look(printed, shape=Shape(), sizes=sizes(DEFAULT_BYTES))

    first, last = parts(view)
    assert printed.startswith(first)
    assert printed.endswith(last)
    assert len(first) == len(last) == 2048


def test_gaps_are_in_the_omission_and_never_zeros() -> None:
    """Lost output is not output."""
    printed = Printed(b"begin" + b"\0" * 50 + b"middle" + b"\0" * 50 + b"end", lost=((5, 55), (61, 111)))

    view = look(printed)

    assert view.omission
    assert (view.omission.start, view.omission.end) == (5, 111)
    assert view.text == b"begin" + NOTE % 106 + b"end"


@pytest.mark.parametrize(
    ("lost", "text"),
    [((0, 4), NOTE % 4 + b"456789"), ((4, 10), b"0123" + NOTE % 6), ((0, 10), NOTE % 10)],
)
def test_a_gap_at_a_border_is_an_omission_too(lost: tuple[int, int], text: bytes) -> None:
    """Also where nothing at all is left."""
    assert look(Printed(b"0123456789", lost=(lost,))).text == text


def test_what_the_gap_makes_room_for_is_used() -> None:
    """The end may be longer if there is little to show of the beginning."""
    printed = Printed(b"begin" + b"\0" * 50 + b"x\n" * 1000, lost=((5, 55),))

    assert 190 <= len(look(printed, shape=SMALL).text) <= 200


def test_two_views_by_cursor_show_a_secret_that_comes_in_between_neither_half() -> None:
    """The beginning of a secret is held back until it is known what becomes of it."""
    first = look(b"token: hun", secrets=[b"hunter2"], final=False)
    second = look(b"token: hunter2, hunt", secrets=[b"hunter2"], start=first.end)

    assert (first.text, first.end) == (b"token: ", 7)
    assert second.text == b"[redacted S0], hunt"  # it has ended: the last letters are what they are


def test_an_offset_within_a_secret_shows_none_of_it() -> None:
    """Or its end could be read, and its beginning by another call."""
    views = [look(b"<hunter2>", secrets=[b"hunter2"], start=start) for start in range(1, 8)]

    assert {view.text for view in views} == {b"[redacted S0]>"}


def test_an_offset_within_a_code_or_character_shows_none_of_it() -> None:
    """Its beginning may have been shown before."""
    printed = "a\x1b[31mred ü!".encode()

    assert look(printed, start=3).text == "red ü!".encode()
    assert look(printed, start=len(printed) - 2).text == b"!"


def test_redactions_are_counted_as_shown() -> None:
    """Not those that are in the omission."""
    view = look(b"hunter2\n" * 100, secrets=[b"hunter2"], shape=SMALL, sizes=[60, 1000])

    assert view.omission
    assert view.redactions == len(TOKEN.findall(view.text)) > 2


# What always holds.

SECRETS = (b"ab\nab", b"abcab", b"cccc", b"-\xc3\xbc-x")
FRAGMENTS = [b"x" * 50, b"a", b"b", b"c", b"ab", b"-", "ü".encode(), "€".encode(), "😀".encode(), b"\xff", b"\n", b" "]
CODES = [
    b"\r",
    b"\b",
    b"\x1b[1m",
    b"\x1b[K",
    b"\x1b[2D",
    b"\x1b]0;ab",
    b"\x07",
    b"\x1b",
    b"[",
    b"\xc2",
    b"\x9b",
    b"\x1b[A",
]
BROKEN_UP = [
    b"ab\x1b[1m\nab",
    b"abc\x1b]0;x\x07ab",
    b"c\x1b[m\x1b[Kccc",
    b"cc\0cc",
    b"cxx\b\bccc",
    b"-\xc3\xbc\x1b[K-x",
]
CALM = st.lists(st.sampled_from([*FRAGMENTS, *SECRETS]), max_size=80).map(b"".join)
WILD = st.lists(st.sampled_from([*FRAGMENTS, *CODES, *SECRETS, *BROKEN_UP]), max_size=80).map(b"".join)
COLORED = st.lists(st.sampled_from([*FRAGMENTS, *CODES[:5], *SECRETS, *BROKEN_UP]), max_size=80).map(b"".join)
"""Without codes that hold text, which is to be read where a view begins in their middle."""
SHAPES = st.builds(Shape, most_bytes=st.integers(120, 400), most_line_bytes=st.integers(20, 100))
SIZES = st.lists(st.integers(10, 500), min_size=1, max_size=3).map(sorted)
FLAGS = st.fixed_dictionaries({"plain": st.booleans(), "final": st.booleans()})


def gaps(length: int) -> st.SearchStrategy[tuple[tuple[int, int], ...]]:
    """Up to two gaps that do not touch."""
    borders = st.lists(st.integers(0, length), min_size=4, max_size=4, unique=True).map(sorted)
    pairs = borders.map(lambda each: ((each[0], each[1]), (each[2], each[3])))
    return st.one_of(st.just(()), pairs, pairs.map(lambda each: each[:1])) if length > 3 else st.just(())


@unhurried
@given(CALM, SHAPES, SIZES, st.data())
def test_beginning_omission_and_end_are_the_whole(
    data: bytes, shape: Shape, windows: list[int], more: st.DataObject
) -> None:
    """Attach with the omission's offsets reads exactly what is not shown, however little was read for the view."""
    start = more.draw(st.integers(0, len(data)))
    view = look(data, start=start, plain=False, shape=shape, sizes=windows)

    assert len(view.text) <= shape.most_bytes
    assert (view.start, view.end) == (start, len(data))
    first, last = parts(view)
    between = view.omission or None
    all_first = look(data[: between.start] if between else data, start=start, plain=False)
    assert uncut(first, shape) == uncut(all_first.text, shape)
    if between:
        assert start <= between.start < between.end <= len(data)
        assert uncut(last, shape) == uncut(look(data, start=between.end, plain=False).text, shape)


def uncut(text: bytes, shape: Shape) -> bytes:
    """The text with its long lines as far as they are shown in any case."""
    note = b" ... [truncated]"
    lines = text.split(b"\n")
    return b"\n".join(line.removesuffix(note)[: shape.most_line_bytes - len(note) - 3] for line in lines)


@unhurried
@given(st.binary(max_size=600), SHAPES, SIZES, FLAGS, st.data())
def test_whatever_is_printed_a_view_keeps_its_bounds(
    data: bytes, shape: Shape, windows: list[int], flags: dict[str, bool], more: st.DataObject
) -> None:
    """Bytes of all kinds, gaps, ends in the middle of anything."""
    printed = Printed(data, more.draw(gaps(len(data))))
    start = more.draw(st.integers(0, len(data)))

    view = look(printed, start=start, secrets=SECRETS, shape=shape, sizes=windows, **flags)

    assert len(view.text) <= shape.most_bytes
    assert view.start <= view.end <= len(data)
    assert all(len(line) <= shape.most_line_bytes for line in view.text.split(b"\n") if b"... [omitted" not in line)
    missing = view.omission or Omission(view.end, view.end)
    assert view.start <= missing.start <= missing.end <= view.end
    lost = [(max(low, view.start), min(high, view.end)) for low, high in printed.lost]
    assert all(missing.start <= low and high <= missing.end for low, high in lost if low < high)
    assert view.end == len(data) or not flags["final"]


@unhurried
@given(st.integers(120, 200), st.integers(-2, 2), st.sampled_from([100, 1000]), st.integers(-12, 2), st.booleans())
def test_a_budget_holds_though_a_token_is_cut_nowhere(
    budget: int, shift: int, omitted: int, fewer: int, plain: bool
) -> None:
    """Where one just fits at the half, the end is shorter by it, and the note may become longer by a digit."""
    room = budget - len(NOTE % omitted)
    before = room // 2 - len(b"[redacted S0]") + shift
    behind = room - before + omitted + fewer
    shape = Shape(most_bytes=budget, most_line_bytes=2048)

    view = look(b"x" * before + b"cccc" + b"y" * behind, plain=plain, secrets=[b"cccc"], shape=shape)

    assert budget - 20 <= len(view.text) <= budget


@unhurried
@given(WILD.map(lambda data: data.decode(errors="ignore")), SHAPES, SIZES, st.booleans(), st.data())
def test_text_in_utf8_stays_so(text: str, shape: Shape, windows: list[int], plain: bool, more: st.DataObject) -> None:
    """Wherever it is cut: at the note, at a line's end, at the beginning, at the end of what is there by now."""
    data = text.encode()
    start, end = sorted(more.draw(st.tuples(*[st.integers(0, len(data))] * 2)))

    view = look(data[:end], start=start, final=False, plain=plain, secrets=SECRETS, shape=shape, sizes=windows)

    view.text.decode()


@unhurried
@given(WILD, SHAPES, SIZES, FLAGS, st.data())
def test_a_secret_is_never_in_a_view(
    data: bytes, shape: Shape, windows: list[int], flags: dict[str, bool], more: st.DataObject
) -> None:
    """Whatever codes it is broken up by, wherever the view, its windows and its lines begin and end."""
    start = more.draw(st.integers(0, len(data)))

    view = look(data, start=start, secrets=SECRETS, shape=shape, sizes=windows, **flags)

    assert not any(secret in part for secret in SECRETS for part in parts(view))


@unhurried
@given(COLORED, SHAPES, SIZES, st.booleans(), st.data())
def test_a_secret_is_in_no_raw_view_whose_codes_are_removed_or_drawn(
    data: bytes, shape: Shape, windows: list[int], final: bool, more: st.DataObject
) -> None:
    """A terminal does the one, a model that ignores the codes the other."""
    start = more.draw(st.integers(0, len(data)))

    view = look(data, start=start, final=final, plain=False, secrets=SECRETS, shape=shape, sizes=windows)

    shown = [each for part in parts(view) for each in (without_codes(part), look(part).text)]
    assert not any(secret in each for secret in SECRETS for each in shown)


@unhurried
@given(WILD | COLORED, st.booleans(), st.lists(st.integers(0, 400), max_size=6))
def test_a_secret_is_never_in_two_views_by_cursor(data: bytes, plain: bool, looks: list[int]) -> None:
    """Who joins what it was shown must not find one either."""
    seen = b""
    position = 0
    for end in sorted(min(each, len(data)) for each in looks):
        view = look(data[:end], start=min(position, end), final=False, plain=plain, secrets=SECRETS)
        position = max(position, view.end)
        seen += view.text

    seen += look(data, start=position, plain=plain, secrets=SECRETS).text
    assert not any(secret in each for secret in SECRETS for each in (seen, without_codes(seen)))


@unhurried
@given(CALM, st.lists(st.integers(0, 400), max_size=6), st.booleans())
def test_views_by_cursor_show_everything_once(data: bytes, looks: list[int], plain: bool) -> None:
    """In whatever steps it was printed: the result is that of one view at the end."""
    seen = b""
    position = 0
    for end in sorted(min(each, len(data)) for each in looks):
        view = look(data[:end], start=min(position, end), final=False, plain=plain, secrets=SECRETS[1:2])
        assert view.end <= end
        position = max(position, view.end)
        seen += view.text
    seen += look(data, start=position, plain=plain, secrets=SECRETS[1:2]).text

    assert TOKEN.sub(b"", seen) == TOKEN.sub(b"", look(data, plain=plain, secrets=SECRETS[1:2]).text)


@unhurried
@given(CALM.filter(lambda data: b"\xff" not in data), SHAPES, st.integers(40, 200), st.data())
def test_a_view_does_not_depend_on_how_much_was_read(data: bytes, shape: Shape, size: int, more: st.DataObject) -> None:
    """What the first windows are enough for is what larger ones would show."""
    plain = more.draw(st.booleans())
    small = look(data, plain=plain, secrets=SECRETS, shape=shape, sizes=[size])
    assume(small.is_enough)

    assert small == look(data, plain=plain, secrets=SECRETS, shape=shape)
