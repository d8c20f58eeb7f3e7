"""A scope and the flows in use in it: two parts, nothing in both, nothing in none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.migration.apart import apart, without
from splitmerge.flowkey import FlowKey
from splitmerge.messages import Scope
from tests.orchestrator.lab import FLOWS
from tests.orchestrator.wishes import A, B, C

KEYS = {name: bytes(key) for name, key in zip("ABC", (A, B, C), strict=True)}
LEFT = [
    ("a flow", Scope(keys=(KEYS["A"], KEYS["B"])), "A", "", Scope(keys=(KEYS["B"],))),
    ("a flow's bucket", Scope(buckets=(A.bucket, B.bucket)), "A", "", Scope(buckets=(B.bucket,))),
    (
        "a bucket, but not entries elsewhere",
        Scope(keys=(KEYS["A"], KEYS["B"]), buckets=(A.bucket, C.bucket)), "A", "",
        Scope(keys=(KEYS["B"],), buckets=(C.bucket,)),
    ),
    ("entries in its bucket", Scope(keys=(KEYS["A"],), buckets=(A.bucket,)), "A", "", Scope()),
    ("its second key has a bucket, too", Scope(buckets=(A.bucket, B.bucket)), "AB", "B", Scope(buckets=(B.bucket,))),
    (
        "second keys go with flows that do not stay",
        Scope(keys=(KEYS["B"], KEYS["C"]), buckets=(A.bucket,)), "A", "C", Scope(keys=(KEYS["B"], KEYS["C"])),
    ),
    (
        "wherever their own buckets are",
        Scope(keys=(KEYS["B"],), buckets=(A.bucket, B.bucket)), "A", "B", Scope(keys=(KEYS["B"],), buckets=(B.bucket,)),
    ),
]  # fmt: skip


@pytest.mark.parametrize(("scope", "stay", "second", "left"), [row[1:] for row in LEFT], ids=[row[0] for row in LEFT])
def test_what_is_left_without(scope: Scope, stay: str, second: str, left: Scope) -> None:
    seconds = {KEYS[name] for name in second}
    assert without(scope, [KEYS[name] for name in stay], seconds.__contains__) == left


APART = [
    ("a flow", Scope(keys=(KEYS["A"], KEYS["B"])), "A", "", Scope(keys=(KEYS["A"],))),
    ("a bucket, by its flow", Scope(buckets=(A.bucket, B.bucket)), "A", "", Scope(buckets=(A.bucket,))),
    (
        "a flow away from its bucket", Scope(keys=(KEYS["A"],), buckets=(B.bucket,)), "A", "",
        Scope(keys=(KEYS["A"],)),
    ),
    (
        "a second key, by itself", Scope(buckets=(A.bucket, B.bucket)), "AB", "B",
        Scope(keys=(KEYS["B"],), buckets=(A.bucket,)),
    ),
    (
        "a flow of its group, from outside", Scope(buckets=(A.bucket,)), "AC", "",
        Scope(keys=(KEYS["C"],), buckets=(A.bucket,)),
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("scope", "stay", "second", "other"), [row[1:] for row in APART], ids=[row[0] for row in APART]
)
def test_what_is_set_apart(scope: Scope, stay: str, second: str, other: Scope) -> None:
    seconds = {KEYS[name] for name in second}
    assert apart(scope, [KEYS[name] for name in stay], seconds.__contains__) == other


KEY = st.sampled_from([bytes(key) for key in FLOWS])


@given(
    st.sets(KEY),
    st.sets(st.sampled_from(sorted({key.bucket for key in FLOWS}))),
    st.sets(KEY, min_size=1),
    st.sets(KEY),
)
def test_no_bucket_and_no_flow_is_in_both_parts_or_in_none(
    keys: set[bytes], buckets: set[int], stay: set[bytes], seconds: set[bytes]
) -> None:
    scope = Scope(keys=tuple(sorted(keys)), buckets=tuple(sorted(buckets)))
    rest, other = without(scope, stay, seconds.__contains__), apart(scope, stay, seconds.__contains__)
    assert sorted((*rest.buckets, *other.buckets)) == list(scope.buckets)
    own = set(rest.keys) - seconds
    assert not set(rest.keys) & stay and not {FlowKey(key).bucket for key in own} & set(other.buckets)
    homes = {FlowKey(key).bucket for key in stay - seconds}
    assert homes.isdisjoint(rest.buckets)
    assert all(key in other.keys or FlowKey(key).bucket in other.buckets for key in stay)
    for key in keys - stay:
        assert key in rest.keys or (key not in seconds and FlowKey(key).bucket in other.buckets)
