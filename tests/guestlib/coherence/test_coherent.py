"""Coherent state: contributions, combiners, and what happens to them under lost and repeated messages."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pytest

from guestlib import (
    LOCAL,
    PULL,
    PUSH,
    SYNCH,
    Guest,
    SharedError,
    SharedExists,
    SharedMissing,
    StateError,
    TransactionError,
)
from guestlib.coherence.coherent import RETRY
from guestlib.instructions import Await, Instruction, ToOrchestrator, Waiting
from orchestrator.coherence.hub import Hub
from splitmerge.errors import Timeout
from splitmerge.messages import (
    ENDED,
    Message,
    SharedCollect,
    SharedCollected,
    SharedElement,
    SharedFold,
    SharedFolded,
    SharedPull,
    SharedPulled,
    SharedPush,
    SharedPushed,
)
from tests.guestlib.conftest import Count


def add_into_the_first(elements: Sequence[Count]) -> Count:
    """A combiner with the worst manners that are allowed."""
    total = elements[0]
    for other in elements[1:]:
        total.packets += other.packets
    return total


class Mean(msgspec.Struct):
    value: float


def make(replica: int) -> Guest:
    guest = Guest()
    guest.register_state(Count)
    guest.create_shared("total", Count(), add_into_the_first)
    guest.create_shared("plain", Count())
    guest.begin(replica, f"i{replica}")
    return guest


@pytest.fixture
def guest() -> Guest:
    return make(1)


def add(guest: Guest, amount: int, flags=LOCAL) -> None:
    guest.get_shared("total").packets += amount
    guest.put_shared("total", flags)


def said(steps: list[Instruction]) -> list[Message]:
    assert all(isinstance(step, ToOrchestrator) for step in steps)
    return [step.message for step in steps]


def element(origin: str, version: int, packets: int) -> SharedElement:
    return SharedElement(origin=origin, version=version, kind="Count", value=_encoded(packets))


def _encoded(packets: int) -> bytes:
    guest = make(9)
    return guest.types.encode(Count(packets))


def test_local_is_this_replicas_element(guest: Guest) -> None:
    add(guest, 3)
    assert guest.get_shared("total").packets == 3
    guest.put_shared("total")
    assert guest.poll(0.0) == []


def test_pull_combines_and_is_a_copy(guest: Guest) -> None:
    add(guest, 3)
    sequence, _ = begin(guest, "total", PULL)
    guest.handle(SharedPulled(request=1, key="total", elements=(element("i2", 1, 10), element("i1", 9, 99))), 1.0)
    view = ended(sequence)
    assert isinstance(view, Count) and view.packets == 13
    guest.put_shared("total")
    assert guest.last_combined("total").packets == 13
    assert guest.get_shared("total").packets == 3
    guest.put_shared("total")


def test_writing_to_what_pull_gave_is_an_error_and_not_lost_silently(guest: Guest) -> None:
    guest.get_shared("total", PULL).packets += 1
    with pytest.raises(TransactionError, match="write under get_shared"):
        guest.put_shared("total")
    with pytest.raises(TransactionError, match="without get_shared"):
        guest.put_shared("total")


def test_no_combiner_runs_inside_a_transaction(guest: Guest) -> None:
    guest.get_shared("total")
    with pytest.raises(TransactionError, match="combiners run between"):
        guest.get_shared("total", PULL)
    with pytest.raises(TransactionError, match="inside a transaction"):
        guest.delete_shared("total")
    guest.get_shared("total").packets += 1
    guest.put_shared("total", PUSH)
    assert guest.last_combined("total") is None and guest.poll(0.0) == []
    guest.get_shared("total").packets += 1
    guest.put_shared("total")
    assert guest.poll(0.0) == []
    guest.put_shared("total")  # the last one that was open
    assert guest.last_combined("total").packets == 2
    assert [push.element.version for push in said(guest.poll(0.0))] == [3]


def test_push_is_repeated_until_it_is_answered(guest: Guest) -> None:
    add(guest, 3, PUSH)
    assert guest.next_due() == 0.0
    (push,) = said(guest.poll(0.0))
    assert push == SharedPush(request=1, key="total", element=element("i1", 1, 3))
    assert guest.last_combined("total").packets == 3
    assert guest.next_due() == RETRY
    assert guest.poll(RETRY / 2) == []
    assert said(guest.poll(RETRY)) == [push]
    add(guest, 4, PUSH)  # replaces the one not answered
    (newer,) = said(guest.poll(RETRY))
    assert newer == SharedPush(request=2, key="total", element=element("i1", 2, 7))
    assert guest.handle(SharedPushed(request=1), 1.0) == []
    assert guest.coherent.unconfirmed == 1
    guest.handle(SharedPushed(request=2), 1.0)
    assert guest.coherent.unconfirmed == 0 and guest.next_due() is None


def test_a_collect_waits_for_the_open_transaction(guest: Guest) -> None:
    collect = SharedCollect(request=5, key="total")
    assert said(guest.handle(collect, 0.0)) == [SharedCollected(request=5, key="total", known=True)]
    unknown = SharedCollect(request=6, key="other")
    assert said(guest.handle(unknown, 0.0)) == [SharedCollected(request=6, key="other")]
    guest.get_shared("total").packets += 2
    assert guest.handle(collect, 0.0) == guest.handle(collect, 0.0) == []
    guest.get_shared("total").packets += 2
    guest.put_shared("total")
    assert guest.poll(0.0) == []
    guest.put_shared("total")
    assert said(guest.poll(0.0)) == [SharedCollected(request=5, key="total", element=element("i1", 2, 4), known=True)]


def begin(guest: Guest, key: str, flags) -> tuple[Waiting, Await]:
    sequence = guest.coherent.get(key, flags, 0.0, 2.0)
    return sequence, next(sequence)


def ended(sequence: Waiting, now: float = 1.0) -> object:
    """What the sequence returns; it must have nothing more to wait for."""
    with pytest.raises(StopIteration) as stop:
        sequence.send(now)
    return stop.value.value


def test_a_pull_is_asked_for_and_repeated(guest: Guest) -> None:
    sequence, awaited = begin(guest, "total", PULL)
    pull = SharedPull(request=1, key="total", deadline=0.9 * 2.0)
    assert said(awaited.steps) == [pull]
    assert said(guest.poll(RETRY)) == [pull]
    assert not awaited.done()
    guest.handle(SharedPulled(request=1, key="gone", elements=(element("i2", 1, 1),)), 1.0)
    guest.handle(SharedPulled(request=1, key="total", elements=(element("i2", 1, 7),)), 1.0)
    assert awaited.done() and ended(sequence).packets == 7


def test_a_pull_brings_this_replicas_part_for_what_it_shows_must_outlive_it(guest: Guest) -> None:
    add(guest, 3)
    add(guest, 1)
    sequence, awaited = begin(guest, "total", PULL)
    (pull,) = said(awaited.steps)
    assert pull == SharedPull(request=1, key="total", deadline=0.9 * 2.0, element=element("i1", 2, 4))
    add(guest, 5)
    assert said(guest.poll(RETRY)) == [pull], "the orchestrator may have it already"
    guest.handle(SharedPulled(request=1, key="total", elements=(pull.element, element("i2", 1, 7))), 1.0)
    assert ended(sequence).packets == 11, "nothing that the orchestrator does not have"
    guest.put_shared("total")
    _, awaited = begin(guest, "total", PULL)
    assert said(awaited.steps)[0].element == element("i1", 3, 9)


def test_each_pull_is_answered_with_what_it_was_sent(guest: Guest) -> None:
    """Of two under way (asyncio) the second one's answer may be there before the first one's task goes on."""
    guest.coherent.concurrent = True
    sequences = [begin(guest, "total", PULL)[0] for _ in range(2)]
    for request, packets in ((2, 20), (1, 7)):
        guest.handle(SharedPulled(request=request, key="total", elements=(element("i2", packets, packets),)), 1.0)
    assert ended(sequences[1]).packets == 20
    guest.put_shared("total")
    assert ended(sequences[0]).packets == 7


def test_a_pull_that_somebody_did_not_answer_is_no_answer(guest: Guest) -> None:
    sequence, awaited = begin(guest, "total", PULL)
    guest.handle(SharedPulled(request=1, key="total", elements=(element("i2", 1, 7),), missing=(3, 4)), 1.0)
    assert awaited.done()
    with pytest.raises(Timeout, match="replicas 3, 4 did not answer"):
        sequence.send(1.0)
    add(guest, 1)  # nothing is open


def test_a_pull_waits_for_own_transactions_where_these_can_end(guest: Guest) -> None:
    guest.coherent.concurrent = True
    guest.get_shared("total").packets += 1
    sequence, awaited = begin(guest, "total", PULL)
    assert awaited.steps == [] and not awaited.done()
    guest.put_shared("total")
    assert awaited.done()
    awaited = sequence.send(0.1)
    guest.get_shared("total").packets += 1  # another task is faster
    guest.handle(SharedPulled(request=1, key="total", elements=()), 1.0)
    assert awaited.done()
    awaited = sequence.send(0.2)
    assert not awaited.done() and guest.last_combined("total") is None
    guest.put_shared("total")
    assert ended(sequence).packets == 1, "what was there when the orchestrator was asked"


def test_a_pull_given_up_is_not_repeated(guest: Guest) -> None:
    sequence, _ = begin(guest, "total", PULL)
    sequence.close()
    assert guest.coherent.next_due() is None


def test_an_answer_is_everything_and_repeats_of_earlier_ones_mean_nothing(guest: Guest) -> None:
    """Parts that are in another one now are not counted beside it."""
    first = SharedPulled(request=1, key="total", elements=(element("i2", 2, 20), element("i3", 1, 1)))
    for message in (first, SharedPulled(request=2, key="total", elements=(element(ENDED, 3, 21),))):
        sequence, _ = begin(guest, "total", PULL)
        guest.handle(first, 1.0)  # a repeat, the second time
        guest.handle(message, 1.0)
        assert ended(sequence).packets == 21
        guest.put_shared("total")


def test_an_answer_that_no_message_holds_is_named(guest: Guest) -> None:
    sequence, awaited = begin(guest, "total", PULL)
    guest.handle(SharedPulled(request=1, key="total", elements=(), too_large=20_000_000), 1.0)
    assert awaited.done()
    with pytest.raises(SharedError, match="parts have 20000000 bytes together"):
        sequence.send(1.0)
    add(guest, 1)  # nothing is open


def test_an_object_that_is_created_again_takes_the_place_of_what_was_pushed_before(guest: Guest) -> None:
    """It is this replica's part from then on: what was deleted is not counted any more, what is new is not lost."""
    hub = Hub()

    def kept(*messages: Message) -> list[int]:
        for message in (*messages, *said(guest.poll(0.0))):
            hub.handle(1, message, [1, 2], 0.0)
        return [guest.types.decode(each.kind, each.value).packets for each in hub.elements("total")]

    add(guest, 1)
    add(guest, 2, PUSH)
    (old,) = said(guest.poll(0.0))
    assert kept(old) == [3]
    guest.delete_shared("total")
    assert kept(*said(guest.handle(SharedCollect(request=1, key="total"), 0.0))) == [3], "it is forgotten here only"
    guest.create_shared("total", Count(), add_into_the_first)
    assert kept(*said(guest.handle(SharedCollect(request=2, key="total"), 0.0))) == [0]
    add(guest, 2, PUSH)
    assert kept() == kept(old) == [2], "nor does a repeat of the old part take anything back"


def test_what_is_created_after_a_deletion_is_pulled_with_its_new_part(guest: Guest) -> None:
    add(guest, 3, PUSH)
    guest.delete_shared("total")
    guest.create_shared("total", Count(), add_into_the_first)
    guest.create_shared("one", Count())
    sequence, awaited = begin(guest, "total", PULL)
    (pull,) = said(awaited.steps)
    assert pull.element == element("i1", 2, 0)
    guest.handle(SharedPulled(request=pull.request, key="total", elements=(pull.element, element("i2", 1, 7))), 1.0)
    assert ended(sequence).packets == 7
    guest.put_shared("total")
    assert [push.key for push in said(guest.coherent.finish(0.0))] == ["total"], "one value has no parts"


def fold(key: str = "total", *elements: SharedElement) -> SharedFold:
    return SharedFold(request=5, key=key, elements=elements)


def test_what_ended_replicas_left_is_combined_for_the_orchestrator(guest: Guest) -> None:
    add(guest, 100)
    answer = SharedFolded(request=5, key="total", kind="Count", value=_encoded(7))
    parts = (element("i8", 2, 3), element("i9", 1, 4))
    assert said(guest.handle(fold("total", *parts), 0.0)) == [answer]
    assert guest.get_shared("total").packets == 100
    assert guest.handle(fold("total", *parts), 0.0) == [], "a combiner does not run inside a transaction"
    guest.put_shared("total")


@pytest.mark.parametrize("key", ["gone", "plain", "total"])
def test_what_cannot_be_combined_is_said_so(guest: Guest, key: str, caplog: pytest.LogCaptureFixture) -> None:
    broken = SharedElement(origin="i8", version=1, kind="Count", value=b"?")
    assert said(guest.handle(fold(key, broken, broken), 0.0)) == [SharedFolded(request=5, key=key)]
    assert ("cannot be combined" in caplog.text) is (key == "total")


def test_a_combiner_that_makes_something_else_of_parts_is_none_for_ended_replicas(
    guest: Guest, caplog: pytest.LogCaptureFixture
) -> None:
    guest.register_state(Mean)
    guest.create_shared("mean", Count(), lambda counts: Mean(sum(each.packets for each in counts) / len(counts)))
    parts = (element("i8", 2, 3), element("i9", 1, 4))
    assert said(guest.handle(fold("mean", *parts), 0.0)) == [SharedFolded(request=5, key="mean")]
    assert "makes a Mean" in caplog.text


def test_the_end_pushes_what_was_written(guest: Guest) -> None:
    assert guest.coherent.finish(0.0) == []
    add(guest, 3)
    assert guest.get_shared("plain").packets == 0
    assert said(guest.coherent.finish(0.0)) == [
        SharedPush(request=1, key="total", element=element("i1", 1, 3), final=True)
    ]
    guest.put_shared("plain")
    assert [push.key for push in said(guest.coherent.finish(0.0))] == ["total"]


def test_misuse_is_named(guest: Guest) -> None:
    with pytest.raises(SharedExists, match="'total': created already"):
        guest.create_shared("total", Count())
    with pytest.raises(StateError):
        guest.create_shared("new", {})
    with pytest.raises(SharedMissing, match="'new': not created here"):
        guest.get_shared("new", PULL)
    with pytest.raises(SharedError, match="SYNCH is for objects without a combiner"):
        guest.get_shared("total", SYNCH)
    with pytest.raises(TransactionError, match="without get_shared"):
        guest.put_shared("total", SYNCH)
    with pytest.raises(SharedError, match="takes LOCAL, PULL or SYNCH"):
        guest.get_shared("total", PUSH)
    with pytest.raises(SharedError, match="takes LOCAL, PUSH or SYNCH"):
        guest.put_shared("total", PULL)
    with pytest.raises(SharedError, match="needs a combiner"):
        guest.get_shared("plain", PULL)
    with pytest.raises(SharedError, match="PUSH sends this replica's part"):
        guest.put_shared("plain", PUSH)
    guest.delete_shared("total")
    with pytest.raises(SharedMissing):
        guest.get_shared("total")
