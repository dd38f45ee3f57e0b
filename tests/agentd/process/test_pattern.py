"""The search in a stream finds what one search in all of it finds, wherever it is cut."""

import itertools
from contextlib import suppress

import pytest
import re2
from hypothesis import given
from hypothesis import strategies as st

from guyline.agentd.process.waiting.pattern import Found, Pattern, PatternRefused, Search

LONGEST = 12
"""Bytes of a match here, and so of what a search keeps."""

PATTERNS = [
    "a", "ab", "^a", "a$", "^$", "^ab$", "a|ba", "ab|a", "a{1,5}", "a{1,5}?b", "\\ba", "a\\b", "\\Ba", "a\\B",
    "\\Aa", "b\\z", "(?-m)^a", "[^a]", ".b", "a.{0,4}b", "(?s)a.b", "\\n^b", "b$\\n", "x*", "(a|b){3}\\n", "é",
    "[éa]b", "(?i)É", "\\C\\n", ">>> $", "^(>>> |\\$ )$", "(ab){1,6}$", "",
]  # fmt: skip
TEXT = st.lists(st.sampled_from([b"a", b"b", b"\n", b" ", b">>> ", b"$ ", "é".encode(), b"\xff", b"\0"]), max_size=60)


def first_match(pattern: str, text: bytes, start: int = 0) -> Found | None:
    """What one search in all of a text finds from there on: RE2's own word."""
    match = re2.compile(("(?m)" + pattern).encode()).search(text, start)
    return Found(match.start(), match.group()) if match else None


def cut(text: bytes, at: list[int]) -> list[bytes]:
    """The pieces of a text that is cut there."""
    borders = [0, *sorted(min(place, len(text)) for place in at), len(text)]
    return [text[start:end] for start, end in itertools.pairwise(borders)]


def feed(search: Search, data: bytes, *, is_all: bool) -> Found | None:
    """One step of a search."""
    search.add(data)
    window = search.window(is_all=is_all)
    return search.conclude(window, window.find(), is_all=is_all)


def shifted(found: Found | None, by: int) -> Found | None:
    """The same, further on."""
    return Found(found.offset + by, found.data) if found else None


@given(st.sampled_from(PATTERNS), TEXT, st.lists(st.integers(0, 100), max_size=20), st.integers(0, 2**40))
def test_where_the_pieces_are_cut_makes_no_difference(pattern: str, parts: list[bytes], at: list[int], by: int) -> None:
    """All of it is there, and comes in pieces only since it is read in pieces: there is one right answer."""
    text = b"".join(parts)
    *pieces, last = cut(text, at)
    search = Search(Pattern(pattern), by, longest=LONGEST)

    found = None
    for piece in pieces:
        found = found or feed(search, piece, is_all=False)
    found = found or feed(search, last, is_all=True)

    assert found == shifted(first_match(pattern, text), by)


@given(st.sampled_from(PATTERNS), TEXT, st.lists(st.integers(0, 100), max_size=20), st.integers(0, 2**40))
def test_what_is_printed_by_now_counts(pattern: str, parts: list[bytes], at: list[int], by: int) -> None:
    """Who waits is told as soon as it holds, and not told what a search of all of it would not have found by then."""
    text = b"".join(parts)
    search = Search(Pattern(pattern), by, longest=LONGEST)

    printed = b""
    for piece in cut(text, at):
        printed += piece
        found, expected = feed(search, piece, is_all=True), first_match(pattern, printed)
        assert found == shifted(expected, by)
        if found:
            return


@given(st.sampled_from(PATTERNS), TEXT, st.lists(st.integers(0, 100), max_size=20), st.integers(0, 100))
def test_what_comes_before_the_offset_counts_and_is_not_found(
    pattern: str, parts: list[bytes], at: list[int], start: int
) -> None:
    """A line or a word does not begin where somebody else stopped reading."""
    text = b"".join(parts)
    start = min(start, len(text))
    *pieces, last = cut(text[max(0, start - 1) :], at)
    search = Search(Pattern(pattern), start, before=min(start, 1), longest=LONGEST)

    found = None
    for piece in pieces:
        found = found or feed(search, piece, is_all=False)
    found = found or feed(search, last, is_all=True)

    assert found == first_match(pattern, text, start)


@given(st.sampled_from(PATTERNS), TEXT, TEXT, st.integers(0, 100))
def test_another_search_goes_on_where_one_was_given_up(
    pattern: str, parts: list[bytes], more: list[bytes], start: int
) -> None:
    """It finds what the first one would have found, without all of the text."""
    text, behind = b"".join(parts), b"".join(more)
    start = min(start, len(text))
    first = Search(Pattern(pattern), start, before=min(start, 1), longest=LONGEST)
    if feed(first, text[max(0, start - 1) :], is_all=True):
        return
    at = first.resume_at
    second = Search(Pattern(pattern), at, before=min(at, 1), longest=LONGEST)
    resumed = feed(second, text[max(0, at - 1) :] + behind, is_all=True)

    assert resumed == first_match(pattern, text + behind, start)


def test_lines_that_were_searched_are_not_searched_again() -> None:
    """But for those in which a match may have begun."""
    search = Search(Pattern("needle$"), 100, longest=LONGEST)
    assert not feed(search, b"hay and straw\n" * 1000, is_all=True)

    assert search.resume_at == 100 + 14 * 999


@given(st.sampled_from(PATTERNS), TEXT, TEXT)
def test_nothing_is_found_across_a_gap(pattern: str, parts: list[bytes], others: list[bytes]) -> None:
    """What lies behind it begins a line, and is not the beginning."""
    before, after = b"".join(parts), b"".join(others)
    search = Search(Pattern(pattern), 0, longest=LONGEST)

    found = feed(search, before, is_all=True)
    if not found:
        search.skip_to(1000)
        found = feed(search, after, is_all=True)

    assert found == (first_match(pattern, before) or shifted(first_match(pattern, b"\n" + after, 1), 999))


@pytest.mark.parametrize("pattern", [r"\Aa", "(?-m)^a"])
def test_the_output_does_not_begin_behind_a_gap(pattern: str) -> None:
    """Whoever waits for the beginning would take the middle for it, and anew behind each gap."""
    search = Search(Pattern(pattern), 0, longest=LONGEST)
    search.skip_to(1000)

    assert not feed(search, b"ab", is_all=True)


def test_a_search_holds_no_more_than_a_match_may_have() -> None:
    """However much it has seen."""
    search = Search(Pattern("needle$"), 0, longest=LONGEST)

    for _ in range(1000):
        assert not feed(search, b"hay and straw\n", is_all=False)
        window = search.window(is_all=False)

        assert len(window.text) <= LONGEST + 2  # one byte before and one behind it are looked at


def test_a_match_that_is_too_long_is_found_as_far_as_it_is_there() -> None:
    """Its end is not awaited: it may never come."""
    search = Search(Pattern("(?s)BEGIN.*"), 0, longest=LONGEST)

    found = feed(search, b"BEGIN" + b"x" * 20, is_all=False)

    assert found is not None
    assert found.offset == 0


@given(st.text(max_size=40) | st.text(alphabet="ab()[]{}|*+?\\\\^$.-:,1059PpLC\n", max_size=40), st.binary(max_size=50))
def test_whatever_the_pattern_is_it_is_searched_for_or_refused(text: str, data: bytes) -> None:
    """There is no third way, such as a crash."""
    with suppress(PatternRefused):
        feed(Search(Pattern(text), 0), data, is_all=True)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("(", "missing ): ("),
        ("a**", "bad repetition operator: **"),
        ("[z-a]", "invalid character class range: z-a"),
        ("(?=x)", "invalid perl operator: (?="),
        ("\\Z", "invalid escape sequence: \\Z"),
        ("(a)\\1", "invalid escape sequence: \\1"),
        ("\\pL{1000}", "pattern too large - compile failed"),
    ],
)
def test_what_is_no_pattern_is_refused_in_the_words_of_re2(
    text: str, problem: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """And in no other place: RE2 would like to print it to stderr."""
    with pytest.raises(PatternRefused) as refused:
        Pattern(text)

    assert str(refused.value) == problem
    assert capfd.readouterr() == ("", "")
