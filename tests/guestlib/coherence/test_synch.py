"""SYNCH, one value under a lock: the guest's cores."""

from __future__ import annotations

import math

import msgspec
import pytest

from guestlib import LOCAL, PULL, SYNCH, Guest, LockLost, SharedError, StateError, SynchUnavailable, TransactionError
from guestlib.coherence.synch import HELD_MOST, RETRY
from guestlib.instructions import Waiting
from splitmerge.errors import Timeout
from splitmerge.messages import (
    SharedAbandon,
    SharedElement,
    SharedLock,
    SharedLocked,
    SharedLockRefused,
    SharedLost,
    SharedRenew,
    SharedWritten,
)
from tests.guestlib.conftest import Count
from tests.guestlib.synch_world import KEY, make, said


@pytest.fixture
def guest() -> Guest:
    return make()


def value(guest: Guest, token: int, packets: int) -> SharedElement:
    return SharedElement(origin="i2", version=token, kind="Count", value=guest.types.encode(Count(packets)))


def holding(guest: Guest, packets: int = 5, token: int = 3) -> Count:
    """The value in an open transaction."""
    sequence = guest.coherent.get(KEY, SYNCH, 0.0, 5.0)
    (ask,) = said(next(sequence).steps)
    locked = SharedLocked(request=ask.request, key=KEY, token=token, lease=3.0, value=value(guest, 2, packets))
    guest.handle(locked, 0.0)
    return ended(sequence)


def ended(sequence: Waiting) -> object:
    with pytest.raises(StopIteration) as stop:
        sequence.send(0.0)
    return stop.value.value


def test_a_guest_alone_has_a_lock_service_of_its_own(guest: Guest) -> None:
    for expected in (0, 1):
        with guest.shared(KEY, SYNCH) as count:
            assert count.packets == expected
            count.packets += 1
    assert guest.get_shared(KEY).packets == 2
    guest.put_shared(KEY)


def test_a_block_that_fails_writes_nothing_and_frees_the_lock(guest: Guest) -> None:
    with pytest.raises(ZeroDivisionError), guest.shared(KEY, SYNCH) as count:
        count.packets = 1 // 0
    with guest.shared(KEY, SYNCH) as count:
        assert count.packets == 0


def test_local_is_the_copy_seen_last_and_only_to_be_read(guest: Guest) -> None:
    count = holding(guest, packets=5)
    count.packets = 6
    assert guest.get_shared(KEY).packets == 5, "not written yet"
    guest.put_shared(KEY)
    guest.get_shared(KEY).packets = 7
    with pytest.raises(TransactionError, match="the copy that LOCAL gave was written to"):
        guest.put_shared(KEY)
    assert guest.get_shared(KEY).packets == 5
    guest.put_shared(KEY)


def test_the_request_is_repeated_until_it_is_granted(guest: Guest) -> None:
    sequence = guest.coherent.get(KEY, SYNCH, 0.0, 5.0)
    awaited = next(sequence)
    ask = SharedLock(request=1, key=KEY)
    assert said(awaited.steps) == [ask] and guest.coherent.next_due() == RETRY
    assert said(guest.poll(RETRY)) == [ask] and not awaited.done()
    guest.handle(SharedLocked(request=1, key=KEY, token=1, lease=3.0), 1.0)
    guest.handle(SharedLocked(request=1, key=KEY, token=1, lease=3.0), 1.0)
    assert awaited.done() and ended(sequence).packets == 0


def test_a_second_grant_of_one_request_is_given_back(guest: Guest) -> None:
    holding(guest, token=3)
    again = SharedLocked(request=1, key=KEY, token=3, lease=3.0)
    assert guest.handle(again, 1.0) == [] and guest.handle(msgspec.structs.replace(again, token=2), 1.0) == []
    newer = msgspec.structs.replace(again, token=5)
    assert said(guest.handle(newer, 1.0)) == [SharedAbandon(request=1, key=KEY)]
    guest.handle(SharedLost(key=KEY, token=3), 1.0)
    with pytest.raises(LockLost):
        next(guest.coherent.write(KEY, 1.0))


def test_a_lock_is_renewed_while_it_is_held_but_not_for_ever(guest: Guest) -> None:
    holding(guest)
    assert guest.coherent.next_due() == 1.0
    assert said(guest.poll(1.0)) == [SharedRenew(key=KEY, token=3)]
    assert guest.coherent.next_due() == 2.0
    assert guest.poll(HELD_MOST) == [] and guest.coherent.next_due() == math.inf


def test_a_write_ends_when_it_is_confirmed(guest: Guest) -> None:
    holding(guest).packets = 6
    sequence = guest.coherent.write(KEY, 0.0)
    awaited = next(sequence)
    (write,) = said(awaited.steps)
    assert write.element == SharedElement(
        origin="i1", version=3, kind="Count", value=guest.types.encode(Count(6))
    ) and said(guest.poll(RETRY)) == [write]
    guest.handle(SharedWritten(key=KEY, token=2), 0.0)
    assert not awaited.done()
    guest.handle(SharedWritten(key=KEY, token=3), 0.0)
    ended(sequence)
    assert guest.poll(9.0) == [] and guest.get_shared(KEY).packets == 6


@pytest.mark.parametrize("when", ["before the write", "after it"])
def test_a_lost_lock_is_an_error_of_put_shared_and_nothing_is_written(guest: Guest, when: str) -> None:
    holding(guest, 5).packets = 6
    lost = SharedLost(key=KEY, token=3)
    if when == "before the write":
        guest.handle(lost, 0.0)
    sequence = guest.coherent.write(KEY, 0.0)
    with pytest.raises(LockLost, match=r"token 3.*nothing changed"):
        next(sequence)
        guest.handle(lost, 0.0)
        sequence.send(0.0)
    assert guest.get_shared(KEY).packets == 5 and guest.coherent.poll(9.0) == []
    with pytest.raises(TransactionError, match="without get_shared"):
        next(guest.coherent.write(KEY, 0.0))


def test_a_wait_given_up_is_told_to_the_service(guest: Guest) -> None:
    sequence = guest.coherent.get(KEY, SYNCH, 0.0, 5.0)
    next(sequence)
    with pytest.raises(Timeout):
        sequence.throw(Timeout("x", 1.0))
    assert guest.coherent.next_due() == 0.0 and said(guest.poll(0.0)) == [SharedAbandon(request=1, key=KEY)]
    late = SharedLocked(request=1, key=KEY, token=1, lease=3.0)
    assert said(guest.handle(late, 1.0)) == [SharedAbandon(request=1, key=KEY)], "granted though nobody waits"


def test_a_refusal_says_why(guest: Guest) -> None:
    sequence = guest.coherent.get(KEY, SYNCH, 0.0, 5.0)
    next(sequence)
    guest.handle(SharedLockRefused(request=9, key=KEY, reason="not this one"), 0.0)
    guest.handle(SharedLockRefused(request=1, key=KEY, reason="too many keys"), 0.0)
    with pytest.raises(SynchUnavailable, match="refuses: too many keys"):
        sequence.send(0.0)
    assert guest.poll(9.0) == []


def test_a_value_that_cannot_travel_is_not_written_and_frees_the_lock(guest: Guest) -> None:
    holding(guest).packets = object()  # type: ignore[assignment]
    with pytest.raises(StateError):
        next(guest.coherent.write(KEY, 0.0))
    assert said(guest.poll(0.0)) == [SharedAbandon(request=1, key=KEY)]


def test_a_value_that_is_too_large_is_not_written(guest: Guest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("guestlib.coherence.transactions.VALUE_MOST", 2)
    holding(guest)
    with pytest.raises(StateError, match="may have 2"):
        next(guest.coherent.write(KEY, 0.0))


def test_the_end_frees_what_is_held(guest: Guest) -> None:
    holding(guest)
    assert said(guest.coherent.finish(0.0)) == [SharedAbandon(request=1, key=KEY)]


def test_a_middlebox_that_fails_keeps_no_lock(guest: Guest) -> None:
    holding(guest)
    guest.failed()
    assert said(guest.poll(0.0)) == [SharedAbandon(request=1, key=KEY)]


def test_one_waits_for_ones_own_transaction_where_it_can_end(guest: Guest) -> None:
    guest.coherent.concurrent = True
    holding(guest)
    guest.failed()  # another task's lock
    second = guest.coherent.get(KEY, SYNCH, 0.0, 5.0)
    awaited = next(second)
    assert awaited.steps == [] and not awaited.done()
    guest.drop_shared(KEY)
    assert awaited.done() and said(second.send(1.0).steps) == [SharedLock(request=2, key=KEY)]


def test_misuse_is_named(guest: Guest) -> None:
    with pytest.raises(SharedError, match="PULL needs a combiner"):
        guest.get_shared(KEY, PULL)
    with pytest.raises(TransactionError, match="no SYNCH transaction is open"):
        guest.drop_shared(KEY)
    holding(guest)
    with pytest.raises(TransactionError, match="inside a SYNCH transaction"):
        guest.get_shared(KEY, SYNCH)
    with pytest.raises(TransactionError, match="inside a transaction"):
        guest.delete_shared(KEY)
    with pytest.raises(TransactionError, match="without get_shared"):
        guest.put_shared(KEY, LOCAL)
