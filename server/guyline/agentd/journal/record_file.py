"""What must be known of places in a journal, in a file beside it."""

import errno
import os
from array import array
from pathlib import Path

from guyline.agentd.journal.filepool import FilePool
from guyline.agentd.system.files import is_storage_failure, open_private, read_only, size_of

_WORD_BYTES = 8


class RecordFile:
    """Records that belong to a journal: a file, made with the first of them, and the same in memory.

    A record is one or more words, of eight bytes each in the machine's order. It is written before the effect that it
    describes, so that after a crash there may be one too many at the end, or a torn one.

    Not for several threads. Every method that opens the file may raise OSError: no descriptor is left.
    """

    def __init__(self, path: Path, pool: FilePool, *, words: int = 1) -> None:
        self.words: array[int] = array("Q")
        """The records, one after the other. To be changed by the methods here only; empty until loaded."""
        self.stored_bytes = size_of(path)  # what the records take on disk
        self._path = path
        self._pool = pool
        self._file: int | None = None
        self._record_bytes = words * _WORD_BYTES

    def __len__(self) -> int:
        return len(self.words) * _WORD_BYTES // self._record_bytes

    @property
    def is_loaded(self) -> bool:
        """Whether the file is open. If there is none yet, or the file system is read-only, it never is."""
        return self._file is not None

    def load(self) -> bool:
        """Reads what an earlier worker wrote, without a torn record at its end; whether there is a file.

        Whoever knows the journal's size has to `cut` the records afterwards, also if that changes nothing: what is
        torn goes then. On a file system that is read-only the records are there for now, and the file is not open.

        Raises:
            OSError: It cannot be opened or read now. Nothing is loaded.
        """
        try:
            file = open_private(self._path)
        except FileNotFoundError:
            return False
        except OSError as why:
            if why.errno != errno.EROFS:
                raise
            with read_only(self._path) as file:
                self._read(file)
            return True
        try:
            self._read(file)
        except OSError:
            os.close(file)
            raise
        self._file = file
        return True

    def cut(self, count: int) -> None:
        """Leaves the first ``count`` records, in memory and, if the file is open, on disk. They must be loaded."""
        self.stored_bytes = count * self._record_bytes
        self.words = self.words[: self.stored_bytes // _WORD_BYTES]
        if self._file is not None:
            os.ftruncate(self._file, self.stored_bytes)

    def append(self, *record: int) -> None:
        """Writes one more.

        Raises:
            OSError: There is no room. Nothing has changed.
        """
        if self._file is None:
            self._file = self._pool.take(self._path)
        words = array("Q", record)
        _write(self._file, words.tobytes(), self.stored_bytes)
        self.words.extend(words)
        self.stored_bytes += self._record_bytes

    def replace(self, words: "array[int]") -> bool:
        """Has these records in place of all. If there is no room for that, leaves everything as it is: False."""
        try:
            with self._pool.replacing(self._path) as file:
                _write(file, words.tobytes(), 0)
        except OSError as why:
            if not is_storage_failure(why):
                raise
            return False
        self.close()
        self._file, self.words, self.stored_bytes = file, words, len(words) * _WORD_BYTES
        return True

    def close(self) -> None:
        """Gives back the descriptor and the memory; `load` gets them again."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
        self.words = array("Q")

    def _read(self, file: int) -> None:
        stored = os.pread(file, os.fstat(file).st_size, 0)
        self.words = array("Q", stored[: len(stored) // self._record_bytes * self._record_bytes])

    def remove(self) -> None:
        """Returns the file to the pool."""
        self.close()
        self._pool.recycle(self._path)
        self.stored_bytes = 0


def _write(file: int, data: bytes, offset: int) -> None:
    if os.pwrite(file, data, offset) < len(data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # what fitted is overwritten by the next attempt
