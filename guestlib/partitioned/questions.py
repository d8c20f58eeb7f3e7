"""What the orchestrator asks about this replica's keys, and the answers. Of what belongs together: `relations`."""

from __future__ import annotations

import bisect
from collections.abc import Callable

from guestlib.partitioned.fences import bucket_of
from guestlib.partitioned.flows import FlowTable
from splitmerge.flowkey import FlowKey
from splitmerge.messages import Claim, FlowList, ListFlows

LIST_LIFE = 5.0
"""Seconds for which the sorted keys of one listing are kept for its further pages."""


class Questions:
    """``wanted`` is called with a flow's key and that key of it which a flow elsewhere is to have; it may delete it."""

    def __init__(self, table: FlowTable, wanted: Callable[[FlowKey, FlowKey], None]) -> None:
        self._table = table
        self._active = table.active
        self._wanted = wanted
        self._listing: tuple[float, list[bytes]] = (0.0, [])

    def listed(self, message: ListFlows, now: float) -> FlowList:
        """One page of the keys of its flows, in byte order."""
        made, keys = self._listing
        at = bisect.bisect_left(keys, message.after)
        goes_on = keys[at : at + 1] == [message.after]  # else somebody asks from the middle: about one key, as of now
        if not goes_on or now > made + LIST_LIFE:
            keys = sorted(map(bytes, self._active))
            self._listing = (now, keys)
        start, limit = bisect.bisect_right(keys, message.after), max(1, message.limit)
        while True:
            held = tuple(key for key in keys[start : start + limit] if key in self._active)
            start += limit
            # An empty page could not be paged on from; its flows have gone since they were listed.
            if held or start >= len(keys):
                return FlowList(request=message.request, keys=held, complete=start >= len(keys))

    def claimed(self, message: Claim) -> FlowList:
        """Whether a flow here keeps this key from one elsewhere; the middlebox may give way.

        If none does, no port is given out unasked any more in the bucket of the key.
        """
        flow = self._active.get(message.key)
        itself = flow is not None and flow.key == message.flow != message.key  # it has moved here since it asked
        if flow is not None and not itself:
            self._wanted(flow.key, FlowKey(message.key))
        kept = (message.key,) if message.key in self._active else ()
        if not kept:  # it is the other's as soon as this is answered
            self._table.fences.mixed.add(bucket_of(message.key))
        return FlowList(request=message.request, keys=kept, complete=True)
