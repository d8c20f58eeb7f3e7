"""The word that all state is at the target, from the source or from the target: when it counts, and whose."""

from __future__ import annotations

import pytest

from orchestrator import migration as core
from orchestrator.migration.steps import Step
from splitmerge import messages as m
from tests.orchestrator.migration.test_migration import (
    COMMIT,
    COMMITTED,
    EXPORTED,
    FAILED,
    OK,
    RENEWED,
    at,
    record,
    refused,
)

ALL_STAGED = core.Answer(2, m.AllStaged(epoch=7, staged=1))


@pytest.mark.parametrize("step", [Step.DRAINING, Step.EXPORTING])
def test_the_word_of_the_target_that_it_has_all_is_as_good_as_the_sources(step: Step) -> None:
    """Before the marker's echo it waits for that: what the source sent before it is on its way."""
    move = at(step)
    decided = [record(Step.COMMITTING), core.Send(2, COMMIT)]
    if step is Step.DRAINING:
        assert move.handle(ALL_STAGED, 11.0) == []
        assert move.handle(OK, 11.1) == decided
    else:
        assert move.handle(ALL_STAGED, 11.0) == decided
    assert move.handle(EXPORTED, 11.2) == [] and move.step is Step.COMMITTING
    assert move.figures.staged == 1
    move.validate()


def test_a_source_that_has_refused_does_not_export_whatever_the_target_says() -> None:
    move = at(Step.DRAINING)
    for event in (refused(1, "Export"), ALL_STAGED):
        assert move.handle(event, 11.0) == []
    move.handle(OK, 11.1)
    assert move.step is Step.THAWING


@pytest.mark.parametrize(
    "answer",
    [core.Answer(1, m.AllStaged(epoch=7, staged=1)), core.Answer(2, m.AllStaged(epoch=6, staged=1))],
    ids=["the source's", "another move's"],
)
def test_nobody_else_can_say_so(answer: core.Answer) -> None:
    move = at(Step.EXPORTING)
    assert move.handle(answer, 11.0) == []
    assert (move.step, move.figures.staged) == (Step.EXPORTING, 0)


LOST = core.ReplicaLost(1)
ABANDONED = core.NetworkFailed("abandoned")
HALF = core.Answer(1, m.Exported(epoch=7, staged=3, pinned=(b"k" * 13,)))
ALIEN = core.Answer(1, m.Exported(epoch=6, staged=1))
LAST_WORDS: list[tuple[str, Step, list[core.Event], tuple[bool, int]]] = [
    ("it had exported before its marker's echo", Step.DRAINING, [EXPORTED, LOST, ABANDONED], (False, 1)),
    ("the echo came all the same", Step.DRAINING, [EXPORTED, LOST, OK], (False, 1)),
    ("its last word comes behind its end", Step.DRAINING, [LOST, EXPORTED, ABANDONED], (False, 1)),
    ("… and when the move has gone on", Step.DRAINING, [LOST, ABANDONED, EXPORTED], (False, 1)),
    ("… from exporting", Step.EXPORTING, [LOST, EXPORTED], (False, 1)),
    ("the target had said that it has all", Step.DRAINING, [ALL_STAGED, LOST, ABANDONED], (False, 1)),
    ("… and says so behind the source's end", Step.EXPORTING, [LOST, ALL_STAGED], (False, 1)),
    ("called off, then not", Step.DRAINING, [EXPORTED, core.Cancel("off"), FAILED, LOST, ABANDONED], (False, 1)),
    ("a part was in use", Step.DRAINING, [HALF, LOST, ABANDONED], (True, 3)),
    ("another move's", Step.DRAINING, [ALIEN, LOST, ABANDONED], (True, 0)),
    ("it had said nothing", Step.DRAINING, [LOST, ABANDONED], (True, 0)),
]  # fmt: skip


@pytest.mark.parametrize(("step", "events", "known"), [each[1:] for each in LAST_WORDS], ids=[e[0] for e in LAST_WORDS])
def test_what_a_source_staged_before_its_death_is_known_whenever_its_word_of_it_comes(
    step: Step, events: list[core.Event], known: tuple[bool, int]
) -> None:
    """``known``: whether the flows go on without state, and how many were staged."""
    move = at(step)
    for event in [*events, COMMITTED, OK]:
        move.handle(event, 11.0)
        move.validate()
    assert (move.step, move.stateless, move.figures.staged) == (Step.DONE, *known)
    assert move.pinned == () and move.reason.endswith("replica 1 is gone")


def test_what_a_source_says_is_known_by_the_epoch_that_its_move_begins_under() -> None:
    move = at(Step.DRAINING, plan=RENEWED)
    for event in (core.Answer(1, m.Exported(epoch=9, staged=3)), LOST, ABANDONED):
        move.handle(event, 11.0)
    assert (move.step, move.figures.staged) == (Step.COMMITTING, 3)
