"""Load traces: CSV files that say which flow sends how many packets per second from when on.

The header names the columns, in any order. Times are seconds and never go back; the simulation begins at the first.

- ``time,flow,packets``: from then on the flow sends so many packets per second; 0 ends it.
- ``time,flow,event``: ``start`` or ``end``; a column ``packets`` beside it says how many a flow sends that starts.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TextIO

from splitmerge.errors import BadInput, shortened

STDIO = "-"
"""In place of a file: standard input, or output."""
RATE_MOST, TIME_MOST = 1e12, 1e15
"""Packets per second of a flow, and seconds: sums and products of so much stay numbers."""
LINE_MOST = 1 << 20
"""Characters: a longer one has more fields than any header, or one that is longer than the csv module takes."""
ENDED = -1.0
"""In place of a rate: the flow ends."""
Change = tuple[float, str, float]
"""Time in seconds, flow, packets per second from then on or `ENDED`."""

TRACES = {path.stem: path for path in sorted((Path(__file__).parent / "traces").glob("*.csv"))}
"""Traces that come along, by the name that the command takes in place of a file."""
FORMS = "time,flow,packets  or  time,flow,event  or  time,flow,event,packets"
_EVENTS = {"start", "end"}


def read_trace(path: Path, rate: float) -> Iterator[Change]:
    """The changes of load in this file, or in the one of `TRACES` that has this name, or (``-``) in standard input.

    ``rate``: packets per second of a flow whose start does not say.
    :raises BadInput: naming the line, the column and the remedy; for lines, when they are come to.
    """
    if not 0 <= rate <= RATE_MOST:
        raise BadInput(f"--rate {rate:g}", "is out of range", f"0 to {RATE_MOST:g} packets per second")
    path = TRACES.get(str(path), path)
    try:
        with _opened(path) as file:
            yield from _changes(path, csv.reader(iter(partial(file.readline, LINE_MOST), ""), strict=True), rate)
    except OSError as error:
        remedy = "name a CSV file, or one of: " + ", ".join(TRACES)
        raise BadInput(str(path), error.strerror or str(error), remedy) from None
    except UnicodeDecodeError:
        raise BadInput(str(path), "not text in UTF-8", f"a CSV file: {FORMS}") from None


def _opened(path: Path) -> TextIO:
    if str(path) != STDIO:
        return path.open(newline="", encoding="utf-8-sig")
    return open(sys.stdin.fileno(), newline="", encoding="utf-8-sig", closefd=False)


class _Places:
    """What to say about a line."""

    def __init__(self, path: Path, lines: Iterator[list[str]]) -> None:
        self._path = path
        self._lines = lines

    def wrong(self, column: str, problem: str, remedy: str) -> BadInput:
        line = getattr(self._lines, "line_num", 0)
        if not line:
            return BadInput(str(self._path), "is empty", f"write {FORMS}")
        return BadInput(f"{self._path}: line {line}, column {column}", problem, remedy)

    def number(self, column: str, text: str, most: float) -> float:
        """:raises BadInput: unless it is 0 to ``most``."""
        try:
            value = float(text)
        except ValueError:
            raise self.wrong(column, f"{shortened(text)!r} is no number", "a number, as 12.5") from None
        if not 0 <= value <= most:
            raise self.wrong(column, f"{shortened(text)!r} is out of range", f"0 or more, at most {most:g}")
        return value


def _changes(path: Path, lines: Iterator[list[str]], rate: float) -> Iterator[Change]:
    places = _Places(path, lines)
    try:
        columns = _columns(next(lines, []), places)
        rows = _events(lines, columns, places, rate) if "event" in columns else _rates(lines, columns, places)
        empty = True
        for change in rows:
            empty = False
            yield change
        if empty:
            raise places.wrong("time", "there are no rows", "at least one after the header")
    except csv.Error as error:
        raise places.wrong("all", f"not CSV: {error}", FORMS) from None


def _columns(header: list[str], places: _Places) -> dict[str, int]:
    names = [name.strip() for name in header]
    forms = ({"time", "flow", "packets"}, {"time", "flow", "event"}, {"time", "flow", "event", "packets"})
    if set(names) not in forms or len(set(names)) != len(names):
        raise places.wrong("all", f"the header is {shortened(','.join(names)) or 'missing'}", f"write {FORMS}")
    return {name: position for position, name in enumerate(names)}


def _rates(lines: Iterator[list[str]], columns: dict[str, int], places: _Places) -> Iterator[Change]:
    at_time, at_flow, at_packets = columns["time"], columns["flow"], columns["packets"]
    width, latest, number = len(columns), 0.0, places.number
    for line in lines:
        if len(line) != width:
            if not line:
                continue
            raise _width(places, line, width)
        try:
            time, packets = float(line[at_time]), float(line[at_packets])
        except ValueError:
            time = number("time", line[at_time], TIME_MOST)
            packets = number("packets", line[at_packets], RATE_MOST)
        if not latest <= time <= TIME_MOST or not 0 <= packets <= RATE_MOST:
            _order(places, number("time", line[at_time], TIME_MOST), latest)
            number("packets", line[at_packets], RATE_MOST)
        latest = time
        flow = line[at_flow]
        if not flow:
            raise _nameless(places)
        yield time, flow, packets or ENDED


def _events(lines: Iterator[list[str]], columns: dict[str, int], places: _Places, rate: float) -> Iterator[Change]:
    at_time, at_flow, at_event, at_packets = (columns.get(name) for name in ("time", "flow", "event", "packets"))
    assert at_time is not None and at_flow is not None and at_event is not None
    width, latest, alive = len(columns), 0.0, set[str]()
    for line in lines:
        if not line:
            continue
        if len(line) != width:
            raise _width(places, line, width)
        time, flow, event = places.number("time", line[at_time], TIME_MOST), line[at_flow], line[at_event].strip()
        _order(places, time, latest)
        latest = time
        if not flow:
            raise _nameless(places)
        if event not in _EVENTS:
            raise places.wrong("event", f"{event!r}", "start or end")
        if (event == "start") == (flow in alive):
            problem = f"{flow!r} has " + ("begun already" if event == "start" else "not begun")
            raise places.wrong("flow", problem, "one start, then one end; a flow that comes again starts again")
        if event == "end":
            alive.discard(flow)
            yield time, flow, ENDED
            continue
        alive.add(flow)
        text = line[at_packets].strip() if at_packets is not None else ""
        yield time, flow, places.number("packets", text, RATE_MOST) if text else rate


def _order(places: _Places, time: float, latest: float) -> None:
    if time < latest:
        raise places.wrong("time", f"{time:g} comes after {latest:g}", "sort the rows by time")


def _width(places: _Places, line: list[str], width: int) -> BadInput:
    return places.wrong("all", f"{len(line)} fields, the header has {width}", "one field for each column")


def _nameless(places: _Places) -> BadInput:
    return places.wrong("flow", "empty", "any name that no other flow has")
