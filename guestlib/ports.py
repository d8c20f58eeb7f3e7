"""Ports for translated flows, such that the translated key comes to this replica as the flow's own does."""

from __future__ import annotations

from guestlib.fences import Fate
from guestlib.flows import FlowTable
from splitmerge.colocation import Outside, PortRange, choose
from splitmerge.flowkey import FlowKey


class FreePorts:
    """Ports that no flow uses whose key would be the same."""

    def __init__(self, table: FlowTable) -> None:
        self._active = table.active
        self._fences = table.fences

    def choose(self, outside: Outside, key: bytes, within: PortRange, start: int) -> tuple[int, FlowKey] | None:
        """As `Guest.colocated_port`."""
        home, owned = FlowKey(key).bucket, self._fences.owned
        if owned is None or home in owned:
            return choose(outside, home, within, self._is_taken, start)
        if not owned:
            fresh = choose(outside, home, within, self._is_taken_by_key, start)
            return fresh or choose(outside, home, within, self._is_in_use, start)
        buckets = sorted(owned)
        for number in range(len(buckets)):
            found = choose(outside, buckets[(start + number) % len(buckets)], within, self._is_taken, start)
            if found is not None:
                return found
        return None

    def _is_taken(self, key: FlowKey) -> bool:
        fence = self._fences.of(key)
        return key in self._active or (fence is not None and fence.fate is not Fate.HERE)

    def _is_taken_by_key(self, key: FlowKey) -> bool:
        return key in self._active or self._fences.has_left(key)

    def _is_in_use(self, key: FlowKey) -> bool:
        return key in self._active or self._fences.is_frozen(key)
