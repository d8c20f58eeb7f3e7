"""Random moves under load, each datagram accounted for. `make soak-moves` does ten thousand."""

from __future__ import annotations

import os

import pytest

from benchmarks.moves_ledger import measure
from chaos.lab import chaos_lab

pytestmark = [pytest.mark.integ, pytest.mark.slow, pytest.mark.timeout(240)]


def test_nothing_is_lost_doubled_or_reordered(namespaces: None, tmp_path_factory: pytest.TempPathFactory) -> None:
    target = os.environ.get("SPLITMERGE_TEST_TARGET", "embedded")
    with chaos_lab(tmp_path_factory.mktemp("m"), target) as lab:
        report = measure(lab, 150, flows=24, rate=25.0)
    assert report.holds, report
    assert report.done >= 150 and report.flows_moved >= 100
    assert any(kind.startswith("buckets") for kind in report.by_kind)
