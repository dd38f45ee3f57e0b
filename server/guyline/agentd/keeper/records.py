"""The record log: one append-only file for all commands, written by the keeper alone.

A line is ``CRC JSON``, the JSON an array ``[version, kind, ...]``. A line that does not match its checksum (a torn
write) is passed over; of several exits of one process the first counts. What the log adds to the keeper's memory is
that it survives the keeper; it does not survive loss of power unless the system wrote it out (no fsync).
"""

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from zlib import crc32

from guyline.agentd.keeper.table import Entry, Exit

VERSION = 2
"""Of each record. An older keeper refuses a log with a newer one."""


class NewerLog(Exception):
    """The log was written by a newer Guyline, whose records this one would misread."""


def to_line(*record: Any) -> bytes:
    body = json.dumps([VERSION, *record], separators=(",", ":")).encode()
    return b"%08x %s\n" % (crc32(body), body)


def read_lines(data: bytes) -> Iterator[list[Any]]:
    """Yields the intact records, without their version.

    Raises:
        NewerLog: A record has a version beyond ours.
    """
    for line in data.split(b"\n"):
        checksum, _, body = line.partition(b" ")
        if not body or checksum != b"%08x" % crc32(body):
            continue
        version, *record = json.loads(body)
        if version > VERSION:
            raise NewerLog(f"the record log has records of version {version}, this Guyline knows up to {VERSION}")
        yield record


class History:
    """What a log says: the store's id, and the entries in the order of their starts."""

    def __init__(self, records: Iterable[list[Any]]) -> None:
        self.store_id = ""
        self.ends = 0  # how many there were, as far as they were counted
        self.entries: dict[str, Entry] = {}
        for kind, *fields in records:
            apply = getattr(self, f"_on_{kind}", None)
            if apply:  # other kinds of the same version are of no concern here
                apply(*fields)

    def _on_store(self, store_id: str) -> None:
        self.store_id = store_id

    def _on_ends(self, count: int) -> None:
        self.ends = max(self.ends, count)

    def _on_start(self, process_id: str, info: str) -> None:
        self.entries[process_id] = Entry(process_id, info)

    def _on_entry(self, fields: list[Any]) -> None:
        entry = Entry.from_json(fields)
        entry.kept.clear()
        self.entries[entry.process_id] = entry
        if entry.exit:
            self._on_ends(entry.exit.order)

    def _on_spawned(self, process_id: str, pid: int, start_ticks: int, started_at: float) -> None:
        if entry := self.entries.get(process_id):
            entry.pid, entry.start_ticks, entry.started_at = pid, start_ticks, started_at

    def _on_failed(self, process_id: str, errno: int, part: str = "") -> None:
        if entry := self.entries.get(process_id):
            entry.errno, entry.failed_part = errno, part

    def _on_note(self, process_id: str, note: str) -> None:
        if entry := self.entries.get(process_id):
            entry.note = note

    def _on_exit(self, process_id: str, fields: list[Any]) -> None:
        exit_ = Exit.from_json(fields)
        self._on_ends(exit_.order)
        if (entry := self.entries.get(process_id)) and entry.exit is None:
            entry.exit = exit_

    def _on_forget(self, process_id: str) -> None:
        self.entries.pop(process_id, None)


class RecordLog:
    """The file, open for appending.

    A full disk stops nothing: the log is then ``behind`` the table in memory, and is written whole again by the next
    ``rewrite``, which the keeper tries from time to time.
    """

    COMPACT_AT_BYTES = 4 << 20
    """A rewrite pays from here on, once the log has doubled since the last one."""

    def __init__(self, path: Path, *, store_id: str, ends: int = 0) -> None:
        self.path = path
        self.store_id = store_id
        self._ends = ends  # how many there were: their numbers go on, also when the processes are long forgotten
        self.behind = False
        self._file = _open(path)
        self._size = os.fstat(self._file).st_size
        self._rewritten_at = self._size
        if self._size == 0:
            self.append("store", store_id)
        else:
            self._append(b"\n")  # what a torn write left is a line of its own

    @staticmethod
    def load(path: Path) -> History:
        """Raises:
        NewerLog: It was written by a newer Guyline.
        OSError: It cannot be read.
        """
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            data = b""
        return History(read_lines(data))

    def append(self, *record: Any) -> None:
        """Writes one record, which then survives this process."""
        self._append(to_line(*record))

    def append_exit(self, process_id: str, exit_: Exit) -> Exit:
        """Writes how a process ended; returns it with its number among the ends of this store."""
        self._ends += 1
        numbered = exit_._replace(order=self._ends)
        self.append("exit", process_id, numbered)
        return numbered

    @property
    def wants_rewrite(self) -> bool:
        return self.behind or self._size > max(self.COMPACT_AT_BYTES, 2 * self._rewritten_at)

    def rewrite(self, entries: Iterable[Entry]) -> None:
        """Replaces the log by one that holds these entries and nothing else. If that fails the old one stays."""
        fresh = self.path.with_suffix(".new")
        lines = [to_line("store", self.store_id), to_line("ends", self._ends)]
        lines += (to_line("entry", entry.to_json()) for entry in entries)
        try:
            fresh.unlink(missing_ok=True)
            file = _open(fresh)
        except OSError:
            self.behind = True
            return
        try:
            with os.fdopen(file, "wb", closefd=False) as writing:
                writing.writelines(lines)
            fresh.replace(self.path)
        except OSError:
            os.close(file)
            self.behind = True
            return
        self.close()
        self._file = file  # not opened anew: that could fail, and leave none
        self._size = self._rewritten_at = os.fstat(self._file).st_size
        self.behind = False

    def close(self) -> None:
        os.close(self._file)

    def _append(self, line: bytes) -> None:
        if self.behind:
            return
        try:
            written = os.write(self._file, line)
        except OSError:
            written = 0
        self._size += written
        self.behind = written < len(line)


def _open(path: Path) -> int:
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    return os.open(path, flags, 0o600)
