"""A worker reduced to taking: started by the tests of journals to be killed.

Its arguments are the journals' folder, the last note as JSON, what the file system shall lack (``holes`` or nothing),
the bound, the most it takes at once, the descriptor of its keeper, and the read ends of stdout and stderr. It tells the
keeper ``"taking"`` once before it begins, and then each note.
"""

import json
import os
import select
import sys
import time
from pathlib import Path
from unittest import mock

from guyline.agentd.journal import journals
from guyline.agentd.journal.note import JournalNote
from guyline.agentd.journal.runs import Stream


def main() -> None:
    folder, note, missing, bound, at_most, *descriptors = sys.argv[1:]
    keeper, *pipes = map(int, descriptors)
    with mock.patch.object(journals, "why_no_holes", return_value=missing):
        journal = journals.Journals(Path(folder)).open(
            "journal",
            bound=int(bound),
            separate=True,
            started_at=time.time() - 1_000.0,  # so that the first byte has a time
            note=JournalNote.from_json(json.loads(note)),
            keep_note=lambda note: send(keeper, note.to_json()),
        )
    send(keeper, "taking")
    streams = dict(zip(pipes, Stream, strict=True))
    while streams:
        for pipe in select.select(list(streams), [], [])[0]:
            if not journal.take(pipe, streams[pipe], at_most=int(at_most)):
                del streams[pipe]


def send(keeper: int, message: object) -> None:
    """One message to the keeper; its socket keeps messages apart, and those of the dead."""
    os.write(keeper, json.dumps(message).encode())


if __name__ == "__main__":
    main()
