"""The outcome as a table: for people, and between markers in docs/reliability.md."""

from __future__ import annotations

from pathlib import Path

from chaos.cells import COMPONENTS, FAR, KINDS
from chaos.strike import Outcome

PAGE = Path(__file__).resolve().parent.parent / "docs" / "reliability.md"
_BEGIN, _END = "<!-- matrix: `python -m chaos --write` writes what is between these lines -->", "<!-- end of matrix -->"


_DASH = "–"
_TITLES = {"embedded": "Embedded switch", "bmv2": "simple_switch_grpc"}


def line(outcome: Outcome) -> str:
    """One outcome, one line."""
    verdict = "; ".join(outcome.faults) or outcome.note or "holds"
    return (
        f"{outcome.kind} {outcome.component:12} {outcome.step:12} {outcome.end:7} {outcome.seconds:5.1f} s  "
        f"{outcome.lost:5} of {outcome.sent} lost  {outcome.died} died  {verdict}"
    )


def text(outcomes: list[Outcome]) -> str:
    """All of them, and the sum."""
    held = sum(not outcome.faults for outcome in outcomes)
    lines = [line(outcome) for outcome in outcomes]
    return "\n".join([*lines, f"{held} of {len(outcomes)} cells hold"]) + "\n"


def cell(outcome: Outcome | None) -> str:
    """One cell: how the move ended, packets lost, seconds."""
    if outcome is None or outcome.passed:
        return _DASH
    if outcome.faults:
        return "**" + "; ".join(outcome.faults) + "**"
    lost = f"{outcome.lost} lost" if outcome.lost else "0"
    note = f" ({outcome.note})" if outcome.note else ""
    return f"{outcome.end}, {lost}, {outcome.seconds:.1f} s{note}"


def markdown(outcomes: list[Outcome]) -> str:
    """For each switch and topology, a table for each kind of move."""
    labs = dict.fromkeys((each.target, each.topology) for each in outcomes)
    return "".join(
        f"\n### {_TITLES.get(target, target)}, {topology.replace('-', ' ')}\n"
        + _matrix([each for each in outcomes if (each.target, each.topology) == (target, topology)])
        for target, topology in labs
    )


def _matrix(outcomes: list[Outcome]) -> str:
    """Steps down, components across."""
    found = {(each.kind, each.step, each.component): each for each in outcomes}
    components = [each for each in COMPONENTS | FAR if each in COMPONENTS or any(o.component == each for o in outcomes)]
    parts: list[str] = []
    for name, kind in KINDS.items():
        if not any(each.kind == name for each in outcomes):
            continue
        parts.append(f"\n**{name}**\n\n| struck in | " + " | ".join(components) + " |\n")
        parts.append("|---" * (len(components) + 1) + "|\n")
        for step in (*kind.forward, *kind.back):
            row = [cell(found.get((name, step, component))) for component in components]
            if any((name, step, component) in found for component in components):
                parts.append(f"| {step.upper()} | " + " | ".join(row) + " |\n")
    held = sum(not each.faults for each in outcomes)
    doubled = sum(each.duplicated for each in outcomes)
    reordered = sum(each.reordered for each in outcomes if KINDS[each.kind].ordered)
    parts.append(
        f"\n{held} of {len(outcomes)} cells hold; {sum(each.sent for each in outcomes)} datagrams sent, "
        f"{doubled} doubled, {reordered} reordered by moves that keep the order.\n"
    )
    return "".join(parts)


def write(outcomes: list[Outcome], page: Path = PAGE) -> None:
    """Put the table between the page's markers."""
    old = page.read_text()
    begin, end = old.index(_BEGIN) + len(_BEGIN), old.index(_END)
    page.write_text(old[:begin] + "\n" + markdown(outcomes) + old[end:])
