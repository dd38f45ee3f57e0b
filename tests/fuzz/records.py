"""The record log after any damage: what is intact is read, in order, and what is not is passed over.

A checksum that matches is taken as proof: the log lies in a directory of its owner's alone, so this is about torn
writes and failing disks, not about forgery. The fuzzer forges well, though (it sees what the checksum is compared
with), so lines that carry a right checksum are made here alone.
"""

import json
from collections.abc import Callable
from zlib import crc32

from guyline.agentd.keeper.records import VERSION, History, NewerLog, read_lines, to_line
from guyline.agentd.keeper.table import Entry, Exit

_EXITS = [Exit(ended_at=1.0, code=code) for code in range(256)]

_RECORDS: list[Callable[[str, int], bytes]] = [
    lambda _, number: to_line("store", f"store {number}"),
    lambda name, number: to_line("start", name, f"info {number}"),
    lambda name, number: to_line("spawned", name, number, 5, 1.5),
    lambda name, number: to_line("failed", name, number),
    lambda name, number: to_line("note", name, f"note {number}"),
    lambda name, number: to_line("exit", name, _EXITS[number]),
    lambda name, _: to_line("forget", name),
    lambda name, number: to_line("entry", Entry(name, f"info {number}").to_json()),
    lambda name, number: to_line("unheard of", name, number),
    lambda name, number: _with_checksum(json.dumps([VERSION + 1 + number, "newer", name]).encode()),
]


def one_input(data: bytes) -> None:
    """Takes a log, line by line.

    ``+KPN`` stands for an intact record of kind K, process P, with a number N; ``-KPN`` for the first half of one.
    """
    log = b"\n".join(map(_to_line_of_log, data.split(b"\n")))
    try:
        records = list(read_lines(log))
    except NewerLog:
        return
    history = History(records)
    assert set(history.entries) <= {fields[0] for kind, *fields in records if kind == "start"} | {
        fields[0][0] for kind, *fields in records if kind == "entry"
    }
    for kind in (record[0] for record in records):
        assert isinstance(kind, str)
    last = to_line("exit", "p", _EXITS[0])
    assert list(read_lines(log + b"\n" + last))[: len(records)] == records
    assert len(list(read_lines(log + b"\n" + last))) == len(records) + 1


def _to_line_of_log(line: bytes) -> bytes:
    checksum, _, body = line.partition(b" ")
    if line[:1] in {b"+", b"-"}:
        kind, process, number = line[1:4].ljust(3, b"\0")
        intact = _RECORDS[kind % len(_RECORDS)](f"p{process % 3}", number).rstrip(b"\n")
        return intact if line.startswith(b"+") else intact[: len(intact) // 2]
    is_forged = body and checksum == b"%08x" % crc32(body)
    return b"~" + line if is_forged else line


def _with_checksum(body: bytes) -> bytes:
    return b"%08x %s\n" % (crc32(body), body)
