"""A real disk that is really full: a small tmpfs or ext4, mounted for the test."""

import os
import select
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from guyline.agentd.journal.journal import Journal
from tests.agentd.journal.journal_parts import MIB, Outlet, Shelf, everything, noise, pieces

DISK_BYTES = 2 * MIB


@pytest.fixture(params=["tmpfs", "ext4"])
def small_disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MiB (as ext4: 8, of which some are its own)."""
    if os.geteuid():
        pytest.skip("mounting needs root")
    place = tmp_path / "disk"
    place.mkdir()
    if request.param == "tmpfs":
        mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(place)]
    else:
        image = tmp_path / "image"
        with image.open("wb") as file:
            file.truncate(8 * MIB)
        if not shutil.which("mkfs.ext4"):
            pytest.skip("mkfs.ext4 is not installed")
        subprocess.run(["mkfs.ext4", "-q", "-m", "0", str(image)], check=True)
        mount = ["mount", "-o", "loop", str(image), str(place)]
    if subprocess.run(mount, check=False, stderr=subprocess.DEVNULL).returncode:
        pytest.skip(f"{' '.join(mount[:3])} is not permitted here")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def take_all(journal: Journal, outlet: Outlet, data: bytes) -> None:
    """Lets a process print all of it, waiting whenever the pipe is full, and takes until the end."""

    def print_all() -> None:
        for start in range(0, len(data), 4096):
            outlet.print(data[start : start + 4096])
        outlet.end()

    process = threading.Thread(target=print_all)
    process.start()
    taken = -1
    while taken:
        select.select([outlet.reader], [], [])
        taken = journal.take(outlet.reader)
    process.join()


def test_a_full_disk_does_not_stop_the_process_and_every_stored_byte_is_right(small_disk: Path) -> None:
    """Losses are gaps, told exactly; what is between them is what was printed there."""
    shelf = Shelf(small_disk, bound=64 * MIB)
    journal = shelf.open()
    data = noise(10 * MIB)

    with Outlet() as outlet:
        take_all(journal, outlet, data)

    assert journal.size == len(data)
    assert journal.is_degraded
    assert journal.kept_bytes > DISK_BYTES // 2
    for piece in pieces(journal):
        assert piece.data == data[piece.offset : piece.offset + len(piece.data)]
    journal.close()


def test_once_there_is_room_again_output_is_stored_again(small_disk: Path) -> None:
    """The gap ends with the first byte that is stored, at the offset that it always would have had."""
    ballast = small_disk / "ballast"
    shelf = Shelf(small_disk, bound=64 * MIB)
    journal = shelf.open()
    with Outlet() as outlet, Outlet() as later:
        fill_up(ballast)
        take_all(journal, outlet, noise(100_000))
        ballast.unlink()
        os.sync()
        take_all(journal, later, b"again")

    assert everything(journal).endswith(b"again")
    assert journal.size == 100_005
    assert shelf.open().size == 100_005
    journal.close()


def fill_up(path: Path) -> None:
    """Makes a file that leaves no byte free."""
    with path.open("ab", buffering=0) as file:
        for block in (MIB, 4096, 1):
            with suppress(OSError):  # no space left
                while file.write(bytes(block)):
                    pass
