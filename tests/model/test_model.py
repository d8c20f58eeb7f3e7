"""The protocol holds in every interleaving; without any one of its rules it does not.

Three packets, two replicas, one controller, one crash (or a move that is called off, and one crash).
"""

from __future__ import annotations

import pytest

from model import CONFIGURATIONS, RULES, search
from model.__main__ import counterexample
from model.faults import FAULTS
from model.table import PAGE, written
from model.world import World
from orchestrator.paths import TRANSITIONS
from orchestrator.steps import Path, Step

CASES = [(kind, fault) for kind in CONFIGURATIONS for fault in FAULTS]
LEFT_OUT = [(name, rule) for name, kind in CONFIGURATIONS.items() for rule in sorted(kind.rules)]


@pytest.mark.parametrize(("kind", "fault"), CASES)
def test_every_interleaving_keeps_the_promises(kind: str, fault: str) -> None:
    result = search(CONFIGURATIONS[kind], 3, fault)
    assert result.violation is None, "\n".join((result.violation, *result.trace))
    assert result.states > 200, "the search has not begun"
    assert result.ends


@pytest.mark.parametrize(("kind", "fault"), [(kind, f"orchestrator+{fault}") for kind in CONFIGURATIONS
                                             for fault in ("orchestrator", "switch", "source", "target")])  # fmt: skip
def test_and_with_a_second_crash(kind: str, fault: str) -> None:
    result = search(CONFIGURATIONS[kind], 1, fault)
    assert result.violation is None, "\n".join((result.violation, *result.trace))


@pytest.mark.parametrize(("kind", "rule"), LEFT_OUT)
def test_without_a_rule_the_search_finds_a_way_to_break_it(kind: str, rule: str) -> None:
    found = counterexample(CONFIGURATIONS[kind], rule)
    assert found is not None, f"nobody needs the rule {rule!r}, or the model cannot see its absence"
    assert found.trace
    print(f"{kind} without {rule}: {found.violation}", *found.trace, sep="\n    ")


def test_every_rule_belongs_to_some_kind_of_move() -> None:
    assert set().union(*(kind.rules for kind in CONFIGURATIONS.values())) == set(RULES)


@pytest.mark.parametrize("kind", ["cpu/order-preserving"])
@pytest.mark.parametrize("fault", FAULTS)
def test_the_steps_follow_one_another_as_the_orchestrators_do(kind: str, fault: str) -> None:
    """Each change of step in the model is a row of the real table; a restart may take two rows at once."""
    real = {(step, following) for step, rows in TRANSITIONS[Path.CPU].items() for following in rows.values()}
    seen: set[tuple[Step, Step]] = set()

    def watch(before: World, after: World) -> None:
        if {before.step, after.step} & {"flushing"} or not (before.alive and after.alive) or after.orphan:
            return
        if before.step != after.step:
            seen.add((Step(before.step), Step(after.step)))

    assert search(CONFIGURATIONS[kind], 2, fault, watch=watch).violation is None
    hops = real | {(a, c) for a, b in real for other, c in real if b is other and b is Step.DISCARDING}
    assert seen <= hops, {f"{a.name} → {b.name}" for a, b in seen - hops}
    assert len(seen) >= 7


def test_the_page_shows_what_the_search_finds() -> None:
    assert PAGE.read_text() == written(), "run `python -m model.table`"
