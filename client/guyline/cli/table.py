"""Tables: drawn by rich on a terminal, plain columns anywhere else."""

import sys
from collections.abc import Sequence

from guyline.cli.say import say


def show(columns: Sequence[str], rows: Sequence[Sequence[str]], *, wide: str) -> None:
    """Prints a table on standard output. ``wide`` is the column that is cut on a terminal that is too narrow."""
    if sys.stdout.isatty():
        _draw(columns, rows, wide)
    else:
        _print(columns, rows)


def _draw(columns: Sequence[str], rows: Sequence[Sequence[str]], wide: str) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, no_wrap=True, overflow="ellipsis", min_width=None if column == wide else 3)
    for row in rows:
        table.add_row(*(Text(cell, style=_style(cell)) for cell in row))
    Console().print(table)


def _style(cell: str) -> str:
    if cell == "running":
        return "green"
    if cell == "exit 0":
        return "dim"
    return "red" if cell == "unknown" or cell.startswith(("exit ", "signal ", "off: ")) else ""


def _print(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(columns, *rows, strict=True)]
    for row in (columns, *rows):
        say("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
