"""Files of ours alone."""

import os
import stat
from pathlib import Path

import pytest

from guyline.agentd.system.files import (
    copy_range,
    create_private,
    make_private_directory,
    open_private,
    read_cached,
    size_of,
)


def test_a_new_file_is_its_owners_and_is_not_inherited(tmp_path: Path) -> None:
    """Neither other users nor the commands that the agent starts can read it."""
    file = create_private(tmp_path / "file")

    assert stat.S_IMODE(os.fstat(file).st_mode) == 0o600
    assert not os.get_inheritable(file)
    os.close(file)


def test_links_are_not_followed(tmp_path: Path) -> None:
    """Whoever can place a link must not choose what the agent writes to."""
    (tmp_path / "target").touch()
    (tmp_path / "link").symlink_to("target")

    with pytest.raises(FileExistsError):
        create_private(tmp_path / "link")
    with pytest.raises(OSError, match="symbolic links"):
        open_private(tmp_path / "link")


def test_a_directory_that_was_open_to_others_is_closed(tmp_path: Path) -> None:
    """An older version or a careless hand may have made it."""
    make_private_directory(tmp_path / "new")
    (tmp_path / "old").mkdir(mode=0o777)
    make_private_directory(tmp_path / "old")

    assert {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("new", "old")} == {0o700}


def test_reading_what_was_just_written_does_not_wait(tmp_path: Path) -> None:
    """A follower at the end of a journal is served from memory."""
    file = create_private(tmp_path / "file")
    os.write(file, b"0123456789")

    buffer = bytearray(5)
    assert read_cached(file, 2, 5, buffer=buffer) == b"23456"
    assert read_cached(file, 8, 5, buffer=buffer) == b"89"
    assert read_cached(file, 10, 5, buffer=buffer) == b""
    os.close(file)


def test_a_range_is_copied_to_the_same_offsets(tmp_path: Path) -> None:
    """So that a copy can take the place of the file."""
    source, target = create_private(tmp_path / "source"), create_private(tmp_path / "target")
    os.write(source, b"0123456789")

    copy_range(source, target, 3, 5)
    copy_range(source, target, 8, 100)

    assert (tmp_path / "target").read_bytes() == b"\0\0\x0034\0\0\x0089"
    os.close(source)
    os.close(target)


def test_what_is_not_there_has_no_size(tmp_path: Path) -> None:
    """A journal has no file before the first byte."""
    (tmp_path / "file").write_bytes(b"four")

    assert (size_of(tmp_path / "file"), size_of(tmp_path / "none")) == (4, 0)
