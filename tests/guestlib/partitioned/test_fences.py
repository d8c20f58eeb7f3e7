"""Fences set for many keys at once say what fences set one by one, in the plainest way, would say."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from guestlib.partitioned.fences import Fate, Fences, bucket_of

KEYS = [bytes((number,)) for number in range(6)]
BUCKETS = [bucket_of(key) for key in KEYS[:4]]
LIMIT = 4

decisions = st.tuples(st.booleans(), st.lists(st.integers(0, 5), unique=True), st.sampled_from(Fate), st.integers(1, 4))


class Plain:
    """What the module's docstring says, word by word."""

    def __init__(self) -> None:
        self.keys: dict[bytes, tuple[Fate, int]] = {}
        self.buckets: dict[int, tuple[Fate, int]] = {}
        self.mixed: set[int] = set()

    def of(self, key: bytes) -> tuple[Fate, int] | None:
        own, bucket = self.keys.get(key), self.buckets.get(bucket_of(key))
        if own is None or bucket is None:
            return own or bucket
        return bucket if bucket[1] > own[1] else own

    def set_key(self, key: bytes, fate: Fate, epoch: int) -> None:
        if fate is not Fate.HERE:
            self.mixed.add(bucket_of(key))
        known, bucket = self.of(key), self.buckets.get(bucket_of(key))
        if known is not None and known[1] > epoch:
            return
        self.keys.pop(key, None)
        if fate is Fate.HERE and (bucket is None or bucket[0] is Fate.HERE):
            return
        self.keys[key] = fate, epoch
        oldest = next((key for key, (fate, _) in self.keys.items() if fate is not Fate.FROZEN), None)
        if len(self.keys) > LIMIT and oldest is not None:
            del self.keys[oldest]

    def set_bucket(self, bucket: int, fate: Fate, epoch: int) -> None:
        if bucket not in self.buckets or self.buckets[bucket][1] <= epoch:
            self.buckets[bucket] = fate, epoch


@settings(max_examples=300)
@given(st.lists(decisions, max_size=12))
def test_many_at_once_are_as_one_by_one(made: list[tuple[bool, list[int], Fate, int]]) -> None:
    fences, plain = Fences(LIMIT), Plain()
    for whole, numbers, fate, epoch in made:
        if whole:
            buckets = [BUCKETS[number] for number in numbers if number < len(BUCKETS)]
            fences.set_buckets(buckets, fate, epoch)
            for bucket in buckets:
                plain.set_bucket(bucket, fate, epoch)
        else:
            keys = [KEYS[number] for number in numbers]
            fences.set_keys(keys, fate, epoch)
            for key in keys:
                plain.set_key(key, fate, epoch)
        found = {key: fences.of(key) for key in KEYS}
        assert {key: fence and (fence.fate, fence.epoch) for key, fence in found.items()} == {
            key: plain.of(key) for key in KEYS
        }
        assert [key for key in KEYS if fences.has_left(key)] == [
            key for key in KEYS if key in plain.keys and plain.keys[key][0] is not Fate.HERE
        ]
        assert fences.mixed == plain.mixed and len(fences) == len(plain.keys)
        deciding = [*filter(None, map(plain.of, KEYS)), *plain.buckets.values()]
        assert fences.newest_epoch(KEYS, plain.buckets) == max((epoch for _, epoch in deciding), default=0)
        frozen = {epoch for fate, epoch in deciding if fate is Fate.FROZEN}
        assert fences.frozen(KEYS, plain.buckets) in (frozen or {0})


def test_a_fence_that_is_set_anew_counts_anew() -> None:
    fences = Fences(LIMIT)
    for fate, epoch in ((Fate.FROZEN, 1), (Fate.GONE, 2)):
        fences.set_keys(KEYS[:1], fate, epoch)
        fence = fences.of(KEYS[0])
        assert fence is not None and (fence.fate, fence.epoch, fence.packets) == (fate, epoch, 0)
        fence.packets += 3
