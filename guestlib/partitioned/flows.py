"""The flow table: partitioned state that is active here, found by any key of the flow.

Only active flows are in the table. A flow that freezes or arrives is kept by its move (`guestlib.moves`) until the move
is decided, so a frozen or staged copy cannot serve: a look-up does not find it, and the fences say why.

A flow is where its own key leads. Its further keys (aliases) follow it: those in the bucket of its own key because they
go where that bucket goes, others by entries of their own in the switch (`guestlib.partitioned.steering`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, TypeVar

from guestlib.errors import FlowExists, FlowMissing, TransactionError, show_key
from guestlib.partitioned.fences import Fences, bucket_of
from guestlib.partitioned.steering import GIVE_UP, Kept, Steering
from guestlib.partitioned.timers import Timer, TimerQueue, timers_of
from splitmerge.flowkey import FlowKey
from splitmerge.messages import KeptFrame


class Flow:
    """One flow's partitioned state, timers, and the references of open transactions."""

    __slots__ = ("aliases", "epoch", "group", "kept", "key", "on_unpinned", "pending", "refs", "state", "timers")

    def __init__(
        self, key: FlowKey, state: Any, aliases: tuple[FlowKey, ...] = (), epoch: int = 0, group: str = ""
    ) -> None:
        self.key = key
        self.state = state
        self.aliases = aliases
        self.epoch = epoch
        """The move that brought it here; 0 if it was created here."""
        self.refs = 0
        self.timers: Timer | None = None
        """The first of a chain."""
        self.on_unpinned: tuple[Callable[[Flow], None], ...] = ()
        """Called, once, when the last reference goes: who waits for that."""
        self.group = group
        """Flows of one group move together; empty: none."""
        self.pending: set[FlowKey] | None = None
        """Keys that the switch has not been told of yet."""
        self.kept: deque[Kept] | None = None
        """Frames that wait for that."""

    def take_waiting(self, pending: Iterable[bytes], kept: Iterable[KeptFrame], now: float) -> None:
        """What a flow that arrives has pending, and what waits for that."""
        self.pending = set(map(FlowKey, pending)) or None
        frames = (Kept(each.frame, FlowKey.from_frame(each.frame) or b"", each.after, now + GIVE_UP) for each in kept)
        self.kept = deque(frames) or None

    def unpinned(self) -> None:
        """The last reference has gone, or the flow has been deleted: tell who waits for that."""
        waiting, self.on_unpinned = self.on_unpinned, ()
        for tell in waiting:
            tell(self)

    def await_unpinned(self, tell: Callable[[Flow], None]) -> None:
        """Call this when the last reference goes, or when the flow is deleted before."""
        self.on_unpinned = (*self.on_unpinned, tell)

    def await_no_more(self, tell: Callable[[Flow], None]) -> None:
        """Do not, if it has not been done."""
        self.on_unpinned = tuple(each for each in self.on_unpinned if each != tell)

    @property
    def keys(self) -> tuple[FlowKey, ...]:
        """The key and its aliases."""
        return (self.key, *self.aliases)

    @property
    def is_unanswered(self) -> bool:
        """Whether nobody has said yet that no other flow has its own key: it is expected."""
        return self.pending is not None and self.key in self.pending

    def goes_with(self, key: FlowKey, keys: Container[bytes], buckets: Container[int]) -> bool:
        """Whether a move of these keys and buckets takes this key of the flow along, or need not.

        It need not take an alias that the switch does not know of yet. The own key says where the flow is, always;
        until it is answered no move takes it from where it leads (`guestlib.partitioned.relations`).
        """
        if key in keys or (self.pending is not None and key in self.pending and key != self.key):
            return True
        home = bucket_of(self.key)
        return home in buckets and bucket_of(key) == home

    @property
    def strays(self) -> list[FlowKey]:
        """The aliases that do not go where the own key's bucket goes."""
        if not self.aliases:
            return []
        home = bucket_of(self.key)
        return [alias for alias in self.aliases if bucket_of(alias) != home]


class FlowTable:
    """Active flows. ``active`` maps every key and alias to its flow."""

    def __init__(self, timers: TimerQueue, fences: Fences) -> None:
        self.active: dict[bytes, Flow] = {}
        self.timers = timers
        self.fences = fences
        self.count = 0
        """Flows (not keys)."""
        self.conflicts = 0
        """Flows created here although a move was bringing them: replaced by the ones moved."""
        self.steering = Steering(self.active)
        self.steering.on_lost = self._lose
        self.strays: dict[bytes, Flow] = {}
        """Active aliases that do not go with their own bucket."""
        self._by_bucket: dict[int, dict[bytes, Flow]] = {}
        self._loose: dict[int, dict[bytes, Flow]] = {}
        self._groups: dict[str, dict[bytes, Flow]] = {}
        self._orphans: dict[bytes, Flow] = {}

    def create(
        self, key: FlowKey, state: Any, aliases: tuple[FlowKey, ...], group: str = "", *, expected: bool = False
    ) -> None:
        """Add a flow. :raises FlowExists: one of the keys is in use. :raises FlowMigrated: one lives elsewhere."""
        if aliases:
            aliases = tuple(dict.fromkeys(alias for alias in aliases if alias != key))
        flow = Flow(key, state, aliases, group=group)
        if key in self.active:
            raise FlowExists(key)
        owned = self.fences.owned
        away = expected and owned is not None and bucket_of(key) not in owned
        if away:  # each of its keys gets an entry
            self.fences.check_unless_gone(key)
        else:
            self.fences.check(key)
        for alias in aliases:
            self._check_alias(flow, alias, away=away)
        self.insert(flow)
        if aliases or expected:
            self._steer(flow, aliases, expected=expected)

    def add_alias(self, key: bytes, alias: FlowKey) -> None:
        """Let the flow be found by one more key; raises as `create` and `find` do."""
        flow = self.find(key)
        self._check_alias(flow, alias)
        self._unrelate(flow)
        flow.aliases = (*flow.aliases, alias)
        self.active[alias] = flow
        self._relate(flow)
        self._steer(flow, (alias,))

    def set_group(self, key: bytes, group: str) -> None:
        """Put the flow into a group (empty: none); raises as `find` does."""
        flow = self.find(key)
        self._unrelate(flow)
        flow.group = group
        self._relate(flow)

    def _lose(self, flow: Flow, alias: FlowKey) -> None:
        """It is another flow's, so it is none of this one's, which could not move any more: its moves would take it.

        Who has a transaction open by it puts that back by it.
        """
        if self.active.get(alias) is not flow:
            return
        if flow.refs:
            flow.await_unpinned(partial(self._lose, alias=alias))
            return
        self._unrelate(flow)
        flow.aliases = tuple(each for each in flow.aliases if each != alias)
        del self.active[alias]
        self._relate(flow)

    def _check_alias(self, flow: Flow, alias: FlowKey, *, away: bool = False) -> None:
        if alias in self.active:
            raise FlowExists(alias)
        if bucket_of(alias) == bucket_of(flow.key) and not away:
            self.fences.check(alias)
        else:
            self.fences.check_frozen(alias)

    def _steer(self, flow: Flow, aliases: Iterable[FlowKey], *, expected: bool = False) -> None:
        """Ask for entries for those keys that would not come here by themselves, or that others may have.

        In a mixed bucket that is so of each. The own key of a flow that is expected is asked for in any case: another
        replica, away from this bucket, may have expected one of the same key, and its entry may be there still.
        """
        owned = self.fences.owned
        if owned is None:
            return
        home = bucket_of(flow.key)
        alone = self.fences.is_whole(home)
        wanted = [key for key in aliases if not alone or bucket_of(key) != home]
        wanted += [flow.key] if expected else []
        if wanted:
            chosen = [key for key in wanted if bucket_of(key) != home and bucket_of(key) in owned]
            self.steering.want(flow, wanted, chosen)

    def find(self, key: bytes) -> Flow:
        """The active flow with this key or alias. :raises FlowMissing: :raises FlowMigrated:"""
        flow = self.active.get(key)
        if flow is None:
            self.fences.check(key)
            raise FlowMissing(key)
        return flow

    def delete(self, key: bytes) -> Flow:
        """Remove a flow; references still open on it may be put as if it were there. Raises as `find` does."""
        flow = self.find(key)
        if flow.pending:
            self.steering.unannounce(flow)
        self.remove(flow)
        flow.timers = None  # each refers to the flow: without them it goes at once, not by the garbage collector
        self.abandon(flow)
        flow.unpinned()  # a deleted flow pins no move
        return flow

    def abandon(self, flow: Flow) -> None:
        """Remember the open references of a flow just removed, so that their puts are no error."""
        if not flow.refs:
            return
        for key in flow.keys:
            earlier = self._orphans.get(key)
            flow.refs += earlier.refs if earlier is not None else 0
            self._orphans[key] = flow

    def put_absent(self, key: bytes) -> None:
        """`put_flow` of a key that is not active. :raises TransactionError: unless it was deleted while referenced."""
        flow = self._orphans.get(key)
        if flow is None:
            raise TransactionError(f"put_flow without get_flow: {show_key(key)}")
        flow.refs -= 1
        if not flow.refs:
            self._orphans = {key: other for key, other in self._orphans.items() if other is not flow}

    def insert(self, flow: Flow) -> None:
        """Make a flow active under all of its keys, and run its timers."""
        key, bucket = flow.key, bucket_of(flow.key)
        self.active[key] = flow
        if (others := self._by_bucket.get(bucket)) is None:
            others = self._by_bucket[bucket] = {}
        others[key] = flow
        if flow.aliases or flow.group:
            self.active.update(dict.fromkeys(flow.aliases, flow))
            self._relate(flow)
        self.count += 1
        if flow.timers is not None:
            self.timers.attach(flow)
        if flow.pending or flow.kept:
            self.steering.arrive(flow)

    def remove(self, flow: Flow) -> None:
        """Take an active flow out; its timers stop and keep their times."""
        del self.active[flow.key]
        _take_out(self._by_bucket, bucket_of(flow.key), flow)
        if flow.aliases or flow.group:
            for alias in flow.aliases:
                del self.active[alias]
            self._unrelate(flow)
        self.count -= 1
        if flow.timers is not None:
            self.timers.detach(flow)
        if flow.pending or flow.kept:
            self.steering.leave(flow)

    def within(self, keys: Iterable[bytes], buckets: Iterable[int]) -> list[Flow]:
        """The active flows of which any key is listed, or whose own key is in a bucket listed, each once."""
        return list(dict.fromkeys(self.each_within(keys, buckets)))

    def in_use(self, keys: Iterable[bytes], buckets: Iterable[int]) -> dict[bytes, Flow]:
        """Flows as in `within` that have open references, by own key."""
        return {flow.key: flow for flow in self.each_within(keys, buckets) if flow.refs}

    # -- what belongs together -------------------------------------------------------------------------------

    def related(
        self, keys: Iterable[bytes], buckets: Iterable[int], groups: Iterable[str] = ()
    ) -> Mapping[bytes, Flow]:
        """Flows of the scope that a move of just the scope would tear from a key or from their group, and that group's.

        By own key. Flows of the listed groups are among them. Costs as much as there are such flows.
        """
        found: dict[bytes, Flow] = {flow.key: flow for key in keys if (flow := self.active.get(key)) is not None}
        for bucket in buckets:
            found.update(self._loose.get(bucket, {}))
        for group in {*groups, *(flow.group for flow in found.values() if flow.group)}:
            found.update(self._groups.get(group, {}))
        return found

    def _relate(self, flow: Flow) -> None:
        if flow.group:
            self._groups.setdefault(flow.group, {})[flow.key] = flow
        strays = flow.strays
        self.strays.update((stray, flow) for stray in strays)
        if flow.group or strays:
            self._loose.setdefault(bucket_of(flow.key), {})[flow.key] = flow

    def _unrelate(self, flow: Flow) -> None:
        if flow.group:
            _take_out(self._groups, flow.group, flow)
        strays = flow.strays
        for stray in strays:
            del self.strays[stray]
        if flow.group or strays:
            _take_out(self._loose, bucket_of(flow.key), flow)

    def in_bucket(self, bucket: int) -> list[Flow]:
        """The active flows with a key in this bucket; one with two keys in it comes twice."""
        return list(self._by_bucket.get(bucket, {}).values())

    def each_within(self, keys: Iterable[bytes], buckets: Iterable[int]) -> Iterator[Flow]:
        """As `within`, but without a list, and flows may come more than once. The table must not change meanwhile."""
        yield from filter(None, map(self.active.get, keys))
        for bucket in buckets:
            yield from self._by_bucket.get(bucket, {}).values()

    def flows(self) -> Iterator[Flow]:
        """Every active flow, once."""
        return (flow for key, flow in self.active.items() if key == flow.key)

    def validate_state(self) -> None:
        """Assert every redundancy (for tests)."""
        assert self.count == sum(1 for _ in self.flows())
        assert {key for flow in self.flows() for key in flow.keys} == set(self.active)
        indexed = {key: bucket for bucket, flows in self._by_bucket.items() for key in flows}
        assert indexed == {flow.key: bucket_of(flow.key) for flow in self.flows()}
        loose = {key: bucket for bucket, flows in self._loose.items() for key in flows}
        assert loose == {flow.key: bucket_of(flow.key) for flow in self.flows() if flow.group or flow.strays}
        assert self.strays == {stray: flow for flow in self.flows() for stray in flow.strays}
        grouped = {key: group for group, flows in self._groups.items() for key in flows}
        assert grouped == {flow.key: flow.group for flow in self.flows() if flow.group}
        assert all(self._by_bucket.values()) and all(self._loose.values()) and all(self._groups.values())
        assert len(self.timers) == sum(1 for flow in self.flows() for _ in timers_of(flow))
        assert all(timer.entry is not None for flow in self.flows() for timer in timers_of(flow))
        self.steering.validate_state()


_I = TypeVar("_I", int, str)


def _take_out(index: dict[_I, dict[bytes, Flow]], name: _I, flow: Flow) -> None:
    flows = index[name]
    del flows[flow.key]
    if not flows:
        del index[name]
