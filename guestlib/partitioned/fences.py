"""What moves have decided about keys and buckets at this replica: the tombstones of §3.1, and their epochs.

A fence says, as of its epoch, that a key (or every key of a bucket) is here, frozen, or gone. For a key both its own
fence and its bucket's may speak; the newer epoch is right, and the key's own on a tie. No fence: nothing has moved.
A fence HERE on a key is kept only where its bucket says otherwise. At most ``limit`` keys have fences: beyond it the
oldest that is not frozen is forgotten (a packet that late then looks like a new flow's).
"""

from __future__ import annotations

import enum
import zlib
from collections.abc import Iterable

from guestlib.errors import FlowMigrated
from splitmerge.flowkey import BUCKETS


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
    return zlib.crc32(key) & (BUCKETS - 1)


class Fences:
    """Fences by key and by bucket."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._keys: dict[bytes, Fence] = {}
        self._buckets: dict[int, Fence] = {}
        self.refused = 0
        """Accesses refused, in all."""
        self.owned: set[int] | None = None
        """Buckets that are this replica's; None: nobody has said yet, and nothing is asked for (in tests)."""
        self.mixed: set[int] = set()
        """Buckets, here or not, in which keys may lead to other replicas; the orchestrator knows which keys."""

    def __len__(self) -> int:
        return len(self._keys)

    def of(self, key: bytes) -> Fence | None:
        """The fence that decides about the key."""
        own, bucket = self._keys.get(key), self._buckets.get(bucket_of(key)) if self._buckets else None
        if own is None or bucket is None:
            return own or bucket
        return bucket if bucket.epoch > own.epoch else own

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
        newest = 0
        for key in keys:
            fence = self.of(key)
            newest = max(newest, fence.epoch if fence else 0)
        for bucket in buckets:
            fence = self._buckets.get(bucket)
            newest = max(newest, fence.epoch if fence else 0)
        return newest

    def frozen(self, keys: Iterable[bytes], buckets: Iterable[int]) -> int:
        """The epoch in which any of these is frozen; 0 if none is."""
        for fence in (*map(self.of, keys), *map(self._buckets.get, buckets)):
            if fence is not None and fence.fate is Fate.FROZEN:
                return fence.epoch
        return 0

    def set_buckets(self, buckets: Iterable[int], fate: Fate, epoch: int) -> None:
        """Decide about whole buckets, unless something newer has been decided."""
        for bucket in buckets:
            known = self._buckets.get(bucket)
            if known is None or known.epoch <= epoch:
                self._buckets[bucket] = Fence(fate, epoch)

    def set_keys(self, keys: Iterable[bytes], fate: Fate, epoch: int) -> None:
        """Decide about keys, unless something newer has been decided. Where one leaves, its bucket is mixed.

        A fence may be forgotten long before the flow has ended that it was for.
        """
        for key in keys:
            self._set_key(key, fate, epoch)
            if fate is not Fate.HERE:
                self.mixed.add(bucket_of(key))

    def _set_key(self, key: bytes, fate: Fate, epoch: int) -> None:
        known = self.of(key)
        if known is not None and known.epoch > epoch:
            return
        self._keys.pop(key, None)  # so that it goes in again as the youngest
        bucket = self._buckets.get(bucket_of(key)) if self._buckets else None
        if fate is Fate.HERE and (bucket is None or bucket.fate is Fate.HERE):
            return
        self._keys[key] = Fence(fate, epoch)
        if len(self._keys) > self._limit:
            self._forget_oldest()

    def _forget_oldest(self) -> None:
        for key, fence in self._keys.items():
            if fence.fate is not Fate.FROZEN:
                del self._keys[key]
                return
