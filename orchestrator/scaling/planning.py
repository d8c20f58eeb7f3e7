"""Which buckets and flows to move: pure functions over an owner's load.

Load is counted in flows. A *unit* is what moves as one: a bucket, or (under controller assignment) one flow. Ties
break by name, so that a plan is a function of its arguments.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from splitmerge.flowkey import FlowKey

Unit = int | bytes
_U = TypeVar("_U", bound=Unit)


@dataclass(frozen=True, slots=True)
class Share:
    """Units to move from ``source`` to ``target``."""

    source: int
    target: int
    units: tuple[Unit, ...]


def bucket_loads(buckets: Iterable[int], keys: Iterable[bytes]) -> dict[int, int]:
    """Flows in each of these buckets; flows outside are not counted."""
    loads = dict.fromkeys(buckets, 0)
    for key in keys:
        bucket = FlowKey(key).bucket
        if bucket in loads:
            loads[bucket] += 1
    return loads


def part(loads: Mapping[_U, int], wanted: int, *, weight_empty: bool = True) -> tuple[_U, ...]:
    """Units whose loads add up to about ``wanted`` flows: greedy, largest first, never above it by a whole unit.

    With ``weight_empty`` the same share of the empty units goes along, so that new flows spread as well.
    """
    chosen: list[_U] = []
    got = 0
    empty = sorted((unit for unit, load in loads.items() if load == 0), key=_order)
    for unit in sorted((each for each, load in loads.items() if load), key=lambda unit: (-loads[unit], _order(unit))):
        if got + loads[unit] <= wanted:
            chosen.append(unit)
            got += loads[unit]
    total = sum(loads.values())
    if weight_empty and empty:
        share = wanted / total if total else 0.5
        chosen += empty[: round(len(empty) * share)]
    return tuple(sorted(chosen, key=_order))


def half(loads: Mapping[_U, int]) -> tuple[_U, ...]:
    """A split (§5.1): units with half of the flows; of units that are all empty, half of them."""
    return part(loads, sum(loads.values()) // 2)


def merge(source: int, loads: Mapping[_U, int], survivors: Mapping[int, int]) -> list[Share]:
    """A merge: every unit of the source to the survivor that then has the fewest flows; at least one survivor.

    Empty units count a little, so that they spread too.
    """
    level = {replica: float(flows) for replica, flows in survivors.items()}
    given: dict[int, list[_U]] = {replica: [] for replica in survivors}
    for unit in sorted(loads, key=lambda unit: (-loads[unit], _order(unit))):
        target = min(level, key=lambda replica: (level[replica], replica))
        given[target].append(unit)
        level[target] += loads[unit] or 0.01
    return [Share(source, target, tuple(sorted(units, key=_order))) for target, units in given.items() if units]


def rebalance(loads: Mapping[int, Mapping[_U, int]], target: int) -> list[Share]:
    """A new replica joins: each of the others gives what it has above the mean, so that the newcomer gets its share."""
    totals = {replica: sum(units.values()) for replica, units in loads.items()}
    mean = sum(totals.values()) / len(totals)
    lacking = mean - totals[target]
    above = {replica: total - mean for replica, total in totals.items() if replica != target and total > mean}
    if not above:
        return _spread_empty(loads, target)
    scale = min(1.0, lacking / sum(above.values())) if lacking > 0 else 0.0
    shares = []
    for replica, surplus in sorted(above.items()):
        units = part(loads[replica], round(surplus * scale))
        if units:
            shares.append(Share(replica, target, units))
    return shares


def even(loads: Mapping[int, Mapping[_U, float]], most: int) -> list[Share]:
    """The same replicas, less unevenly: at most ``most`` units move, each from the busiest to the least busy of then.

    Greedy: the unit that brings the two closest together. No move makes the higher of the two loads higher or leaves it
    as it was, so the highest load of all never rises; it ends where no unit helps.
    """
    totals = {replica: float(sum(units.values())) for replica, units in loads.items()}
    held = {replica: dict(units) for replica, units in loads.items()}
    home = {unit: replica for replica, units in loads.items() for unit in units}
    moved: dict[_U, int] = {}
    for _ in range(most if len(loads) > 1 else 0):
        giver = max(totals, key=lambda replica: (totals[replica], -replica))
        taker = min(totals, key=lambda replica: (totals[replica], replica))
        unit = _closest(held[giver], (totals[giver] - totals[taker]) / 2)
        if unit is None:
            break
        load = held[giver].pop(unit)
        held[taker][unit] = load
        totals[giver] -= load
        totals[taker] += load
        moved[unit] = taker
    shares: dict[tuple[int, int], list[_U]] = {}
    for unit, target in moved.items():
        if home[unit] != target:
            shares.setdefault((home[unit], target), []).append(unit)
    return [Share(*ends, tuple(sorted(units, key=_order))) for ends, units in sorted(shares.items())]


def _closest(units: Mapping[_U, float], wanted: float) -> _U | None:
    """The unit whose load is nearest to this, of those that have some and less than twice this."""
    fitting = [unit for unit, load in units.items() if 0 < load < 2 * wanted]
    return min(fitting, key=lambda unit: (abs(units[unit] - wanted), _order(unit)), default=None)


def _spread_empty(loads: Mapping[int, Mapping[_U, int]], target: int) -> list[Share]:
    """No flows, or all equal: even out the number of units."""
    mean = sum(len(units) for units in loads.values()) // len(loads)
    shares = []
    for replica, units in sorted(loads.items()):
        surplus = len(units) - mean
        if replica == target or surplus <= 0:
            continue
        empty = sorted((unit for unit, load in units.items() if load == 0), key=_order)[:surplus]
        if empty:
            shares.append(Share(replica, target, tuple(empty)))
    return shares


def _order(unit: Unit) -> bytes:
    """Units in order of their names."""
    return unit.to_bytes(2, "big") if isinstance(unit, int) else bytes(unit)
