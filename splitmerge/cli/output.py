"""What every command prints: a table for people, or JSON for programs."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import Any, TextIO, cast

import msgspec
from rich.console import Console
from rich.status import Status
from rich.table import Table
from rich.text import Text

from splitmerge.cli.errors import READER_GONE, Unsaid
from splitmerge.errors import SplitmergeError


def make_console(*, stderr: bool = False, width: int | None = None) -> Console:
    """The one kind of console that this project prints with: text is shown as it is, whoever wrote it.

    Rich would take ``[b]`` for markup and ``:ab:``, which IPv6 addresses have, for a picture. What is to have a style
    is a `Text`, or gets one by ``style=``.
    """
    return Console(stderr=stderr, width=width, emoji=False, markup=False)


console = make_console()
problems = make_console(stderr=True)


def say(text: str) -> None:
    """One line on standard output, which is not broken where a terminal, or what is none, ends."""
    console.print(text, highlight=False, soft_wrap=True)


def working(what: str, on: Console = console) -> AbstractContextManager[Status]:
    """A context in which a terminal shows that this goes on.

    Where there is no terminal nothing is written: on a full disk that would end the command before its work is done.
    """
    status = on.status(Text(what))
    return status if on.is_terminal else nullcontext(status)


def show_error(error: SplitmergeError) -> None:
    """One line on standard error; with ``--json`` a JSON object, as the REST API shows errors: error, where, remedy."""
    with suppress(OSError):  # a terminal that was closed: the status is all that anybody gets
        if "--json" in sys.argv:
            sys.stderr.write(msgspec.json.encode(_error_as_json(error)).decode() + "\n")
        else:
            problems.print(f"error: {error}", style="red", highlight=False, soft_wrap=True)


def show_warning(where: str, problem: str, remedy: str) -> None:
    """One line on standard error about what is odd, but stops nothing; with ``--json`` an object as of an error."""
    if "--json" in sys.argv:
        odd = {"warning": problem, "where": where, "remedy": remedy}
        sys.stderr.write(msgspec.json.encode(odd).decode() + "\n")
        return
    problems.print(f"warning: {where}: {problem} ({remedy})", style="yellow", highlight=False, soft_wrap=True)


@contextmanager
def watched_output() -> Iterator[None]:
    """Within it, whoever writes to standard output where that cannot be written gets `Unsaid`, a full disk say.

    Not where a reader is gone: that stays BrokenPipeError, with which Rich and Typer have their ways.
    """
    before = sys.stdout
    if before:  # else it was closed before the command began, which is fine: nobody wants to hear it
        sys.stdout = cast(TextIO, _Watched(before))
    try:
        yield
    finally:
        sys.stdout = before


class _Watched:
    """A stream; all but its errors is the stream's own."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        with _told():
            return self._stream.write(text)

    def flush(self) -> None:
        with _told():
            self._stream.flush()


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise Unsaid(error) from error


def end_output(status: int) -> int:
    """Let all that was said leave; the status that the command ends with, which was to be ``status``.

    Else the interpreter would find out as it ends, and say so in its own words.
    """
    if not sys.stdout:
        return status
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _say_no_more()
        return status or READER_GONE
    except OSError as error:
        _say_no_more()
        if not status:  # else that it is so, or something worse, has been told
            show_error(Unsaid(error))
        return status or 1
    return status


def _say_no_more() -> None:
    """What is left to be written, or was to be, goes nowhere."""
    with suppress(OSError, ValueError), open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())


def _error_as_json(error: SplitmergeError) -> dict[str, str]:
    problem = getattr(error, "problem", str(error))
    return {"error": problem, "where": getattr(error, "where", ""), "remedy": getattr(error, "remedy", "")}


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
        table.add_row(*(row[at] for at in shown))
    make_console(width=_room()).print(table)
    if left_out:
        console.print(f"a wider terminal, or --json, also has: {', '.join(left_out)}", style="dim", soft_wrap=True)
    return left_out


def _room() -> int:
    """Columns that a line may have: what is piped is not cut."""
    terminal = make_console()  # asked now: the width that `console` was made with is kept in it
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
