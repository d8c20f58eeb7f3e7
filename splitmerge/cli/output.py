"""What every command prints: a table for people, or JSON for programs."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

console = Console()
problems = Console(stderr=True)


def show_json(value: Any) -> None:
    """One JSON document on standard output, nothing else."""
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(value)).decode() + "\n")


def show_table(
    title: str, columns: Sequence[str], rows: Iterable[Sequence[object]], spare: Sequence[str] = ()
) -> list[str]:
    """A table, one line a row; numbers to the right. The names of columns left out for want of room.

    :param spare: columns that are left out, in this order, as far as the terminal is too narrow.
        One that is empty is left out anyway. What is still too long is cut. Where there is no terminal all is shown.
    """
    rows = [list(row) for row in rows]
    cells = [[_cell(value) for value in row] for row in rows]
    numeric = [bool(cells) and all(isinstance(row[at], int | float) for row in rows) for at in range(len(columns))]
    shown, left_out = _fitting(columns, cells, spare)
    table = Table(title=title, title_justify="left", header_style="bold")
    for at in shown:
        table.add_column(columns[at], justify="right" if numeric[at] else "left", no_wrap=True, overflow="ellipsis")
    for row in cells:
        table.add_row(*(Text(row[at]) for at in shown))  # what others wrote is no markup
    Console(width=_room()).print(table)
    if left_out:
        console.print(f"a wider terminal, or --json, also has: {', '.join(left_out)}", style="dim", soft_wrap=True)
    return left_out


def _room() -> int:
    """Columns that a line may have: what is piped is not cut."""
    terminal = Console()  # asked now: the width that `console` was made with is kept in it
    return terminal.width if terminal.is_terminal or "COLUMNS" in os.environ else 1000


def _fitting(columns: Sequence[str], cells: list[list[str]], spare: Sequence[str]) -> tuple[list[int], list[str]]:
    """The columns, by place, that are shown; and the names of those that there is no room for."""
    widths = [max([len(name), *(len(row[at]) for row in cells)]) for at, name in enumerate(columns)]
    empty = {name for at, name in enumerate(columns) if name in spare and not any(row[at] for row in cells)}
    shown = [at for at, name in enumerate(columns) if name not in empty]
    left_out: list[str] = []
    for name in spare:
        if sum(widths[at] + 3 for at in shown) + 1 <= _room():
            break
        if name not in empty:
            shown.remove(list(columns).index(name))
            left_out.append(name)
    return shown, left_out


def _cell(value: object) -> str:
    match value:
        case bool():
            return "yes" if value else "no"
        case int():
            return f"{value:,}"
        case float():
            return f"{value:,.2f}"
        case _:
            return str(value)
