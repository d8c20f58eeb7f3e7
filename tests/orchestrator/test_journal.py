"""The journal: what a new process reads, and what is refused."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.coherence.locks import LockRow
from orchestrator.errors import JournalError, NumbersUsedUp
from orchestrator.journal import (
    APPLICATION_ID,
    CLEARED_EVERY,
    KEPT_DEATHS,
    KEPT_MOVES,
    LAST_REPLICA,
    VERSION,
    DeathRow,
    Journal,
    MoveRow,
    ReplicaRow,
    UnreplacedRow,
)
from orchestrator.migration import Plan
from orchestrator.migration.steps import Step
from p4rt_controller.scopes import checked_replica
from p4rt_controller.tables import TableState
from splitmerge.errors import BadInput
from splitmerge.flowkey import FlowKey
from splitmerge.messages import Scope, SharedElement

KEY = FlowKey.parse("tcp,10.0.1.2:40000,10.0.2.2:80")
SCOPE = Scope(keys=(KEY,), buckets=(3, 4))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


def planned(journal: Journal, source: int = 1, target: int = 2) -> Plan:
    plan = Plan(journal.next_epoch(), SCOPE, source, target, "unix:/peer")
    journal.plan(plan)
    return plan


def test_a_new_journal_is_empty(path: Path) -> None:
    journal = Journal(path)
    state = journal.load()
    assert (state.epoch, state.replicas, state.buckets, state.flows, state.moves) == (0, {}, {}, {}, ())
    journal.close()


@pytest.mark.parametrize("step", [Step.SUSPENDING, Step.EXPORTING, Step.COMMITTING, Step.RELEASING, Step.THAWING])
def test_an_unfinished_move_is_read_back_in_its_step(path: Path, step: Step) -> None:
    journal = Journal(path)
    journal.own({3: 1, 4: 1})
    plan = planned(journal)
    journal.record(plan.epoch, step, 9)
    journal.close()
    again = Journal(path)
    state = again.load()
    assert state.moves == (MoveRow(plan, step, 9),)
    assert state.buckets == {3: 1, 4: 1}, "owners change when the move ends"
    assert state.epoch == plan.epoch and again.next_epoch() == plan.epoch + 1
    again.close()


def test_numbers_end_where_the_switch_has_no_room_for_more(path: Path) -> None:
    """And not behind it, where the last ones would be refused, and names of switches begin."""
    Journal(path).close()
    with sqlite3.connect(path) as db:
        db.execute("UPDATE counter SET value = ? WHERE name = 'replica'", (LAST_REPLICA - 1,))
    db.close()
    journal = Journal(path)
    assert journal.next_replica() == LAST_REPLICA
    checked_replica(TableState(), LAST_REPLICA, 11)
    with pytest.raises(NumbersUsedUp, match=f"no replica is left of {LAST_REPLICA}"):
        journal.next_replica()
    with pytest.raises(BadInput):
        checked_replica(TableState(), LAST_REPLICA + 1, 11)
    journal.close()


def test_owners_change_in_the_transaction_that_ends_the_move(path: Path) -> None:
    journal = Journal(path)
    plan = planned(journal)
    journal.end(MoveRow(plan, Step.DONE, plan.epoch, "why"), {3: 2, 4: 2}, {KEY: 2})
    journal.end(MoveRow(plan, Step.DONE, plan.epoch, "why"), {3: 2, 4: 2}, {KEY: 2})
    journal.close()
    again = Journal(path)
    state = again.load()
    assert (state.moves, state.buckets, state.flows) == ((), {3: 2, 4: 2}, {bytes(KEY): 2})
    assert again.move(plan.epoch) == MoveRow(plan, Step.DONE, plan.epoch, "why")
    again.forget([KEY])
    assert again.load().flows == {}
    again.close()


def test_replicas_and_final_elements_outlive_the_process(path: Path) -> None:
    journal = Journal(path)
    row = ReplicaRow(journal.next_replica(), 1, 11, "live", "abc", "left.agent")
    journal.put_replica(row)
    old = SharedElement(origin="abc", version=1, kind="K", value=b"1")
    new = SharedElement(origin="abc", version=2, kind="K", value=b"2")
    for element in (old, new):
        journal.keep_final("hits", element)
    journal.close()
    again = Journal(path)
    state = again.load()
    assert state.replicas == {1: row} and state.finals == {"hits": (new,)}
    assert again.next_replica() == 2, "ids are never used twice"
    again.drop_replica(1)
    assert again.load().replicas == {}
    again.close()


def test_one_element_takes_the_place_of_those_that_are_in_it(path: Path) -> None:
    journal = Journal(path)
    kept = {name: SharedElement(origin=name, version=1, kind="K", value=name.encode()) for name in ("a", "b", "c")}
    for element in kept.values():
        journal.keep_final("hits", element)
        journal.keep_final("other", element)
    folded = SharedElement(origin="ended", version=2, kind="K", value=b"ab")
    journal.keep_folded("hits", folded, ("a", "b"))
    journal.close()
    again = Journal(path)
    finals = again.load().finals
    assert {*finals["hits"]} == {kept["c"], folded} and {*finals["other"]} == {*kept.values()}
    again.close()


def test_a_lock_is_kept_without_its_value_unless_that_is_new(path: Path) -> None:
    journal = Journal(path)
    journal.keep_lock("limit", LockRow(1, 7, 3), wrote=False)
    assert journal.load().locks == {"limit": LockRow(1, 7, 3)}
    value = SharedElement(origin="a", version=1, kind="K", value=b"v")
    journal.keep_lock("limit", LockRow(1, 0, 3, value, {7: 1}), wrote=True)
    journal.keep_lock("limit", LockRow(2, 8, 1, None, {7: 1}), wrote=False)  # what is not written is not looked at
    journal.close()
    again = Journal(path)
    assert again.load().locks == {"limit": LockRow(2, 8, 1, value, {7: 1})}
    again.close()


def test_ended_moves_are_kept_for_a_while(path: Path) -> None:
    journal = Journal(path)
    first = planned(journal)
    journal.end(MoveRow(first, Step.UNDONE, 1), {}, {})
    for number in range(KEPT_MOVES + CLEARED_EVERY):
        assert journal.move(first.epoch) is not None or number >= KEPT_MOVES
        plan = planned(journal)
        journal.end(MoveRow(plan, Step.DONE, plan.epoch), {}, {}, b"figures")
    assert journal.move(first.epoch) is None
    assert [row.plan.epoch for row in journal.moves(2)] == [plan.epoch, plan.epoch - 1]
    assert KEPT_MOVES <= len(journal.load().figures) < KEPT_MOVES + CLEARED_EVERY
    journal.close()


def test_as_many_ended_moves_are_kept_where_each_has_used_up_several_numbers(path: Path) -> None:
    journal = Journal(path)
    for _ in range(KEPT_MOVES + 10):
        plan = planned(journal)
        relay = journal.next_relay(plan.epoch)
        journal.end(MoveRow(plan, Step.DONE, relay), {}, {}, b"figures")
    assert len(journal.moves(2 * KEPT_MOVES)) >= KEPT_MOVES
    assert len(journal.load().figures) >= KEPT_MOVES
    journal.close()


def test_whose_an_epoch_of_holding_was_is_known_as_long_as_the_move(path: Path) -> None:
    journal = Journal(path)
    first, second = planned(journal), planned(journal)
    relays = {journal.next_relay(each.epoch): each.epoch for each in (first, second, first)}
    assert journal.next_epoch() == max(relays) + 1, "no move gets such a number"
    journal.end(MoveRow(first, Step.DONE, max(relays)), {}, {})
    journal.close()
    again = Journal(path)
    assert again.load().relays == relays
    for _ in range(KEPT_MOVES + CLEARED_EVERY):
        later = planned(again)
        again.end(MoveRow(later, Step.DONE, later.epoch), {}, {})
    assert again.load().relays == {relay: epoch for relay, epoch in relays.items() if epoch == second.epoch}
    again.close()


def test_a_second_process_is_refused(path: Path) -> None:
    journal = Journal(path)
    with pytest.raises(JournalError, match="another orchestrator"):
        Journal(path)
    journal.close()


def test_who_is_not_replaced_is_read_back_in_order_and_written_anew_as_a_whole(path: Path) -> None:
    first, second = UnreplacedRow(7, "vm", 2, 1, "no memory"), UnreplacedRow(3, "", 2, 0, "")
    journal = Journal(path)
    assert journal.load().unreplaced == ()
    for rows in ([first, second], [second]):
        journal.leave_dead(rows)
        assert journal.load().unreplaced == tuple(rows)
    journal.close()


def test_the_epoch_that_a_move_begins_under_is_on_disk_before_its_first_step(path: Path) -> None:
    journal = Journal(path)
    plan = planned(journal)
    renewed = journal.next_relay(plan.epoch)
    plan = replace(plan, scope=Scope(keys=(KEY,)), renewed=renewed)
    journal.replan(plan)
    journal.record(plan.epoch, Step.PREPARING, plan.fence)
    journal.close()
    again = Journal(path)
    state = again.load()
    assert state.moves == (MoveRow(plan, Step.PREPARING, renewed),) and state.relays == {renewed: plan.epoch}
    assert state.moves[0].plan.fence == renewed and again.next_epoch() > renewed
    again.close()


def test_when_a_move_was_asked_for_and_what_it_follows_are_kept(path: Path) -> None:
    journal = Journal(path)
    plan = Plan(journal.next_epoch(), SCOPE, 1, 2, "unix:/peer")
    journal.plan(plan, 1_700_000_000.25, 7)
    journal.close()
    again = Journal(path)
    row = MoveRow(plan, Step.PLANNED, plan.epoch, planned=1_700_000_000.25, follows=7)
    assert again.load().moves == (row,) and again.move(plan.epoch) == row
    again.close()


@pytest.mark.parametrize("layout", [8, 9, 10])
def test_a_journal_of_a_layout_before_is_read_and_has_todays_from_then_on(path: Path, layout: int) -> None:
    journal = Journal(path)
    plan = planned(journal)
    journal.record(plan.epoch, Step.EXPORTING, 9)
    journal.close()
    older(path, layout)
    for _ in range(2):
        again = Journal(path)
        assert again.load().moves == (MoveRow(plan, Step.EXPORTING, 9),) and again._pragma("user_version") == VERSION
        again.close()
    again = Journal(path)
    later = Plan(again.next_epoch(), SCOPE, 1, 2)
    again.plan(later, 5.0, plan.epoch)
    assert again.move(later.epoch) == MoveRow(later, Step.PLANNED, later.epoch, planned=5.0, follows=plan.epoch)
    again.close()


def older(path: Path, layout: int) -> None:
    """Make a journal one of this layout."""
    other = sqlite3.connect(path)
    other.execute("DROP TABLE deaths")
    for name in {8: ("renewed", "planned", "follows"), 9: ("renewed",), 10: ()}[layout]:
        other.execute(f"ALTER TABLE moves DROP COLUMN {name}")
    other.execute(f"PRAGMA user_version={layout}")
    other.close()


def test_the_newest_deaths_are_remembered_and_those_that_cost_nothing_only_counted(path: Path) -> None:
    journal = Journal(path)
    for number in range(1, KEPT_DEATHS + 3):
        journal.died(DeathRow(number, number, 0.5 * number), {"replicas.died": 1})
    journal.died(DeathRow(999, 0, 7.0), {"replicas.died": 1})
    journal.close()
    state = Journal(path).load()
    assert state.totals["replicas.died"] == KEPT_DEATHS + 3
    assert [row.replica for row in state.deaths] == list(range(3, KEPT_DEATHS + 3))
    assert state.deaths[0] == DeathRow(3, 3, 1.5)


def alien(path: Path) -> None:
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE songs (title TEXT)")
    other.commit()
    other.close()


def newer(path: Path) -> None:
    Journal(path).close()
    other = sqlite3.connect(path)
    other.execute("PRAGMA user_version=99")
    other.close()


def garbage(path: Path) -> None:
    path.write_bytes(b"this is not a database, but long enough to be taken for one" * 100)


def torn(path: Path) -> None:
    journal = Journal(path)
    for _ in range(200):
        planned(journal)
    journal.close()
    raw = bytearray(path.read_bytes())
    raw[4096:-4096] = b"\xff" * (len(raw) - 8192)
    path.write_bytes(bytes(raw))


@pytest.mark.parametrize("spoil", [alien, newer, garbage, torn], ids=lambda each: each.__name__)
def test_what_is_not_our_journal_is_refused_with_a_remedy(path: Path, spoil: object) -> None:
    assert callable(spoil)
    spoil(path)
    with pytest.raises(JournalError) as caught:
        Journal(path).load()
    assert str(path) in str(caught.value) and caught.value.remedy


def test_a_row_that_makes_no_sense_is_refused(path: Path) -> None:
    journal = Journal(path)
    planned(journal)
    journal.close()
    other = sqlite3.connect(path)
    assert other.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)
    other.execute("UPDATE moves SET step = 'dancing'")
    other.commit()
    other.close()
    again = Journal(path)
    with pytest.raises(JournalError, match="move 1"):
        again.load()
    again.close()


def test_a_step_of_an_unknown_move_is_refused(path: Path) -> None:
    journal = Journal(path)
    with pytest.raises(JournalError, match="no move 5"):
        journal.record(5, Step.DRAINING, 5)
    journal.close()


def test_no_directory(tmp_path: Path) -> None:
    with pytest.raises(JournalError):
        Journal(tmp_path / "nowhere" / "journal.db")


def test_power_durability_waits_for_the_disk(path: Path) -> None:
    journal = Journal(path, durability="power")
    assert journal._pragma("synchronous") == 2
    journal.close()
