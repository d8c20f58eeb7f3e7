"""The flow table: partitioned state that is active here, found by any key of the flow.

Only active flows are in the table. A flow that freezes or arrives is kept by its move (`guestlib.moves`) until the move
is decided, so a frozen or staged copy cannot serve: a look-up does not find it, and the fences say why.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from guestlib.errors import FlowExists, FlowMissing, TransactionError, show_key
from guestlib.fences import Fences, bucket_of
from guestlib.timers import Timer, TimerQueue
from splitmerge.flowkey import FlowKey


class Flow:
    """One flow's partitioned state, timers, and the references of open transactions."""

    __slots__ = ("aliases", "epoch", "key", "on_unpinned", "refs", "state", "timers")

    def __init__(self, key: FlowKey, state: Any, aliases: tuple[FlowKey, ...] = (), epoch: int = 0) -> None:
        self.key = key
        self.state = state
        self.aliases = aliases
        self.epoch = epoch
        """The move that brought it here; 0 if it was created here."""
        self.refs = 0
        self.timers: dict[str, Timer] = {}
        self.on_unpinned: Callable[[Flow], None] | None = None
        """Called when the last reference goes: a move waits for it."""

    @property
    def keys(self) -> tuple[FlowKey, ...]:
        """The key and its aliases."""
        return (self.key, *self.aliases)


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
        self._by_bucket: dict[int, dict[bytes, Flow]] = {}
        self._orphans: dict[bytes, Flow] = {}

    def create(self, key: FlowKey, state: Any, aliases: tuple[FlowKey, ...]) -> None:
        """Add a flow. :raises FlowExists: one of the keys is in use. :raises FlowMigrated: one lives elsewhere."""
        if aliases:
            aliases = tuple(dict.fromkeys(alias for alias in aliases if alias != key))
        flow = Flow(key, state, aliases)
        for each in flow.keys:
            if each in self.active:
                raise FlowExists(each)
            self.fences.check(each)
        self.insert(flow)

    def add_alias(self, key: bytes, alias: FlowKey) -> None:
        """Let the flow be found by one more key; raises as `create` and `find` do."""
        flow = self.find(key)
        if alias in self.active:
            raise FlowExists(alias)
        self.fences.check(alias)
        flow.aliases = (*flow.aliases, alias)
        self._index(alias, flow)

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
        self.remove(flow)
        self.abandon(flow)
        if flow.on_unpinned is not None:  # a deleted flow pins no move
            flow.on_unpinned(flow)
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
        for key in flow.keys:
            self._index(key, flow)
        self.count += 1
        self.timers.attach(flow)

    def remove(self, flow: Flow) -> None:
        """Take an active flow out; its timers stop and keep their times."""
        for key in flow.keys:
            del self.active[key]
            bucket = bucket_of(key)
            del self._by_bucket[bucket][key]
            if not self._by_bucket[bucket]:
                del self._by_bucket[bucket]
        self.count -= 1
        self.timers.detach(flow)

    def within(self, keys: Iterable[bytes], buckets: Iterable[int]) -> list[Flow]:
        """The active flows of which any key is listed or in a bucket listed, each once."""
        found: dict[int, Flow] = {}
        for key in keys:
            flow = self.active.get(key)
            if flow is not None:
                found[id(flow)] = flow
        for bucket in buckets:
            for flow in self._by_bucket.get(bucket, {}).values():
                found[id(flow)] = flow
        return list(found.values())

    def flows(self) -> Iterator[Flow]:
        """Every active flow, once."""
        return (flow for key, flow in self.active.items() if key == flow.key)

    def _index(self, key: bytes, flow: Flow) -> None:
        self.active[key] = flow
        self._by_bucket.setdefault(bucket_of(key), {})[key] = flow

    def validate_state(self) -> None:
        """Assert every redundancy (for tests)."""
        assert self.count == sum(1 for _ in self.flows())
        assert {key for flow in self.flows() for key in flow.keys} == set(self.active)
        indexed = {key: bucket for bucket, flows in self._by_bucket.items() for key in flows}
        assert indexed == {key: bucket_of(key) for key in self.active}
        assert len(self.timers) == sum(len(flow.timers) for flow in self.flows())
        assert all(timer.entry for flow in self.flows() for timer in flow.timers.values())
