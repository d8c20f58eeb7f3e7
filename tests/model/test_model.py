"""The protocol holds in every interleaving; without any one of its rules it does not.

Three packets, two replicas, one controller, one crash (or a move that is called off, and one crash).
"""

from __future__ import annotations

import pytest

from model import CONFIGURATIONS, RULES, search
from model.__main__ import counterexample, main
from model.faults import FAULTS
from model.table import PAGE, written
from model.world import World
from orchestrator.migration.paths import TRANSITIONS
from orchestrator.migration.steps import Path, Step, Trigger

pytestmark = pytest.mark.timeout(240)

CASES = [(kind, fault) for kind in CONFIGURATIONS for fault in FAULTS]
LEFT_OUT = [(name, rule) for name, kind in CONFIGURATIONS.items() for rule in sorted(kind.rules)]


@pytest.mark.parametrize(("kind", "fault"), CASES)
def test_every_interleaving_keeps_the_promises(kind: str, fault: str) -> None:
    result = search(CONFIGURATIONS[kind], 2 if "+" in fault else 3, fault)
    assert result.violation is None, "\n".join((result.violation, *result.trace))
    assert result.states > 200, "the search has not begun"
    assert result.ends


@pytest.mark.parametrize(("kind", "fault"), [(kind, f"orchestrator+{fault}") for kind in CONFIGURATIONS
                                             for fault in ("orchestrator", "switch", "source", "target")])  # fmt: skip
def test_and_with_a_second_crash(kind: str, fault: str) -> None:
    result = search(CONFIGURATIONS[kind], 2, fault)
    assert result.violation is None, "\n".join((result.violation, *result.trace))


@pytest.mark.parametrize(("kind", "rule"), LEFT_OUT)
def test_without_a_rule_the_search_finds_a_way_to_break_it(kind: str, rule: str) -> None:
    found = counterexample(CONFIGURATIONS[kind], rule)
    assert found is not None, f"nobody needs the rule {rule!r}, or the model cannot see its absence"
    assert found.trace
    print(f"{kind} without {rule}: {found.violation}", *found.trace, sep="\n    ")


def test_every_rule_belongs_to_some_kind_of_move() -> None:
    assert set().union(*(kind.rules for kind in CONFIGURATIONS.values())) == set(RULES)


WAYS = {
    "cpu/order-preserving": Path.CPU,
    "cpu/loss-free": Path.CPU,
    "replica/order-preserving": Path.REPLICA,
    "none/no-buffer": Path.FORWARD,
    "none/none": Path.NONE,
}
BETWEEN = {Step.DRAINING, Step.EXPORTING, Step.DISCARDING, Step.CLEARING, Step.GATHERING, Step.RETURNING}
"""Steps that the model passes at once where there is nothing to wait for; the orchestrator enters and leaves them."""


def rows(text: str) -> set[tuple[Step, Step]]:
    """``A: B C`` on a line stands for the rows A → B and A → C."""
    lines = (line.split(":") for line in text.strip().splitlines())
    return {(Step[a.strip()], Step[b]) for a, following in lines for b in following.split()}


def unreached(path: Path) -> set[tuple[Step, Step]]:
    """Rows of the real table that the model does not walk, on purpose."""
    # A move that is called off, or loses a replica, before it has begun; two deaths that are noticed at once: in the
    # model one after the other, and the first leads out of these steps.
    found = rows("PLANNED: UNDONE\nEXPORTING: UNDONE")
    if path is Path.CPU:
        # New flows, which nobody has. A write is one action here, which does not fail and is not interrupted (those
        # are in test_ownership), and leads out of its step. No flow is in use, and nobody refuses.
        found |= rows("PLANNED: COMMITTING\nSUSPENDING: CLEARING COMMITTING UNDONE\nDRAINING: THAWING UNDONE")
    elif path is Path.REPLICA:
        # EXPORTING stands for DRAINING too: the source exports when it has met the marker. Writes, as above.
        found |= rows("""
            REDIRECTING: DRAINING RECALLING UNDONE
            DRAINING: EXPORTING COMMITTING RECALLING UNDONE
            RECALLING: GATHERING UNDONE
            GATHERING: UNDONE
            RETURNING: UNDONE
        """)
    else:
        # The target dies while the switch is written: the write does not end too late here.
        found |= rows("SWITCHING: THAWING\nTHAWING: RESTORING\nRESTORING: DISCARDING UNDONE")
        # Moves of buckets, which need not ask for room in the switch; and a write is one action, as above.
        found |= rows("PLANNED: EXPORTING\nRESERVING: COMMITTING RESTORING UNDONE")
    if path is Path.FORWARD:
        found |= rows("FORWARDING: DONE")  # two deaths at once, as above
    return found


def walked(kind: str) -> set[tuple[Step, Step]]:
    """Changes of step in the model, but for those of a restart and of a move without a source."""
    seen: set[tuple[Step, Step]] = set()

    def watch(before: World, after: World) -> None:
        usual = before.alive and after.alive and not after.orphan and "flushing" not in (before.step, after.step)
        if usual and before.step != after.step:
            seen.add((Step(before.step), Step(after.step)))

    for fault in (*FAULTS, "source+target"):
        assert search(CONFIGURATIONS[kind], 1, fault, watch=watch).violation is None
    return seen


@pytest.mark.parametrize("kind", WAYS)
def test_the_steps_follow_one_another_as_the_orchestrators_do(kind: str) -> None:
    """Each change of step in the model is a row of the real table, or several; and each row is walked, or known not to
    be."""
    table = TRANSITIONS[WAYS[kind]]
    real = {(step, following) for step, each in table.items() for following in each.values()}
    longer = set(real)
    for _ in range(2):
        longer |= {(a, d) for a, b in longer for c, d in longer if b is c and b in BETWEEN}
    seen = walked(kind)
    assert seen <= longer, {f"{a.name} → {b.name}" for a, b in seen - longer}
    forward = {
        (step, following)
        for step, each in table.items()
        for trigger, following in each.items()
        if trigger is not Trigger.RECOVER and following is not step
    }
    assert {f"{a.name} → {b.name}" for a, b in forward - seen} == {
        f"{a.name} → {b.name}" for a, b in unreached(WAYS[kind])
    }


def test_the_page_shows_what_the_search_finds() -> None:
    assert PAGE.read_text() == written(), "run `python -m model.table`"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--packets", "-1"], "--packets -1: at least 1"),
        (["--fault", "switch+flood"], "--fault flood: no such fault; there are "),
        (["--without", "hope"], "--without hope: no such rule; see --rules"),
    ],
)
def test_the_command_says_what_is_wrong(
    arguments: list[str], said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["model", *arguments])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2 and said in capsys.readouterr().err
