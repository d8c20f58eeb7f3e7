"""Packets that the switches dropped, also before they restarted: a switch that does so counts from 0 again.

What this process has read is kept and added to; an orchestrator that restarts begins with what the switches say then.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from dataclasses import dataclass, field

from orchestrator.network import Network
from p4rt_controller import DropCounts
from p4src.reasons import DropReason
from splitmerge.errors import SplitmergeError

logger = logging.getLogger("orchestrator.switch_drops")

EVERY = 1.0
"""Seconds between two readings that nobody asks for: what a switch drops after the last one, before it dies, is not
known. One reading is a request for 16 counters, which the switch's control plane answers beside the packets."""
WITHIN = 1.0
"""Seconds that whoever asks waits for a reading, at most: then what was read last is the answer."""


@dataclass(slots=True)
class _Switch:
    """``past``: what it had counted before it last restarted; ``last``: the newest reading."""

    loads: int
    past: Counter[DropReason] = field(default_factory=Counter)
    last: Counter[DropReason] = field(default_factory=Counter)


class SwitchDrops:
    """Readings of all switches. `take` alone changes what is known; `refresh` and `keep` get it the counters."""

    def __init__(self) -> None:
        self._switches: dict[str, _Switch] = {}
        self._reading = asyncio.Lock()

    def take(self, name: str, counts: DropCounts) -> None:
        """A reading of one switch, newer than those before it."""
        seen = self._switches.setdefault(name, _Switch(counts.loads))
        # A rival that loads the same pipeline, or another switch at the address, begins at 0 as well.
        anew = counts.loads != seen.loads or any(counts.packets.get(each, 0) < n for each, n in seen.last.items())
        if anew:
            seen.past.update(seen.last)
        seen.loads, seen.last = counts.loads, Counter(counts.packets)

    def of(self, name: str) -> Counter[DropReason]:
        """Since this process began, or the switch if that was before; reasons that have counted some."""
        seen = self._switches.get(name)
        return Counter() if seen is None else seen.past + seen.last

    def names(self) -> list[str]:
        """Switches that have been read."""
        return list(self._switches)

    def total(self) -> dict[str, int]:
        """All switches together, by the reason's name, PUNTED too."""
        counts: Counter[DropReason] = Counter()
        for name in self._switches:
            counts += self.of(name)
        return {reason.name.lower(): count for reason, count in sorted(counts.items())}

    async def refresh(self, network: Network) -> None:
        """Read the switches that are not away, for `WITHIN` seconds; who does not answer keeps the last figures."""
        try:
            async with asyncio.timeout(WITHIN), self._reading:
                counted = await network.switch_drops()
        except TimeoutError:
            logger.info("drops of the switch: not read within %g s", WITHIN)
        except SplitmergeError as error:  # it went away in this moment: the next reading says so
            logger.info("drops of the switch: %s", error)
        else:
            for name, counts in counted.items():
                self.take(name, counts)

    async def keep(self, network: Network) -> None:
        """Read again and again, until cancelled."""
        while True:
            await self.refresh(network)
            await asyncio.sleep(EVERY)
