"""The arithmetic behind the figures: a wrong ratio would be believed."""

import json

import pytest

from tests.bench.harness import Aim, Figure, Sample, interleaved, to_json


def test_a_percentile_is_one_of_the_measurements() -> None:
    """Nobody wants to hear of a latency that never was."""
    sample = Sample(tuple(range(100, 0, -1)))

    assert (sample.percentile(50), sample.percentile(99)) == (51, 100)


@pytest.mark.parametrize(
    ("aim", "met"),
    [
        (Aim("ratio", "<=", 1.6), True),
        (Aim("ratio", "<=", 1.4), False),
        (Aim("ratio", ">=", 1.5), True),
        (Aim("value", "<=", 2), False),
    ],
)
def test_an_aim_judges_the_value_or_the_ratio(aim: Aim, met: bool) -> None:
    """Both kinds are in use."""
    assert Figure("x", 3.0, "ms", 2.0, "y", aim).met is met


async def test_probes_take_turns_after_a_warm_up() -> None:
    """What differs between two probes must not be the machine's mood."""
    asked: list[str] = []

    async def probe(name: str) -> float:
        asked.append(name)
        return len(asked)

    first, second = await interleaved(10, lambda: probe("a"), lambda: probe("b"))

    assert asked == ["a", "b"] * 11
    assert first.values[0] == 3
    assert len(second.values) == 10


def test_json_is_one_line_and_names_what_is_missing() -> None:
    """Programs read the last line."""
    line = to_json([Figure("x", 3.0, "ms")], {"run_true": "no cc"})

    assert "\n" not in line
    assert json.loads(line)["missing"] == {"run_true": "no cc"}
    assert json.loads(line)["figures"]["x"]["ratio"] is None
