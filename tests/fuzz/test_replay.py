"""Each fuzz target over its seeds, over all it ever fell over, and over a thousand new inputs."""

import importlib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.seeds import NAMES, folder

_SEEDS = [
    pytest.param(name, path, id=f"{name}-{path.name}") for name in NAMES for path in sorted(folder(name).iterdir())
]


def one_input(name: str) -> Callable[[bytes], None]:
    target: Callable[[bytes], None] = importlib.import_module(f"tests.fuzz.{name}").one_input
    return target


@pytest.mark.parametrize(("name", "path"), _SEEDS)
def test_a_known_input_is_handled(name: str, path: Path) -> None:
    """What was mended once stays so."""
    one_input(name)(path.read_bytes())


@pytest.mark.parametrize("name", NAMES)
def test_unknown_inputs_are_handled(name: str) -> None:
    """Garbage, and seeds with a part replaced by garbage, give an answer or an error that was foreseen."""
    seeds = st.sampled_from([path.read_bytes() for path in sorted(folder(name).iterdir())])
    inputs = st.one_of(st.binary(max_size=2_000), st.builds(_damaged, seeds, st.binary(max_size=50), st.floats(0, 1)))

    _try_thousand(inputs, one_input(name))


def _damaged(seed: bytes, garbage: bytes, where: float) -> bytes:
    at = int(len(seed) * where)
    return seed[:at] + garbage + seed[at + len(garbage) :]


def _try_thousand(inputs: st.SearchStrategy[bytes], one: Callable[[bytes], None]) -> None:
    slow = settings(max_examples=1_000, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])
    slow(given(inputs)(one))()
