"""Policies as tables: what is seen, what is recommended."""

from __future__ import annotations

import pytest

from orchestrator.elasticity import Damper, FlowCount, Keep, Limits, Merge, Observation, Recommendation, Split
from splitmerge.errors import BadInput

SEEN: list[tuple[str, dict[int, int], Recommendation]] = [
    ("nobody lives", {}, Keep()),
    ("one, quiet", {1: 0}, Keep()),
    ("at the threshold", {1: 60}, Keep()),
    ("above it", {1: 61}, Split(1, 61)),
    ("the fullest splits", {1: 61, 2: 90, 3: 10}, Split(2, 90)),
    ("of equals the first", {2: 70, 1: 70}, Split(1, 70)),
    ("at the lower threshold", {1: 40, 2: 40}, Keep()),
    ("below it", {1: 20, 2: 39}, Merge(1, 20)),
    ("but the rest would overflow", {1: 39, 2: 60}, Keep()),
    ("just fits", {1: 20, 2: 40}, Merge(1, 20)),
    ("the last one stays", {1: 3}, Keep()),
]


@pytest.mark.parametrize(("flows", "expected"), [each[1:] for each in SEEN], ids=[each[0] for each in SEEN])
def test_flow_count_policy(flows: dict[int, int], expected: Recommendation) -> None:
    assert FlowCount().recommend(Observation(flows)) == expected


def run(damper: Damper, flows: list[dict[int, int]]) -> list[str]:
    """One look a second; what comes through is taken to be done."""
    out = []
    for now, each in enumerate(flows):
        wanted = damper.recommendations(Observation(each), float(now))
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
]


@pytest.mark.parametrize(("limits", "flows", "expected"), [d[1:] for d in DAMPED], ids=[d[0] for d in DAMPED])
def test_recommendations_are_damped(limits: Limits, flows: list[dict[int, int]], expected: str) -> None:
    assert "".join(run(Damper(FlowCount(), limits), flows)) == expected


@pytest.mark.parametrize("bad", [(40, 60), (-1, -2)])
def test_thresholds_that_make_no_sense(bad: tuple[int, int]) -> None:
    with pytest.raises(BadInput):
        FlowCount(*bad)


@pytest.mark.parametrize("bad", [(0, 8, 3, 5.0), (3, 2, 3, 5.0), (1, 8, 0, 5.0), (1, 8, 3, -1.0)])
def test_limits_that_make_no_sense(bad: tuple[int, int, int, float]) -> None:
    with pytest.raises(BadInput):
        Limits(*bad)
