"""What the two sides of a UDP run report, and the account of both."""

from __future__ import annotations

import msgspec

from traffic.ledger import Counts, Tally, settle, total
from traffic.summary import Latency


class FlowSide(msgspec.Struct, frozen=True, kw_only=True):
    """One flow at one side."""

    flow: str
    sent: int
    arrived: Counts
    latency_ms: Latency
    """One way, towards this side."""
    longest_gap_ms: float
    """The longest time between two arrivals."""


class SideReport(msgspec.Struct, frozen=True, kw_only=True):
    """One side of a run."""

    role: str
    seconds: float
    sent: int
    received: int
    kernel_drops: int
    """Datagrams that reached a socket of this side and found no room."""
    send_errors: int
    """Times a send was refused; the datagram was sent again, so nothing is missing."""
    malformed: int
    """Datagrams that are none of ours."""
    rtt_ms: Latency
    """Client only."""
    latency_ms: Latency
    longest_gap_ms: float
    flows: list[FlowSide]


class FlowAccount(msgspec.Struct, frozen=True, kw_only=True):
    """One flow, both directions."""

    flow: str
    forward: Tally
    """Client to server."""
    backward: Tally


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """The whole run; ``sent`` … ``reordered`` are over both directions."""

    sent: int
    received: int
    lost: int
    duplicated: int
    reordered: int
    foreign: int
    kernel_drops: int
    """Of the lost ones, those that a receiving socket had no room for."""
    forward: Tally
    backward: Tally
    flows: list[FlowAccount]


def account(client: SideReport, server: SideReport) -> Account:
    """What became of every datagram.

    :raises LedgerError: if the reports are not of one run.
    """
    theirs = {flow.flow: flow for flow in server.flows}
    nothing = FlowSide(flow="", sent=0, arrived=Counts(), latency_ms=Latency(), longest_gap_ms=0.0)
    flows = []
    for ours in client.flows:
        other = theirs.get(ours.flow, nothing)
        forward, backward = settle(ours.sent, other.arrived), settle(other.sent, ours.arrived)
        flows.append(FlowAccount(flow=ours.flow, forward=forward, backward=backward))
    forward, backward = total(flow.forward for flow in flows), total(flow.backward for flow in flows)
    both = total((forward, backward))
    drops = client.kernel_drops + server.kernel_drops
    return Account(**msgspec.structs.asdict(both), kernel_drops=drops, forward=forward, backward=backward, flows=flows)
