"""Random moves under load, some called off, each datagram accounted for. `make soak-moves` does ten thousand."""

from __future__ import annotations

import os

import pytest

from benchmarks.moves_ledger import GIVEN_UP, LOSS_FREE, ORDER, measure, promise_of
from chaos.lab import chaos_lab
from splitmerge.flowkey import FlowKey

pytestmark = [pytest.mark.integ, pytest.mark.slow, pytest.mark.timeout(240)]


def test_nothing_is_lost_doubled_or_reordered(namespaces: None, tmp_path_factory: pytest.TempPathFactory) -> None:
    target = os.environ.get("SPLITMERGE_TEST_TARGET", "embedded")
    with chaos_lab(tmp_path_factory.mktemp("m"), target) as lab:
        report = measure(lab, 150, flows=24, rate=25.0)
    assert report.holds, report
    assert report.moves >= 150 and report.done >= 120 and report.flows_moved >= 100
    assert report.moves == report.done + report.called_off
    assert any(kind.startswith("buckets") for kind in report.by_kind)
    assert any("no-buffer" in kind for kind in report.by_kind) and any("none" in kind for kind in report.by_kind)


def test_what_is_promised_is_told_by_the_flow_and_connections_keep_their_order() -> None:
    flows = [FlowKey.parse(f"udp,10.0.1.2:{port},10.0.2.2:9000") for port in range(40000, 40005)]
    assert {promise_of(flow) for flow in flows} == {ORDER, LOSS_FREE, GIVEN_UP}
    assert promise_of(FlowKey.parse("tcp,10.0.1.2:40003,10.0.2.2:80")) == ORDER
