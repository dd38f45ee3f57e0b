"""What all benchmarks share: samples taken in turn, figures beside their references, a table, a line of JSON."""

import json
import os
import platform
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from rich.console import Console
from rich.table import Table

Probe = Callable[[], Awaitable[float]]
"""Measures once; the number is in whatever the benchmark measures."""


class ReferenceMissingError(Exception):
    """The machine lacks what a benchmark compares with; the text says what."""


@dataclass(frozen=True)
class Aim:
    """What a figure, or its ratio to the reference, should come to."""

    of: Literal["value", "ratio"]
    relation: Literal["<=", ">="]
    bound: float

    def __str__(self) -> str:
        return f"{self.of} {self.relation} {self.bound:g}"


@dataclass(frozen=True)
class Figure:
    """One measured value, in ``unit``, beside what it is compared with, if there is such a thing."""

    name: str
    value: float
    unit: str
    reference: float | None = None
    reference_name: str = ""
    aim: Aim | None = None

    @property
    def ratio(self) -> float | None:
        """The value divided by the reference; None if that is missing or zero."""
        return self.value / self.reference if self.reference else None

    @property
    def met(self) -> bool | None:
        """Whether the aim is reached; None without one."""
        if self.aim is None:
            return None
        judged = self.value if self.aim.of == "value" else self.ratio
        assert judged is not None, "an aim for a ratio needs a reference"
        return judged <= self.aim.bound if self.aim.relation == "<=" else judged >= self.aim.bound


@dataclass(frozen=True)
class Sample:
    """Measurements of one thing."""

    values: tuple[float, ...]

    def percentile(self, percent: float) -> float:
        """Returns the value that ``percent`` of 100 measurements do not exceed."""
        ordered = sorted(self.values)
        return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]

    @property
    def median(self) -> float:
        """The value in the middle."""
        return statistics.median(self.values)

    def __add__(self, other: "Sample") -> "Sample":
        """Adds measurements that were taken in the same round."""
        return Sample(tuple(mine + theirs for mine, theirs in zip(self.values, other.values, strict=True)))


async def interleaved(rounds: int, *probes: Probe) -> list[Sample]:
    """Asks each probe for one measurement per round, in turn, so that all see the same machine.

    A tenth of the rounds more come first and are not counted.
    """
    taken: list[list[float]] = [[] for _ in probes]
    for number in range(-(rounds // 10), rounds):
        for values, probe in zip(taken, probes, strict=True):
            value = await probe()
            if number >= 0:
                values.append(value)
    return [Sample(tuple(values)) for values in taken]


async def seconds(act: Callable[[], Awaitable[object]]) -> float:
    """Returns how long it takes."""
    start = time.perf_counter()
    await act()
    return time.perf_counter() - start


def in_ms(
    name: str, sample: Sample, reference: Sample, reference_name: str, *, aims: Sequence[Aim | None] = (None, None)
) -> list[Figure]:
    """Returns the figures for p50 and p99 of two samples in seconds, with an aim for each."""
    return [
        Figure(
            name=f"{name}.p{percent}",
            value=sample.percentile(percent) * 1000,
            unit="ms",
            reference=reference.percentile(percent) * 1000,
            reference_name=reference_name,
            aim=aim,
        )
        for percent, aim in zip((50, 99), aims, strict=True)
    ]


def print_table(figures: Sequence[Figure]) -> None:
    """Prints what was measured, for people."""
    table = Table("figure", "value", "beside", "reference", "ratio", "aim", "")
    for each in figures:
        ratio = "" if each.ratio is None else f"{each.ratio:.2f} x"
        verdict = {True: "met", False: "MISSED", None: ""}[each.met]
        value = f"{each.value:,.2f} {each.unit}"
        reference = "" if each.reference is None else f"{each.reference:,.2f} {each.unit}"
        table.add_row(each.name, value, each.reference_name, reference, ratio, str(each.aim or ""), verdict)
    Console(width=140).print(table)


def to_json(figures: Sequence[Figure], missing: dict[str, str]) -> str:
    """Returns what was measured, for programs, in one line. ``missing`` says why a benchmark could not run."""
    return json.dumps(
        {
            "machine": {"cpus": os.cpu_count(), "kernel": platform.release(), "python": platform.python_version()},
            "figures": {
                each.name: {
                    "value": _rounded(each.value),
                    "unit": each.unit,
                    "reference": _rounded(each.reference),
                    "ratio": _rounded(each.ratio),
                    "met": each.met,
                }
                for each in figures
            },
            "missing": missing,
        }
    )


def _rounded(number: float | None) -> float | None:
    return None if number is None else round(number, 4)
