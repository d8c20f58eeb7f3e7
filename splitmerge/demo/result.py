"""The demo's account: what was sent, what was seen, and whether that is the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from middleboxes.ids import Alert, Statistics
from traffic.http_client import ClientReport
from traffic.udp_report import Account


class Milliseconds(msgspec.Struct, frozen=True):
    """Quantiles of a time, in milliseconds."""

    p50: float
    p99: float
    max: float

    @classmethod
    def of_seconds(cls, samples: Sequence[float]) -> Milliseconds:
        """By nearest rank; zeros if there are no samples."""
        if not samples:
            return cls(0.0, 0.0, 0.0)
        ordered = sorted(samples)
        last = len(ordered) - 1
        return cls(*(round(1000 * ordered[round(share * last)], 3) for share in (0.5, 0.99, 1.0)))


class DemoResult(msgspec.Struct, frozen=True, kw_only=True):
    """What ``splitmerge demo --json FILE`` writes."""

    requests: int
    injections_sent: int
    injections_counted: int
    alerts_expected: int
    alerts_seen: int
    migrations: int
    udp_sent: int
    """Datagrams sent in both directions."""
    lost: int
    duplicated: int
    reordered: int
    suspend_ms: Milliseconds
    """How long packets of a moved flow were held back."""
    seconds: float
    target: str
    http_errors: int
    flows_moved: int
    replicas_added: int
    replicas_removed: int
    replicas_died: int
    ok: bool
    problems: tuple[str, ...]
    """What is not as it should be; empty if ``ok``."""


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """What the run brought together."""

    target: str
    http: ClientReport
    udp: Account
    alerts: tuple[Alert, ...]
    statistics: Statistics
    """Combined over all replicas, those that ended included."""
    suspended: tuple[float | None, ...]
    """Seconds, one a move; None: not known, since an orchestrator ended meanwhile."""
    undone: tuple[str, ...]
    """Moves that did not end at their target, in words."""
    moves_wanted: int
    flows_moved: int
    added: int
    removed: int
    died: int
    seconds: float


def suspended(moves: Iterable[Mapping[str, Any]]) -> tuple[float | None, ...]:
    """As `Evidence.suspended`, of moves as the API shows them."""
    known = (move["suspended_ms"] for move in moves)
    return tuple(None if each is None else each / 1000 for each in known)


def settle(evidence: Evidence) -> DemoResult:
    """The account; every difference between what was sent and what was seen is a problem."""
    http, udp = evidence.http, evidence.udp
    problems = tuple(_problems(evidence))
    return DemoResult(
        requests=http.requests,
        injections_sent=http.injections_sent,
        injections_counted=evidence.statistics.injections,
        alerts_expected=http.alerts_expected,
        alerts_seen=len(evidence.alerts),
        migrations=len(evidence.suspended),
        udp_sent=udp.sent,
        lost=udp.lost,
        duplicated=udp.duplicated,
        reordered=udp.reordered,
        suspend_ms=Milliseconds.of_seconds([each for each in evidence.suspended if each is not None]),
        seconds=round(evidence.seconds, 3),
        target=evidence.target,
        http_errors=http.errors,
        flows_moved=evidence.flows_moved,
        replicas_added=evidence.added,
        replicas_removed=evidence.removed,
        replicas_died=evidence.died,
        ok=not problems,
        problems=problems,
    )


def _problems(evidence: Evidence) -> Iterable[str]:
    http, udp, statistics = evidence.http, evidence.udp, evidence.statistics
    yield from (f"connection {flow.flow or '?'}: {flow.error}" for flow in http.flows if flow.error)
    yield from _differ("responses", http.requests, http.responses)
    yield from _differ("requests counted by the IDS", http.requests, statistics.requests)
    yield from _differ("injections counted by the IDS", http.injections_sent, statistics.injections)
    yield from _alert_problems(http, evidence.alerts)
    for name in ("lost", "duplicated", "reordered"):
        if count := getattr(udp, name):
            yield f"{count} datagrams {name}"
    if udp.kernel_drops:
        yield f"{udp.kernel_drops} datagrams dropped at the receivers' own sockets: this machine is too busy"
    for name in ("gaps", "malformed", "overflows", "alerts_lost", "migrated"):
        if count := getattr(statistics, name):
            yield f"the IDS counted {count} {name}"
    yield from evidence.undone
    if len(evidence.suspended) < evidence.moves_wanted:
        yield f"{len(evidence.suspended)} moves, {evidence.moves_wanted} wanted"
    if evidence.died:
        yield f"{evidence.died} replicas died"


def _alert_problems(http: ClientReport, alerts: Sequence[Alert]) -> Iterable[str]:
    expected = {flow.flow for flow in http.flows if flow.injections > http.threshold}
    seen = Counter(alert.flow for alert in alerts)
    yield from (f"no alert for {flow}" for flow in sorted(expected - seen.keys()))
    yield from (f"alert for {flow}, which did not attack" for flow in sorted(seen.keys() - expected))
    yield from (f"{count} alerts for {flow}" for flow, count in seen.items() if count > 1)


def _differ(what: str, wanted: int, got: int) -> Iterable[str]:
    if wanted != got:
        yield f"{what}: {got}, should be {wanted}"
