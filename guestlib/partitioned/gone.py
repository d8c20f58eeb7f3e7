"""Keys of flows that have been deleted, until the orchestrator is told, which may then delete their entries."""

from __future__ import annotations

from collections.abc import Container, Iterable

from splitmerge.messages import FlowsGone

GONE_KEYS = 65536
"""Deleted keys kept until the orchestrator can be told; of more the oldest are forgotten (it finds out by listing)."""
GONE_BATCH = 4096


class GoneKeys:
    """Oldest first; each once."""

    def __init__(self) -> None:
        self._keys: dict[bytes, None] = {}

    def __len__(self) -> int:
        return len(self._keys)

    def note(self, keys: Iterable[bytes]) -> None:
        """These are of no flow any more."""
        self._keys.update(dict.fromkeys(keys))
        while len(self._keys) > GONE_KEYS:
            del self._keys[next(iter(self._keys))]

    def take(self, active: Container[bytes]) -> FlowsGone | None:
        """The oldest of them, but those that are ``active``: a flow that has come back needs its entry. None: none."""
        if not self._keys:
            return None
        keys = list(self._keys)[:GONE_BATCH]
        for key in keys:
            del self._keys[key]
        gone = tuple(bytes(key) for key in keys if key not in active)
        return FlowsGone(keys=gone) if gone else None
