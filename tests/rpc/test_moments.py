"""Seconds on their way to the wire and back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guyline.rpc.moments import to_duration, to_moment, to_seconds, to_timestamp


@given(seconds=st.floats(0, 4e9))
def test_what_goes_out_comes_back_to_the_microsecond(seconds: float) -> None:
    """And is a message that every language accepts: less than a whole second of nanoseconds."""
    timestamp, duration = to_timestamp(seconds), to_duration(seconds)

    assert to_moment(timestamp) == pytest.approx(seconds, abs=1e-6)
    assert to_seconds(duration) == pytest.approx(seconds, abs=1e-6)
    assert 0 <= timestamp.nanos < 1_000_000_000
    assert 0 <= duration.nanos < 1_000_000_000


def test_nearly_a_second_is_a_second() -> None:
    """Rounding carries over."""
    duration = to_duration(1.9999999999)

    assert (duration.seconds, duration.nanos) == (2, 0)


def test_a_tenth_of_a_second_is_exactly_that() -> None:
    """Floats are not, so what is asked for as 0.7 must not be told as 0.699999999."""
    assert [to_duration(tenths / 10).nanos for tenths in range(10)] == [tenths * 100_000_000 for tenths in range(10)]
