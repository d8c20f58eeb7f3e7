"""The lock service: exact instructions, and every way in which a write must be refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.coherence import locks as module
from orchestrator.coherence.hub import Tell
from orchestrator.coherence.locks import LEASE, KeepLock, LockRow, Locks, Step
from orchestrator.errors import JournalError
from orchestrator.journal import Journal, ReplicaRow
from orchestrator.replicas.fleet import Fleet, ReplicaState
from orchestrator.replicas.sessions import Session
from orchestrator.shared import SharedState
from splitmerge import messages as m

KEY = "limits"


def value(token: int, origin: str = "i1") -> m.SharedElement:
    return m.SharedElement(origin=origin, version=token, kind="Limit", value=bytes((token,)))


def ask(request: int = 1) -> m.SharedLock:
    return m.SharedLock(request=request, key=KEY)


def write(token: int) -> m.SharedWrite:
    return m.SharedWrite(key=KEY, element=value(token))


def abandon(request: int) -> m.SharedAbandon:
    return m.SharedAbandon(request=request, key=KEY)


def renew(token: int) -> m.SharedRenew:
    return m.SharedRenew(key=KEY, token=token)


def granted(replica: int, request: int, token: int, newest: m.SharedElement | None = None) -> Tell:
    return Tell(replica, m.SharedLocked(request=request, key=KEY, token=token, lease=LEASE, value=newest))


def written(replica: int, token: int) -> Tell:
    return Tell(replica, m.SharedWritten(key=KEY, token=token))


def lost(replica: int, token: int) -> Tell:
    return Tell(replica, m.SharedLost(key=KEY, token=token))


def tells(steps: list[Step]) -> list[Step]:
    return [step for step in steps if isinstance(step, Tell)]


@pytest.fixture
def locks() -> Locks:
    return Locks()


def test_a_free_lock_is_granted_at_once_and_journalled_before(locks: Locks) -> None:
    assert locks.handle(1, ask(), 0.0) == [KeepLock(KEY, LockRow(1, 1, 1)), granted(1, 1, 1)]


def test_a_write_is_journalled_before_it_is_confirmed_and_the_next_one_sees_it(locks: Locks) -> None:
    locks.handle(1, ask(), 0.0)
    assert locks.handle(2, ask(), 0.0) == [] and locks.timer == LEASE
    steps = locks.handle(1, write(1), 1.0)
    row = LockRow(2, 2, 1, value(1), {1: 1})
    assert steps == [KeepLock(KEY, row, wrote=True), written(1, 1), granted(2, 1, 2, value(1))]
    assert locks.handle(2, write(2), 1.0)[0] == KeepLock(KEY, LockRow(2, 0, 1, value(2), {1: 1, 2: 2}), wrote=True)


def test_waiting_replicas_are_served_in_turn(locks: Locks) -> None:
    for replica in (1, 2, 3):
        locks.handle(replica, ask(), 0.0)
    locks.handle(2, ask(), 0.1)  # a repeat does not lose its place
    assert tells(locks.handle(1, write(1), 1.0))[1] == granted(2, 1, 2, value(1))
    assert tells(locks.handle(2, write(2), 1.0))[1] == granted(3, 1, 3, value(2))


def test_a_repeated_request_is_granted_again_with_the_same_token(locks: Locks) -> None:
    locks.handle(1, ask(), 0.0)
    assert locks.handle(1, ask(), 1.0) == [granted(1, 1, 1)]


def test_a_lease_that_ran_out_is_taken_only_if_somebody_waits(locks: Locks) -> None:
    locks.handle(1, ask(), 0.0)
    assert locks.timer is None
    assert tells(locks.handle(1, write(1), 10 * LEASE)) == [written(1, 1)]


@pytest.mark.parametrize("renewed", [False, True], ids=["silent", "renewed"])
def test_a_holder_keeps_the_lock_while_it_renews(locks: Locks, renewed: bool) -> None:
    locks.handle(1, ask(), 0.0)
    locks.handle(2, ask(), 0.0)
    if renewed:
        assert locks.handle(1, renew(1), LEASE - 1) == []
    assert locks.tick(LEASE - 0.1) == []
    assert tells(locks.tick(LEASE)) == ([] if renewed else [granted(2, 1, 2)])
    assert locks.taken_over == (not renewed)


def test_a_holder_that_wakes_up_too_late_is_fenced(locks: Locks) -> None:
    locks.handle(1, ask(), 0.0)
    locks.handle(2, ask(), 0.0)
    locks.tick(LEASE)
    assert locks.handle(1, renew(1), LEASE) == [lost(1, 1)]
    assert locks.handle(1, write(1), LEASE) == [lost(1, 1)] and locks.fenced == 1
    assert tells(locks.handle(2, write(2), LEASE)) == [written(2, 2)]
    assert locks.handle(1, write(1), LEASE) == [lost(1, 1)]
    assert locks.row(KEY) == LockRow(2, 0, 1, value(2), {2: 2})


def test_a_request_whose_grant_was_lost_waits_again_when_the_lease_ran_out(locks: Locks) -> None:
    locks.handle(1, ask(5), 0.0)
    locks.handle(2, ask(), 0.0)
    locks.tick(LEASE)
    assert locks.handle(1, ask(4), LEASE) == [], "an older one is over"
    assert locks.handle(1, ask(5), LEASE) == []
    assert tells(locks.handle(2, write(2), LEASE)) == [written(2, 2), granted(1, 5, 3, value(2))]
    assert locks.handle(1, write(1), LEASE) == [lost(1, 1)]
    locks.handle(1, abandon(5), LEASE)
    assert locks.handle(1, ask(5), LEASE) == [], "given up"


def test_somebody_elses_token_is_of_no_use(locks: Locks) -> None:
    locks.handle(1, ask(), 0.0)
    assert locks.handle(2, write(1), 0.0) == [lost(2, 1)]
    assert locks.handle(2, m.SharedWrite(key="other", element=value(1)), 0.0)[0].message.key == "other"
    assert locks.handle(2, m.SharedRenew(key="other", token=1), 0.0)[0].message.key == "other"


def test_a_write_whose_answer_was_lost_is_confirmed_again_whatever_came_after(locks: Locks) -> None:
    locks.handle(1, ask(), 0.0)
    locks.handle(1, write(1), 0.0)
    locks.handle(2, ask(), 0.0)
    locks.handle(2, write(2), 0.0)
    assert locks.handle(1, write(1), 1.0) == [written(1, 1)]
    assert locks.handle(1, renew(1), 1.0) == [], "said before the write, and late: nothing was lost"
    assert locks.row(KEY).value == value(2)


@pytest.mark.parametrize(
    "end", [lambda locks: locks.gone(1, 1.0), lambda locks: locks.handle(1, abandon(1), 1.0)], ids=["dead", "abandoned"]
)
def test_a_lock_is_free_when_its_holder_gives_up(locks: Locks, end: Callable[[Locks], list[Step]]) -> None:
    locks.handle(1, ask(), 0.0)
    locks.handle(2, ask(), 0.0)
    assert tells(end(locks)) == [granted(2, 1, 2)]


@pytest.mark.parametrize(
    "end", [lambda locks: locks.gone(2, 1.0), lambda locks: locks.handle(2, abandon(1), 1.0)], ids=["dead", "abandoned"]
)
def test_nothing_is_given_to_one_that_does_not_wait_any_more(locks: Locks, end: Callable[[Locks], list[Step]]) -> None:
    locks.handle(1, ask(), 0.0)
    locks.handle(2, ask(), 0.0)
    assert end(locks) == []
    assert tells(locks.handle(1, write(1), 1.0)) == [written(1, 1)]


def test_late_repeats_of_what_is_over_do_nothing(locks: Locks) -> None:
    locks.handle(1, ask(1), 0.0)
    locks.handle(1, write(1), 0.0)
    assert locks.handle(1, ask(1), 0.0) == []
    assert tells(locks.handle(1, ask(2), 0.0)) == [granted(1, 2, 2, value(1))]
    assert locks.handle(1, abandon(1), 0.0) == [], "the abandon of an older request"
    assert locks.handle(1, ask(1), 0.0) == []
    locks.handle(1, abandon(9), 0.0)
    assert locks.handle(1, ask(8), 0.0) == [], "abandoned before it came"
    assert locks.handle(1, m.SharedAbandon(request=1, key="other"), 0.0) == []


def test_a_new_request_of_the_holder_gives_up_what_it_had(locks: Locks) -> None:
    locks.handle(1, ask(1), 0.0)
    locks.handle(2, ask(1), 0.0)
    assert tells(locks.handle(1, ask(2), 0.0)) == [granted(2, 1, 2)]
    assert locks.handle(1, write(1), 0.0) == [lost(1, 1)]
    assert tells(locks.handle(2, abandon(1), 0.0)) == [granted(1, 2, 3)]


def test_the_number_of_keys_is_bounded(locks: Locks, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEYS_MOST", 1)
    locks.handle(1, ask(), 0.0)
    (step,) = locks.handle(1, m.SharedLock(request=2, key="other"), 0.0)
    assert isinstance(step.message, m.SharedLockRefused) and "1 keys already" in step.message.reason


def test_other_messages_are_ignored(locks: Locks) -> None:
    assert locks.handle(1, m.Finished(request=1), 0.0) == [] and locks.gone(1, 0.0) == [] and locks.row(KEY) is None


def test_after_a_restart_holders_have_a_whole_lease_and_tokens_go_on(tmp_path: Path) -> None:
    first, journal = Locks(), Journal(tmp_path / "journal.db")

    def did(steps: list[Step]) -> list[Step]:
        for step in steps:
            if isinstance(step, KeepLock):
                journal.keep_lock(step.key, step.row, wrote=step.wrote)
        return tells(steps)

    did(first.handle(1, ask(), 0.0))
    did(first.handle(1, write(1), 0.0))
    did(first.handle(2, ask(), 0.0))
    journal.close()
    again = Journal(tmp_path / "journal.db")
    second = Locks(kept=again.load().locks.items())
    again.close()
    second.restart(100.0)
    assert second.row(KEY) == first.row(KEY)
    assert second.handle(3, ask(), 100.0) == [] and second.timer == 100.0 + LEASE
    assert second.handle(1, write(1), 101.0) == [written(1, 1)], "it may not have heard that it was written"
    assert tells(second.handle(2, write(2), 101.0)) == [written(2, 2), granted(3, 1, 3, value(2))]


async def test_a_replica_that_has_ended_gets_no_lock_however_late_it_is_read(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.db")
    sent: list[tuple[int, m.Message]] = []
    faults: list[JournalError] = []
    shared = SharedState(
        journal, journal.load(), lambda replica, message: sent.append((replica, message)), fault=faults.append
    )
    shared.begin()
    shared.gone(1)
    shared.handle(1, ask(), [2])
    shared.handle(2, ask(), [2])
    assert sent == [(2, granted(2, 1, 1).message)]
    shared.handle(1, write(1), [2])
    assert len(sent) == 1 and shared.lock(KEY) == LockRow(1, 2, 1) and not faults
    shared.close()
    journal.close()


def test_a_replica_that_has_ended_is_not_living_though_its_connection_is_open(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.db")
    fleet = Fleet(journal, {1: 1, 2: 2})
    gone: list[int] = []
    fleet.on_gone = gone.append
    fleet.load([ReplicaRow(1, 1, 1, "live"), ReplicaRow(2, 2, 2, "starting")])
    for replica in fleet.replicas.values():
        replica.session = Session(handler=None, forget=None)  # type: ignore[arg-type]
    assert fleet.living() == [1, 2]
    fleet.set_state(fleet.replicas[1], ReplicaState.GONE)
    assert fleet.living() == [2] and gone == [1]
    fleet.forget(fleet.replicas[1])
    fleet.forget(fleet.replicas[2])  # never used, but it may have asked for a lock
    assert gone == [1, 2]
    journal.close()
