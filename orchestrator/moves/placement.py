"""Who owns what: buckets, and flows that have an entry of their own in the switch. Pure data, no I/O.

A flow's entry wins over its bucket, as in the switch. ``0`` (`migration.NOBODY`) owns the buckets whose new flows are
the controller's to assign.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager

from orchestrator.migration.plan import NOBODY
from splitmerge.flowkey import BUCKETS, FlowKey
from splitmerge.messages import Scope


class Placement:
    """Owners of all buckets and of the flows with entries."""

    def __init__(
        self,
        buckets: Mapping[int, int] | None = None,
        flows: Mapping[bytes, int] | None = None,
        second: Iterable[bytes] = (),
    ) -> None:
        self._buckets = [NOBODY] * BUCKETS
        self._of: dict[int, tuple[int, ...]] = {}
        """What `buckets_of` has said since an owner changed."""
        self._flows: dict[bytes, int] = {}
        self._by_bucket: dict[int, set[bytes]] = {}
        self._leading: dict[int, Counter[int]] = {}
        """By bucket: entries to each replica that any of its keys leads to; no bucket and no replica without one."""
        self._claimed: Counter[int] = Counter()
        self.on_whole: Callable[[], object] = lambda: None
        """Hears when a bucket may have become its owner's whole because an entry has gone, or leads elsewhere."""
        self._entries: Counter[int] = Counter()
        self._second: set[bytes] = set(second)
        for bucket, replica in (buckets or {}).items():
            self._buckets[bucket] = replica
        self.place(flows or {})

    def owner(self, key: bytes) -> int:
        """The replica that packets with this key go to; `NOBODY` if the controller would assign it."""
        entry = self._flows.get(key)
        return self._buckets[FlowKey(key).bucket] if entry is None else entry

    def elsewhere(self, replica: int, keys: Iterable[bytes]) -> tuple[bytes, ...]:
        """Those of these keys that lead to another replica than this one: a flow with such a key may live there."""
        return tuple(key for key in keys if self.owner(key) not in (NOBODY, replica))

    def entry(self, key: bytes) -> int | None:
        """The replica in the flow's own entry, None if it has none."""
        return self._flows.get(key)

    def is_second(self, key: bytes) -> bool:
        """Whether the entry is for a second key of a flow, which goes with that flow and not with its own bucket."""
        return key in self._second

    @property
    def second(self) -> frozenset[bytes]:
        """All second keys with entries."""
        return frozenset(self._second)

    def place_second(self, flows: Mapping[bytes, int], second: Iterable[bytes]) -> None:
        """Entries that replicas asked for. ``second``: those of them that do not go with their own buckets."""
        self._second.update(second)
        self.place(flows)

    def bucket_owner(self, bucket: int) -> int:
        """The replica that the bucket's flows without entry go to."""
        return self._buckets[bucket]

    def buckets_of(self, replica: int) -> tuple[int, ...]:
        """The buckets that the replica owns, in order."""
        if (known := self._of.get(replica)) is None:
            known = tuple(bucket for bucket, owner in enumerate(self._buckets) if owner == replica)
            self._of[replica] = known
        return known

    def is_whole(self, bucket: int, replica: int, along: Collection[bytes] = ()) -> bool:
        """Whether no key in the bucket leads, or is about to lead, to another replica than this one.

        ``along``: keys that will lead to it. Such a replica may give out the keys of the bucket unasked.
        """
        if self._claimed[bucket]:
            return False
        if not self._elsewhere(bucket, replica):
            return True
        return bool(along) and all(key in along or self._flows[key] == replica for key in self._by_bucket[bucket])

    def mixed(self, replica: int) -> set[int]:
        """The buckets, whoever owns them, that would not be this replica's whole (`is_whole`) if it did."""
        leading = self._leading.items()
        return set(self._claimed).union(bucket for bucket, to in leading if len(to) > 1 or replica not in to)

    def whole_with(self, scope: Scope, replica: int) -> tuple[int, ...]:
        """The buckets of the scope that will be this replica's whole when the scope is."""
        along = frozenset(scope.keys)
        return tuple(bucket for bucket in scope.buckets if self.is_whole(bucket, replica, along))

    def _elsewhere(self, bucket: int, replica: int) -> bool:
        to = self._leading.get(bucket)
        return to is not None and (len(to) > 1 or replica not in to)

    @contextmanager
    def claiming(self, keys: Iterable[bytes]) -> Iterator[None]:
        """Inside, entries for these keys may come: their buckets are nobody's whole."""
        buckets = [FlowKey(key).bucket for key in keys]
        self._claimed.update(buckets)
        try:
            yield
        finally:
            self._claimed -= Counter(buckets)  # which, unlike `subtract`, keeps none that has no key left

    def flows_of(self, replica: int) -> tuple[bytes, ...]:
        """The flows whose own entry names the replica, in byte order."""
        return tuple(sorted(key for key, owner in self._flows.items() if owner == replica))

    def entries(self, replica: int) -> int:
        """How many flows have an entry of their own that names this replica."""
        return self._entries[replica]

    def flows(self) -> Iterator[tuple[bytes, int]]:
        """Every flow with an entry, and the replica in it."""
        return iter(self._flows.items())

    def buckets(self) -> dict[int, int]:
        """bucket → owner, all of them."""
        return dict(enumerate(self._buckets))

    def owners(self) -> set[int]:
        """Every replica that owns something."""
        return (set(self._buckets) | set(self._flows.values())) - {NOBODY}

    def scope_of_buckets(self, buckets: Iterable[int], source: int) -> Scope:
        """A move of these buckets from the source: the entries in them that name the source move with them.

        Entries that name another replica stay what they are, and so do second keys: they go with their flows.
        """
        chosen = tuple(sorted({bucket for bucket in buckets if self._buckets[bucket] == source}))
        found = {key for bucket in chosen for key in self._by_bucket.get(bucket, ()) if self._flows[key] == source}
        return Scope(keys=tuple(sorted(found - self._second)), buckets=chosen)

    def scope_of_replica(self, replica: int) -> Scope:
        """Everything that the replica owns."""
        return Scope(keys=self.flows_of(replica), buckets=self.buckets_of(replica))

    def place(self, flows: Mapping[bytes, int]) -> None:
        """The switch has, or is about to have, these entries."""
        for key, replica in flows.items():
            self._count(key, self._flows.get(key, NOBODY), -1)
            self._count(key, replica, 1)
            self._flows[key] = replica
            self._by_bucket.setdefault(FlowKey(key).bucket, set()).add(key)

    def own(self, buckets: Iterable[int], replica: int) -> None:
        """These buckets belong to the replica from now on."""
        for bucket in buckets:
            self._buckets[bucket] = replica
            self._of.clear()

    def forget(self, keys: Iterable[bytes]) -> None:
        """These flows have no entry any more."""
        for key in keys:
            if (replica := self._flows.pop(key, None)) is not None:
                self._count(key, replica, -1)
                self._by_bucket[FlowKey(key).bucket].discard(key)
            self._second.discard(key)

    def _count(self, key: bytes, replica: int, more: int) -> None:
        self._entries[replica] += more
        if replica == NOBODY:
            return
        bucket = FlowKey(key).bucket
        leading = self._leading.setdefault(bucket, Counter())
        leading[replica] += more
        if more < 0 and not leading[replica]:
            del leading[replica]
            if not leading:
                del self._leading[bucket]
            self.on_whole()


class Locks:
    """Which moves under way touch what. Two moves may run at once if no flow can be in both.

    Those that wait for their turn have it in the order of their numbers, as far as is known what they touch: flows that
    go along with a move are found when its turn comes, so a younger one of those may have begun, and ended, before.
    Replicas take nothing from an older epoch where a newer one has been decided; so a move that others have overtaken
    (`overtaken`) begins under a newer epoch than any of theirs.
    """

    def __init__(self) -> None:
        self._scopes: dict[int, Scope] = {}
        self._waiting: dict[int, Scope] = {}
        self._keys: dict[bytes, int] = {}
        self._buckets: dict[int, int] = {}
        self._keyed_buckets: dict[int, set[int]] = {}
        self._fences: dict[int, int] = {}
        self._newest = 0

    @property
    def oldest(self) -> int:
        """No move under way, and none that is to begin, has an older epoch at a replica."""
        return min(self._fences.values(), default=self._newest)

    def overtaken(self, epoch: int) -> bool:
        """Whether something newer has begun, of whatever flows, than a move of this number, which has not."""
        return self._newest > epoch

    def holder(self, scope: Scope) -> int | None:
        """The epoch of a move under way that touches the scope; None if it is free."""
        for bucket in scope.buckets:
            if bucket in self._buckets:
                return self._buckets[bucket]
            if holders := self._keyed_buckets.get(bucket):
                return next(iter(holders))
        for key in scope.keys:
            holder = self._keys.get(key, self._buckets.get(FlowKey(key).bucket))
            if holder is not None:
                return holder
        return None

    def ahead(self, epoch: int, scope: Scope) -> int | None:
        """The epoch of a move that must be over before the one of this epoch may touch the scope; None: it may."""
        holder = self.holder(scope)
        if holder is not None:
            return holder
        return next((other for other, its in self._waiting.items() if other < epoch and _overlap(its, scope)), None)

    def wait(self, epoch: int, scope: Scope) -> None:
        """The move of this epoch wants the scope, which others may still have."""
        self._waiting[epoch] = scope

    @property
    def buckets(self) -> frozenset[int]:
        """Those that moves under way take along."""
        return frozenset(self._buckets)

    @property
    def touched(self) -> frozenset[int]:
        """The buckets that moves under way take along, or name a key of."""
        return frozenset((*self._buckets, *self._keyed_buckets))

    def holder_of_key(self, key: bytes) -> int | None:
        """The epoch of a move under way that names this key."""
        return self._keys.get(key)

    def take(self, epoch: int, scope: Scope, fence: int = 0) -> None:
        """The move of this epoch touches the scope, which must be free; it waits no longer.

        ``fence``: as `Plan.fence`; 0: its own.
        """
        self._waiting.pop(epoch, None)
        self._scopes[epoch] = scope
        self._fences[epoch] = fence or epoch
        self._newest = max(self._newest, fence or epoch)
        for bucket in scope.buckets:
            self._buckets[bucket] = epoch
        for key in scope.keys:
            self._keys[key] = epoch
            self._keyed_buckets.setdefault(FlowKey(key).bucket, set()).add(epoch)

    def free(self, epoch: int) -> None:
        """The move of this epoch has ended; it may have waited to the last."""
        self._waiting.pop(epoch, None)
        self._fences.pop(epoch, None)
        scope = self._scopes.pop(epoch, Scope())
        for bucket in scope.buckets:
            del self._buckets[bucket]
        for key in scope.keys:
            del self._keys[key]
            self._let_go(FlowKey(key).bucket, epoch)

    def _let_go(self, bucket: int, epoch: int) -> None:
        holders = self._keyed_buckets.get(bucket, set())
        holders.discard(epoch)
        if not holders:
            self._keyed_buckets.pop(bucket, None)


def _overlap(one: Scope, other: Scope) -> bool:
    """Whether a flow can be in both."""
    mine, theirs = set(one.buckets), set(other.buckets)
    if not (mine.isdisjoint(theirs) and set(one.keys).isdisjoint(other.keys)):
        return True
    within = any(FlowKey(key).bucket in theirs for key in one.keys) if theirs else False
    return within or (bool(mine) and any(FlowKey(key).bucket in mine for key in other.keys))
