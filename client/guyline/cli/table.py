"""Tables: drawn by rich on a terminal, plain columns anywhere else."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from guyline.cli.say import say

if TYPE_CHECKING:
    from rich.table import Table

_HEAD_LINES = 4  # of a screen: headline, nothing, heading, and one that stays free
_GAP = 2  # between columns
_LEAST_CUT = 10
"""Columns of a cut cell that are shown in any case, on a terminal that is too narrow for everything."""


def show(columns: Sequence[str], rows: Sequence[Sequence[str]], *, wraps: bool) -> None:
    """Prints a table on standard output.

    On a terminal that is too narrow the last column makes room: it ``wraps``, or it is cut.
    """
    if is_drawn():
        _draw(columns, rows, wraps=wraps)
    else:
        _print(columns, rows)


def is_drawn() -> bool:
    """Whether a table is for people: on a terminal, where nobody wants to see 36 characters of an id."""
    return sys.stdout.isatty()


class Screen:
    """Takes the whole terminal, and gives it back. The terminal may be stopped: not for the event loop."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live

        self._console = Console()
        self._live = Live(console=self._console, screen=True, auto_refresh=False)

    def take(self) -> None:
        """Takes it, also again; what was drawn last is drawn anew."""
        self._live.start(refresh=True)

    def give_back(self) -> None:
        """Makes the terminal as it was."""
        self._live.stop()

    def draw(self, headline: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Draws a headline, columns and as many rows as there is room for."""
        from rich.console import Group
        from rich.text import Text

        shown = rows[: max(1, self._console.height - _HEAD_LINES)]
        table = _to_table(columns, shown, width=self._console.width, wraps=False)
        self._live.update(Group(Text(headline, no_wrap=True, overflow="ellipsis"), Text(), table), refresh=True)


def _draw(columns: Sequence[str], rows: Sequence[Sequence[str]], *, wraps: bool) -> None:
    from rich.console import Console

    console = Console()
    console.print(_to_table(columns, rows, width=console.width, wraps=wraps))


def _to_table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, width: int, wraps: bool) -> "Table":
    from rich.cells import cell_len
    from rich.table import Table
    from rich.text import Text

    widths = [max(map(cell_len, cells)) for cells in zip(columns, *rows, strict=True)]
    room = max(_LEAST_CUT, width - sum(each + _GAP for each in widths[:-1]))
    table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="bold")
    for column, least in zip(columns[:-1], widths[:-1], strict=True):
        table.add_column(column, no_wrap=True, width=least)
    table.add_column(columns[-1], no_wrap=not wraps, width=min(widths[-1], room))
    for row in rows:
        cells = [Text(cell, style=_style(cell)) for cell in row]
        if not wraps:
            cells[-1].truncate(room, overflow="ellipsis")
        table.add_row(*cells)
    return table


def _style(cell: str) -> str:
    if cell == "running":
        return "green"
    if cell == "exit 0":
        return "dim"
    return "red" if cell == "unknown" or cell.startswith(("exit ", "signal ", "off: ")) else ""


def _print(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(columns, *rows, strict=True)]
    for row in (columns, *rows):
        say((" " * _GAP).join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
