"""A worker that is killed while it takes output loses none of it and repeats none of it."""

import json
import os
import random
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from guyline.agentd.journal.journal import Journal
from guyline.agentd.journal.note import HEAD_BYTES, JournalNote
from guyline.agentd.journal.runs import Stream
from tests.agentd.journal import journal_dying, journal_taker
from tests.agentd.journal.journal_parts import MIB, Outlet, Shelf, pieces

KILLS = 300 if os.environ.get("GUYLINE_SOAK") else 50
LATEST_KILL = 0.01
"""Seconds after a worker began to take."""


def counted(stream: Stream, start: int, end: int) -> bytes:
    """What a process prints on one stream: the numbers from 0 on, eight bytes each; of stderr with the top bit set."""
    top = (stream is Stream.STDERR) << 63
    words = array("Q", (top | word for word in range(start // 8, -(-end // 8))))
    return words.tobytes()[start % 8 :][: end - start]


class Printer(threading.Thread):
    """A process that prints numbers on one stream until it is told to stop, but ``at_least`` so many bytes."""

    def __init__(self, outlet: Outlet, at_least: int) -> None:
        super().__init__()
        self.printed = 0
        self._outlet = outlet
        self._at_least = at_least
        self._stopped = threading.Event()

    def run(self) -> None:
        while self.printed < self._at_least or not self._stopped.is_set():
            length = 1000 + self.printed % 3001  # of no page's size
            self._outlet.print(counted(self._outlet.stream, self.printed, self.printed + length))
            self.printed += length
        self._outlet.end()

    def stop(self) -> None:
        self._stopped.set()


@dataclass
class Keeper:
    """Holds the pipes and the last note while workers come and go."""

    shelf: Shelf
    outlets: list[Outlet]
    missing: str
    at_most: int

    def outlive_a_worker(self, kill_after: float | None) -> None:
        """Starts a worker; kills it so long after it began to take, or lets it take all."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        pipes = [outlet.reader for outlet in self.outlets]
        arguments = [self.missing, self.shelf.bound, self.at_most, theirs.fileno(), *pipes]
        with ours, theirs:
            worker = subprocess.Popen(
                [sys.executable, journal_taker.__file__, str(self.shelf.folder), json.dumps(self.shelf.note.to_json())]
                + [str(argument) for argument in arguments],
                pass_fds=[theirs.fileno(), *pipes],
            )
            theirs.close()
            assert json.loads(ours.recv(65536)) == "taking"
            self._listen(ours, kill_after)
            if kill_after is not None:
                worker.kill()
            while message := ours.recv(65536):
                self._keep(message)
            assert worker.wait() == (0 if kill_after is None else -signal.SIGKILL)

    def _listen(self, worker: socket.socket, seconds: float | None) -> None:
        """Takes notes for so long, or until the worker ends."""
        ends_at = time.monotonic() + (3600 if seconds is None else seconds)
        while (left := ends_at - time.monotonic()) > 0 and select.select([worker], [], [], left)[0]:
            message = worker.recv(65536)
            if not message:
                return
            self._keep(message)

    def _keep(self, message: bytes) -> None:
        self.shelf.note = JournalNote.from_json(json.loads(message))


@contextmanager
def printing(outlet: Outlet, at_least: int = 0) -> Iterator[Printer]:
    printer = Printer(outlet, at_least)
    printer.start()
    yield printer
    printer.stop()
    printer.join()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("missing", ["", "holes"])
def test_a_worker_killed_at_random_moments_loses_and_repeats_nothing(tmp_path: Path, missing: str) -> None:
    """`kill -9` in a tight loop of takes: afterwards every byte is there, once, and of the right stream."""
    shelf = Shelf(tmp_path, bound=4 * MIB, separate=True)
    with Outlet() as stdout, Outlet(Stream.STDERR) as stderr:
        keeper = Keeper(shelf, [stdout, stderr], missing, at_most=50_000)
        with printing(stdout, shelf.bound) as on_stdout, printing(stderr) as on_stderr:
            for _ in range(KILLS):
                keeper.outlive_a_worker(kill_after=random.uniform(0, LATEST_KILL))
            on_stdout.stop()
            on_stderr.stop()
            keeper.outlive_a_worker(kill_after=None)

    journal = shelf.open()
    printed = {Stream.STDOUT: on_stdout.printed, Stream.STDERR: on_stderr.printed}
    assert journal.size == sum(printed.values()) > shelf.bound
    assert not shelf.note.gaps
    check_tail(journal, printed)
    journal.close()
    assert {path.name for path in tmp_path.glob("journal*")} == {"journal", "journal.runs", "journal.times"}


@pytest.mark.timeout(120)
@pytest.mark.parametrize("missing", ["", "holes"])
def test_a_worker_killed_between_any_two_lines_loses_and_repeats_nothing(missing: str) -> None:
    """Random moments miss the rare ones: a note that is kept but not acted on, a record without its bytes."""
    command = [sys.executable, journal_dying.__file__, missing]
    root = Path(journal_dying.__file__).parents[3]

    tried = subprocess.run(command, check=True, capture_output=True, env=os.environ | {"PYTHONPATH": str(root)})

    assert int(tried.stdout) > 300


def check_tail(journal: Journal, printed: dict[Stream, int]) -> None:
    """From the oldest kept byte on, each stream is exactly the end of what was printed on it."""
    tails = {stream: bytearray() for stream in Stream}
    for piece in pieces(journal, max(journal.kept_from, HEAD_BYTES)):
        assert piece.gap is None
        offset = 0
        for run in piece.runs:
            tails[run.stream] += piece.data[offset : offset + run.length_bytes]
            offset += run.length_bytes
    for stream, tail in tails.items():
        assert tail == counted(stream, printed[stream] - len(tail), printed[stream])
