"""A cgroup such as systemd or a container gives an agent: its own, with controllers for those below it."""

import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from guyline.agentd.system.cgroup import own_cgroup
from tests.support import cgroup


def controllers_here() -> list[str]:
    """The controllers of version 2 that can be had; version 1 may have the others."""
    own = own_cgroup()
    return (_home(Path(own)) / "cgroup.controllers").read_text().split() if own else []


def _home(own: Path) -> Path:
    """Where new ones can have controllers: beside this process's own, for nobody may live directly above such ones.

    But for the machine's root, in which everybody may live.
    """
    has_parent = (own / "cgroup.type").exists() and (own.parent / "cgroup.procs").exists()
    return own.parent if has_parent else own


@contextmanager
def delegated(controllers: Sequence[str]) -> Iterator[Path]:
    """A new one with these controllers, empty; skips the test, by the missing one's name, where there can be none.

    They stay enabled where it was made: by the end others may use them.
    """
    if why := cgroup.why_impossible():
        pytest.skip(why)
    own = own_cgroup()
    assert own
    home = _home(Path(own))
    for each in controllers:
        if each not in controllers_here():
            pytest.skip(f"the controller {each} of cgroup v2 is not here")
        try:
            (home / "cgroup.subtree_control").write_text(f"+{each}")
        except OSError as why_not:
            pytest.skip(f"the controller {each} cannot be given to cgroups below {home}: {why_not}")
    group = home / f"guyline-test-{uuid.uuid4()}"
    group.mkdir()
    try:
        yield group
        left = [each.name for each in group.iterdir() if each.is_dir()]
        assert not left, f"cgroups left behind: {left}"
    finally:
        cgroup.remove_all(group)
