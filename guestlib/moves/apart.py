"""Flows that were at a replica before their bucket was: by entries of their own, so that no move of it is about them.

What waits for such a move are never their packets.

A bucket may be committed here twice in one move: a new process of the orchestrator does it again, under an epoch of its
own. By then the flows that the move has brought, and those begun since, are here as well: who was here before the
bucket is remembered until it comes again from elsewhere.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from guestlib.partitioned.flows import Flow, FlowTable


class Apart:
    """Keys of such flows, by bucket."""

    def __init__(self, table: FlowTable) -> None:
        self._table = table
        self._keys: dict[int, frozenset[bytes]] = {}

    def before(self, buckets: Iterable[int]) -> frozenset[bytes]:
        """All keys of the flows here whose own key is in one of these buckets, which are not here."""
        return frozenset(bytes(key) for flow in self._table.within((), buckets) for key in flow.keys)

    def arriving(self, buckets: Collection[int], flows: Iterable[Flow]) -> frozenset[bytes]:
        """The same of buckets that these flows come with, or that have come before; ask before they are here."""
        new = [bucket for bucket in buckets if not self._table.fences.is_here(bucket)]
        coming = frozenset(bytes(key) for flow in flows for key in flow.keys) if new else frozenset()
        for bucket in new:
            self._remember(bucket, self.before([bucket]) - coming)
        return frozenset(key for bucket in buckets for key in self._keys.get(bucket, ()))

    def _remember(self, bucket: int, keys: frozenset[bytes]) -> None:
        self._keys.pop(bucket, None)
        if keys:
            self._keys[bucket] = keys
