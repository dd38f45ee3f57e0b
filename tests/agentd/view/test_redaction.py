"""Secrets are found wherever they are, whatever else is there, and what may become one is known."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guyline.agentd.view.redaction import NOTHING_SECRET, Secret, Secrets, Span, redacted
from tests.agentd.view.view_parts import masked, to_secrets, unhurried

ALPHABET = st.sampled_from([b"a", b"b"])
WORDS = st.lists(ALPHABET, min_size=4, max_size=9).map(b"".join)
DATA = st.lists(st.one_of(ALPHABET, WORDS, st.just(b".")), max_size=30).map(b"".join)


@unhurried
@given(DATA, st.lists(WORDS, max_size=4))
def test_a_byte_is_hidden_if_and_only_if_it_is_of_a_secret(data: bytes, values: list[bytes]) -> None:
    """However they overlap, with themselves and with each other."""
    spans = to_secrets(*values).spans(data)

    hidden = [any(span.start <= at < span.end for span in spans) for at in range(len(data))]
    assert hidden == masked(data, values)
    assert all(one.end <= other.start for one, other in pairwise(spans))


@unhurried
@given(DATA, st.lists(WORDS, max_size=4))
def test_what_may_become_a_secret_is_the_longest_end_that_one_begins_with(data: bytes, values: list[bytes]) -> None:
    """One byte too few and the beginning of a secret is shown; too many, and a prompt waits for ever."""
    beginnings = [length for value in values for length in range(len(value)) if data.endswith(value[:length])]

    assert to_secrets(*values).unfinished(data) == max(beginnings, default=0)


def test_each_secret_has_its_name_and_neighbours_are_two() -> None:
    """So that a reader knows what was there, and how often."""
    secrets = Secrets([Secret("TOKEN", b"s3cret"), Secret("KEY", b"hunter2")])

    assert redacted(b"a s3crets3cret, hunter2!", secrets) == b"a [redacted TOKEN][redacted TOKEN], [redacted KEY]!"


def test_of_overlapping_secrets_the_longest_gives_the_name() -> None:
    """One that contains another must not leave its edges behind."""
    secrets = Secrets([Secret("INNER", b"hunter"), Secret("OUTER", b"-hunter2-"), Secret("NEXT", b"2-and")])

    assert redacted(b"x-hunter2-and more", secrets) == b"x[redacted OUTER] more"


@pytest.mark.parametrize("printed", [b"line1\nline2", b"line1\r\nline2", b"line1\nline2\n", b"line1\r\nline2\r\n"])
@pytest.mark.parametrize("value", [b"line1\nline2", b"line1\nline2\n", b"line1\r\nline2", b"line1\r\nline2\r\n"])
def test_a_secret_of_several_lines_is_known_however_it_was_printed(value: bytes, printed: bytes) -> None:
    """A terminal prints CR LF for LF, and a shell drops the newlines at the end of a value."""
    hidden = redacted(b"<" + printed + b">", Secrets([Secret("KEY", value)]))

    assert hidden.replace(b"\r", b"").replace(b"\n", b"") == b"<[redacted KEY]>"


def test_the_rest_of_a_secret_is_known_where_its_beginning_is_lost() -> None:
    """The journal makes room at a page's border, not at a secret's."""
    secrets = Secrets([Secret("TOKEN", b"0123456789")])

    assert secrets.spans(b"6789 and more", torn=True) == [Span(0, 4, "TOKEN")]
    assert secrets.spans(b"6789 and more") == []
    assert secrets.spans(b"789 and more", torn=True) == []  # three bytes may be anything


def test_a_rest_is_known_however_long_it_is() -> None:
    """A private key has thousands of bytes, and its last half is worth as much as the first."""
    value = b"".join(b"%05d." % number for number in range(20_000))
    secrets = Secrets([Secret("KEY", value)])

    for length in (4, 5_000, 100_000, len(value) - 1):
        rest = value[-length:]
        assert secrets.spans(rest + b"\nmore", torn=True) == [Span(0, length, "KEY")]
    assert secrets.spans(value[-5000:-1] + b"\nmore", torn=True) == []


def test_a_rest_of_what_repeats_itself_is_found_in_time_that_grows_with_it_alone() -> None:
    """As below. The longest rest counts: a shorter one would leave some of the secret in sight."""
    secrets = Secrets([Secret("A", b"ab" * 60_000)])

    assert secrets.spans(b"ab" * 50_000 + b"c", torn=True) == [Span(0, 100_000, "A")]
    assert secrets.spans(b"b" + b"ab" * 50_000 + b"c", torn=True) == [Span(0, 100_001, "A")]
    assert secrets.spans(b"ab" * 50_000 + b"a", torn=True)[-1].end == 100_000


def test_a_secret_that_repeats_itself_is_found_in_time_that_grows_with_the_output_alone() -> None:
    """Otherwise one command could keep the agent busy for hours: comparing all with all would never end here."""
    secrets = Secrets([Secret("A", b"a" * 50_000)])
    data = b"a" * 500_000

    assert secrets.spans(data + b"b") == [Span(0, 500_000, "A")]
    assert secrets.unfinished(data) == 49_999


def test_nothing_tells_a_secrets_value() -> None:
    """What is logged or shown of these objects by mistake is harmless."""
    secret = Secret("TOKEN", b"hunter2")

    assert "hunter2" not in repr(secret) + repr(Secrets([secret]))
    assert not NOTHING_SECRET
