"""The table of docs/evaluation.md, out of ``fig*.json``: the paper's figure, ours, the ratio, how to repeat it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from experiments.figure import Headline
from experiments.output import Summary
from splitmerge.errors import BadInput

BEGIN, END = "<!-- figures: begin (python -m experiments --table --write) -->", "<!-- figures: end -->"
MET = {True: "yes", False: "no", None: "–"}
_SIGNS = {"above": ">", "below": "<", "least": "≥", "most": "≤"}


def markdown(summaries: Sequence[Summary]) -> str:
    """A line a headline, and what they were made with."""
    lines = [
        "| Figure | What | Paper | Ours: mean (95 % interval) | median | Ratio | Bar | Met | Repeat |",
        "|---|---|---|---|---|---|---|---|---|",
        *(_line(summary, headline) for summary in summaries for headline in summary.headlines),
        "",
        *_conditions(summaries),
    ]
    return "\n".join(lines)


def _line(summary: Summary, headline: Headline) -> str:
    ours, unit = headline.ours, headline.unit
    interval = "" if math.isnan(ours.low) else f" ({ours.low:.3g} to {ours.high:.3g})"
    cells = (
        f"{summary.figure}",
        headline.what,
        "–" if headline.paper is None else f"{headline.paper:g} {unit}",
        f"{ours.mean:.3g} {unit}{interval}",
        f"{ours.median:.3g} {unit}",
        "–" if not headline.paper else f"{ours.median / headline.paper:.2f}",
        bar(headline),
        MET[headline.met],
        f"`make fig{summary.figure}`",
    )
    return "| " + " | ".join(cells) + " |"


def bar(headline: Headline) -> str:
    """What is to be cleared, and by what."""
    if headline.bar is None:
        return "–"
    return f"{_SIGNS[headline.better]} {headline.bar:g} {headline.unit}"


def _conditions(summaries: Sequence[Summary]) -> list[str]:
    lines = []
    for summary in summaries:
        runs = ", ".join(f"{count} × {variant}" for variant, count in summary.runs.items())
        host, said = summary.machine, summary.parameters
        lines.append(
            f"- Figure {summary.figure}: {runs}; time scale {said['time_scale']:g}, load factor {said['load']:g}, "
            f"switch {said['target']}; {host.get('cores')} cores ({host.get('processor')})"
            + (f"; code {', '.join(summary.revisions)}" if summary.revisions else "")
            + f"; {len(summary.thrown_away) or 'no'} attempts thrown away"
            + (f" ({'; '.join(summary.thrown_away)})" if summary.thrown_away else "")
        )
    return lines


def write_into(path: Path, summaries: Sequence[Summary]) -> None:
    """Put the table between the marks of this document. :raises BadInput: if it has none."""
    text = path.read_text()
    head, begin, rest = text.partition(BEGIN)
    _old, end, tail = rest.partition(END)
    if not begin or not end:
        raise BadInput(str(path), "has no place for the table", f"two lines: {BEGIN} and {END}")
    path.write_text(f"{head}{begin}\n{markdown(summaries)}\n{end}{tail}")
