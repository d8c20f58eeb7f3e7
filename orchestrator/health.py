"""Is everybody well? What replicas and the switch dropped, and which replicas have gone quiet."""

from __future__ import annotations

import logging
from collections import Counter

from orchestrator.fleet import Fleet, Replica, ReplicaState
from orchestrator.network import Network
from splitmerge.errors import SplitmergeError

logger = logging.getLogger("orchestrator.health")

SILENT = 3.0
"""Seconds without Stats, which come about four times a second, after which the status names a replica."""


def silent(fleet: Fleet, now: float) -> list[int]:
    """Living replicas that should have said something by now; ``now`` by the event loop's clock."""
    return [each.number for each in fleet.working() if each.told and now - each.told > SILENT]


def hanging(fleet: Fleet, now: float, deadline: float) -> list[Replica]:
    """Living, connected replicas that have said nothing for ``deadline`` seconds: their middlebox does not return.

    Also those that are to end: a drain would wait for their flows for as long as it may.
    """
    connected = [each for each in fleet.working() if each.told and each.session is not None]
    return [each for each in connected if now - each.told > deadline]


async def drops(fleet: Fleet, network: Network, switch_ready: bool) -> dict[str, dict[str, int]]:
    """Packets dropped by reason: by all replicas that there ever were, the switch (away: empty), and the controller."""
    replicas = Counter(fleet.ended_drops)
    for replica in fleet.replicas.values():
        if replica.state is not ReplicaState.GONE:
            replicas.update(replica.stats.drops if replica.stats else {})
    controller = {reason: count for reason, count in network.packet_figures().drops.items() if count}
    return {
        "replicas": dict(replicas),
        "switch": await _switch_drops(network) if switch_ready else {},
        "controller": controller,
    }


async def _switch_drops(network: Network) -> dict[str, int]:
    try:
        counted = await network.switch_drops()
    except SplitmergeError as error:  # it went away in this moment: the next look says so
        logger.info("drops of the switch: %s", error)
        return {}
    return {reason.name.lower(): count for reason, count in counted.items() if count}
