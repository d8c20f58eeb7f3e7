"""A sample of the crash matrix: each component is struck once while TCP and UDP flow. `make chaos` does all of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from chaos.cells import KINDS, SAMPLE, Cell
from chaos.lab import ChaosLab, chaos_lab
from chaos.strike import strike
from chaos.verdict import judge

pytestmark = [pytest.mark.integ, pytest.mark.slow, pytest.mark.timeout(240)]
TARGET = os.environ.get("SPLITMERGE_TEST_TARGET", "embedded")


@pytest.fixture(scope="module")
def struck_lab(namespaces: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChaosLab]:
    with chaos_lab(tmp_path_factory.mktemp("c"), TARGET) as lab:
        yield lab


@pytest.mark.parametrize(("kind", "component", "step"), SAMPLE)
def test_a_component_dies_in_a_step(struck_lab: ChaosLab, kind: str, component: str, step: str) -> None:
    cell = Cell(KINDS[kind], component, step)
    outcome = judge(cell, strike(struck_lab, cell))
    assert not outcome.faults, outcome


def test_the_matrix_strikes_at_steps_that_there_are(tmp_path: Path) -> None:
    from orchestrator.migration.steps import Step

    known = {step.value for step in Step}
    assert {step for kind in KINDS.values() for step in (*kind.forward, *kind.back, kind.cancel_in)} <= known
