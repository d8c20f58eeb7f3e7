"""A flood at a flow that is held back does not slow other flows, and is delivered in order afterwards."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from benchmarks.flood import STOPPED, measure
from chaos.lab import ChaosLab, chaos_lab

pytestmark = [pytest.mark.integ, pytest.mark.slow, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def flooded_lab(namespaces: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChaosLab]:
    with chaos_lab(tmp_path_factory.mktemp("f")) as lab:
        yield lab


@pytest.mark.parametrize("kind", STOPPED)
def test_a_flood_at_a_held_flow_does_not_slow_others(flooded_lab: ChaosLab, kind: str) -> None:
    report = measure(flooded_lab, kind, 500.0)
    assert report.lost_beside == 0, report
    # No slower than beside the same flood that is not held, before or after. Generous: other work shares the machine.
    usual = max(report.beside_flood.p50, report.beside_flood_again.p50)
    assert report.beside_flood_held.p50 <= 5 * usual + 5.0, report
    # Nor is the replica left slow by what was held.
    assert report.beside_flood_again.p50 <= 5 * max(report.beside_flood.p50, report.beside_flood_held.p50) + 5.0, report
    assert (report.flood_reordered, report.flood_duplicated, report.dropped) == (0, 0, 0), report
    assert report.buffered > 500, "nothing was held back"
