"""What a flow's keys are fenced with when it is one of many, has second keys, or moves to and fro."""

from __future__ import annotations

import pytest

from guestlib import FlowMigrated, Guest
from guestlib.instructions import Hold
from guestlib.moves.exports import SLICE
from splitmerge.messages import AddKeys, Commit, KeysAdded, Owns, Release, Scope, Staged
from tests.guestlib.conftest import Count, key_of
from tests.guestlib.moves.replicas import K1, SCOPE, export, said, stage


def test_what_freezes_with_the_last_put_has_a_fence_whatever_became_of_the_scopes(source: Guest) -> None:
    key = key_of(1)
    source.create_flow(key, Count())
    source.get_flow(key)
    source.handle(export(5), 0.0)
    source.handle(Commit(epoch=6, scope=SCOPE), 0.0)  # the key's fence is gone with it
    source.put_flow(key)
    source.poll(0.0)
    with pytest.raises(FlowMigrated):
        source.create_flow(key, Count(0))


def test_a_stray_flow_of_a_second_key_is_replaced_too_and_is_none_that_was_here_before(target: Guest) -> None:
    target.create_flow(key_of(9), Count())
    target.handle(stage(aliases=(bytes(key_of(8)),)), 0.0)
    target.create_flow(key_of(8), Count())
    scope = Scope(keys=(K1, bytes(key_of(8))), buckets=(key_of(8).bucket, key_of(9).bucket))
    (hold, _) = target.moves.handle(Commit(epoch=5, scope=scope), 0.0)
    assert isinstance(hold, Hold) and hold.spared == {bytes(key_of(9))}
    assert target.table.conflicts == 1
    assert target.get_flow(key_of(8)) == Count(3)
    target.put_flow(key_of(8))


def test_a_flow_that_loses_the_key_it_is_named_by_before_its_turn_leaves_with_its_own(source: Guest) -> None:
    source.handle(Owns(buckets=()), 0.0)
    keys = (*(bytes(key_of(number)) for number in range(1, SLICE + 1)), bytes(key_of(SLICE + 2)))
    for number in range(1, SLICE + 1):
        source.create_flow(key_of(number), Count(number))
    own, alias = key_of(SLICE + 1), key_of(SLICE + 2)
    source.create_flow(own, Count(), aliases=[alias])
    (asked,) = (message for message in said(source.poll(0.0)) if isinstance(message, AddKeys))
    source.handle(export(5, Scope(keys=keys)), 0.0)
    source.handle(KeysAdded(request=asked.request, refused=(bytes(alias),)), 0.0)
    assert source.get_flow(own) == Count() and not source.has_flow(alias)
    source.put_flow(own)
    while source.next_due() == 0.0:
        source.poll(0.0)
    for decide in (lambda: None, lambda: source.handle(Release(epoch=5, scope=Scope(keys=keys)), 0.0)):
        decide()
        with pytest.raises(FlowMigrated, match="migrated in epoch 5"):
            source.get_flow(own)


@pytest.mark.parametrize("by", ["bucket", "key"])
def test_a_flow_that_comes_back_has_not_left_by_any_of_its_keys(source: Guest, by: str) -> None:
    alias = key_of(9)
    source.create_flow(key_of(1), Count(), aliases=[alias])
    source.handle(export(), 0.0)
    source.handle(Staged(epoch=5, part=0), 0.0)
    source.handle(Release(epoch=5, scope=SCOPE), 0.0)
    assert all(source.table.fences.has_left(key) for key in (key_of(1), alias))
    source.handle(stage(6, aliases=(bytes(alias),)), 0.0)
    scope = SCOPE if by == "key" else Scope(buckets=(key_of(1).bucket,))
    source.handle(Commit(epoch=6, scope=scope), 0.0)
    assert source.has_flow(key_of(1)) and source.has_flow(alias)
    assert not any(source.table.fences.has_left(key) for key in (key_of(1), alias))
