"""What is measured of one way between switch and controller."""

import asyncio
import itertools
import time
from statistics import median
from typing import Any

from benchmarks.punt.world import REPLICA, process
from benchmarks.switch.traffic import percentile
from p4rt_controller import Controller
from splitmerge.flowkey import BUCKETS
from splitmerge.messages import Scope

_EPOCHS = itertools.count(1)
_ALL = Scope(buckets=tuple(range(BUCKETS)))
_TRIAL = 0.7
_LOWEST, _HIGHEST = 1_000.0, 300_000.0
_STEPS = 6
_DRAINS = 200
_RELAYED = 20_000
_QUIET = 0.3


async def send(rate: float, seconds: float, size: int) -> tuple[int, float, float]:
    """Have the traffic process send; (frames, seconds it took, when it began)."""
    async with process("benchmarks.punt.peers", "traffic", str(rate), str(seconds), str(size)) as traffic:
        assert traffic.stdin is not None
        assert traffic.stdout is not None
        begun = time.monotonic()
        traffic.stdin.write(b"go\n")
        sent, taken = (await asyncio.wait_for(traffic.stdout.readline(), seconds + 20)).split()
    return int(sent), float(taken), begun


def buffered(controller: Controller) -> int:
    """Packets of suspended flows put into the buffers, since the start."""
    stats = controller.stats()
    return stats.suspended_packets - stats.dropped_buffer_full


async def settled(controller: Controller) -> tuple[int, float]:
    """Packets `buffered`, once their number has not changed for a while; and when it last did."""
    last, since = -1, time.monotonic()
    while time.monotonic() - since < _QUIET:
        await asyncio.sleep(0.02)
        now = buffered(controller)
        if now != last:
            last, since = now, time.monotonic()
    return last, since


class Trial:
    """Traffic of suspended flows for a while: what was sent, and what reached the buffers."""

    def __init__(self, controller: Controller, size: int) -> None:
        self._controller = controller
        self._size = size

    async def run(self, rate: float) -> tuple[int, int, float, float]:
        """(sent, buffered, seconds of sending, seconds until the last was in the buffer)."""
        epoch = next(_EPOCHS)
        await self._controller.suspend(epoch, _ALL, REPLICA)
        try:
            before, _ = await settled(self._controller)  # what an earlier trial left in queues
            sent, taken, begun = await send(rate, _TRIAL, self._size)
            after, last = await settled(self._controller)
            return sent, after - before, taken, last - begun
        finally:
            self._controller.abandon(epoch)

    async def loss_free(self) -> int:
        """The highest rate found at which two trials of three lose nothing, halving the (logarithmic) interval."""
        low, high = _LOWEST, _HIGHEST
        for _ in range(_STEPS):
            rate = (low * high) ** 0.5
            clean, reached = 0, 0.0
            for attempt in range(3):
                sent, kept, taken, _ = await self.run(rate)
                clean += kept == sent
                reached = max(reached, sent / taken)
                if clean == 2 or attempt - clean == 1:
                    break
            if clean < 2:
                high = rate
                continue
            low = max(low, min(rate, reached))
            if reached < 0.9 * rate:
                break  # the generator cannot do more
        return int(low)

    async def saturated(self) -> tuple[int, dict[str, int]]:
        """Packets buffered a second when more come than can be, and where the others were lost on this side.

        Until the last has come: a queue in between may hold seconds of them.
        """
        before = self._controller.stats()
        rates = []
        for _ in range(2):
            _, kept, _, seconds = await self.run(float("inf"))
            rates.append(kept / seconds)
        after = self._controller.stats()
        names = ("dropped_punt_ring", "dropped_punt_link", "dropped_buffer_full")
        return int(median(rates)), {name: getattr(after, name) - getattr(before, name) for name in names}


async def drains(controller: Controller, load: float) -> dict[str, float | None]:
    """Microseconds of MARKER's way to the replica and its echo's way back, while so many packets/s are punted."""
    epoch = next(_EPOCHS)
    times: list[float] = []

    async def measure() -> None:
        for _ in range(_DRAINS):
            times.append((await controller.drain(epoch, REPLICA)).seconds * 1e6)
            await asyncio.sleep(0.001)

    if not load:
        await measure()
    else:
        await controller.suspend(epoch, _ALL, REPLICA)
        traffic = asyncio.create_task(send(load, 2.0, 64), name="traffic")
        await asyncio.sleep(0.7)
        await measure()
        await traffic
        controller.abandon(epoch)
    return {"p50": percentile(times, 0.5), "p99": percentile(times, 0.99)}


async def relay(controller: Controller) -> dict[str, Any]:
    """`resume` with many packets in the buffer: packets a second delivered, in order and acknowledged."""
    epoch = next(_EPOCHS)
    await controller.suspend(epoch, _ALL, REPLICA)
    await send(4000.0, _RELAYED / 4000.0 / 4, 64)
    await settled(controller)
    done = await controller.resume(epoch, _ALL, REPLICA)
    return {
        "relayed": done.relayed,
        "retransmitted": done.retransmitted,
        "per_s": int(done.relayed / done.seconds),
    }


async def measure(controller: Controller) -> dict[str, Any]:
    """Everything."""
    async with process("benchmarks.punt.peers", "replica"):
        found: dict[str, Any] = {"drain_us": {"idle": await drains(controller, 0)}}
        found["drain_us"]["at_4000_pps"] = await drains(controller, 4000)
        found["relay"] = await relay(controller)
        found["loss_free_pps"] = {}
        found["saturated_pps"] = {}
        for size in (64, 1400):
            trial = Trial(controller, size)
            found["loss_free_pps"][str(size)] = await trial.loss_free()
            found["saturated_pps"][str(size)], found["lost"] = await trial.saturated()
    return found
