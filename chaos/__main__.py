"""``python -m chaos``: the crash matrix. Each component is struck in each step of a move, under load.

    python -m chaos                                     every cell (about ten seconds each)
    python -m chaos --sample                            each component once
    python -m chaos --component switch --step resuming  these cells
    python -m chaos --write                             … and write the table into docs/reliability.md
    python -m chaos --list                              which cells there are

Needs network namespaces, as the demo does. Exit status 1 if a cell does not hold.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import msgspec

from chaos import table
from chaos.cells import COMPONENTS, FAR, KINDS, RING_SAMPLE, SAMPLE, Cell, cells
from chaos.lab import ChaosLab, chaos_lab
from chaos.strike import Outcome, strike
from chaos.verdict import judge
from splitmerge.errors import SplitmergeError

STEPS = sorted({step for kind in KINDS.values() for step in (*kind.forward, *kind.back)})


def run(
    chosen: list[Cell],
    target: str,
    *,
    topology: str = "one-switch",
    away: float = 0.0,
    keep: Callable[[list[Outcome]], None] = lambda outcomes: None,
) -> list[Outcome]:
    """Strike after strike in one lab; a lab that does not come to rest is replaced. ``keep`` sees all so far."""
    outcomes: list[Outcome] = []
    started = time.monotonic()
    with ExitStack() as labs:
        lab: ChaosLab | None = None
        for number, cell in enumerate(chosen, 1):
            try:
                if lab is None:
                    directory = Path(labs.enter_context(tempfile.TemporaryDirectory(prefix="chaos")))
                    lab = labs.enter_context(chaos_lab(directory, target, topology))
                outcome = strike(lab, cell, away)
            except SplitmergeError as error:
                labs.close()
                lab = None
                outcome = Outcome(
                    target=target, topology=topology, kind=cell.kind.name, component=cell.component, step=cell.step,
                    problem=str(error),
                )  # fmt: skip
            outcomes.append(judge(cell, outcome))
            spent = time.monotonic() - started
            keep(outcomes)
            _progress(outcomes[-1], f"{number}/{len(chosen)}, {spent / number * (len(chosen) - number):.0f} s left")
    return outcomes


def _raw(outcomes: list[Outcome]) -> bytes:
    return msgspec.json.format(msgspec.json.encode(outcomes)) + b"\n"


def _keep(outcomes: list[Outcome], path: Path | None) -> None:
    """After each strike: a run that is ended early leaves what it has."""
    if path is not None and str(path) != "-":
        path.write_bytes(_raw(outcomes))


def merged(runs: list[list[Outcome]]) -> list[Outcome]:
    """One outcome a cell: that of the last run which has it."""
    found = {
        (each.target, each.topology, each.kind, each.component, each.step): each
        for outcomes in runs
        for each in outcomes
    }
    return list(found.values())


def _progress(outcome: Outcome, where: str) -> None:
    sys.stderr.write(f"[{where}] {table.line(outcome)}\n")
    sys.stderr.flush()


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m chaos", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kind", action="append", choices=KINDS)
    parser.add_argument("--component", action="append", choices=COMPONENTS | FAR)
    parser.add_argument("--step", action="append", choices=STEPS)
    parser.add_argument("--sample", action="store_true", help="each component once")
    parser.add_argument("--target", choices=("embedded", "bmv2"), default="embedded", help="which switch")
    parser.add_argument(
        "--away", type=float, default=0.0, metavar="SECONDS", help="how long a killed orchestrator is away"
    )
    parser.add_argument(
        "--topology", default="one-switch", metavar="NAME", help="three-switches, or a file: see `splitmerge up --help`"
    )
    parser.add_argument("--times", type=int, default=1, metavar="N", help="strike each cell so often")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the outcomes there too (- is standard output)")
    parser.add_argument("--write", action="store_true", help="write the table into docs/reliability.md")
    parser.add_argument(
        "--table", metavar="FILE", type=Path, action="append",
        help="no strikes: make the table of what --json wrote earlier; cells of a later FILE replace those before",
    )  # fmt: skip
    parser.add_argument("--list", action="store_true", help="which cells there are")
    options = parser.parse_args()
    if options.table:
        outcomes = merged([msgspec.json.decode(each.read_bytes(), type=list[Outcome]) for each in options.table])
    else:
        several = options.topology != "one-switch"
        chosen = cells(options.kind, options.component, options.step, several=several)
        if options.sample:
            sample = SAMPLE if options.topology == "one-switch" else RING_SAMPLE
            chosen = [cell for cell in chosen if (cell.kind.name, cell.component, cell.step) in sample]
        if options.list:
            sys.stdout.write("".join(f"{cell.name}\n" for cell in chosen))
            return 0
        outcomes = run(
            chosen * options.times,
            options.target,
            topology=options.topology,
            away=options.away,
            keep=lambda so_far: _keep(so_far, options.json),
        )
    _keep(outcomes, options.json)
    if str(options.json) == "-":
        sys.stdout.buffer.write(_raw(outcomes))
    if options.write:
        table.write(outcomes)
    if str(options.json) != "-":
        sys.stdout.write(table.text(outcomes))
    return int(any(outcome.faults for outcome in outcomes) or not outcomes)


if __name__ == "__main__":
    sys.exit(main())
