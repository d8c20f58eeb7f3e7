"""Ports for translated flows, such that the translated key comes to this replica as the flow's own does."""

from __future__ import annotations

from guestlib.partitioned.fences import Fate
from guestlib.partitioned.flows import FlowTable
from splitmerge.colocation import Outside, PortRange, choose
from splitmerge.flowkey import FlowKey


class FreePorts:
    """Ports that no flow uses whose key would be the same."""

    def __init__(self, table: FlowTable) -> None:
        self._active = table.active
        self._fences = table.fences
        self._refused = table.steering.lately_refused

    def choose(self, outside: Outside, key: bytes, within: PortRange, start: int) -> tuple[int, FlowKey] | None:
        """As `Guest.colocated_port`."""
        home, owned = FlowKey(key).bucket, self._fences.owned
        if owned is None or home in owned:
            return self._choose_in(home, outside, within, start)
        if not owned:
            fresh = choose(outside, home, within, self._is_taken_by_key, start)
            return fresh or choose(outside, home, within, self._is_in_use, start)
        whole, mixed = sorted(owned - self._fences.mixed), sorted(owned & self._fences.mixed)
        for buckets in (whole, mixed):  # in those nobody else has one
            for number in range(len(buckets)):
                found = self._choose_in(buckets[(start + number) % len(buckets)], outside, within, start)
                if found is not None:
                    return found
        return None

    def _choose_in(self, bucket: int, outside: Outside, within: PortRange, start: int) -> tuple[int, FlowKey] | None:
        """In a bucket that is here; one that was refused lately, where it is mixed, comes last."""
        if self._fences.is_whole(bucket):
            return choose(outside, bucket, within, self._is_taken, start)
        found = choose(outside, bucket, within, lambda key: key in self._refused or self._is_taken(key), start)
        return found or choose(outside, bucket, within, self._is_taken, start)

    def _is_taken(self, key: FlowKey) -> bool:
        fence = self._fences.of(key)
        return key in self._active or (fence is not None and fence.fate is not Fate.HERE)

    def _is_taken_by_key(self, key: FlowKey) -> bool:
        return key in self._active or self._fences.has_left(key)

    def _is_in_use(self, key: FlowKey) -> bool:
        return key in self._active or self._fences.is_frozen(key)
