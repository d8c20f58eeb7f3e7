"""Owners, locks of scopes, and plans of what to move."""

from __future__ import annotations

import itertools
from contextlib import AbstractContextManager

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from orchestrator.moves.placement import Locks, Placement
from orchestrator.scaling import planning
from splitmerge.flowkey import BUCKETS, FlowKey
from splitmerge.messages import Scope

KEYS = [FlowKey.of(17, bytes((10, 0, 1, 2)), port, bytes((10, 0, 2, 2)), 9) for port in range(2000, 2200)]
A, B = KEYS[0], KEYS[1]
OTHER_BUCKET = next(bucket for bucket in range(1024) if bucket not in (A.bucket, B.bucket))


def test_an_entry_wins_over_the_bucket() -> None:
    placement = Placement({A.bucket: 1}, {A: 2})
    assert (placement.owner(A), placement.entry(A), placement.bucket_owner(A.bucket)) == (2, 2, 1)
    placement.forget([A])
    assert (placement.owner(A), placement.entry(A)) == (1, None)
    assert placement.owner(B) == 0 and placement.owners() == {1}


def test_a_key_that_leads_to_a_replica_or_to_nobody_may_be_taken_from_that_replica() -> None:
    placement = Placement({A.bucket: 1}, {A: 2})
    assert [placement.elsewhere(replica, [A, B]) for replica in (1, 2, 3)] == [(A,), (), (A,)]
    placement.forget([A])
    assert [placement.elsewhere(replica, [A, B]) for replica in (1, 2, 3)] == [(), (A,), (A,)]


def test_entries_that_lead_to_the_source_move_with_their_bucket() -> None:
    placement = Placement(dict.fromkeys(range(1024), 1), {A: 1, B: 3})
    scope = placement.scope_of_buckets([A.bucket, B.bucket, OTHER_BUCKET], 1)
    assert scope == Scope(keys=(A,), buckets=tuple(sorted({A.bucket, B.bucket, OTHER_BUCKET})))
    assert placement.scope_of_buckets([A.bucket], 2) == Scope()
    assert placement.scope_of_replica(3) == Scope(keys=(B,))


LOCKS = [
    ("same key", Scope(keys=(A,)), Scope(keys=(A,)), True),
    ("other key", Scope(keys=(A,)), Scope(keys=(B,)), False),
    ("key in bucket", Scope(buckets=(A.bucket,)), Scope(keys=(A,)), True),
    ("bucket of key", Scope(keys=(A,)), Scope(buckets=(A.bucket,)), True),
    ("same bucket", Scope(buckets=(5, 6)), Scope(buckets=(6, 7)), True),
    ("other bucket", Scope(buckets=(5,)), Scope(buckets=(6,)), False),
]


@pytest.mark.parametrize(("held", "wanted", "overlap"), [each[1:] for each in LOCKS], ids=[each[0] for each in LOCKS])
def test_moves_that_overlap_wait(held: Scope, wanted: Scope, overlap: bool) -> None:
    locks = Locks()
    locks.take(4, held)
    assert locks.holder(wanted) == (4 if overlap else None)
    locks.free(4)
    assert locks.holder(wanted) is None


BESIDE = [FlowKey.of(17, bytes((10, 0, 1, 2)), port, bytes((10, 0, 2, 2)), 9) for port in (2296, 3552)]
"""In the bucket of the first of the others."""
FEW = [*KEYS[:4], *BESIDE]
REPLICA = st.integers(1, 3)
CHANGE = st.one_of(
    st.tuples(st.just("place"), st.sampled_from(FEW), REPLICA),
    st.tuples(st.just("forget"), st.sampled_from(FEW), st.just(0)),
    st.tuples(st.just("own"), st.sampled_from(FEW), REPLICA),
    st.tuples(st.just("claim"), st.sampled_from(FEW), st.just(0)),
    st.tuples(st.just("let go"), st.sampled_from(FEW), st.just(0)),
)


@given(st.lists(CHANGE, max_size=30))
@example([("place", FEW[0], 1), ("place", BESIDE[0], 2), ("forget", FEW[0], 0)])
def test_what_is_kept_of_buckets_is_what_their_keys_say(changes: list[tuple[str, FlowKey, int]]) -> None:
    placement = Placement(dict.fromkeys(range(BUCKETS), 1))
    buckets = {key.bucket for key in FEW}
    assert len(buckets) == len(FEW) - len(BESIDE)
    claims: list[tuple[int, AbstractContextManager[None]]] = []
    for what, key, replica in changes:
        match what:
            case "place":
                placement.place({key: replica})
            case "forget":
                placement.forget([key])
            case "own":
                placement.own([key.bucket], replica)
            case "claim":
                claims.append((key.bucket, placement.claiming([key, key])))
                claims[-1][1].__enter__()
            case "let go" if claims:
                claims.pop(0)[1].__exit__(None, None, None)
        for each in (1, 2, 3):
            mine = placement.buckets_of(each)
            assert buckets.intersection(mine) == {
                bucket for bucket in buckets if placement.bucket_owner(bucket) == each
            }
            lead_away = {key.bucket for key in FEW if placement.entry(key) not in (None, each)}
            assert placement.mixed(each) == lead_away.union(bucket for bucket, _ in claims)
            assert placement.mixed(each) == {bucket for bucket in buckets if not placement.is_whole(bucket, each)}
    assert sorted(itertools.chain(*map(placement.buckets_of, (1, 2, 3)))) == list(range(BUCKETS))


SCOPE = st.builds(
    Scope, keys=st.sets(st.sampled_from(FEW)).map(tuple), buckets=st.sets(st.sampled_from([5, 6])).map(tuple)
)


@given(st.lists(st.tuples(st.integers(1, 5), SCOPE), max_size=12))
@example([(1, Scope(keys=(FEW[0],))), (2, Scope(keys=(BESIDE[0],))), (1, Scope())])
def test_buckets_that_are_touched_are_those_with_a_holder(moves: list[tuple[int, Scope]]) -> None:
    locks, taken = Locks(), dict[int, Scope]()
    mentioned = {5, 6, *(key.bucket for key in FEW)}
    for epoch, scope in moves:
        if epoch in taken:
            locks.free(epoch)
            del taken[epoch]
        elif locks.holder(scope) is None:
            locks.take(epoch, scope)
            taken[epoch] = scope
        along = {bucket for scope in taken.values() for bucket in scope.buckets}
        held = {bucket for bucket in mentioned if locks.holder(Scope(buckets=(bucket,))) is not None}
        assert held == along.union(key.bucket for scope in taken.values() for key in map(FlowKey, scope.keys))
        assert locks.touched == held
        assert locks.buckets == along


@given(st.dictionaries(st.integers(0, 1023), st.integers(0, 30), min_size=1))
def test_half_is_half_less_a_unit_at_most(loads: dict[int, int]) -> None:
    units = planning.half(loads)
    moved = sum(loads[unit] for unit in units)
    total = sum(loads.values())
    assert moved <= total // 2
    assert total // 2 - moved <= max(loads.values())
    assert len(set(units)) == len(units) <= len(loads)


@given(
    st.dictionaries(st.integers(0, 1023), st.integers(0, 30)),
    st.dictionaries(st.integers(2, 9), st.integers(0, 100), min_size=1),
)
def test_a_merge_gives_away_everything_and_evenly(loads: dict[int, int], survivors: dict[int, int]) -> None:
    shares = planning.merge(1, loads, survivors)
    given_away = [unit for share in shares for unit in share.units]
    assert sorted(map(int, given_away)) == sorted(loads)
    got = dict.fromkeys(survivors, 0) | {
        share.target: sum(loads[unit] for unit in share.units if isinstance(unit, int)) for share in shares
    }
    receivers = [replica for replica in survivors if got[replica]]
    if receivers:
        highest = max(survivors[replica] + got[replica] for replica in receivers)
        lowest = min(survivors[replica] + got[replica] for replica in survivors)
        assert highest - lowest <= max(loads.values()) + 1


REBALANCE = [
    ("one to two", {1: {0: 10, 1: 10, 2: 10, 3: 10}, 2: {}}, {1: 20}),
    ("two to three", {1: {0: 30, 1: 30}, 2: {2: 30, 3: 30}, 3: {}}, {}),
    ("fine grain", {1: dict.fromkeys(range(20), 3), 2: dict.fromkeys(range(20, 40), 3), 3: {}}, {1: 18, 2: 18}),
    ("no flows", {1: dict.fromkeys(range(100), 0), 2: {}}, {1: 0}),
]


@pytest.mark.parametrize(("loads", "expected"), [each[1:] for each in REBALANCE], ids=[each[0] for each in REBALANCE])
def test_a_newcomer_gets_its_share(loads: dict[int, dict[int, int]], expected: dict[int, int]) -> None:
    target = max(loads)
    shares = planning.rebalance(loads, target)
    moved = {s.source: sum(loads[s.source][u] for u in s.units if isinstance(u, int)) for s in shares}
    assert moved == expected
    assert all(share.target == target for share in shares)


def test_empty_buckets_spread_too() -> None:
    (share,) = planning.rebalance({1: dict.fromkeys(range(1024), 0), 2: {}}, 2)
    assert len(share.units) == 512


def test_single_flows_are_units_as_well() -> None:
    units = planning.half({bytes(key): 1 for key in KEYS[:10]})
    assert len(units) == 5


def test_flows_are_counted_by_bucket() -> None:
    loads = planning.bucket_loads([A.bucket, OTHER_BUCKET], [A, B])
    assert loads == {A.bucket: 1 + (B.bucket == A.bucket), OTHER_BUCKET: 0}


def test_entries_are_counted_by_replica() -> None:
    keys = [FlowKey.of(17, b"\x0a\0\0\1", port, b"\x0a\0\0\2", 9) for port in range(4)]
    placement = Placement({}, dict.fromkeys(keys[:3], 1))
    assert (placement.entries(1), placement.entries(2)) == (3, 0)
    placement.place({keys[0]: 2, keys[3]: 2})
    assert (placement.entries(1), placement.entries(2)) == (2, 2)
    placement.forget([keys[1], keys[1]])
    assert (placement.entries(1), placement.entries(2)) == (1, 2)


def test_a_move_is_overtaken_when_a_younger_one_has_begun() -> None:
    locks = Locks()
    locks.wait(4, Scope(buckets=(1,)))
    assert not locks.overtaken(4) and locks.oldest == 0
    locks.take(5, Scope(buckets=(2,)))
    assert locks.overtaken(4) and not locks.overtaken(6) and locks.oldest == 5
    locks.free(5)
    assert locks.overtaken(4), "what it has done stays done"
    locks.take(4, Scope(buckets=(1,)), 7)
    assert locks.overtaken(6) and locks.oldest == 7 and locks.holder(Scope(buckets=(1,))) == 4
    locks.take(8, Scope(buckets=(2,)))
    assert locks.oldest == 7
    locks.free(4)
    assert locks.oldest == 8
    locks.free(8)
    assert locks.oldest == 8, "none that is to begin is older"
