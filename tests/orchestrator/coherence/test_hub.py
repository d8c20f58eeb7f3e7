"""The hub of coherent state: exact instructions."""

from __future__ import annotations

import pytest

from orchestrator.coherence import hub as module
from orchestrator.coherence.hub import (
    FOLD_DEADLINE,
    FOLD_PAUSE,
    LAST_WORDS,
    REPEAT,
    Found,
    Hub,
    Keep,
    KeepFolded,
    Tell,
)
from splitmerge import messages as m


def element(origin: str, version: int = 1) -> m.SharedElement:
    return m.SharedElement(origin=origin, version=version, kind="Hits", value=bytes((version,)))


def push(origin: str, version: int = 1, *, final: bool = False) -> m.SharedPush:
    return m.SharedPush(request=5, key="hits", element=element(origin, version), final=final)


def pulled(*elements: m.SharedElement) -> m.SharedPulled:
    return m.SharedPulled(request=1, key="hits", elements=elements)


PULL = m.SharedPull(request=1, key="hits")


def collected(*, origin: str | None, version: int = 1, request: int = 1) -> m.SharedCollected:
    return m.SharedCollected(request=request, key="hits", element=None if origin is None else element(origin, version))


def test_a_push_is_kept_and_answered() -> None:
    hub = Hub()
    answers = hub.handle(1, push("a"), [1, 2], 0.0)
    assert answers == [Keep("hits", element("a")), Tell(1, m.SharedPushed(request=5))]
    assert hub.handle(1, push("a"), [1, 2], 0.0) == [Tell(1, m.SharedPushed(request=5))], "a repeat is not kept again"
    assert hub.elements("hits") == (element("a"),) and hub.keys() == ("hits",)


def test_parts_of_ended_replicas_are_kept_and_counted() -> None:
    hub = Hub()
    for replica, origin in enumerate("abc", 1):
        hub.handle(replica, push(origin), [replica], 0.0)
        hub.gone(replica, 0.5)
    assert (hub.kept, hub.kept_bytes) == (3, 3)


def test_a_push_is_journalled_before_it_is_answered() -> None:
    hub = Hub()
    answers = hub.handle(1, push("a", 3, final=True), [1], 0.0)
    assert answers == [Keep("hits", element("a", 3)), Tell(1, m.SharedPushed(request=5))]


def test_an_older_version_replaces_nothing() -> None:
    hub = Hub()
    hub.handle(1, push("a", 4, final=True), [1], 0.0)
    answers = hub.handle(1, push("a", 2, final=True), [1], 0.0)
    assert answers == [Tell(1, m.SharedPushed(request=5))], "a late repeat must not overwrite the journal"


def test_a_pull_asks_the_others_and_gives_one_element_for_each_origin() -> None:
    hub = Hub()
    hub.handle(1, push("a"), [1, 2, 3], 0.0)
    collect = m.SharedCollect(request=1, key="hits")
    assert hub.handle(1, PULL, [1, 2, 3], 0.0) == [Tell(2, collect), Tell(3, collect)]
    assert hub.handle(2, collected(origin="b", version=7), [1, 2, 3], 0.1) == [Keep("hits", element("b", 7))], (
        "what somebody is about to see must not be forgotten"
    )
    assert hub.handle(1, PULL, [1, 2, 3], 0.1) == [], "a repeated pull is under way already"
    assert hub.handle(3, collected(origin=None), [1, 2, 3], 0.2) == [Tell(1, pulled(element("a"), element("b", 7)))]
    late = hub.handle(3, collected(origin="c"), [1, 2, 3], 0.3)
    assert late == [Keep("hits", element("c"))] and hub.timer is None


def asking(origin: str, version: int = 1) -> m.SharedPull:
    return m.SharedPull(request=1, key="hits", element=element(origin, version))


def test_the_askers_part_is_journalled_before_it_is_answered() -> None:
    hub = Hub()
    collect, answer = m.SharedCollect(request=1, key="hits"), Tell(1, pulled(element("a", 3)))
    assert hub.handle(1, asking("a", 3), [1, 2], 0.0) == [Keep("hits", element("a", 3)), Tell(2, collect)]
    assert hub.handle(1, asking("a", 3), [1, 2], 0.1) == [], "a repeat is not kept again"
    assert hub.handle(2, collected(origin=None), [1, 2], 0.2) == [answer]
    assert hub.handle(1, asking("a", 2), [1], 0.3) == [answer], "nor does one that comes late take anything back"


def test_who_may_not_write_any_more_or_has_no_room_is_shown_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    hub = Hub()
    hub.gone(1, 0.0)
    assert hub.handle(1, asking("a"), [2], LAST_WORDS + 1) == [] and (hub.late, hub.keys()) == (1, ())
    monkeypatch.setattr(module, "KEYS_MOST", 0)
    assert hub.handle(2, asking("b"), [2], LAST_WORDS + 1) == [] and (hub.refused, hub.timer) == (1, None)


def test_nobody_else_lives() -> None:
    hub = Hub()
    hub.handle(1, push("a"), [1], 0.0)
    assert hub.handle(1, PULL, [1], 0.0) == [Tell(1, pulled(element("a")))]


def test_the_deadline_answers_with_what_is_known() -> None:
    hub = Hub()
    hub.handle(2, push("b"), [1, 2], 0.0)
    hub.handle(1, PULL, [1, 2], 0.0)
    collect = m.SharedCollect(request=1, key="hits")
    assert hub.timer == REPEAT and hub.tick(REPEAT) == [Tell(2, collect)] and hub.timer == 2 * REPEAT
    answer = m.SharedPulled(request=1, key="hits", elements=(element("b"),), missing=(2,))
    assert hub.tick(2.0) == [Tell(1, answer)] and hub.timer is None


def test_an_ended_replicas_element_stays_and_nobody_waits_for_it() -> None:
    hub = Hub()
    hub.handle(2, push("b", 9), [1, 2], 0.0)
    hub.handle(1, PULL, [1, 2], 0.0)
    assert hub.gone(2, 0.5) == [Tell(1, pulled(element("b", 9)))]


def test_a_large_element_is_journalled_when_its_replica_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "COLLECTED_MOST", 0)
    hub = Hub()
    hub.handle(1, PULL, [1, 2], 0.0)
    answer = Tell(1, pulled(element("b", 7)))
    assert hub.handle(2, collected(origin="b", version=7), [1, 2], 0.1) == [answer], "not at every pull"
    assert hub.gone(2, 0.5) == [Keep("hits", element("b", 7))] and hub.gone(2, 0.5) == []
    hub.handle(3, collected(origin="c", version=1), [3], 0.2)
    assert hub.handle(3, push("c", 2), [3], 0.3)[0] == Keep("hits", element("c", 2)), "what is pushed always is"
    assert hub.gone(3, 0.5) == []
    assert not any(isinstance(step, Keep) for step in hub.handle(1, asking("a"), [1, 4], 0.6)), "an asker's neither"
    assert hub.gone(1, 0.7) == [Keep("hits", element("a"))]


@pytest.mark.parametrize("version", [7, 6], ids=["the-same", "an-older-one"])
def test_a_push_of_what_was_collected_and_is_not_journalled_yet_is_journalled_before_it_is_answered(
    version: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "COLLECTED_MOST", 0)
    hub = Hub()
    hub.handle(1, PULL, [1, 2], 0.0)
    hub.handle(2, collected(origin="b", version=7), [1, 2], 0.1)
    answer = Tell(2, m.SharedPushed(request=5))
    assert hub.handle(2, push("b", version, final=True), [1, 2], 0.2) == [Keep("hits", element("b", 7)), answer]
    assert hub.handle(2, push("b", version, final=True), [1, 2], 0.3) == [answer], "once"
    assert hub.gone(2, 0.5) == []


def test_a_large_element_that_comes_when_its_replica_has_ended_is_journalled_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "COLLECTED_MOST", 0)
    hub = Hub()
    assert hub.gone(2, 0.5) == []
    assert hub.handle(2, collected(origin="b", version=7), [1], 0.1) == [Keep("hits", element("b", 7))]


def test_a_pull_ends_with_its_asker() -> None:
    hub = Hub()
    hub.handle(1, PULL, [1, 2], 0.0)
    assert hub.gone(1, 0.5) == [] and hub.timer is None


def test_this_process_may_ask_too() -> None:
    hub = Hub()
    assert hub.pull_here(8, "hits", [2], 0.0) == [Tell(2, m.SharedCollect(request=1, key="hits"))]
    assert hub.tick(5.0) == [Found(8, "hits", (), (2,), known=False)]


def test_what_was_kept_is_there_again() -> None:
    hub = Hub(kept=[("hits", (element("a", 3),))])
    assert hub.pull_here(1, "hits", [], 0.0) == [Found(1, "hits", (element("a", 3),), ())]


def test_the_number_of_objects_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEYS_MOST", 1)
    hub = Hub()
    hub.handle(1, push("a"), [1], 0.0)
    other = m.SharedPush(request=6, key="other", element=element("a"))
    assert hub.handle(1, other, [1], 0.0) == [] and hub.refused == 1


def test_other_messages_are_ignored() -> None:
    assert Hub().handle(1, m.Finished(request=1), [1], 0.0) == []


# -- parts of ended replicas ---------------------------------------------------------------------------------


def ended_ones(number: int = 4) -> Hub:
    """A hub that knows of so many replicas that have ended, 11 and more; 1 and 2 live."""
    hub = Hub()
    for at in range(number):
        hub.handle(11 + at, push(f"e{at}", at + 1), [1, 2, 11 + at], 0.0)
        hub.gone(11 + at, 0.0)
    return hub


def asked(steps: list[module.Instruction]) -> tuple[int, m.SharedFold]:
    """Which replica is asked to fold, and how."""
    (found,) = [(each.replica, each.message) for each in steps
                if isinstance(each, Tell) and isinstance(each.message, m.SharedFold)]  # fmt: skip
    return found


def is_asked(steps: list[module.Instruction]) -> bool:
    return any(isinstance(getattr(each, "message", None), m.SharedFold) for each in steps)


def test_parts_of_ended_replicas_become_one() -> None:
    hub, late = ended_ones(), LAST_WORDS + 1
    assert not is_asked(hub.handle(1, PULL, [1, 2], 1.0)), "something of theirs may still come"
    replica, fold = asked(hub.handle(1, push("a", final=True), [1, 2], late))
    assert replica == 2 and fold.elements == tuple(element(f"e{at}", at + 1) for at in range(4)), (
        "not the one that ends"
    )
    assert hub.kept == 5, "as long as nobody has answered"
    folded = m.SharedElement(origin=m.ENDED, version=5, kind="Hits", value=b"sum")
    answer = m.SharedFolded(request=fold.request, key="hits", kind="Hits", value=b"sum")
    assert hub.handle(2, answer, [1, 2], late) == [KeepFolded("hits", folded, ("e0", "e1", "e2", "e3"))]
    assert hub.elements("hits") == (element("a"), folded) and (hub.kept, hub.folded) == (2, 4)
    assert hub.handle(2, answer, [1, 2], late) == [], "said again it means nothing"
    assert hub.handle(11, push("e0", 9, final=True), [1, 2], late) == [] and hub.late == 1, "nor do last words"
    assert hub.elements("hits") == (element("a"), folded)


def test_what_was_folded_goes_into_the_next_one() -> None:
    hub, late = ended_ones(3), LAST_WORDS + 1
    hub.handle(1, m.SharedPush(request=1, key="hits", element=element("e9", 7)), [1], 0.0)
    hub.gone(1, 0.0)
    for number, version in ((1, 8), (2, 9)):
        _, fold = asked(hub.handle(2, PULL, [2], late * number))
        answer = m.SharedFolded(request=fold.request, key="hits", kind="Hits", value=b"sum")
        (kept,) = hub.handle(2, answer, [2], late * number)
        assert isinstance(kept, KeepFolded) and kept.element.version == version
        for at in range(3):
            hub.handle(20 + at, push(f"f{at}"), [2, 20 + at], late * number)
            hub.gone(20 + at, late * number)
    assert kept.origins == ("f0", "f1", "f2") and m.ENDED in [each.origin for each in hub.elements("hits")]


def test_last_words_still_count() -> None:
    hub = ended_ones()
    assert hub.handle(11, push("e0", 9), [1], LAST_WORDS - 1)[0] == Keep("hits", element("e0", 9))


def test_another_is_asked_if_one_does_not_answer() -> None:
    hub, late = ended_ones(), LAST_WORDS + 1
    replica, fold = asked(hub.handle(1, push("a"), [1, 2, 3], late))
    assert hub.tick(late + REPEAT) == [Tell(replica, fold)] and not is_asked(hub.handle(1, PULL, [1], late + 1))
    hub.handle(1, push("a", 2), [1, 2, 3], late + 1)
    hub.tick(late + FOLD_DEADLINE)
    other, again = asked(hub.handle(1, push("a", 3), [1, 2, 3], late + FOLD_DEADLINE))
    assert again.request != fold.request
    old = m.SharedFolded(request=fold.request, key="hits", kind="Hits", value=b"sum")
    assert hub.handle(replica, old, [1, 2, 3], late + 3) == [] and hub.folded == 0, "it was not asked any more"
    hub.gone(other, late + 3)
    assert is_asked(hub.handle(1, push("a", 4), [1, 3], late + 3)), "nor does anybody wait for one that has ended"


def test_parts_that_cannot_be_combined_stay_and_it_is_tried_seldom() -> None:
    hub, late = ended_ones(), LAST_WORDS + 1
    replica, fold = asked(hub.handle(1, push("a"), [1, 2], late))
    assert hub.handle(replica, m.SharedFolded(request=fold.request, key="hits"), [1, 2], late) == []
    assert hub.kept == 5 and not is_asked(hub.handle(1, push("a", 2), [1, 2], late + FOLD_PAUSE - 1))
    assert is_asked(hub.handle(1, push("a", 3), [1, 2], late + FOLD_PAUSE))


def test_replicas_are_asked_in_turn_though_only_one_of_them_pushes() -> None:
    hub, now, turns = ended_ones(), LAST_WORDS + 1, []
    for version in range(1, 6):
        replica, fold = asked(hub.handle(1, push("a", version), [1, 2], now))
        hub.handle(replica, m.SharedFolded(request=fold.request, key="hits"), [1, 2], now)
        now += FOLD_PAUSE
        turns.append(replica)
    assert turns == [1, 2, 1, 2, 1]


def test_replicas_are_asked_in_turn_though_each_pull_has_a_number_too() -> None:
    hub, now, turns = ended_ones(), LAST_WORDS + 1, []
    for request in range(10, 14):
        steps = hub.handle(1, m.SharedPull(request=request, key="hits"), [1, 2], now)
        replica, fold = asked(steps)
        hub.handle(replica, m.SharedFolded(request=fold.request, key="hits"), [1, 2], now)
        now += FOLD_PAUSE
        turns.append(replica)
    assert turns == [1, 2, 1, 2]


def test_parts_too_large_to_be_folded_at_once_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FOLD_MOST", 3)
    hub, late = ended_ones(), LAST_WORDS + 1
    _, fold = asked(hub.handle(1, push("a"), [1, 2], late))
    assert len(fold.elements) == 3
    monkeypatch.setattr(module, "FOLD_MOST", 1)
    other = ended_ones()
    assert not is_asked(other.handle(1, push("a"), [1, 2], late))


def test_what_an_earlier_process_knew_is_folded_but_for_living_replicas() -> None:
    kept = [("hits", tuple(element(origin) for origin in ("a", "e0", "e1", "e2", "e3")))]
    _, fold = asked(Hub(kept=kept, owners={"a": 1}).handle(2, PULL, [1, 2], 0.0))
    assert [each.origin for each in fold.elements] == ["e0", "e1", "e2", "e3"]


def test_parts_that_no_message_holds_are_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    hub = Hub()
    hub.handle(1, push("a"), [1], 0.0)
    hub.handle(1, push("b"), [1], 0.0)
    monkeypatch.setattr(module, "ANSWER_MOST", 1)
    assert hub.handle(1, PULL, [1], 0.0) == [Tell(1, m.SharedPulled(request=1, key="hits", elements=(), too_large=2))]
    assert hub.pull_here(1, "hits", [], 0.0) == [Found(1, "hits", (element("a"), element("b")), ())]
