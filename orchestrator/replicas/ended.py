"""What replicas had counted when they ended, as of their last Stats: sums over all replicas never go down."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping

from splitmerge.messages import Stats

DROPS = "drops."
"""Begins the names of totals in the journal that are packets dropped; a reason follows."""
PACKETS = "ended.packets"
CPU = "ended.cpu_us"
"""Names of the others; of processor time in microseconds, since the journal's totals are whole numbers."""


def counted(stats: Stats | None) -> dict[str, int]:
    """What a replica that ends with these figures adds, by the names of totals in the journal."""
    if stats is None:
        return {}
    # Rounded up, or the sum over all replicas would be less than it was before this one's end.
    return {PACKETS: stats.packets, CPU: math.ceil(stats.cpu_seconds * 1e6)} | {
        f"{DROPS}{reason}": count for reason, count in stats.drops.items()
    }


class Ended:
    """Sums over the replicas that have ended. ``totals``: the journal's, of those that did in earlier processes."""

    def __init__(self, totals: Mapping[str, int] | None = None) -> None:
        self._counts: Counter[str] = Counter(
            {name: count for name, count in (totals or {}).items() if name in (PACKETS, CPU) or name.startswith(DROPS)}
        )

    def take(self, counts: Mapping[str, int]) -> None:
        """One more has ended; ``counts`` as `counted` gives them."""
        self._counts.update(counts)

    @property
    def packets(self) -> int:
        """Packets that came to them."""
        return self._counts[PACKETS]

    @property
    def cpu_seconds(self) -> float:
        """Processor time that they used."""
        return self._counts[CPU] / 1e6

    @property
    def drops(self) -> dict[str, int]:
        """Packets that they dropped, by reason."""
        found = {name: count for name, count in self._counts.items() if name.startswith(DROPS)}
        return {name.removeprefix(DROPS): count for name, count in found.items()}
