"""What the tests of journals share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from guyline.agentd.journal.journal import Journal
from tests.agentd.journal.journal_parts import Outlet, Shelf


@pytest.fixture
def outlet() -> Iterator[Outlet]:
    """A process's pipe."""
    with Outlet() as outlet:
        yield outlet


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    """A place for a journal."""
    return Shelf(tmp_path)


@pytest.fixture
def journal(shelf: Shelf) -> Iterator[Journal]:
    """One that is open, on the shelf."""
    journal = shelf.open()
    yield journal
    journal.close()
