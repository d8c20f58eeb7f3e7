"""What is measured of a running target: one round of it. Every number is of this machine at this moment; see rounds."""

import subprocess
import sys
import time
from statistics import median
from typing import Any

from finsy.proto import p4r

from benchmarks.switch import wires
from benchmarks.switch.client import Client
from benchmarks.switch.targets import Running
from benchmarks.switch.traffic import FLOWS, Generator, Probes, frame, percentile
from p4src import P4INFO

SIZES = (64, 1400)
_TRIAL = 0.3
_HIGHEST = 400_000.0
_STEPS = 5
_SECONDS = 1.0
"""Of latency, a round."""
WRITES, WRITE_BATCH = 1000, 20
"""Updates a second, and in one request, while latency is measured."""
ELECTION = 3
PUNTED, PUNT_STEP = 12_000, 0.005
"""Frames a second that are punted, and seconds between bursts."""
_SILENCE = 1.5
INSERTS = {1: 200, 10: 1000, 100: 4000, 1000: 10_000}
"""Entries by the number in one request."""
MODIFIES = 200


class Forwarding:
    """Frames of one size through a target."""

    def __init__(self, cables: wires.Wires, size: int) -> None:
        self.size = size
        self._cables = cables
        self._far = cables.peers[wires.OUT]
        self._generator = Generator([frame(number, size) for number in range(FLOWS)], cables.peers[wires.IN])

    def close(self) -> None:
        self._generator.close()

    def trial(self, rate: float, seconds: float = _TRIAL) -> tuple[int, int, float]:
        """(sent, forwarded, seconds) at a rate."""
        before = wires.settled(self._far)
        sent, taken = self._generator.run(rate, seconds)
        return sent, wires.settled(self._far) - before, taken

    def saturated(self) -> int:
        """Frames forwarded a second when more come than can be."""
        before, start = wires.settled(self._far), time.perf_counter()
        self._generator.run(float("inf"), _TRIAL)
        passed = time.perf_counter() - start
        rate = (wires.received(self._far) - before) / passed
        wires.settled(self._far)
        return int(rate)

    def loss_free(self, saturated: float) -> int:
        """The highest rate found at which two trials of three lose nothing, by halving the (logarithmic) interval."""
        low, high = saturated / 5, min(_HIGHEST, saturated * 1.3)
        for _ in range(_STEPS):
            rate = (low * high) ** 0.5
            clean = reached = 0.0
            for attempt in range(3):
                sent, forwarded, taken = self.trial(rate)
                clean += forwarded >= sent
                reached = max(reached, sent / taken)
                if clean == 2 or attempt - clean == 1:
                    break
            if clean >= 2:
                low = min(rate, reached)
                if reached < 0.9 * rate:
                    break  # the generator cannot do more
            else:
                high = rate
        return int(low)

    def latency(self, rate: float, seconds: float) -> dict[str, float | None]:
        """Microseconds of one frame's way at a rate."""
        probes = Probes(self._cables, self.size)
        try:
            self._generator.run(rate, seconds, probes.turn)
            wires.settled(self._far)
            probes.take()
            lost = probes.sent - len(probes.microseconds)
            found = probes.microseconds
            return {"p50": percentile(found, 0.5), "p99": percentile(found, 0.99), "probes_lost": lost}
        finally:
            probes.close()


def forwarding(target: Running) -> dict[str, dict[str, int]]:
    """Frames a second: without loss, and saturated, by size."""
    result: dict[str, dict[str, int]] = {"loss_free": {}, "saturated": {}}
    for size in SIZES:
        traffic = Forwarding(target.cables, size)
        result["saturated"][str(size)] = traffic.saturated()
        result["loss_free"][str(size)] = traffic.loss_free(result["saturated"][str(size)])
        traffic.close()
    return result


def latency(target: Running, rate: float, *, writes_first: bool) -> dict[str, Any]:
    """At a rate, without table writes and, if the target has tables, with."""
    traffic = Forwarding(target.cables, 64)
    result: dict[str, Any] = {"rate": int(rate)}
    ways = ["without_writes", "with_writes"] if target.programmable else ["without_writes"]
    for way in reversed(ways) if writes_first else ways:
        if way == "without_writes":
            result[way] = traffic.latency(rate, _SECONDS)
        else:
            result[way] = _with_writes(target, lambda: traffic.latency(rate, _SECONDS))
    traffic.close()
    return result


def _with_writes(target: Running, work: Any) -> Any:
    """What ``work`` gives while another process writes."""
    code = "from benchmarks.switch.client import write_steadily as w; import sys; "
    code += f"w({target.address!r}, {ELECTION}, {str(P4INFO)!r}, {WRITES}, {WRITE_BATCH})"
    writer = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    try:
        assert writer.stdout is not None
        writer.stdout.readline()
        return work()
    finally:
        writer.kill()
        writer.wait()


def inserts(client: Client) -> dict[str, int]:
    """Entries a second by the number in one request, into a table of FLOWS entries; they are deleted again."""
    rates = {}
    for batch, count in INSERTS.items():
        numbers = range(FLOWS, FLOWS + count)
        requests = client.requests(p4r.Update.INSERT, numbers, batch)
        start = time.perf_counter()
        for request in requests:
            client.send(request)
        rates[str(batch)] = int(count / (time.perf_counter() - start))
        for request in client.requests(p4r.Update.DELETE, numbers, 1000):
            client.send(request)
    return rates


def modify(client: Client) -> dict[str, float | None]:
    """Microseconds from the call to the answer, one update a request."""
    took = []
    for request in client.requests(p4r.Update.MODIFY, range(MODIFIES), 1):
        start = time.perf_counter()
        client.send(request)
        took.append((time.perf_counter() - start) * 1e6)
    return {"p50": percentile(took, 0.5), "p99": percentile(took, 0.99)}


def packet_ins(target: Running, client: Client) -> tuple[int, int]:
    """(packet-ins a second that the client gets while PUNTED frames a second are punted, how many never came)."""
    generator = Generator([frame(0, 64, suspended=True)] * 1200, target.cables.peers[wires.IN])
    before, start, steps, sent = client.packet_ins, time.perf_counter(), 0, 0
    while steps * PUNT_STEP < 1.0:
        sent += generator.burst(int(PUNTED * PUNT_STEP))
        steps += 1
        time.sleep(max(0.0, start + steps * PUNT_STEP - time.perf_counter()))
    rate = (client.packet_ins - before) / (time.perf_counter() - start)
    generator.close()
    return int(rate), sent - _arrived(client, before, sent)


def _arrived(client: Client, before: int, sent: int) -> int:
    """How many of ``sent`` packet-ins came in the end: all, or those until none came for `_SILENCE` seconds."""
    seen, since = client.packet_ins, time.perf_counter()
    while seen - before < sent and time.perf_counter() - since < _SILENCE:
        time.sleep(0.02)
        if client.packet_ins != seen:
            seen, since = client.packet_ins, time.perf_counter()
    return seen - before


def growth(target: Running, client: Client, counts: tuple[int, ...], deadline: float) -> dict[str, Any]:
    """Resident memory and insert rate (1,000 a request) as the flow table grows; stops at the deadline (monotonic).

    ``typical_inserts_per_s`` is that of the median request: one that was interrupted does not count.
    """
    result: dict[str, Any] = {}
    done = 0
    for count in counts:
        took: list[float] = []
        while done < count and time.monotonic() < deadline:
            step = range(done, min(done + 10_000, count))
            for request in client.requests(p4r.Update.INSERT, step, 1000):
                start = time.perf_counter()
                client.send(request)
                took.append(time.perf_counter() - start)
            done = step.stop
        result[str(count)] = (
            {
                "inserts_per_s": int(1000 * len(took) / sum(took)),
                "typical_inserts_per_s": int(1000 / median(took)),
                "rss_mib": target.resident_mib(),
            }
            if done == count
            else None
        )
    return result
