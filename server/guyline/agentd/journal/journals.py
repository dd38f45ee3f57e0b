"""All journals of an agent: their folder, their pool of files, and how much they hold together."""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from guyline.agentd.journal.filepool import DRAFT_SUFFIX, FilePool
from guyline.agentd.journal.journal import Journal
from guyline.agentd.journal.note import NOTHING_LOST, JournalNote
from guyline.agentd.journal.piece import PIECE_BYTES
from guyline.agentd.journal.runs import RUNS_SUFFIX
from guyline.agentd.journal.secret_file import SECRETS_SUFFIX, read_values, write_values
from guyline.agentd.journal.support import Support
from guyline.agentd.journal.times import TIMES_SUFFIX
from guyline.agentd.system.files import make_private_directory, regular_files
from guyline.agentd.system.holes import why_no_holes
from guyline.agentd.system.splice import why_no_splice

QUOTA_BYTES = 1024 * 1024 * 1024
"""How much all journals hold together unless the settings say otherwise."""

MAX_OPEN_AT_REST = 64
"""How many journals to which nothing comes any more may be open: those that were used last."""

_POOLED_FILES = 32
_POOL_NAME = "pool"
_BESIDE = (RUNS_SUFFIX, TIMES_SUFFIX, SECRETS_SUFFIX)  # what a journal's files end in, besides the one with the bytes


class Feature(NamedTuple):
    """Something that this machine may let an agent have or not; ``reason`` says why not."""

    name: str
    enabled: bool
    reason: str


class Journals:
    """The journals in one folder. It is ours alone: any other file there is taken for a journal, or removed.

    ``kept_bytes`` is counted as they grow and shrink. Which of them must shrink or go when that is over the quota is
    for the owner to decide. A journal has its descriptors from its first use to its `Journal.complete`; afterwards it
    shares `MAX_OPEN_AT_REST` places with all others, since ended processes may be many more than descriptors. Not for
    several threads.
    """

    def __init__(self, folder: Path, *, quota_bytes: int = QUOTA_BYTES, pooled_files: int = _POOLED_FILES) -> None:
        make_private_directory(folder)
        self._folder = folder
        self._quota_bytes = quota_bytes
        self._pool = FilePool(folder / _POOL_NAME, capacity=pooled_files)
        self._pool.fill()
        for file in regular_files(folder):
            if file.suffix == DRAFT_SUFFIX:
                self._pool.recycle(file)
        self._support = Support(no_splice=why_no_splice(folder), no_punch_hole=why_no_holes(folder))
        self._journals: dict[str, Journal] = {}
        self._open_at_rest: OrderedDict[Journal, None] = OrderedDict()  # by their last use
        self._buffer = bytearray(PIECE_BYTES)
        self.kept_bytes = 0
        """What all that were opened and not removed hold on disk."""

    def open(
        self,
        process_id: str,
        *,
        bound: int,
        separate: bool,
        started_at: float,
        keep_note: Callable[[JournalNote], None],
        note: JournalNote = NOTHING_LOST,
    ) -> Journal:
        """The journal of a process, new or as an earlier worker left it; `remove` or `close` ends it. Once for each id.

        It touches no disk beyond looking for the file. ``bound``, ``separate`` and ``started_at`` (since the epoch)
        must be the same each time, and ``note`` the last that was kept.
        """
        assert process_id not in self._journals, "one journal has one owner"
        journal = Journal(
            path=self._path(process_id),
            pool=self._pool,
            bound=bound,
            separate=separate,
            started_at=started_at,
            note=note,
            keep_note=keep_note,
            support=self._support,
            buffer=self._buffer,
            kept_changed=self._kept_changed,
            used_at_rest=self._keep_open_for_now,
        )
        self._journals[process_id] = journal
        return journal

    def remove(self, process_id: str) -> None:
        """Removes a journal, opened or not, from the disk; see `FilePool.recycle` for what the disk refuses."""
        if journal := self._journals.pop(process_id, None):
            self._open_at_rest.pop(journal, None)
            journal.remove()
            self._pool.recycle(self._path(process_id + SECRETS_SUFFIX))
            return
        for suffix in ("", *_BESIDE):
            self._pool.recycle(self._path(process_id + suffix))

    def keep_secrets(self, process_id: str, values: Mapping[str, bytes]) -> None:
        """Keeps values by name beside a journal that need not be there yet; they go with it.

        Raises:
            OSError: There is no room, or no descriptor. Nothing is kept.
        """
        write_values(self._path(process_id + SECRETS_SUFFIX), self._pool, values)

    def secrets(self, process_id: str) -> dict[str, bytes] | None:
        """What was kept beside a journal; None if it cannot be read any more. Safe in any thread.

        Raises:
            OSError: No descriptor is left.
        """
        return read_values(self._path(process_id + SECRETS_SUFFIX))

    def over_quota(self) -> int:
        """How many bytes more than the quota are kept; 0 if it holds."""
        return max(0, self.kept_bytes - self._quota_bytes)

    def names_on_disk(self) -> set[str]:
        """The ids of all journals that there are, opened or not: at a start, what an earlier agent may have left."""
        names = {path.name for path in regular_files(self._folder)}
        for suffix in _BESIDE:
            names = {name.removesuffix(suffix) for name in names}
        return names

    def features(self) -> tuple[Feature, ...]:
        """What the folder's file system can do for journals, as tried at the start."""
        return (
            Feature("journal.splice", not self._support.no_splice, self._support.no_splice),
            Feature("journal.punch_hole", not self._support.no_punch_hole, self._support.no_punch_hole),
        )

    def close(self) -> None:
        """Gives back all descriptors; the journals stay on disk."""
        for journal in self._journals.values():
            journal.close()
        self._journals.clear()
        self._open_at_rest.clear()

    def _path(self, process_id: str) -> Path:
        assert process_id == Path(process_id).name, "an id is a plain name"
        return self._folder / process_id

    def _keep_open_for_now(self, journal: Journal) -> None:
        self._open_at_rest[journal] = None
        self._open_at_rest.move_to_end(journal)
        if len(self._open_at_rest) > MAX_OPEN_AT_REST:
            longest_unused, _ = self._open_at_rest.popitem(last=False)
            longest_unused.close()

    def _kept_changed(self, change: int) -> None:
        self.kept_bytes += change
