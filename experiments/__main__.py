"""The paper's section 5, repeated on this machine.

    python -m experiments                   every figure: 8 to 15, five runs of every variant (hours)
    python -m experiments 12 14             these only
    python -m experiments --redraw          figures again, out of the runs that are there
    python -m experiments --table           the table of docs/evaluation.md, to standard output; --write: into it

Writes build/figures/figN.csv, .png and .json. Every run is kept in build/figures/raw as soon as it is over: an
interrupted evaluation goes on where it stopped, and more --runs add to those there are. Other --time-scale, --load or
--target, other runs. Needs what `make demo` needs, and iperf3 for figure 12. Exit status 1 if something failed.
"""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table

from experiments import table
from experiments.catalogue import EXPERIMENTS, figures, of_figures
from experiments.experiment import Experiment
from experiments.output import Summary, read
from experiments.runner import Runner
from splitmerge.cli.output import make_console
from splitmerge.errors import BadInput, SplitmergeError

RUNS = 5
DIRECTORY = Path("build/figures")
DOCUMENT = Path("docs/evaluation.md")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m experiments", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    known = ", ".join(map(str, figures()))
    parser.add_argument("figures", nargs="*", type=int, metavar="FIGURE", help=f"of {known} (default: all)")
    parser.add_argument("--runs", type=int, default=RUNS, help="of every variant (default %(default)s)")
    parser.add_argument("--time-scale", type=float, default=1.0, metavar="F", help="the paper's seconds times this")
    parser.add_argument("--load", type=float, metavar="F", help="the paper's rates times this (default: by experiment)")
    parser.add_argument("--target", choices=("embedded", "bmv2"), default="embedded", help="the switch")
    parser.add_argument("--variants", type=lambda text: text.split(","), default=[], help="only these, with commas")
    parser.add_argument("--redraw", action="store_true", help="make no runs")
    parser.add_argument("--table", action="store_true", help="make no runs and draw nothing: the table in Markdown")
    parser.add_argument("--write", action="store_true", help=f"with --table: put it into {DOCUMENT}")
    parser.add_argument("--json", action="store_true", help="the figures' summaries as JSON on standard output")
    parser.add_argument("--output", type=Path, default=DIRECTORY, metavar="DIR", help="default %(default)s")
    return parser


def _chosen(options: argparse.Namespace) -> list[Experiment]:
    """The experiments with their parameters. :raises BadInput:"""
    if options.runs < 1:
        raise BadInput("--runs", f"{options.runs}", "at least 1")
    for name in ("time_scale", "load"):
        value = getattr(options, name)
        if value is not None and not 0 < value <= 10:
            raise BadInput(f"--{name.replace('_', '-')}", f"{value:g}", "more than 0, at most 10")
    kinds = of_figures(options.figures) if options.figures else list(EXPERIMENTS)
    said = {} if options.load is None else {"load": options.load}
    return [kind(target=options.target, time_scale=options.time_scale, **said) for kind in kinds]


def _run(options: argparse.Namespace, console: Console) -> list[Summary]:
    experiments = _chosen(options)
    known = {variant for each in experiments for variant in each.variants}
    if unknown := sorted(set(options.variants) - known):
        raise BadInput("--variants", f"no {', '.join(unknown)}", "of " + ", ".join(sorted(known)))
    experiments = [each for each in experiments if not options.variants or set(each.variants) & set(options.variants)]
    runner = Runner(options.output, options.runs, console, options.variants)
    if not options.redraw:
        runner.measure(experiments)
    wanted = set(options.figures or figures())
    return [summary for each in experiments for summary in runner.draw(each, wanted.__contains__)]


def _show(summaries: list[Summary], console: Console) -> None:
    shown = Table("figure", "what", "paper", "mean", "95 % interval", "median", "bar", "met")
    for summary in summaries:
        for line in summary.headlines:
            ours, unit = line.ours, line.unit
            paper = "–" if line.paper is None else f"{line.paper:g} {unit}"
            interval = "–" if math.isnan(ours.low) else f"{ours.low:.3g} to {ours.high:.3g}"
            median, bar = f"{ours.median:.3g} {unit}", table.bar(line)
            cells = (line.what, paper, f"{ours.mean:.3g} {unit}", interval, median, bar, table.MET[line.met])
            shown.add_row(str(summary.figure), *cells)
    console.print(shown)


def main() -> int:
    """As the module says."""
    options = _parser().parse_args()
    console = make_console(stderr=True)
    try:
        if options.table:
            summaries = read(options.output)
            if options.write:
                table.write_into(DOCUMENT, summaries)
            else:
                sys.stdout.write(table.markdown(summaries) + "\n")
            return 0
        summaries = _run(options, console)
    except SplitmergeError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2 if isinstance(error, BadInput) else 1
    except KeyboardInterrupt:
        sys.stderr.write("interrupted: the runs that were made are kept, the same command goes on\n")
        return 130
    if options.json:
        sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(summaries), indent=2) + b"\n")
        return 0
    _show(summaries, make_console())
    console.print(f"written to {options.output}/fig*.csv, .png, .json")
    return 0


if __name__ == "__main__":
    sys.exit(main())
