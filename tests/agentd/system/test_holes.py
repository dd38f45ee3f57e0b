"""A hole takes no room and moves nothing."""

import os
from pathlib import Path

import pytest

from guyline.agentd.system import holes
from guyline.agentd.system.holes import punch_hole, why_no_holes, why_no_holes_in_memory


def test_a_hole_frees_its_room_and_leaves_the_rest(tmp_path: Path) -> None:
    """Everything outside stays where and what it was, to the byte, whatever the file system's blocks are."""
    path = tmp_path / "file"
    path.write_bytes(b"x" * 1_000_000)
    with path.open("r+b") as file:
        punch_hole(file.fileno(), 5_000, 900_001)
        punch_hole(file.fileno(), 5_000, 900_001)
        os.fsync(file.fileno())

    assert path.read_bytes() == b"x" * 5_000 + bytes(895_001) + b"x" * 99_999
    assert path.stat().st_blocks * 512 < 200_000


def test_a_failure_says_which(tmp_path: Path) -> None:
    """The errno decides whether it is tried again."""
    with (tmp_path / "file").open("wb") as file, pytest.raises(OSError, match="Invalid argument"):
        punch_hole(file.fileno(), 10, 10)


def test_the_trial_says_why_there_are_no_holes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """GetInfo passes it on. `punch_hole` fails by a fake, since every file system here has holes."""

    def unsupported(*_args: int) -> None:
        raise OSError(95, "Operation not supported")

    assert (why_no_holes(tmp_path), why_no_holes_in_memory()) == ("", "")
    monkeypatch.setattr(holes, "punch_hole", unsupported)
    assert why_no_holes(tmp_path).endswith("fails: Operation not supported")
    assert why_no_holes_in_memory().endswith("a file in memory fails: Operation not supported")


def test_a_full_disk_is_not_taken_for_one_without_holes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The agent may be restarted just because the disk was full. `punch_hole` fails by a fake."""

    def full(*_args: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(holes, "punch_hole", full)
    assert why_no_holes(tmp_path) == ""
