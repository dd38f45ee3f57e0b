"""How long to go on without an agent."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guyline.client.errors import GuylineError, Outcome
from guyline.client.patience import Outage


def test_the_delays_double_from_50_ms_up_to_a_second() -> None:
    """The first tries find a restarted worker at once; the later ones do not hammer one that is gone."""
    outage = Outage(60)

    delays = [outage.failed(0.0, luck=1.0) for _ in range(7)]

    assert delays == [0.05, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0]


@given(luck=st.floats(0, 1))
def test_the_jitter_is_full(luck: float) -> None:
    """A thousand clients of one agent come back spread over the whole delay, not all at its end."""
    assert Outage(60).failed(0.0, luck=luck) == 0.05 * luck


def test_an_outage_ends_when_patience_is_over() -> None:
    """A caller is told in the end, however often it has tried."""
    outage = Outage(10)

    assert outage.failed(100.0) is not None
    assert outage.failed(109.9) is not None
    assert outage.failed(110.0) is None


def test_progress_refills_patience() -> None:
    """A stream that lives for days and breaks now and then is not given up for the sum of its breaks."""
    outage = Outage(10)
    outage.failed(0.0)
    outage.failed(9.0)

    outage.progress()

    assert outage.failed(20.0, luck=1.0) == 0.05


def test_patience_may_run_before_the_first_failure() -> None:
    """A try that hangs takes time as well."""
    outage = Outage(10)
    outage.begin(100.0)

    assert outage.left(104.0) == 6.0
    assert outage.failed(109.9) is not None
    assert outage.failed(110.0) is None
    assert outage.left(111.0) == 0.0


def test_what_was_spent_on_waiting_is_no_part_of_it() -> None:
    """The agent was there meanwhile, and did as it was asked."""
    outage = Outage(10)
    outage.failed(100.0)
    outage.waited(300.0)

    assert outage.left(402.0) == 8.0


def test_the_agents_own_word_comes_before_the_jitter() -> None:
    """An agent that says when it is back knows best."""
    assert Outage(60).failed(0.0, retry_after=3.0, luck=0.5) == 3.025


def test_no_delay_reaches_beyond_patience() -> None:
    """The caller asked to be told after ten seconds, not after an hour."""
    assert Outage(10).failed(0.0, retry_after=3600) == 10


@pytest.mark.parametrize(
    ("earlier", "told"),
    [
        ([], Outcome.NOT_STARTED),
        ([Outcome.NOT_STARTED], Outcome.NOT_STARTED),
        ([Outcome.MAY_HAVE_RUN, Outcome.NOT_STARTED], Outcome.MAY_HAVE_RUN),
    ],
)
def test_an_error_speaks_of_all_tries(earlier: list[Outcome], told: Outcome) -> None:
    """That the last one was refused says nothing of the first, whose answer was lost."""
    outage = Outage(10)
    for outcome in earlier:
        outage.tried(outcome)

    with pytest.raises(GuylineError) as caught, outage.all_tries_told():
        raise GuylineError("refused", outcome=Outcome.NOT_STARTED)

    assert caught.value.outcome is told
