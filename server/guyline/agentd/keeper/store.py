"""What a keeper begins with: the store's id and the commands that it knows, from its records or its predecessor."""

import os
import time
from pathlib import Path

from guyline.agentd.keeper.commands import AGENT_LOST, KEEPER_LOST
from guyline.agentd.keeper.config import Config
from guyline.agentd.keeper.records import RecordLog
from guyline.agentd.keeper.table import Entry, Exit, from_memory_file
from guyline.agentd.system import proc

RECORDS = "records.log"
"""The record log's name in the state directory."""


def load(config: Config) -> tuple[str, list[Entry], RecordLog]:
    """Reads the store: its id, its entries, and the log open for more.

    Raises:
        NewerLog: A newer Guyline wrote it.
        OSError: It cannot be read or written.
    """
    path = Path(config.state_dir, RECORDS)
    history = RecordLog.load(path)
    store_id = history.store_id or _new_id()
    if config.table is None:
        entries = list(history.entries.values())
    else:
        entries = _taken_over(config.table, history.entries, is_child=config.is_upgrade)
    ends = max([history.ends, *(entry.exit.order for entry in entries if entry.exit)])  # the log may be behind
    log = RecordLog(path, store_id=store_id, ends=ends)
    _settle(entries, log, why=AGENT_LOST if config.table is None else KEEPER_LOST)
    if log.wants_rewrite or config.table is not None:
        log.rewrite(entries)
    return store_id, entries, log


def _taken_over(table: int, recorded: dict[str, Entry], *, is_child: bool) -> list[Entry]:
    """The table as it was handed over, with the exits that its owner recorded but could not tell any more."""
    entries = list(from_memory_file(table))
    os.close(table)
    children = set(proc.own_children()) if is_child else set()
    for entry in entries:
        entry.is_child = entry.pid in children  # not even after an upgrade, if an earlier keeper was lost
        for descriptor in entry.kept.values():
            os.set_inheritable(descriptor, False)
        if (known := recorded.get(entry.process_id)) and entry.exit is None:
            entry.exit, entry.errno, entry.failed_part = known.exit, known.errno, known.failed_part
            entry.pid, entry.start_ticks = known.pid or entry.pid, known.start_ticks or entry.start_ticks
            entry.started_at = known.started_at or entry.started_at
    return entries


def _settle(entries: list[Entry], log: RecordLog, *, why: str) -> None:
    """Says of each entry whose fate nobody can tell any more that it is unknown."""
    for entry in entries:
        was_lost = why == AGENT_LOST or entry.pid is None
        if entry.exit is None and entry.errno is None and was_lost:
            entry.exit = log.append_exit(entry.process_id, Exit(ended_at=time.time(), unknown=why))


def _new_id() -> str:
    return os.urandom(16).hex()
