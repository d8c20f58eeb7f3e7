"""Runs × variants of experiments, kept run by run; an interrupted evaluation goes on where it stopped."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from experiments.errors import ExperimentFailed
from experiments.experiment import Experiment
from experiments.output import Summary, write
from experiments.store import Run, Store, machine, revision
from splitmerge.errors import SplitmergeError

TRIES = 2
"""A run that fails is made once more: a busy machine may not bring about what a run needs."""
LAB_SECONDS = 4.0
"""About what building and ending a lab takes, for the estimate."""


class Runner:
    """Makes what is missing, and draws."""

    def __init__(self, directory: Path, runs: int, console: Console, variants: Sequence[str] = ()) -> None:
        """``variants``: only these of each experiment's; all if empty."""
        self._chosen = frozenset(variants)
        self._directory = directory
        self._store = Store(directory)
        self._runs = runs
        self._console = console
        self._revision = revision()

    def _variants(self, experiment: Experiment) -> list[str]:
        return [variant for variant in experiment.variants if not self._chosen or variant in self._chosen]

    def missing(self, experiment: Experiment) -> list[tuple[str, int]]:
        """(variant, run) that are not there; variants take turns, so that a machine's drift hits all of them."""
        pairs = [(variant, run) for run in range(self._runs) for variant in self._variants(experiment)]
        return [pair for pair in pairs if self._store.find(experiment, *pair) is None]

    def measure(self, experiments: Sequence[Experiment]) -> None:
        """Make every run that is missing. :raises SplitmergeError: if one fails twice; those made stay."""
        todo = [(experiment, *pair) for experiment in experiments for pair in self.missing(experiment)]
        seconds = sum(experiment.seconds + LAB_SECONDS for experiment, _, _ in todo)
        if not todo:
            return
        self._console.print(f"{len(todo)} runs to make, about {seconds / 60:.0f} min; Ctrl-C keeps those that are made")
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=self._console, transient=True) as progress:
            task = progress.add_task("", total=len(todo))
            for experiment, variant, run in todo:
                what = f"{experiment.name} (figure {', '.join(map(str, experiment.figures))}): {variant}, run {run + 1}"
                progress.update(task, description=what)
                made = self._make(experiment, variant, run)
                self._store.put(experiment, variant, run, made)
                progress.advance(task)
                self._console.print(f"{what}: {made.seconds:.1f} s")

    def _make(self, experiment: Experiment, variant: str, run: int) -> Run:
        thrown_away: list[str] = []
        for attempt in range(1, TRIES + 1):
            began, host = time.monotonic(), machine()
            try:
                result = experiment.measure(variant, run)
            except SplitmergeError as error:
                if attempt == TRIES:
                    raise
                self._console.print(f"{experiment.name}, {variant}, run {run + 1}: {error}; once more")
                thrown_away.append(str(error))
                continue
            return Run(
                parameters=experiment.parameters(),
                machine=host,
                seconds=round(time.monotonic() - began, 1),
                result=result,
                thrown_away=thrown_away,
                revision=self._revision,
            )
        raise AssertionError("unreachable")

    def draw(self, experiment: Experiment, chosen: Callable[[int], bool] = lambda number: True) -> list[Summary]:
        """Its figures out of the runs that are there. :raises ExperimentFailed: if a variant has none.

        Only runs of numbers that all variants have: those made just after each other are compared.
        """
        found = {variant: self._store.runs(experiment, variant, self._runs) for variant in self._variants(experiment)}
        if lacking := [variant for variant, each in found.items() if not each]:
            raise ExperimentFailed(experiment.name, f"no run of {', '.join(lacking)} with these parameters")
        common = sorted(set.intersection(*(set(each) for each in found.values())))
        if not common:
            raise ExperimentFailed(experiment.name, "no number of which every variant has a run: make more")
        runs = {variant: [each[number] for number in common] for variant, each in found.items()}
        results = {variant: [run.result for run in each] for variant, each in runs.items()}
        numbers = filter(chosen, experiment.figures)
        return [write(self._directory, experiment, experiment.draw(number, results), runs) for number in numbers]
