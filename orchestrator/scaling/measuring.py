"""What single buckets and flows carry, measured when somebody asks: to even the load by more than the number of flows.

Flows with entries of their own (those that the controller assigns) are counted by the switch; buckets by the replicas
that own them, packet by packet for a moment.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from orchestrator.elasticity import Figure
from orchestrator.network import Network
from orchestrator.replicas.fleet import Fleet, Replica
from orchestrator.scaling.planning import Unit
from splitmerge.errors import SplitmergeError, first_of

MEASURED = 1.0
"""Seconds for which packets are counted."""


class Measurer:
    """See the module's text. ``deadline``: seconds for a replica to answer, beyond `MEASURED`."""

    def __init__(self, fleet: Fleet, network: Network, deadline: float, *, by_hash: bool) -> None:
        self._fleet = fleet
        self._network = network
        self._deadline = deadline
        self._by_hash = by_hash

    async def packets(self) -> dict[int, dict[Unit, float]]:
        """Packets per second in each bucket (or flow) of each living replica; units without any may be missing.

        :raises SplitmergeError: if the switch or a replica does not answer.
        """
        living = [each.number for each in self._fleet.live()]
        if not self._by_hash:
            return dict.fromkeys(living, await self._flows())
        failed: SplitmergeError | None = None
        try:
            async with asyncio.TaskGroup() as tasks:
                asked = {number: tasks.create_task(self._buckets(number)) for number in living}
        except* SplitmergeError as group:
            failed = first_of(group)
        if failed is not None:
            raise failed
        return {number: task.result() for number, task in asked.items()}

    async def _flows(self) -> dict[Unit, float]:
        before = await self._network.flow_packets()
        begun = asyncio.get_running_loop().time()
        await asyncio.sleep(MEASURED)
        after = await self._network.flow_packets()
        seconds = asyncio.get_running_loop().time() - begun
        # Counters start at 0 with an entry, and again when a switch came back meanwhile.
        return {key: max(0.0, (count - before.get(key, 0)) / seconds) for key, count in after.items()}

    async def _buckets(self, replica: int) -> dict[Unit, float]:
        counted = await self._fleet.count_buckets(replica, MEASURED, self._deadline)
        return {bucket: packets / counted.seconds for bucket, packets in counted.packets.items()}


def weigh(replica: Replica, by: Figure, flows: Mapping[Unit, int], packets: Mapping[Unit, float]) -> dict[Unit, float]:
    """The load of each of a replica's units. Processor time is taken to go with packets, as far as they differ."""
    if by == "flows":
        return dict(flows)
    rates = {unit: packets.get(unit, 0.0) for unit in flows}
    total = sum(rates.values())
    scale = replica.load.cpu / total if by == "cpu" and total else 1.0
    return {unit: rate * scale for unit, rate in rates.items()}
