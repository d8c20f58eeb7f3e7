"""The outcome as a table: for people, and between markers in docs/reliability.md."""

from __future__ import annotations

from pathlib import Path

import msgspec

from chaos.cells import COMPONENTS, FAR, KINDS, Kind, cells
from chaos.strike import Outcome

PAGE = Path(__file__).resolve().parent.parent / "docs" / "reliability.md"
_BEGIN, _END = "<!-- matrix: `python -m chaos --write` writes what is between these lines -->", "<!-- end of matrix -->"


_DASH, _PASSED = "–", "passed"
_TITLES = {"embedded": "Embedded switch", "bmv2": "simple_switch_grpc"}


def merged(outcomes: list[Outcome]) -> list[Outcome]:
    """One outcome a cell, the last; that earlier ones did not hold it says too (`Outcome.failures`)."""
    found: dict[tuple[str, str, str, str, str], Outcome] = {}
    for each in outcomes:
        name = (each.target, each.topology, each.kind, each.component, each.step)
        found[name] = _in_place_of(found[name], each) if name in found else each
    return list(found.values())


def _in_place_of(old: Outcome, new: Outcome) -> Outcome:
    if msgspec.structs.replace(old, failures=new.failures) == new:  # the same strike, from a copy of the file
        return new if new.failures > old.failures else old
    return msgspec.structs.replace(new, failures=new.failures + old.failures + bool(old.faults))


def _before(outcome: Outcome) -> str:
    """That earlier strikes did not hold; empty if all did."""
    return f" (failed before: {outcome.failures})" if outcome.failures else ""


def line(outcome: Outcome) -> str:
    """One outcome, one line."""
    verdict = ("; ".join(outcome.faults) or outcome.note or "holds") + _before(outcome)
    return (
        f"{outcome.kind} {outcome.component:12} {outcome.step:12} {outcome.end:7} {outcome.seconds:5.1f} s  "
        f"{outcome.lost:5} of {outcome.sent} lost  {outcome.died} died  {verdict}"
    )


def text(outcomes: list[Outcome]) -> str:
    """All of them, and the sum."""
    lines = [line(outcome) for outcome in outcomes]
    return "\n".join([*lines, _held(outcomes)]) + "\n"


def _held(outcomes: list[Outcome]) -> str:
    """How many cells hold, each as of its last strike; and how many strikes before did not."""
    last = merged(outcomes)
    failed = sum(each.failures for each in last)
    held = f"{sum(not each.faults for each in last)} of {len(last)} cells hold"
    return f"{held}; {failed} earlier strikes at them did not" if failed else held


def cell(outcome: Outcome | None) -> str:
    """One cell: how the move ended, packets lost, seconds."""
    if outcome is None:
        return _DASH
    if outcome.faults:
        return "**" + "; ".join(outcome.faults) + "**" + _before(outcome)
    if outcome.passed:
        return _PASSED + _before(outcome)
    lost = f"{outcome.lost} lost" if outcome.lost else "0"
    note = f" ({outcome.note})" if outcome.note else ""
    return f"{outcome.end}, {lost}, {outcome.seconds:.1f} s{note}{_before(outcome)}"


def _title(target: str, topology: str) -> str:
    return f"{_TITLES.get(target, target)}, {topology.replace('-', ' ')}"


def sections(outcomes: list[Outcome]) -> dict[str, str]:
    """For each switch and topology, by its title, a table for each kind of move."""
    labs = dict.fromkeys((each.target, each.topology) for each in outcomes)
    return {_title(*lab): _matrix([each for each in outcomes if (each.target, each.topology) == lab]) for lab in labs}


def markdown(tables: dict[str, str]) -> str:
    """The sections, one after the other."""
    return "".join(f"\n### {title}\n{text}" for title, text in tables.items())


def _matrix(outcomes: list[Outcome]) -> str:
    """Steps down, components across."""
    found = {(each.kind, each.step, each.component): each for each in merged(outcomes)}
    several = any(each.component in FAR for each in outcomes)
    components = [*COMPONENTS, *(FAR if several else ())]
    kinds = [kind for name, kind in KINDS.items() if any(each.kind == name for each in outcomes)]
    parts = [_of_kind(kind, [each for each in components if kind.strikes(each)], found) for kind in kinds]
    return "".join(parts) + _sum(outcomes, len(cells(several=several)))


def _of_kind(kind: Kind, components: list[str], found: dict[tuple[str, str, str], Outcome]) -> str:
    """The table of one kind of move, and what is to be said of steps that it has not, or went past."""
    name = kind.name
    lines = [f"\n**{name}**\n", "| struck in | " + " | ".join(components) + " |", "|---" * (len(components) + 1) + "|"]
    passed: dict[str, str] = {}
    for step in kind.steps:
        row = [found.get((name, step, component)) for component in components]
        if any(row):
            lines.append(f"| {step.upper()} | " + " | ".join(map(cell, row)) + " |")
        if any(each is not None and each.passed and not each.faults for each in row):
            passed[step] = kind.passes[step]
    said = [f"*{_PASSED}* {step.upper()}: {why}, each time of several." for step, why in passed.items()]
    if kind.without and len(lines) == 3 + len(kind.steps):
        said.append(f"Other steps cannot be struck: {kind.without}")
    return "\n".join([*lines, *(f"\n{each}" for each in said)]) + "\n"


def _sum(outcomes: list[Outcome], cells: int) -> str:
    doubled = sum(each.duplicated for each in outcomes)
    reordered = sum(each.reordered for each in outcomes if KINDS[each.kind].ordered)
    return (
        f"\n{_held(outcomes)}, of {cells} that there are; "
        f"{sum(each.sent for each in outcomes)} datagrams sent, {doubled} doubled, "
        f"{reordered} reordered by moves that keep the order.\n"
    )


def write(outcomes: list[Outcome], page: Path = PAGE) -> None:
    """Put the tables between the page's markers; those of other switches and topologies stay."""
    old = page.read_text()
    begin, end = old.index(_BEGIN) + len(_BEGIN), old.index(_END)
    titled = (each.partition("\n") for each in old[begin:end].split("\n### ")[1:])
    kept = {title: text for title, _, text in titled}
    page.write_text(old[:begin] + "\n" + markdown(kept | sections(outcomes)) + old[end:])
