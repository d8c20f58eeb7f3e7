"""Policies as tables: what is seen, what is recommended; and what comes through."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.elasticity import (
    Add,
    AverageFlows,
    Damper,
    ElasticityConfig,
    Evening,
    Explicit,
    FlowCount,
    Foresight,
    Keep,
    Limits,
    Load,
    Merge,
    Meter,
    Observation,
    Policy,
    Rebalance,
    Recommendation,
    Sample,
    Split,
    Static,
    Target,
    Utilisation,
    make_policy,
    section,
)
from orchestrator.scaling import planning
from splitmerge.errors import BadInput


def flows(counts: Mapping[int, int], start_up: float = 0, grows: float = 0) -> Observation:
    return Observation({number: Load(flows=each) for number, each in counts.items()}, start_up, Load(flows=grows))


def without(absent: int, counts: dict[int, float]) -> Observation:
    """The same where so many died and are not replaced."""
    return Observation(flows(counts).replicas, absent=absent)


def cpu(*shares: float) -> Observation:
    return Observation({number: Load(cpu=each) for number, each in enumerate(shares, 1)})


def packets(*rates: float) -> Observation:
    return Observation({number: Load(packets=each) for number, each in enumerate(rates, 1)})


FLOW_COUNT: list[tuple[str, dict[int, int], Recommendation]] = [
    ("nobody lives", {}, Keep()),
    ("one, quiet", {1: 0}, Keep()),
    ("at the threshold", {1: 60}, Keep()),
    ("above it", {1: 61}, Split(1)),
    ("the fullest splits", {1: 61, 2: 90, 3: 10}, Split(2)),
    ("of equals the first", {2: 70, 1: 70}, Split(1)),
    ("at the lower threshold", {1: 40, 2: 40}, Keep()),
    ("below it", {1: 20, 2: 39}, Merge(1)),
    ("but the rest would overflow", {1: 39, 2: 60}, Keep()),
    ("just fits", {1: 20, 2: 40}, Merge(1)),
    ("the last one stays", {1: 3}, Keep()),
]


@pytest.mark.parametrize(
    ("counts", "expected"), [each[1:] for each in FLOW_COUNT], ids=[each[0] for each in FLOW_COUNT]
)
def test_flow_count_policy(counts: dict[int, int], expected: Recommendation) -> None:
    assert FlowCount().recommend(flows(counts)) == expected


FORESIGHT = Foresight(FlowCount(), 2, delay=1)
OTHERS: list[tuple[str, Policy, Observation, Recommendation]] = [
    ("average: one is full, together they are not", AverageFlows(), flows({1: 180, 2: 10}), Keep()),
    ("average: above", AverageFlows(), flows({1: 180, 2: 30}), Split(1)),
    ("average: below", AverageFlows(), flows({1: 60, 2: 39}), Merge(2)),
    ("average: at the threshold", AverageFlows(), flows({1: 60, 2: 40}), Keep()),
    ("average: the rest would overflow", AverageFlows(60, 50), flows({1: 45, 2: 45}), Keep()),
    ("average: the last one stays", AverageFlows(), flows({1: 1}), Keep()),
    ("explicit: never", Explicit(), flows({1: 10_000}), Keep()),
    ("static: two are missing", Static(3), flows({1: 0}), Add(2)),
    ("static: one too many", Static(1), flows({1: 5, 2: 4}), Merge(2)),
    ("static: right", Static(2), flows({1: 100, 2: 0}), Keep()),
    ("static: one died, which is not its to replace", Static(3), without(1, {1: 1, 2: 1}), Keep()),
    ("static: one died, another never came", Static(3), without(1, {1: 1}), Add(1)),
    ("static: one died, one too many all the same", Static(1), without(1, {1: 1, 2: 0}), Merge(2)),
    ("utilisation: above", Utilisation(), cpu(0.9, 0.7), Add(1)),
    ("utilisation: between", Utilisation(), cpu(0.9, 0.1), Keep()),
    ("utilisation: below", Utilisation(), cpu(0.3, 0.2), Merge(2)),
    ("utilisation: the rest would be overloaded", Utilisation(high=0.4, low=0.3), cpu(0.28, 0.28), Keep()),
    ("utilisation: packets", Utilisation(by="packets", capacity=1000), packets(900, 700), Add(1)),
    ("target: at it", Target(), cpu(0.6, 0.6), Keep()),
    ("target: within the tolerance", Target(), cpu(0.65, 0.65), Keep()),
    ("target: several at once", Target(), cpu(1.0, 1.0), Add(2)),
    ("target: one goes", Target(), cpu(0.1, 0.2, 0.1), Merge(3)),
    ("target: the last one stays", Target(), cpu(0.0), Keep()),
    ("foresight: nothing grows", FORESIGHT, flows({1: 59}, 3, 0), Keep()),
    ("foresight: full by the time one is there", FORESIGHT, flows({1: 40}, 3, 3), Split(1)),
    ("foresight: not by then", FORESIGHT, flows({1: 40}, 2, 3), Keep()),
    ("foresight: does not merge what will be needed", FORESIGHT, flows({1: 20, 2: 30}, 3, 12), Split(2)),
    ("foresight: merges what will not", FORESIGHT, flows({1: 20, 2: 30}, 3, 0), Merge(1)),
    ("evening: uneven", Evening(Explicit(), "flows", 1.5), flows({1: 31, 2: 9}), Rebalance("flows")),
    ("evening: even enough", Evening(Explicit(), "flows", 1.5), flows({1: 30, 2: 10}), Keep()),
    ("evening: by what it is asked", Evening(Explicit(), "cpu", 1.5), cpu(0.8, 0.1), Rebalance("cpu")),
    ("evening: nobody to even with", Evening(Explicit(), "flows", 1.5), flows({1: 31}), Keep()),
    ("evening: the number comes first", Evening(FlowCount(), "flows", 1.5), flows({1: 90, 2: 0}), Split(1)),
]
"""Foresight's look ahead: twice the start-up, and a second."""


@pytest.mark.parametrize(
    ("policy", "seen", "expected"), [each[1:] for each in OTHERS], ids=[each[0] for each in OTHERS]
)
def test_other_policies(policy: Policy, seen: Observation, expected: Recommendation) -> None:
    assert policy.recommend(seen) == expected


def run(damper: Damper, seen: list[dict[int, int]]) -> list[str]:
    """One look a second; what comes through is taken to be done."""
    out = []
    for now, each in enumerate(seen):
        wanted = damper.recommendations(flows(each), float(now))
        out.append(type(wanted).__name__[0])
        if not isinstance(wanted, Keep):
            damper.acted(float(now))
    return out


HIGH, LOW, CALM = {1: 100, 2: 50}, {1: 10, 2: 10}, {1: 50, 2: 50}
DAMPED = [
    ("needs three in a row", Limits(), [HIGH, HIGH, HIGH], "KKS"),
    ("a gap starts again", Limits(), [HIGH, HIGH, CALM, HIGH, HIGH, HIGH], "KKKKKS"),
    ("another kind starts again", Limits(), [HIGH, HIGH, LOW, LOW, LOW], "KKKKM"),
    ("cool-down", Limits(consecutive=1, cool_down=3), [HIGH] * 6, "SKKSKK"),
    ("not above the most", Limits(max_replicas=2, consecutive=1), [HIGH, HIGH], "KK"),
    ("not below the least", Limits(min_replicas=2, consecutive=1), [LOW, LOW], "KK"),
    ("fewer than the least: at once", Limits(min_replicas=3), [CALM, CALM, CALM], "AKK"),
]


@pytest.mark.parametrize(("limits", "seen", "expected"), [d[1:] for d in DAMPED], ids=[d[0] for d in DAMPED])
def test_recommendations_are_damped(limits: Limits, seen: list[dict[int, int]], expected: str) -> None:
    assert "".join(run(Damper(FlowCount(), limits), seen)) == expected


def test_more_are_not_added_than_there_may_be() -> None:
    damper = Damper(Target(), Limits(max_replicas=3, consecutive=1))
    assert damper.recommendations(cpu(1.0, 1.0), 0) == Add(1)


@dataclass
class Says:
    """A policy that always says this."""

    what: Recommendation

    def recommend(self, seen: Observation) -> Recommendation:
        return self.what


@pytest.mark.parametrize(
    ("what", "message"),
    [
        (Add(-3), r"returned Add\(-3\).*at least 1"),
        (Add(0), r"returned Add\(0\).*at least 1"),
        (Add(1.5), r"returned Add\(1.5\)"),  # type: ignore[arg-type]
        (Rebalance("luck"), r"returned Rebalance\('luck'\).*flows"),  # type: ignore[arg-type]
    ],
)
def test_what_cannot_be_is_refused_and_not_taken_for_nothing(what: Recommendation, message: str) -> None:
    with pytest.raises(BadInput, match=f"(?s){message}"):
        Damper(Says(what), Limits(consecutive=1)).recommendations(cpu(1.0, 1.0), 0)


WRONG: list[tuple[str, dict[str, Any], str]] = [
    ("flow-count", {"split_above": 40, "merge_below": 60}, "merge_below <= split_above"),
    ("flow-count", {"merge_below": -1}, "merge_below <= split_above"),
    ("flow-count", {"split": 1}, "no setting 'split'.*split_above, merge_below; the section has: min_replicas, max_"),
    ("utilisation", {"by": "flows"}, "utilisation.by: Invalid enum value 'flows' .one of: cpu, packets"),
    ("utilisation", {"high": "x"}, "utilisation.high: Expected .*see the class"),
    ("flow-count", {"split_above": "many"}, "split_above"),
    ("average-flows", {"split_above": 4, "merge_below": 6}, "merge_below <= split_above"),
    ("static", {"replicas": 0}, "from 1 to 65535"),
    ("static", {"replicas": 10**22}, "replicas from 1 to 65535"),
    ("utilisation", {"low": 0.9}, "low <= high"),
    ("utilisation", {"capacity": 0}, "capacity"),
    ("utilisation", {"by": "luck"}, "by"),
    ("target", {"target": 0}, "target"),
    ("luck", {}, "package.module:Class"),
    ("no.such.module:Class", {}, "no module no.*PYTHONPATH"),
    (
        "orchestrator.elasticity.policies:Clas",
        {},
        "no Clas in orchestrator.elasticity.policies .*policies.py. .it has: .*FlowCount",
    ),
    ("orchestrator.elasticity.policies:Add", {}, "recommend"),
    ("orchestrator.elasticity.policies:Static", {"replicas": 0}, "from 1 to 65535"),
    (f"{__name__}:Plain", {"limit": 1, "colour": 2}, "colour.*the section has: min_replicas"),
    (f"{__name__}:Plain", {"limit": 0}, "cannot be made: ZeroDivisionError"),
    (f"{__name__}:Fields", {"limit": 0}, "cannot be made: ZeroDivisionError"),
]


class Plain:
    """A policy that is no dataclass."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.part = 1 / limit

    def recommend(self, seen: Observation) -> Recommendation:
        return Add(self.limit)


@dataclass
class Fields:
    """A policy that is one."""

    limit: int

    def __post_init__(self) -> None:
        self.part = 1 / self.limit

    def recommend(self, seen: Observation) -> Recommendation:
        return Add(self.limit)


@pytest.mark.parametrize(("name", "settings", "message"), WRONG)
def test_a_policy_that_makes_no_sense(name: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=f"(?s){message}"):
        make_policy(name, settings)


def test_any_class_is_a_policy_by_its_name() -> None:
    assert make_policy(f"{__name__}:Plain", {"limit": 3}).recommend(cpu(0.0)) == Add(3)
    assert make_policy("flow-count", {"split_above": 5, "merge_below": 1}) == FlowCount(5, 1)


@pytest.mark.parametrize("bad", [(0, 8, 3, 5.0), (3, 2, 3, 5.0), (1, 8, 0, 5.0), (1, 8, 3, -1.0)])
def test_limits_that_make_no_sense(bad: tuple[int, int, int, float]) -> None:
    with pytest.raises(BadInput):
        Limits(*bad)


@pytest.mark.parametrize(
    ("changes", "assignment", "message"),
    [
        ({"interval": 0}, "hash", "interval"),
        ({"interval": 1e-9}, "hash", "interval.*0.01 to 3600 seconds"),
        ({"interval": 1e9}, "hash", "interval.*0.01 to 3600 seconds"),
        ({"window": 1e-9}, "hash", "window.*0.01 to 86400 seconds"),
        ({"cool_down": 1e9}, "hash", "cool_down.*0 to 86400 seconds"),
        ({"start_up": 1e9}, "hash", "start_up.*0 to 86400 seconds"),
        ({"window": 0}, "hash", "window"),
        ({"headroom": -1}, "hash", "headroom"),
        ({"even_above": 1}, "hash", "even_above"),
        ({"even_moves": 0}, "hash", "even_moves"),
        ({"rebalance": False}, "hash", "assignment least-loaded"),
        ({"scale_in": "drain"}, "hash", "assignment least-loaded"),
    ],
)
def test_a_section_that_makes_no_sense(changes: dict[str, Any], assignment: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        ElasticityConfig(**changes).check(assignment)


def test_words_are_the_sections_or_the_policys() -> None:
    words = ["split_above=20", "cool_down=2.5", "rebalance=false", "by=packets"]
    assert section("flow-count", words) == {
        "policy": "flow-count",
        "cool_down": 2.5,
        "rebalance": False,
        "settings": {"split_above": 20, "by": "packets"},
    }
    for word in ("split_above", "=3", "policy=static", "a b=1"):
        with pytest.raises(BadInput, match="--set"):
            section("flow-count", [word])


# -- the meter -----------------------------------------------------------------------------------------------------


def test_rates_are_over_the_window_and_flows_are_of_now() -> None:
    meter = Meter(2.0)
    for at in range(10):  # 100 packets and a tenth of a second of CPU each second; from 5 on three times that
        count = at + max(0, at - 5) * 2
        seen = meter.observe({1: Sample(at, at, 100 * count, 0.1 * count)}, at)
    load = seen.replicas[1]
    assert (load.flows, load.packets, round(load.cpu, 6)) == (9, 300, 0.3)


def test_a_replica_that_has_said_nothing_yet_counts() -> None:
    seen = Meter(1.0).observe({1: None, 2: Sample(0, 5, 1, 1.0)}, 0)
    assert seen.replicas == {1: Load(), 2: Load(flows=5)}


def test_the_trend_is_of_all_together_and_moves_do_not_show_in_it() -> None:
    meter = Meter(2.0)
    for now in range(6):
        meter.observe({1: Sample(now, 10 * now, 0, 0.0)}, now)
    meter.settle()
    seen = meter.observe({1: Sample(6, 30, 0, 0.0), 2: Sample(6, 30, 0, 0.0)}, 6, start_up=1.5)
    assert round(seen.trend.flows, 6) == 10 and seen.start_up == 1.5
    later = seen.ahead(2)
    assert [round(load.flows, 6) for load in later.replicas.values()] == [40, 40]


@dataclass
class World:
    """Replicas under constant load: what the damper lets through is done."""

    replicas: list[float]

    def apply(self, wanted: Recommendation) -> None:
        match wanted:
            case Split(replica):
                half = self.replicas[replica] / 2
                self.replicas[replica] = half
                self.replicas.append(half)
            case Add(count):
                total = sum(self.replicas)
                self.replicas = [total / (len(self.replicas) + count)] * (len(self.replicas) + count)
            case Merge(replica):
                self.fill(self.replicas.pop(replica))
            case Rebalance():
                self.replicas = [sum(self.replicas) / len(self.replicas)] * len(self.replicas)
            case _:
                pass

    def fill(self, load: float) -> None:
        """As `planning.merge` does: the emptiest ones get it, up to a common level."""
        low, high = min(self.replicas), max(self.replicas) + load
        for _ in range(100):
            level = (low + high) / 2
            if sum(max(0.0, level - each) for each in self.replicas) > load:
                high = level
            else:
                low = level
        self.replicas = [max(each, low) for each in self.replicas]

    def seen(self) -> Observation:
        return Observation({n: Load(each, each, each / 100) for n, each in enumerate(self.replicas)}, 1.0)


POLICY = st.sampled_from(
    [FlowCount(), AverageFlows(), Utilisation(), Target(), Static(3), Evening(FlowCount(), "flows", 1.3),
     Foresight(Utilisation(), 2)]
)  # fmt: skip
LIMITS = st.builds(
    lambda least, more, row, pause: Limits(least, least + more, row, float(pause)),
    st.integers(1, 4), st.integers(0, 8), st.integers(1, 3), st.integers(0, 10),
)  # fmt: skip


@given(POLICY, LIMITS, st.lists(st.floats(0, 2000), min_size=1, max_size=12))
def test_under_constant_load_it_keeps_its_limits_and_comes_to_rest(
    policy: Policy, limits: Limits, loads: list[float]
) -> None:
    world, damper, acted = World(list(loads)), Damper(policy, limits), float("-inf")
    kinds: list[str] = []
    for now in range(400):
        before = len(world.replicas)
        wanted = damper.recommendations(world.seen(), float(now))
        if isinstance(wanted, Keep):
            continue
        assert now - acted >= limits.cool_down, "acts within the cool-down"
        world.apply(wanted)
        after = len(world.replicas)
        assert after <= max(limits.max_replicas, before) and after >= min(limits.min_replicas, before)
        kinds.append("+" if after > before else "-" if after < before else "=")
        damper.acted(float(now))
        acted = float(now)
    assert acted < 390, f"never comes to rest: {kinds}"
    assert "-+" not in "".join(kinds) or len(loads) < limits.min_replicas, f"takes away what it then adds: {kinds}"


# -- rebalancing ---------------------------------------------------------------------------------------------------

UNITS = st.dictionaries(st.integers(0, 1023), st.floats(0, 1e6), max_size=40)


@given(UNITS, st.integers(1, 6), st.integers(0, 50), st.randoms(use_true_random=False))
def test_rebalancing_never_makes_the_busiest_busier(
    units: dict[int, float], replicas: int, most: int, random: Any
) -> None:
    loads: dict[int, dict[int, float]] = {number: {} for number in range(1, replicas + 1)}
    for unit, load in units.items():
        loads[random.randint(1, replicas)][unit] = load
    after = {number: dict(held) for number, held in loads.items()}
    shares = planning.even(loads, most)
    for share in shares:
        for unit in share.units:
            assert isinstance(unit, int)
            after[share.target][unit] = after[share.source].pop(unit)
    highest = max(sum(held.values()) for held in loads.values())
    assert max(sum(held.values()) for held in after.values()) <= highest * (1 + 1e-9)
    assert sum(len(share.units) for share in shares) <= most
    assert planning.even(loads, most) == shares
    assert planning.even(after, 0) == []


def test_rebalancing_moves_what_brings_the_two_closest() -> None:
    loads = {1: {10: 50.0, 11: 30.0, 12: 20.0}, 2: {20: 10.0}, 3: {30: 40.0}}
    assert planning.even(loads, 1) == [planning.Share(1, 2, (10,))]
    assert planning.even({1: {10: 100.0}, 2: {20: 1.0}}, 9) == [], "one heavy bucket is heavy everywhere"
