"""Runs on disk, one JSON file each: an interrupted evaluation goes on where it stopped, and figures are redrawn.

    build/figures/raw/<experiment>/<variant>-<run>.json      {"parameters", "machine", "seconds", "result"}

A file whose parameters are not those asked for is not looked at, and written over.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import msgspec

from experiments.experiment import Experiment
from experiments.figure import Raw


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One file."""

    parameters: dict[str, Any]
    machine: dict[str, Any]
    seconds: float
    """It took, with its lab."""
    result: Raw
    thrown_away: list[str] = []
    """Why attempts before this one were not counted: a table that left them out would flatter."""
    revision: str = ""
    """Of the code; empty if it is not known."""


def machine() -> dict[str, Any]:
    """What it runs on."""
    return {
        "cores": os.cpu_count(),
        "processor": _processor(),
        "kernel": os.uname().release,
        "load": os.getloadavg()[0],
    }


def revision() -> str:
    """The commit that the code is at, with ``-dirty`` behind it if it was changed; empty outside a repository."""
    words = ["git", "describe", "--always", "--dirty", "--abbrev=10"]
    try:
        done = subprocess.run(words, cwd=Path(__file__).parent, capture_output=True, text=True, timeout=10, check=False)
    except OSError:  # no git
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return os.uname().machine
    found = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return found[1] if found else os.uname().machine


class Store:
    """The runs under one directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def _path(self, experiment: Experiment, variant: str, run: int) -> Path:
        return self._directory / "raw" / experiment.name / f"{variant}-{run}.json"

    def find(self, experiment: Experiment, variant: str, run: int) -> Run | None:
        """The run, if it is there and was made with these parameters."""
        try:
            found = msgspec.json.decode(self._path(experiment, variant, run).read_bytes(), type=Run)
        except (FileNotFoundError, msgspec.DecodeError):  # an interrupted one is made again
            return None
        return found if found.parameters == experiment.parameters() else None

    def put(self, experiment: Experiment, variant: str, run: int, made: Run) -> None:
        """Keep a run, whole or not at all."""
        path = self._path(experiment, variant, run)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".tmp")
        partial.write_bytes(msgspec.json.encode(made))
        partial.replace(path)

    def runs(self, experiment: Experiment, variant: str, most: int) -> dict[int, Run]:
        """The runs that are there by number, of the first ``most``."""
        found = {run: self.find(experiment, variant, run) for run in range(most)}
        return {number: run for number, run in found.items() if run is not None}
