"""Plain text is what a terminal would show in the end, line by line."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guyline.agentd.view import plain
from tests.agentd.view.view_parts import Terminal, look, unhurried

PLAIN = {
    "colors": (b"\x1b[1;31merror\x1b[0m: no\n", b"error: no\n"),
    "grep's erasing": (b"\x1b[01;31m\x1b[Kmatch\x1b[m\x1b[K rest\n", b"match rest\n"),
    "a title, ended by BEL": (b"\x1b]0;title\x07text\n", b"text\n"),
    "a title, ended by ST": (b"\x1b]0;title\x1b\\text\n", b"text\n"),
    "a link": (b"\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\\n", b"link\n"),
    "a title without an end": (b"\x1b]0;title\ntext\n", b"\ntext\n"),
    "DCS": (b"\x1bP1$r0m\x1b\\text\n", b"text\n"),
    "APC": (b"\x1b_Gi=1;AAAA\x1b\\text\n", b"text\n"),
    "PM": (b"\x1b^private\x1b\\text\n", b"text\n"),
    "SOS": (b"\x1bXstring\x1b\\text\n", b"text\n"),
    "a character set": (b"\x1b(B\x1b)0text\n", b"text\n"),
    "single characters": (b"\x1b7\x1b=\x1bctext\x1b8\n", b"text\n"),
    "modes": (b"\x1b[?25l\x1b[?2004htext\x1b[?25h\n", b"text\n"),
    "controls": (b"a\x00\x07\x0e\x0f\x7fb\tc\n", b"ab\tc\n"),
    "controls of eight bits, in UTF-8": ("a\x9b31mb\x85c\n".encode(), b"abc\n"),
    "a lone escape": (b"a\x1b\nb\x1b", b"a\nb"),
    "a code cut off": (b"a\x1b[31", b"a"),
    "a terminal's newlines": (b"one\r\ntwo\r\n", b"one\ntwo\n"),
    "many returns before a newline": (b"one\r\r\r\ntwo\n", b"one\ntwo\n"),
    "progress": (b" 1%\r 50%\r100%\n", b"100%\n"),
    "progress that grows shorter": (b"long line\rshort\n", b"shortline\n"),
    "progress that erases to the end": (b"long line\r\x1b[Kshort\n", b"short\n"),
    "progress that erases all": (b"long line\x1b[2K\rshort\n", b"short\n"),
    "progress, unfinished": (b" 1%\r 2%\r", b" 2%"),
    "a spinner": (b"wait |\b/\b-\b\\\bdone\n", b"wait done\n"),
    "going back": (b"abc\x1b[2DX\n", b"aXc\n"),
    "going to a column": (b"abcdef\x1b[3GX\n", b"abXdef\n"),
    "going further than there is": (b"a\x1b[3Cb\n", b"a   b\n"),
    "inserting and deleting": (b"abc\r\x1b[1Pxy\b\b\x1b[2@..\n", b"..xy\n"),
    "tabs in what is overwritten": (b"a\tb\rX\n", b"X       b\n"),
    "a number without bounds": (b"x\r\x1b[" + b"9" * 5000 + b"Cy\n", b"x" + b" " * 399 + b"y\n"),
    "UTF-8": ("grün\rGR\n".encode(), "GRün\n".encode()),
    "no UTF-8": (b"\xff\xfe\rX\n", b"X\xfe\n"),
    "going up": (b"one\ntwo\n\x1b[2A\x1b[2KONE\n\x1b[2KTWO\n", b"one\ntwo\nONE\nTWO\n"),
    "going up within a line": (b"one\x1b[1Atwo\n", b"one\ntwo\n"),
}


@pytest.mark.parametrize("case", PLAIN)
def test_plain_text_is_what_a_terminal_shows(case: str) -> None:
    """A model should read what a person would have seen, and not pay for the rest."""
    printed, shown = PLAIN[case]

    assert look(printed).text == shown


def test_raw_output_stays_as_it_is() -> None:
    """Whoever asks for it wants the codes."""
    printed = b"".join(case for case, _ in PLAIN.values())

    assert look(printed, plain=False).text == printed


def _moving(final: str) -> st.SearchStrategy[tuple[bytes, Callable[[Terminal], None]]]:
    counts = st.one_of(st.none(), st.integers(0, 12))
    return counts.map(
        lambda count: (
            b"\x1b[%s%s" % (b"" if count is None else b"%d" % count, final.encode()),
            lambda terminal: terminal.control(final, count),
        )
    )


def _showing(character: str) -> tuple[bytes, Callable[[Terminal], None]]:
    return character.encode(), lambda terminal: terminal.show(character)


NO_CHANGE = [b"\x1b[31m", b"\x1b[m", b"\x1b]0;x\x07", b"\x1b(B", b"\x07", b"\x00", b"\x1bP0;x\x1b\\", b"\x1b[?25l"]
STEPS = st.one_of(
    st.sampled_from("abc \n\r\r\b").map(_showing),
    st.sampled_from(NO_CHANGE).map(lambda code: (code, lambda _: None)),
    *map(_moving, "CDGKP"),
)


@unhurried
@given(st.lists(STEPS, max_size=60))
def test_whatever_moves_the_last_state_is_that_of_a_terminal(
    steps: list[tuple[bytes, Callable[[Terminal], None]]],
) -> None:
    """Folding must not depend on which path was found to be fast enough for a line."""
    terminal = Terminal()
    for _, step in steps:
        step(terminal)

    assert look(b"".join(code for code, _ in steps)).text == terminal.text


@unhurried
@given(st.lists(STEPS, max_size=60))
def test_where_a_search_is_divided_does_not_matter(
    steps: list[tuple[bytes, Callable[[Terminal], None]]],
) -> None:
    """A search goes in slices, so that nobody waits for it: a code that lies on a border is one code."""
    data = b"".join(code for code, _ in steps)
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(plain, "_SLICE_BYTES", 5)
        monkeypatch.setattr(plain, "_OVERLAP_BYTES", 10)
        in_slices = look(data).text

    assert in_slices == look(data).text


def test_a_code_may_be_longer_than_what_is_searched_at_once() -> None:
    """Pictures, and what is copied to the clipboard, come in codes."""
    assert look(b"a\x1b]52;c;" + b"A" * 200_000 + b"\x07b\n").text == b"ab\n"


@pytest.mark.parametrize(
    "garbage", [b"\r", b"\x1b", b"\x1b[", b"\x1b[1", b"\xc2", b"a\b", b"\x1b]", b"a\x1b[1P", b"a\x1b[400@", b"a\x1b[1K"]
)
def test_garbage_takes_time_that_grows_with_its_length_alone(garbage: bytes) -> None:
    """What looks back or ahead at each byte does not end here within the time that a test has."""
    look(garbage * (400_000 // len(garbage)))


def test_a_secret_in_every_line_takes_time_that_grows_with_the_output_alone() -> None:
    """What looks at all secrets for each line that is drawn anew does not end here within the time that a test has."""
    view = look(b"hunter22 at\x1b[1C5%\r\n" * 20_000, secrets=[b"hunter22"])

    assert view.redactions == 20_000


@unhurried
@given(st.binary(max_size=300))
def test_no_bytes_fail_and_no_control_characters_are_left(data: bytes) -> None:
    """Output is whatever a program prints; a view of it always is text for a terminal."""
    shown = look(data).text

    assert not set(shown) & ({*range(0x20), 0x7F} - {0x09, 0x0A})
