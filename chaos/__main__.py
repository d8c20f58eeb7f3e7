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
from contextlib import ExitStack
from pathlib import Path

import msgspec

from chaos import table
from chaos.cells import COMPONENTS, KINDS, SAMPLE, Cell, cells
from chaos.lab import ChaosLab, chaos_lab
from chaos.strike import Outcome, strike
from chaos.verdict import judge
from splitmerge.errors import SplitmergeError

STEPS = sorted({step for kind in KINDS.values() for step in (*kind.forward, *kind.back)})


def run(chosen: list[Cell], target: str, *, stop_at_first: bool = False) -> list[Outcome]:
    """Strike after strike in one lab; a lab that does not come to rest is replaced."""
    outcomes: list[Outcome] = []
    started = time.monotonic()
    with ExitStack() as labs:
        lab: ChaosLab | None = None
        for number, cell in enumerate(chosen, 1):
            try:
                if lab is None:
                    directory = Path(labs.enter_context(tempfile.TemporaryDirectory(prefix="chaos")))
                    lab = labs.enter_context(chaos_lab(directory, target))
                outcome = strike(lab, cell)
            except SplitmergeError as error:
                labs.close()
                lab = None
                outcome = Outcome(kind=cell.kind.name, component=cell.component, step=cell.step, problem=str(error))
            outcomes.append(judge(cell, outcome))
            spent = time.monotonic() - started
            _progress(outcomes[-1], f"{number}/{len(chosen)}, {spent / number * (len(chosen) - number):.0f} s left")
            if stop_at_first and outcomes[-1].faults:
                break
    return outcomes


def merged(runs: list[list[Outcome]]) -> list[Outcome]:
    """One outcome a cell: that of the last run which has it."""
    found = {(each.kind, each.component, each.step): each for outcomes in runs for each in outcomes}
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
    parser.add_argument("--component", action="append", choices=COMPONENTS)
    parser.add_argument("--step", action="append", choices=STEPS)
    parser.add_argument("--sample", action="store_true", help="each component once")
    parser.add_argument("--target", choices=("embedded", "bmv2"), default="embedded", help="which switch")
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
        chosen = cells(options.kind, options.component, options.step)
        if options.sample:
            chosen = [cell for cell in chosen if (cell.kind.name, cell.component, cell.step) in SAMPLE]
        if options.list:
            sys.stdout.write("".join(f"{cell.name}\n" for cell in chosen))
            return 0
        outcomes = run(chosen, options.target)
    if options.json:
        raw = msgspec.json.format(msgspec.json.encode(outcomes)) + b"\n"
        sys.stdout.buffer.write(raw) if str(options.json) == "-" else options.json.write_bytes(raw)
    if options.write:
        table.write(outcomes)
    if str(options.json) != "-":
        sys.stdout.write(table.text(outcomes))
    return int(any(outcome.faults for outcome in outcomes) or not outcomes)


if __name__ == "__main__":
    sys.exit(main())
