"""How the agent comes by controllers: on the kernel's own cgroups, with whichever controller there is here."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import guyline.agentd.keeper
from tests.support.cgroup_place import controllers_here, delegated
from tests.support.program import program

SERVER = Path(guyline.agentd.keeper.__file__).parents[3]
USABLE = ("memory", "pids", "cpu", "hugetlb", "io")
"""Controllers of which any will do."""


@pytest.fixture
def controller() -> str:
    """One that is here."""
    found = [each for each in USABLE if each in controllers_here()]
    if not found:
        pytest.skip(f"none of the controllers {', '.join(USABLE)} of cgroup v2 is here")
    return found[0]


@pytest.fixture
def base(controller: str) -> Iterator[Path]:
    """A cgroup of a keeper's own."""
    with delegated([controller]) as group:
        yield group


def told(base: Path, controller: str, *steps: str) -> list[list[str]]:
    """Where a keeper that was started there lives after each step, and why it has no controller."""
    command = program("obtaining", SERVER, base, controller, *steps)
    output = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
    return [json.loads(line) for line in output.splitlines()]


def test_the_keeper_moves_out_of_the_way_once_and_back_at_its_end(base: Path, controller: str) -> None:
    """The kernel gives no controllers below a cgroup with members; every upgrade finds the keeper where it is."""
    first, second, last = told(base, controller, "obtain", "obtain", "give_back")

    assert first == second == [f"{base}/guyline-x-agent", ""]
    assert last == [str(base), ""]
    assert not (base / "guyline-x-agent").exists()
    (base / "guyline-x").rmdir()


def test_a_successor_finds_what_a_killed_keeper_has_left(base: Path, controller: str) -> None:
    """Its leaf is empty, its folder too, and whoever starts it again may start it inside: it must not nest."""
    told(base, controller, "obtain")
    (again, *_) = told(base / "guyline-x-agent", controller, "obtain", "give_back")

    assert again == [f"{base}/guyline-x-agent", ""]
    (base / "guyline-x").rmdir()


def test_nobody_else_is_moved(base: Path, controller: str) -> None:
    """Who lives in the agent's cgroup beside it has not asked for that; so it has no controllers, and says why."""
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as other:
        (base / "cgroup.procs").write_text(str(other.pid))
        ((place, why),) = told(base, controller, "obtain")
        other.communicate()

    assert place == str(base)
    assert "other processes live in the agent's own cgroup" in why
    assert str(base) in why
    (base / "guyline-x").rmdir()


def test_a_controller_that_is_not_there_moves_nobody(base: Path) -> None:
    """Moving takes milliseconds, and would be for nothing."""
    ((place, why),) = told(base, "coffee", "obtain")

    assert place == str(base)
    assert why == f"{base}/cgroup.controllers does not list coffee"
    assert not list(base.glob("guyline-*"))


def test_a_controller_that_is_refused_brings_the_keeper_back(base: Path, controller: str) -> None:
    """It is listed, and the folder may not have it: what was moved for it moves back."""
    (base / "guyline-x").mkdir()
    (base / "guyline-x" / "below").mkdir()
    (base / "guyline-x" / "below" / "cgroup.type").write_text("threaded")  # which makes the folder one of threads
    ((place, why),) = told(base, controller, "obtain")

    assert place == str(base)
    assert "guyline-x/cgroup.subtree_control" in why
    assert not (base / "guyline-x-agent").exists()
    (base / "guyline-x" / "below").rmdir()
    (base / "guyline-x").rmdir()
