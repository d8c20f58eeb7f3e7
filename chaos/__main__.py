"""``python -m chaos``: the crash matrix. Each component is struck in each step of a move, under load.

    python -m chaos                                     every cell (about six seconds each)
    python -m chaos --sample                            each component once
    python -m chaos --component switch --step resuming  these cells
    python -m chaos --topology three-switches --sample  the same with three switches in a ring, and `far` struck too
    python -m chaos --write                             … and write the table into docs/reliability.md
    python -m chaos --list                              which cells there are
    python -m chaos --jobs 2 --json FILE --resume       two labs at once; what FILE has already is not struck again

Needs network namespaces, as the demo does. Exit status 1 if a cell does not hold.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import msgspec

from chaos import table
from chaos.cells import COMPONENTS, FAR, KINDS, RING_SAMPLE, SAMPLE, Cell, cells
from chaos.lanes import TRIES, Conditions, strikes
from chaos.strike import Outcome
from splitmerge.errors import BadInput, SplitmergeError

STEPS = sorted({step for kind in KINDS.values() for step in kind.steps})


def _raw(outcomes: list[Outcome]) -> bytes:
    return msgspec.json.format(msgspec.json.encode(outcomes)) + b"\n"


def _keep(outcomes: list[Outcome], path: Path | None) -> None:
    """After each strike: a run that is ended early leaves what it has."""
    if path is not None and str(path) != "-":
        path.write_bytes(_raw(outcomes))


def read(path: Path) -> list[Outcome]:
    """What ``--json`` wrote. :raises BadInput: if that cannot be read."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=list[Outcome])
    except (OSError, msgspec.MsgspecError) as error:
        raise BadInput(str(path), f"{error}", "name a file that --json of this release wrote") from None


def left(chosen: list[Cell], conditions: Conditions, earlier: list[Outcome]) -> list[Cell]:
    """The cells that have no outcome yet which holds."""
    held = {
        (each.kind, each.component, each.step)
        for each in earlier
        if (each.target, each.topology) == (conditions.target, conditions.topology)
        and not each.faults
        and (not each.passed or each.step in KINDS[each.kind].passes)
    }
    return [cell for cell in chosen if (cell.kind.name, cell.component, cell.step) not in held]


def run(
    chosen: list[Cell], conditions: Conditions, jobs: int, earlier: list[Outcome], path: Path | None
) -> list[Outcome]:
    """Strike the cells, and say and keep each outcome as it comes; all of them, ``earlier`` ones first."""
    outcomes = list(earlier)
    started = time.monotonic()
    for number, outcome in enumerate(strikes(chosen, conditions, jobs), 1):
        outcomes.append(outcome)
        _keep(outcomes, path)
        spent = time.monotonic() - started
        rest = spent / number * (len(chosen) - number)
        sys.stderr.write(f"[{number}/{len(chosen)}, {rest:.0f} s left] {table.line(outcome)}\n")
        sys.stderr.flush()
    return outcomes


def main(arguments: list[str] | None = None) -> int:
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
    parser.add_argument("--tries", type=int, default=TRIES, metavar="N", help="most strikes where the step is passed")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="labs that are struck at once")
    parser.add_argument(
        "--resume", action="store_true", help="keep what the --json FILE has, and strike the cells that it has not"
    )
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the outcomes there too (- is standard output)")
    parser.add_argument("--write", action="store_true", help="write the table into docs/reliability.md")
    parser.add_argument(
        "--table", metavar="FILE", type=Path, action="append",
        help="no strikes: make the table of what --json wrote earlier; cells of a later FILE replace those before",
    )  # fmt: skip
    parser.add_argument("--list", action="store_true", help="which cells there are")
    options = parser.parse_args(arguments)
    try:
        return _main(options)
    except SplitmergeError as error:
        parser.exit(2, f"{parser.prog}: {error}\n")


def _chosen(options: argparse.Namespace) -> list[Cell]:
    several = options.topology != "one-switch"
    chosen = cells(options.kind, options.component, options.step, several=several)
    if options.sample:
        sample = RING_SAMPLE if several else SAMPLE
        chosen = [cell for cell in chosen if (cell.kind.name, cell.component, cell.step) in sample]
    return chosen


def _main(options: argparse.Namespace) -> int:
    if options.table:
        outcomes = table.merged([each for path in options.table for each in read(path)])
    else:
        chosen = _chosen(options)
        if options.list:
            sys.stdout.write("".join(f"{cell.name}\n" for cell in chosen))
            return 0
        conditions = Conditions(options.target, options.topology, options.away, options.tries)
        earlier: list[Outcome] = []
        if options.resume:
            if options.json is None or str(options.json) == "-":
                raise BadInput("--resume", "without --json FILE", "name the file that the earlier run wrote")
            earlier = table.merged(read(options.json)) if options.json.exists() else []
            chosen = left(chosen, conditions, earlier)
        outcomes = run(chosen * options.times, conditions, options.jobs, earlier, options.json)
        outcomes = table.merged(outcomes) if options.resume else outcomes
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
