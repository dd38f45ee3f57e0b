"""Empty files in stock, since a journal's first byte should not wait for one to be created."""

import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from guyline.agentd.system.files import (
    create_private,
    is_storage_failure,
    is_want,
    open_private,
    regular_files,
    size_of,
)
from guyline.daemon.logging import get_logger

DRAFT_SUFFIX = ".draft"
"""What the name of a file ends in until it takes the place of another. Found at a start, it is worth nothing."""

_MOST_REFUSED = 1024  # of more files the next worker has to find those that belong to nobody

log = get_logger("journal")


class FilePool:
    """Empty files in a directory of their own, taken and given back by a rename.

    On ext4 creating a file costs 0.25 ms, a rename 11 µs. At most ``capacity`` files lie in stock; what is left there
    by an earlier worker is used again.
    """

    def __init__(self, directory: Path, *, capacity: int) -> None:
        self._directory = directory
        self._capacity = capacity
        self._free: list[Path] = []
        self._refused: dict[Path, None] = {}  # what the disk has not let go, in the order in which it is tried again
        self._numbers = itertools.count()
        directory.mkdir(mode=0o700, exist_ok=True)

    def fill(self) -> None:
        """Brings the stock to its capacity, or as near to it as the disk has room for."""
        for path in regular_files(self._directory):
            with self._costing_only(path):
                if size_of(path) or len(self._free) == self._capacity:
                    path.unlink()
                else:
                    self._free.append(path)
        while len(self._free) < self._capacity:
            path = self._unused_path()
            try:
                os.close(create_private(path))
            except OSError as why:
                if not is_storage_failure(why):
                    raise
                return
            self._free.append(path)

    def take(self, path: Path) -> int:
        """Makes an empty file at ``path``, where none may be. The descriptor is the caller's to close.

        Raises:
            OSError: There is no room, or no descriptor. There is no file then.
        """
        if path in self._refused:
            path.unlink(missing_ok=True)
            del self._refused[path]  # else the new one would go with the next attempt
        while self._free:
            spare = self._free.pop()
            try:
                return _renamed(spare, path)
            except OSError as why:
                if is_want(why):
                    self._free.append(spare)
                    raise
                self._remove(spare)  # one that went bad, or is gone, keeps nobody from the others
        return create_private(path)

    def recycle(self, path: Path) -> None:
        """Empties a file and takes it into the stock, or removes it if that is full. Does nothing if there is none.

        If the disk refuses, that is logged, and tried again when other files are given up.
        """
        if self._refused:
            self._remove(next(iter(self._refused)))
        with self._costing_only(path):
            if len(self._free) == self._capacity or not _empty(path):
                path.unlink()
            else:
                self._free.append(path.rename(self._unused_path()))

    @contextmanager
    def replacing(self, path: Path) -> Iterator[int]:
        """Yields a new empty file, which takes the place of ``path`` when the block ends without an error.

        From then on the descriptor is the caller's to close; after an error file and descriptor are gone.

        Raises:
            OSError: There is no room, or no descriptor.
        """
        draft = path.with_name(path.name + DRAFT_SUFFIX)
        draft.unlink(missing_ok=True)  # one that could not be removed below
        file = self.take(draft)
        try:
            yield file
            draft.rename(path)
        except BaseException:
            os.close(file)
            self._remove(draft)
            raise

    def _remove(self, path: Path) -> None:
        with self._costing_only(path):
            path.unlink()

    @contextmanager
    def _costing_only(self, path: Path) -> Iterator[None]:
        """What goes wrong with a file that is to go is no error: whoever gives it up can do nothing about it."""
        was_refused = path in self._refused
        self._refused.pop(path, None)
        try:
            yield
        except FileNotFoundError:
            return  # somebody tidied up
        except OSError as why:
            if not os.path.lexists(path):
                return  # on a read-only file system that is only the second reason
            if len(self._refused) < _MOST_REFUSED:
                self._refused[path] = None
            if not was_refused:
                log.warning("a file cannot be removed", file=str(path), error=str(why))

    def _unused_path(self) -> Path:
        candidates = (self._directory / str(number) for number in self._numbers)
        return next(path for path in candidates if not os.path.lexists(path))


def _renamed(spare: Path, path: Path) -> int:
    """Opens it first: who has no descriptor leaves nothing at ``path``."""
    file = open_private(spare)
    try:
        spare.rename(path)
    except OSError:
        os.close(file)
        raise
    return file


def _empty(path: Path) -> bool:
    """Empties a file before it is renamed: whatever is in stock is empty, even after a crash. False: it cannot be."""
    try:
        file = open_private(path)
    except OSError:  # as when no descriptor is left, which a removal does without
        return False
    try:
        os.ftruncate(file, 0)
    except OSError:
        return False
    finally:
        os.close(file)
    return True
