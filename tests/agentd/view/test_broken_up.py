"""Secrets that codes of a terminal break up: in plain views, and where the codes are kept."""

import pytest
from hypothesis import example, given
from hypothesis.strategies import lists, sampled_from

from tests.agentd.view.view_parts import TOKEN, Printed, look, unhurried, without_codes


def test_a_secret_broken_up_by_codes_is_found() -> None:
    """Colors, titles, overwriting: what a person would read is what counts."""
    printed = b"a hun\x1b[1mter2 \x1b]0;hunter2\x07.\nhxx\b\bunter2\n1%\rhunt\x1b[1mer2\n"

    view = look(printed, secrets=[b"hunter2"])

    assert view.text == b"a [redacted S0] .\n[redacted S0]\n[redacted S0]\n"
    assert view.redactions == 3


def test_a_secret_that_codes_break_up_is_held_back_as_well() -> None:
    """Until the rest has come."""
    first = look(b"a hun\x1b[1mte", secrets=[b"hunter2"], final=False)
    second = look(b"a hun\x1b[1mter2", secrets=[b"hunter2"], start=first.end)

    assert (first.text, second.text) == (b"a ", b"[redacted S0]")


@pytest.mark.parametrize(
    ("printed", "shown"),
    [
        (b"a hun\x1b[31m\x1b[Kter2\x1b[m end", b"a [redacted S0]\x1b[m end"),  # as by grep --color
        (b"a h\x1b]0;title\x07unter\0002 hunter2", b"a [redacted S0] [redacted S0]"),
        (b"a hunter\x1b[1munter2", b"a hunter\x1b[1munter2"),
        (b"1%\na hxx\b\bunter2\nb", b"1%\n[redacted S0]\nb"),  # a terminal overwrites the line
        (b"hun\x1b[1mter2\rdone   ", b"[redacted S0]\rdone   "),  # and here a terminal hides it, a file does not
        (b"hunter2-hun\x1b[1mter2 x", b"[redacted S0]-[redacted S0] x"),
        (b"1%\na hun\rter2 b\x1b[Ac", b"1%\n[redacted S0]\x1b[Ac"),  # with a move in it, the row
    ],
)
def test_what_codes_break_up_is_found_in_what_keeps_the_codes(printed: bytes, shown: bytes) -> None:
    """Whoever shows it on a terminal, or removes the codes, would read it."""
    view = look(printed, plain=False, secrets=[b"hunter2"])

    assert view.text == shown
    assert view.redactions == shown.count(b"[redacted")


def test_a_token_moves_nothing_of_its_row_to_where_it_becomes_a_secret() -> None:
    """The stretch in whose place it is held a move, without which the rest lands elsewhere."""
    view = look(b"xaab\b\bbcababcab\rcabcab\nx", plain=False, secrets=[b"abcab"])

    assert look(view.text).text == b"[redacted S0]\nx"


_MOVES = [
    b"\t",
    b"\b",
    b"\b\b",
    b"\r",
    b" ",
    b"\x1b[3D",
    b"\x1b[2C",
    b"\x1b[9G",
    b"\x1b[25G",
    b"\x1b[1P",
    b"\x1b[K",
    b"\x1b[A",
]
_SECRET = b"abab"


@unhurried
@given(lists(sampled_from([b"a", b"b", b"x", b"\n", b"\x1b[m", _SECRET, *_MOVES]), max_size=24))
@example([b"ab", b"ab", b"\x1b[3D\r\b\b\n", _SECRET, b"\x1b[9G\x1b[3Dbab"])
def test_a_token_that_is_wider_than_its_secret_moves_nothing_together_that_makes_one(pieces: list[bytes]) -> None:
    """Tabs and columns behind it lead elsewhere on the terminal of whoever gets the codes."""
    view = look(b"".join(pieces), plain=False, secrets=[_SECRET])

    assert _SECRET not in TOKEN.sub(b"|", look(view.text).text)


@pytest.mark.parametrize("begun", [b"a hun\x1b[1mte", b"a hunt\x1b[1", b"a h\x1b[m\x1b]0;tit", b"a \x1b[1mh\x1b"])
def test_with_the_codes_kept_the_beginning_of_a_secret_is_held_back_too(begun: bytes) -> None:
    """Also where the output ends within a code; and a cursor there divides no secret."""
    first = look(begun, plain=False, secrets=[b"hunter2"], final=False)

    assert without_codes(first.text) == b"a "
    assert first.end == begun.index(b"h")
    assert look(begun, plain=False, secrets=[b"hunter2"]).text == begun


def test_where_the_end_is_held_back_the_line_before_it_is_looked_at_as_it_is_shown() -> None:
    """Without its last letter a line that is drawn anew is another text, and that one may hold a secret."""
    view = look(b"tok\x1b[mens\x1b[2Dx", plain=True, secrets=[b"kens", b"xyz1"], final=False)

    assert b"kens" not in view.text


def test_a_progress_line_is_not_held_back_for_its_last_letter() -> None:
    """With the codes kept it is known where the letter is, and only that must wait."""
    view = look(b"x\r 10% tags\r 20% tags", plain=False, secrets=[b"s3cret"], final=False)

    assert view.text == b"x\r 10% tags\r 20% tag"


@pytest.mark.parametrize(
    ("printed", "shown"),
    [
        (b"  tags\r|\r/\r-", b"  tags\r|\r/\r-"),  # as by a spinner: what comes next lands at the beginning
        (b"sXX\b\b3c", b"sXX\b\b"),  # and here behind the beginning of the secret
        (b"tags X\b\b\x1b[K", b"tags X\b\b"),
    ],
)
def test_of_a_line_drawn_anew_only_what_was_written_last_is_held_back(printed: bytes, shown: bytes) -> None:
    """All of it would be shown when the line is over, which may take as long as the process."""
    view = look(printed, plain=False, secrets=[b"s3cret"], final=False)

    assert view.text == shown


def test_a_secret_that_is_drawn_up_to_where_something_is_held_back_is_found() -> None:
    """What is held back there overwrites it, but is not shown."""
    view = look(b"keXs\b\bn\rs\x1b[m", plain=False, secrets=[b"kens", b"s3cret"], final=False)

    assert view.text == b"[redacted S0]\r"


def test_an_offset_within_a_broken_up_secret_shows_none_of_it() -> None:
    """Or its end could be read, also within the code."""
    printed = b"<hun\x1b[31mter2>"

    views = [look(printed, plain=False, secrets=[b"hunter2"], start=start) for start in range(1, len(printed) - 1)]

    assert {view.text for view in views} == {b"[redacted S0]>"}


@pytest.mark.parametrize("plain", [True, False])
@pytest.mark.parametrize("rest", [b"t-va\x1b[1mlue", b"t-\x1b[m\x1b[Kvalue", b"t-XX\b\bvalue", b"t-v\0alue"])
def test_the_rest_of_a_secret_behind_a_gap_is_found_though_codes_lie_in_it(rest: bytes, plain: bool) -> None:
    """Its beginning is lost, and may have been seen before."""
    printed = Printed(b"a secre" + rest + b"\nb", lost=((0, 7),))

    assert look(printed, start=7, plain=plain, secrets=[b"secret-value"]).text == b"[redacted S0]\nb"
