"""What the switches dropped stays known when they restart, and is asked for no longer than a while."""

from __future__ import annotations

import asyncio

import pytest

from orchestrator import switch_drops
from orchestrator.switch_drops import SwitchDrops
from p4rt_controller import DropCounts
from p4src.reasons import DropReason
from tests.orchestrator.lab import Lab

ROUTE, BUCKET = DropReason.NO_ROUTE, DropReason.NO_BUCKET


@pytest.mark.parametrize(
    ("readings", "known"),
    [
        ([(1, 7), (1, 9)], 9),
        ([(1, 7), (2, 0)], 7),
        ([(1, 7), (2, 9)], 16),  # it restarted, and has counted more than before: nothing has fallen
        ([(1, 7), (1, 2)], 9),  # another client loaded the program again
        ([(1, 7), (2, 1), (2, 4), (3, 2)], 13),
        ([(0, 7), (1, 1)], 8),  # its program was there before this process
    ],
)
def test_a_switch_that_counts_from_0_again_is_added_to(readings: list[tuple[int, int]], known: int) -> None:
    drops = SwitchDrops()
    for loads, count in readings:
        drops.take("s1", DropCounts(loads, {ROUTE: count, BUCKET: 0}))
    assert drops.of("s1") == {ROUTE: known} and drops.total() == {"no_route": known}


def test_switches_are_kept_apart_and_summed() -> None:
    drops = SwitchDrops()
    for loads in (1, 2):
        drops.take("s1", DropCounts(loads, {ROUTE: 2, BUCKET: 0}))
    drops.take("s2", DropCounts(1, {ROUTE: 1, BUCKET: 5}))
    assert (drops.of("s1"), drops.of("s2")) == ({ROUTE: 4}, {ROUTE: 1, BUCKET: 5})
    assert drops.total() == {"no_route": 5, "no_bucket": 5} and not drops.of("s3")


async def seen(lab: Lab) -> tuple[int, str]:
    """By the status, and by the metrics."""
    status = (await lab.get("/status"))["drops"]["switch"]
    text = (await lab.http.get("/metrics")).text
    lines = [line for line in text.splitlines() if line.startswith("splitmerge_switch_drops_total")]
    return status["no_route"], "".join(lines)


async def test_drops_outlive_the_switch_and_are_metrics_of_the_same_name(lab: Lab) -> None:
    line = 'splitmerge_switch_drops_total{reason="no_route",switch="switch"}'
    assert await seen(lab) == (3, f"{line} 3.0")
    lab.tables.away = True
    assert await seen(lab) == (3, f"{line} 3.0")
    lab.tables.away, lab.tables.loads, lab.tables.no_route = False, 2, 4
    assert await seen(lab) == (7, f"{line} 7.0")
    assert 'splitmerge_switch_punted_total{switch="switch"} 14.0' in (await lab.http.get("/metrics")).text


async def test_they_are_read_though_nobody_asks(lab: Lab) -> None:
    known = lab.orchestrator.switch_drops
    await lab.until(lambda: known.of("switch")[ROUTE] == 3)
    lab.tables.no_route = 8
    await lab.until(lambda: known.of("switch")[ROUTE] == 8)


async def test_a_switch_that_does_not_answer_holds_nobody_up(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(switch_drops, "WITHIN", 0.05)
    await seen(lab)
    lab.tables.stuck = "drops"
    async with asyncio.timeout(2.0):
        assert (await seen(lab))[0] == 3
    lab.tables.no_route = 4
    lab.tables.go_on()
    await lab.until(lambda: lab.orchestrator.switch_drops.of("switch")[ROUTE] == 4)
