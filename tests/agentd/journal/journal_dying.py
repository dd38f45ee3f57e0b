"""Kills a worker between any two lines of the journal's code, one after the other, and looks at what is left.

Run as a program by the tests: it forks, which a test runner with its threads must not. Its argument says what the file
system shall lack (``holes`` or nothing). It prints how many lines it tried.
"""

import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from types import FrameType
from typing import Any

from guyline.agentd.journal import runs, times
from guyline.agentd.journal.journal import Journal
from guyline.agentd.journal.note import HEAD_BYTES, JournalNote
from guyline.agentd.journal.piece import Piece
from guyline.agentd.journal.runs import Stream
from guyline.agentd.journal.support import Support
from tests.agentd.journal.journal_parts import STARTED_AT, Outlet, Shelf, noise, pieces

PRINTED = {Stream.STDOUT: noise(15_500, 1), Stream.STDERR: noise(40_500, 2)}
TAKES = [(Stream.STDOUT, 15_000), (Stream.STDERR, 40_000), *((stream, 40) for _ in range(4) for stream in Stream)]
TAKEN_UP_AT = STARTED_AT + 3600


def main(missing: str) -> None:
    runs._WORTH_REWRITING = times._WORTH_REWRITING = 2
    lines = 0
    while dies(missing, lines):
        lines += 1
    print(lines)


def dies(missing: str, lines: int) -> bool:
    """Kills a worker after so many lines, and checks what its successor finds; False if it was done before."""
    with tempfile.TemporaryDirectory() as folder, Outlet() as stdout, Outlet(Stream.STDERR) as stderr:
        shelf = Shelf(Path(folder), bound=20_000, separate=True, support=Support(no_punch_hole=missing))
        outlets = {outlet.stream: outlet.reader for outlet in (stdout, stderr)}
        for outlet in (stdout, stderr):
            outlet.print(PRINTED[outlet.stream])
            outlet.end()
        notes, to_keeper = os.pipe()
        if not (worker := os.fork()):
            work(shelf, outlets, to_keeper, lines)
        os.close(to_keeper)
        code = os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1])
        with os.fdopen(notes) as kept:
            for note in kept:
                shelf.note = JournalNote.from_json(json.loads(note))
        assert code in (0, 9), code
        for draft in Path(folder).glob("*.draft"):
            draft.unlink()
        go_on(shelf, outlets)
    return code == 9


def work(shelf: Shelf, outlets: dict[Stream, int], to_keeper: int, lines: int) -> None:
    """A worker's life: takes, and shrinks for the quota, until it is killed or done."""
    code = 1
    try:
        journal = shelf.open()
        journal._keep_note = lambda note: send(to_keeper, note)
        sys.settrace(killer(lines))
        for stream, at_most in TAKES:
            shelf.time += 1
            journal.take(outlets[stream], stream, at_most=at_most)
        journal.shrink(HEAD_BYTES + 9_000)
        sys.settrace(None)
        code = 0
    finally:
        os._exit(code)


def send(to_keeper: int, note: JournalNote) -> None:
    os.write(to_keeper, json.dumps(note.to_json()).encode() + b"\n")


def killer(lines: int) -> Callable[[FrameType, str, Any], Any]:
    """Ends the process, as SIGKILL would, before the line of Guyline's code that comes after so many."""
    left = lines

    def trace(frame: FrameType, event: str, _argument: object) -> Any:
        nonlocal left
        if "/guyline/" not in frame.f_code.co_filename:
            return None
        if event == "line":
            if not left:
                os._exit(9)
            left -= 1
        return trace

    return trace


def go_on(shelf: Shelf, outlets: dict[Stream, int]) -> None:
    """The successor takes the rest; then nothing may be missing, doubled, or of the other stream."""
    journal = shelf.open()
    taken = journal.size
    shelf.time = TAKEN_UP_AT
    for stream, pipe in outlets.items():
        while journal.take(pipe, stream, at_most=7_000):
            pass
    assert journal.size == sum(map(len, PRINTED.values()))
    assert not shelf.note.gaps
    check(journal)
    check_times(journal, taken)
    journal.close()


def check(journal: Journal) -> None:
    for stream, head in divided(piece for piece in pieces(journal) if piece.offset < HEAD_BYTES).items():
        assert PRINTED[stream].startswith(head)
    tails = divided(pieces(journal, max(journal.kept_from, HEAD_BYTES)))
    for stream, tail in tails.items():
        assert PRINTED[stream].endswith(tail)
    assert sum(map(len, tails.values())) == journal.size - max(journal.kept_from, HEAD_BYTES) > 4_000


def check_times(journal: Journal, taken: int) -> None:
    """What the dead worker took is dated to its life, and the rest to its successor's."""
    for piece in pieces(journal):
        marks = journal.times_between(piece.offset, piece.offset + len(piece.data)) if piece.data else ()
        assert all((mark.printed_at >= TAKEN_UP_AT) == (mark.offset >= taken) for mark in marks)


def divided(pieces: Iterable[Piece]) -> dict[Stream, bytes]:
    """What came from each stream."""
    found = dict.fromkeys(Stream, b"")
    for piece in pieces:
        offset = 0
        for run in piece.runs:
            found[run.stream] += piece.data[offset : offset + run.length_bytes]
            offset += run.length_bytes
    return found


if __name__ == "__main__":
    main(sys.argv[1])
