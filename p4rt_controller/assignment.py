"""Who gets a new flow: pure policies. They suggest; the orchestrator decides and enacts.

``hash`` needs nobody on the path: buckets have owners, and a flow belongs to its bucket's. With the other two every new
flow is reported and assigned one by one (§3.2 of the paper).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

from splitmerge.errors import BadInput
from splitmerge.flowkey import BUCKETS, FlowKey


class AssignmentPolicy(Protocol):
    """One way to assign new flows."""

    def buckets(self, replicas: Iterable[int], owners: Mapping[int, int | None]) -> dict[int, int | None]:
        """Owner of every bucket for this set of replicas, moving as few as possible from ``owners``."""

    def choose(self, key: FlowKey, loads: Mapping[int, int]) -> int:
        """The replica for a new flow. ``loads``: flows (or any load) of each replica that may take it.

        :raises BadInput: if ``loads`` is empty.
        """


class ByHash:
    """A flow belongs to its bucket's owner; buckets are spread evenly."""

    def buckets(self, replicas: Iterable[int], owners: Mapping[int, int | None]) -> dict[int, int | None]:
        return spread(replicas, owners)

    def choose(self, key: FlowKey, loads: Mapping[int, int]) -> int:
        ranked = sorted(_candidates(loads))
        return ranked[key.bucket % len(ranked)]


class LeastLoaded:
    """The replica with the smallest load; of equals the smallest number."""

    def buckets(self, replicas: Iterable[int], owners: Mapping[int, int | None]) -> dict[int, int | None]:
        return dict.fromkeys(range(BUCKETS))

    def choose(self, key: FlowKey, loads: Mapping[int, int]) -> int:
        candidates = _candidates(loads)
        return min(candidates, key=lambda replica: (candidates[replica], replica))


class RoundRobin:
    """One replica after the other, in order of their numbers."""

    def __init__(self) -> None:
        self._last = 0

    def buckets(self, replicas: Iterable[int], owners: Mapping[int, int | None]) -> dict[int, int | None]:
        return dict.fromkeys(range(BUCKETS))

    def choose(self, key: FlowKey, loads: Mapping[int, int]) -> int:
        ranked = sorted(_candidates(loads))
        self._last = next((replica for replica in ranked if replica > self._last), ranked[0])
        return self._last


def policy(name: str) -> AssignmentPolicy:
    """The policy of this name: hash, least-loaded or round-robin. :raises BadInput: for another."""
    makers: dict[str, type[ByHash] | type[LeastLoaded] | type[RoundRobin]] = {
        "hash": ByHash, "least-loaded": LeastLoaded, "round-robin": RoundRobin,
    }  # fmt: skip
    if name not in makers:
        raise BadInput("assignment", f"unknown {name!r}", ", ".join(makers))
    return makers[name]()


def spread(replicas: Iterable[int], owners: Mapping[int, int | None]) -> dict[int, int | None]:
    """Every bucket's owner so that loads differ by at most one and as few buckets as possible change hands.

    :raises BadInput: without replicas.
    """
    members = sorted(set(replicas))
    if not members:
        raise BadInput("buckets", "no replica to give them to")
    held: dict[int, list[int]] = {replica: [] for replica in members}
    homeless: list[int] = []
    for bucket in range(BUCKETS):
        owner = owners.get(bucket)
        (homeless if owner is None else held.get(owner, homeless)).append(bucket)
    small, extra = divmod(BUCKETS, len(members))
    by_size = sorted(members, key=lambda replica: (-len(held[replica]), replica))
    quota = {replica: small + (rank < extra) for rank, replica in enumerate(by_size)}
    for replica in members:
        homeless += held[replica][quota[replica] :]
        del held[replica][quota[replica] :]
    homeless.sort(reverse=True)
    for replica in members:
        while len(held[replica]) < quota[replica]:
            held[replica].append(homeless.pop())
    return {bucket: replica for replica, buckets in held.items() for bucket in buckets}


def _candidates(loads: Mapping[int, int]) -> Mapping[int, int]:
    if not loads:
        raise BadInput("assignment", "no replica can take a new flow", "add a replica")
    return loads
