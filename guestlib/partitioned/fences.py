"""What moves have decided about keys and buckets at this replica: the tombstones of §3.1, and their epochs.

A fence says, as of its epoch, that a key (or every key of a bucket) is here, frozen, or gone. For a key both its own
fence and its bucket's may speak; the newer epoch is right, and the key's own on a tie. No fence: nothing has moved.
A fence HERE on a key is kept only where its bucket says otherwise. At most ``limit`` keys have fences: beyond it the
oldest that is not frozen is forgotten (a packet that late then looks like a new flow's).
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator
from zlib import crc32

from guestlib.errors import FlowMigrated
from splitmerge.flowkey import BUCKETS

_LAST_BUCKET = BUCKETS - 1


class Fate(enum.Enum):
    """Where the flow is."""

    HERE = "here"
    FROZEN = "frozen"
    GONE = "gone"


class Fence:
    """One decision. ``packets`` counts the accesses that it refused."""

    __slots__ = ("epoch", "fate", "packets")

    def __init__(self, fate: Fate, epoch: int) -> None:
        self.fate = fate
        self.epoch = epoch
        self.packets = 0


def bucket_of(key: bytes) -> int:
    """The hash class of a key, as `FlowKey.bucket`."""
    return crc32(key) & _LAST_BUCKET


class Fences:
    """Fences by key and by bucket."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._keys: dict[bytes, Fence] = {}
        self._buckets: dict[int, Fence] = {}
        self.refused = 0
        """Accesses refused, in all."""
        self.decisions = 0
        """Grows with every one: who has made one finds it as it was as long as this is."""
        self.owned: set[int] | None = None
        """Buckets that are this replica's; None: nobody has said yet, and nothing is asked for (in tests)."""
        self.mixed: set[int] = set()
        """Buckets, here or not, in which keys may lead to other replicas; the orchestrator knows which keys."""

    def __len__(self) -> int:
        return len(self._keys)

    def __contains__(self, key: bytes) -> bool:
        """Whether the key has a fence of its own."""
        return key in self._keys

    def of(self, key: bytes) -> Fence | None:
        """The fence that decides about the key."""
        own, bucket = self._keys.get(key), self._buckets.get(bucket_of(key)) if self._buckets else None
        if own is None or bucket is None:
            return own or bucket
        return bucket if bucket.epoch > own.epoch else own

    def is_elsewhere(self, key: bytes) -> bool:
        """Whether the key is frozen or gone."""
        fence = self.of(key)
        return fence is not None and fence.fate is not Fate.HERE

    def check(self, key: bytes) -> None:
        """Count and refuse the use of a key that is not here. :raises FlowMigrated: if it is frozen or gone."""
        fence = self.of(key)
        if fence is not None and fence.fate is not Fate.HERE:
            fence.packets += 1
            self.refused += 1
            raise FlowMigrated(key, fence.epoch)

    def check_unless_gone(self, key: bytes) -> None:
        """As `check`, for a key that is to get an entry: its bucket may be another replica's, but not be moving."""
        fence = self.of(key)
        if fence is not None and fence.fate is Fate.FROZEN:
            self.check(key)

    def has_left(self, key: bytes) -> bool:
        """Whether a flow of just this key was frozen here or moved away, wherever its bucket is."""
        fence = self._keys.get(key)
        return fence is not None and fence.fate is not Fate.HERE

    def check_frozen(self, key: bytes) -> None:
        """As `check`, for a key with an entry of its own: where its bucket is says nothing about it, nor where an
        earlier flow with this key went: the orchestrator, which is asked for the entry, knows whether that still lives.
        """
        if self.is_frozen(key):
            fence = self._keys[key]
            fence.packets += 1
            self.refused += 1
            raise FlowMigrated(key, fence.epoch)

    def is_frozen(self, key: bytes) -> bool:
        """Whether a flow of just this key is leaving."""
        fence = self._keys.get(key)
        return fence is not None and fence.fate is Fate.FROZEN

    def is_whole(self, bucket: int) -> bool:
        """Whether the bucket is here with every key: no other replica has a flow of any, or can get one unasked."""
        return self.owned is None or (bucket in self.owned and bucket not in self.mixed)

    def own(self, buckets: Iterable[int]) -> None:
        """These buckets are here from now on, too, as mixed as they were."""
        if self.owned is not None:
            self.owned.update(buckets)

    def get(self, buckets: Iterable[int], whole: Iterable[int]) -> None:
        """These have come here; all are mixed but for those that are whole."""
        self.own(buckets)
        self.mixed.update(buckets)
        self.mixed.difference_update(whole)

    def disown(self, buckets: Iterable[int]) -> None:
        """They are not, or not for sure."""
        if self.owned is not None:
            self.owned.difference_update(buckets)

    def is_here(self, bucket: int) -> bool:
        """Whether a move has brought the bucket here, and none has taken it away since."""
        fence = self._buckets.get(bucket)
        return fence is not None and fence.fate is Fate.HERE

    def newest_epoch(self, keys: Iterable[bytes], buckets: Iterable[int]) -> int:
        """The newest epoch that has decided about any of these; 0 if none has."""
        return max((fence.epoch for fence in self._deciding(keys, buckets)), default=0)

    def frozen(self, keys: Iterable[bytes], buckets: Iterable[int]) -> int:
        """The epoch in which any of these is frozen; 0 if none is."""
        return next((fence.epoch for fence in self._deciding(keys, buckets) if fence.fate is Fate.FROZEN), 0)

    def _deciding(self, keys: Iterable[bytes], buckets: Iterable[int]) -> Iterator[Fence]:
        """The fences that decide about any of these. A move asks of each of its keys, most of which have none."""
        yield from filter(None, map(self.of if self._buckets else self._keys.get, keys))
        yield from filter(None, map(self._buckets.get, buckets))

    def set_buckets(self, buckets: Iterable[int], fate: Fate, epoch: int) -> None:
        """Decide about whole buckets, unless something newer has been decided."""
        self.decisions += 1
        for bucket in buckets:
            known = self._buckets.get(bucket)
            if known is None or known.epoch <= epoch:
                self._buckets[bucket] = Fence(fate, epoch)

    def set_keys(self, keys: Iterable[bytes], fate: Fate, epoch: int) -> None:
        """Decide about keys, unless something newer has been decided. Where one leaves, its bucket is mixed.

        A fence may be forgotten long before the flow has ended that it was for.
        """
        self.decisions += 1
        if fate is Fate.HERE:
            self._set_here(keys, epoch)
            return
        mixed = self.mixed
        for key in keys:
            bucket = crc32(key) & _LAST_BUCKET  # `bucket_of`, without its call: moves come here with each of their keys
            mixed.add(bucket)
            self._set_key(key, self._buckets.get(bucket), fate, epoch)

    def _set_here(self, keys: Iterable[bytes], epoch: int) -> None:
        known, buckets = self._keys, self._buckets
        for key in keys:
            bucket = buckets.get(bucket_of(key)) if buckets else None
            if bucket is not None and bucket.fate is not Fate.HERE:
                self._set_key(key, bucket, Fate.HERE, epoch)
            elif (own := known.get(key)) is not None and max(own.epoch, bucket.epoch if bucket else 0) <= epoch:
                del known[key]

    def _set_key(self, key: bytes, bucket: Fence | None, fate: Fate, epoch: int) -> None:
        """``bucket``: its bucket's fence."""
        fence = self._keys.get(key)
        if bucket is not None and bucket.epoch > epoch:
            return
        if fence is None:
            fence = Fence(fate, epoch)
        elif fence.epoch > epoch:
            return
        else:
            del self._keys[key]  # so that it goes in again as the youngest
            fence.fate, fence.epoch, fence.packets = fate, epoch, 0
        self._keys[key] = fence
        if len(self._keys) > self._limit:
            self._forget_oldest()

    def _forget_oldest(self) -> None:
        for key, fence in self._keys.items():
            if fence.fate is not Fate.FROZEN:
                del self._keys[key]
                return
