"""The ledger against a slow, obvious reading of RFC 4737."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from traffic import Arrivals, Counts, LedgerError, Tally, settle, total
from traffic.summary import Latency, latency
from traffic.udp_report import FlowSide, SideReport, account


def counts_of(numbers) -> Counts:
    arrivals = Arrivals()
    for number in numbers:
        arrivals.record(number)
    return arrivals.counts()


@st.composite
def histories(draw):
    """What was sent, and any loss, duplication and order of it."""
    sent = draw(st.integers(0, 60))
    arrived = draw(st.lists(st.integers(1, sent), max_size=120)) if sent else []
    if draw(st.booleans()):
        arrived = sorted(arrived)
    return sent, arrived


@settings(max_examples=500)
@given(histories())
def test_loss_duplication_and_order_are_exact(history):
    sent, arrived = history
    first = list(dict.fromkeys(arrived))
    late = [number for place, number in enumerate(first) if any(earlier > number for earlier in first[:place])]
    assert settle(sent, counts_of(arrived)) == Tally(
        sent=sent,
        received=len(arrived),
        lost=sent - len(set(arrived)),
        duplicated=len(arrived) - len(set(arrived)),
        reordered=len(late),
    )


@given(st.permutations(list(range(1, 30))))
def test_a_permutation_loses_and_repeats_nothing(order):
    tally = settle(29, counts_of(order))
    assert (tally.lost, tally.duplicated, tally.received) == (0, 0, 29)
    assert (tally.reordered == 0) == (order == sorted(order))


@pytest.mark.parametrize(
    ("arrived", "lost", "duplicated", "reordered"),
    [
        ([1, 2, 3, 4], 0, 0, 0),
        ([1, 3, 2, 4], 0, 0, 1),
        ([4, 1, 2, 3], 0, 0, 3),
        ([1, 2, 4], 1, 0, 0),
        ([1, 2, 2, 3, 4], 0, 1, 0),
        ([2, 2, 3], 2, 1, 0),
        ([3, 1, 3, 1], 2, 2, 1),
        ([], 4, 0, 0),
    ],
)
def test_examples(arrived, lost, duplicated, reordered):
    tally = settle(4, counts_of(arrived))
    assert (tally.lost, tally.duplicated, tally.reordered) == (lost, duplicated, reordered)


def test_numbers_never_sent_are_told_apart():
    assert counts_of([0, 1]).foreign == 1
    with pytest.raises(LedgerError, match="number 5 arrived, but only 4"):
        settle(4, counts_of([5]))


def test_totals_add_up():
    assert total([Tally(sent=3, lost=1), Tally(sent=4, reordered=2)]) == Tally(sent=7, lost=1, reordered=2)
    assert total([]) == Tally()


def side(role: str, flows: list[tuple[str, int, list[int]]], drops: int = 0) -> SideReport:
    each = [
        FlowSide(flow=flow, sent=sent, arrived=counts_of(arrived), latency_ms=Latency(), longest_gap_ms=0.0)
        for flow, sent, arrived in flows
    ]
    return SideReport(
        role=role, seconds=1.0, sent=0, received=0, kernel_drops=drops, send_errors=0, malformed=0,
        rtt_ms=Latency(), latency_ms=Latency(), longest_gap_ms=0.0, flows=each,
    )  # fmt: skip


def test_the_account_joins_both_sides_by_flow():
    client = side("client", [("a", 3, [1, 3]), ("b", 2, [])])
    server = side("server", [("a", 3, [1, 2, 2])], drops=1)
    result = account(client, server)
    assert result.forward == Tally(sent=5, received=3, lost=3, duplicated=1)
    assert result.backward == Tally(sent=3, received=2, lost=1)
    assert (result.sent, result.lost, result.kernel_drops) == (8, 4, 1)
    assert msgspec.json.decode(msgspec.json.encode(server), type=SideReport) == server


def test_percentiles_are_nearest_rank():
    assert latency([n / 1000 for n in range(1, 101)]) == Latency(samples=100, p50=50.0, p99=99.0, max=100.0)
    assert latency([]) == Latency()
