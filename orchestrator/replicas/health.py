"""Is everybody well? What replicas and the controller dropped, and which replicas have gone quiet."""

from __future__ import annotations

import asyncio
from collections import Counter

from orchestrator.network import Network
from orchestrator.replicas.fleet import Fleet, Replica, ReplicaState

SILENT = 3.0
"""Seconds without Stats, which come about four times a second, after which the status names a replica."""


PULSE = 0.1
"""Seconds between two looks at whether this process gets its turns."""
STALL = 0.15
"""Seconds late for such a look: what was said meanwhile lies unread, for timers come first after a stall."""
AT_LONGEST = 3
"""Times a deadline: silence longer than that counts, whatever this process's own stalls."""


class Awake:
    """Tells a replica that says nothing from an orchestrator that did not get to listen: a busy machine stops both."""

    def __init__(self) -> None:
        self._looked: float | None = None
        self._since = 0.0

    def since(self, now: float) -> float:
        """Since when this process has had its turns; looked at every `PULSE` seconds, and now."""
        if self._looked is None or now - self._looked > PULSE + STALL:
            self._since = now
        self._looked = now
        return self._since

    def until(self, told: float, now: float, deadline: float) -> float:
        """When somebody who has said nothing since ``told`` has for ``deadline`` seconds in which he would be heard."""
        return min(max(told, self.since(now)) + deadline, told + AT_LONGEST * deadline)

    def is_silent(self, replica: Replica, now: float, deadline: float, since: float = 0.0) -> bool:
        """Whether it has said nothing for ``deadline`` seconds in which it would have been heard.

        ``since``: they are counted from then on at the earliest.
        """
        return now > self.until(max(replica.told, since), now, deadline)

    async def wait(self, replica: Replica, deadline: float) -> None:
        """Until a replica whose connection has ended is heard again, or has ended; for ``deadline`` such seconds."""
        loop = asyncio.get_running_loop()
        lost = loop.time()
        waits = [asyncio.ensure_future(event.wait()) for event in (replica.heard, replica.ended)]
        try:
            while (left := self.until(lost, loop.time(), deadline) - loop.time()) > 0:
                if (await asyncio.wait(waits, timeout=min(left, PULSE), return_when=asyncio.FIRST_COMPLETED))[0]:
                    return
        finally:
            for wait in waits:
                wait.cancel()

    async def keep(self) -> None:
        """Look, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            self.since(loop.time())
            await asyncio.sleep(PULSE)


def silent(fleet: Fleet, now: float) -> list[int]:
    """Living replicas that should have said something by now; ``now`` by the event loop's clock."""
    return [each.number for each in fleet.working() if each.told and now - each.told > SILENT]


def hanging(fleet: Fleet, awake: Awake, now: float, deadline: float) -> list[Replica]:
    """Living, connected replicas that have said nothing for ``deadline`` seconds: their middlebox does not return.

    Also those that are to end: a drain would wait for their flows for as long as it may.
    """
    connected = [each for each in fleet.working() if each.told and each.session is not None]
    return [each for each in connected if awake.is_silent(each, now, deadline)]


def drops(fleet: Fleet, network: Network) -> dict[str, dict[str, int]]:
    """Packets dropped by reason: by all replicas that there ever were, and by the controller."""
    replicas = Counter(fleet.ended.drops)
    for replica in fleet.replicas.values():
        if replica.state is not ReplicaState.GONE:
            replicas.update(replica.stats.drops if replica.stats else {})
    controller = {reason: count for reason, count in network.packet_figures().drops.items() if count}
    return {"replicas": dict(replicas), "controller": controller}
