"""The hub of coherent state: exact instructions."""

from __future__ import annotations

import pytest

from orchestrator import coherent
from orchestrator.coherent import REPEAT, Found, Hub, Keep, Tell
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
        hub.gone(replica)
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
    assert hub.gone(2) == [Tell(1, pulled(element("b", 9)))]


def test_a_large_element_is_journalled_when_its_replica_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coherent, "COLLECTED_MOST", 0)
    hub = Hub()
    hub.handle(1, PULL, [1, 2], 0.0)
    answer = Tell(1, pulled(element("b", 7)))
    assert hub.handle(2, collected(origin="b", version=7), [1, 2], 0.1) == [answer], "not at every pull"
    assert hub.gone(2) == [Keep("hits", element("b", 7))] and hub.gone(2) == []
    hub.handle(3, collected(origin="c", version=1), [3], 0.2)
    assert hub.handle(3, push("c", 2), [3], 0.3)[0] == Keep("hits", element("c", 2)), "what is pushed always is"
    assert hub.gone(3) == []


def test_a_large_element_that_comes_when_its_replica_has_ended_is_journalled_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(coherent, "COLLECTED_MOST", 0)
    hub = Hub()
    assert hub.gone(2) == []
    assert hub.handle(2, collected(origin="b", version=7), [1], 0.1) == [Keep("hits", element("b", 7))]


def test_a_pull_ends_with_its_asker() -> None:
    hub = Hub()
    hub.handle(1, PULL, [1, 2], 0.0)
    assert hub.gone(1) == [] and hub.timer is None


def test_this_process_may_ask_too() -> None:
    hub = Hub()
    assert hub.pull_here(8, "hits", [2], 0.0) == [Tell(2, m.SharedCollect(request=1, key="hits"))]
    assert hub.tick(5.0) == [Found(8, "hits", (), (2,), known=False)]


def test_what_was_kept_is_there_again() -> None:
    hub = Hub(kept=[("hits", (element("a", 3),))])
    assert hub.pull_here(1, "hits", [], 0.0) == [Found(1, "hits", (element("a", 3),), ())]


def test_the_number_of_objects_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coherent, "KEYS_MOST", 1)
    hub = Hub()
    hub.handle(1, push("a"), [1], 0.0)
    other = m.SharedPush(request=6, key="other", element=element("a"))
    assert hub.handle(1, other, [1], 0.0) == [] and hub.refused == 1


def test_other_messages_are_ignored() -> None:
    assert Hub().handle(1, m.Finished(request=1), [1], 0.0) == []
