"""The figures' bars: what the switch promises beside its peers, each met or not.

A bar that compares two targets takes the median of the rounds' ratios: both sides of a ratio were measured within
seconds, so what else the machine did meanwhile weighs on both alike.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

Rounds = dict[str, list[dict[str, Any] | None]]
"""By key: one object a round, of values by target."""


@dataclass(frozen=True, slots=True)
class Bar:
    """``measured`` and ``met`` are None where a target is missing."""

    what: str
    at_least: float | None
    at_most: float | None
    measured: float | None
    met: bool | None
    rounds: tuple[float, ...]


def bars(result: dict[str, Any], rounds: Rounds) -> list[dict[str, Any]]:
    """All of them, as JSON has them."""
    found = []
    for size in ("64", "1400"):
        for way, against_bmv2 in (("loss_free", 5.0), ("saturated", 3.5)):
            what = f"forwarding, {way.replace('_', ' ')}, {size} bytes: native / "
            pairs = _ratios(rounds, "forwarding_pps", "native", way, size)
            found.append(_bar(what + "simple_switch_grpc", pairs("simple_switch_grpc"), at_least=against_bmv2))
            found.append(_bar(what + "bare", pairs("bare"), at_least=0.7))
    rate = _values(rounds, "inserts_per_s", "native", "1000")
    found.append(_bar("inserts/s, 1,000 a request", rate, at_least=50_000))
    found.append(_bar("inserts/s up to 1,000,000 entries / up to 10,000", _flat(result), at_least=0.8))
    pairs = _ratios(rounds, "packet_in_per_s", "native")
    found.append(_bar("packet-ins/s: native / simple_switch_grpc", pairs("simple_switch_grpc"), at_least=0.8))
    found.append(_bar("packet-ins lost", _values(rounds, "packet_in_lost", "native"), at_most=0))
    for share in ("p50", "p99"):
        ratios = _ratios(rounds, "modify_us", "native", share)("simple_switch_grpc")
        found.append(_bar(f"modify, {share}: native / simple_switch_grpc", ratios, at_most=1.2))
    writes = [
        with_writes / without
        for with_writes, without in zip(
            _values(rounds, "latency_us", "native", "with_writes", "p99"),
            _values(rounds, "latency_us", "native", "without_writes", "p99"),
            strict=True,
        )
    ]
    found.append(_bar("latency p99: with 1,000 writes/s / without", writes, at_most=2.0))
    found.append(_bar("compilation, seconds", _values(rounds, "compile_s", "native"), at_most=1.0))
    return [asdict(bar) for bar in found]


def _bar(what: str, values: list[float], *, at_least: float | None = None, at_most: float | None = None) -> Bar:
    if not values:
        return Bar(what, at_least, at_most, None, None, ())
    measured = round(median(values), 3)
    met = (at_least is None or measured >= at_least) and (at_most is None or measured <= at_most)
    return Bar(what, at_least, at_most, measured, met, tuple(round(value, 3) for value in values))


def pick(value: Any, *path: str) -> Any:
    """What is at the end of a path into objects; None if anything on the way is."""
    for step in path:
        value = None if value is None else value.get(step)
    return value


def _values(rounds: Rounds, key: str, *path: str) -> list[float]:
    found = (pick(one, *path) for one in rounds.get(key, ()))
    return [value for value in found if value is not None]


def _ratios(rounds: Rounds, key: str, name: str, *path: str) -> Callable[[str], list[float]]:
    def against(other: str) -> list[float]:
        pairs = ((pick(one, name, *path), pick(one, other, *path)) for one in rounds.get(key, ()))
        return [ours / theirs for ours, theirs in pairs if ours is not None and theirs]

    return against


def _flat(result: dict[str, Any]) -> list[float]:
    small, large = (pick(result, "growth", "native", n, "typical_inserts_per_s") for n in ("10000", "1000000"))
    return [large / small] if small and large else []
