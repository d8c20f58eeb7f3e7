"""What is measured of one running target. Every number is of this machine at this hour: compare within one run."""

import subprocess
import sys
import time
from statistics import median
from typing import Any

from finsy.proto import p4r

from benchmarks.switch import wires
from benchmarks.switch.client import Client
from benchmarks.switch.targets import ADDRESS, Running
from benchmarks.switch.traffic import FLOWS, Generator, Probes, frame, percentile
from p4src import P4BLOB, P4INFO

SIZES = (64, 1400)
_TRIAL = 0.4
_LOWEST, _HIGHEST = 500.0, 400_000.0
_STEPS = 6
WRITES, WRITE_BATCH = 1000, 20
"""Updates a second, and in one request, while latency is measured."""
ELECTION = 3
PUNTED, PUNT_STEP = 12_000, 0.005
"""Frames a second that are punted, and seconds between bursts."""


class Forwarding:
    """Frames of one size through a target."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._generator = Generator([frame(number, size) for number in range(FLOWS)])

    def close(self) -> None:
        self._generator.close()

    def trial(self, rate: float, seconds: float = _TRIAL) -> tuple[int, int, float]:
        """(sent, forwarded, seconds) at a rate."""
        before = wires.settled(wires.PEERS[wires.OUT])
        sent, taken = self._generator.run(rate, seconds)
        return sent, wires.settled(wires.PEERS[wires.OUT]) - before, taken

    def saturated(self) -> int:
        """Frames forwarded a second when more come than can be; the median of three."""
        rates = []
        for _ in range(3):
            before, start = wires.settled(wires.PEERS[wires.OUT]), time.perf_counter()
            self._generator.run(float("inf"), _TRIAL)
            passed = time.perf_counter() - start
            rates.append((wires.received(wires.PEERS[wires.OUT]) - before) / passed)
            wires.settled(wires.PEERS[wires.OUT])
        return int(median(rates))

    def loss_free(self, highest: float) -> int:
        """The highest rate found at which two trials of three lose nothing, by halving the (logarithmic) interval."""
        low, high = _LOWEST, min(_HIGHEST, max(highest, 4 * _LOWEST) * 1.3)
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
        probes = Probes(self.size)
        try:
            self._generator.run(rate, seconds, probes.turn)
            wires.settled(wires.PEERS[wires.OUT])
            probes.take()
            lost = len(probes.sent) - len(probes.microseconds)
            found = probes.microseconds
            return {"p50": percentile(found, 0.5), "p99": percentile(found, 0.99), "probes_lost": lost}
        finally:
            probes.close()


def forwarding(sizes: tuple[int, ...] = SIZES) -> dict[str, dict[str, int]]:
    """Frames a second: without loss, and saturated, by size."""
    result: dict[str, dict[str, int]] = {"loss_free": {}, "saturated": {}}
    for size in sizes:
        traffic = Forwarding(size)
        result["saturated"][str(size)] = traffic.saturated()
        result["loss_free"][str(size)] = traffic.loss_free(result["saturated"][str(size)])
        traffic.close()
    return result


def latency(rate: float, target: Running) -> dict[str, Any]:
    """At half the loss-free rate; again while tables are written."""
    traffic = Forwarding(64)
    result: dict[str, Any] = {"rate": int(rate / 2), "without_writes": traffic.latency(rate / 2, 1.5)}
    if target.programmable:
        code = "from benchmarks.switch.client import write_steadily as w; import sys; "
        code += f"w({ADDRESS!r}, {ELECTION}, {str(P4INFO)!r}, {WRITES}, {WRITE_BATCH})"
        writer = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
        try:
            assert writer.stdout is not None
            writer.stdout.readline()
            result["with_writes"] = traffic.latency(rate / 2, 1.5)
        finally:
            writer.kill()
            writer.wait()
    traffic.close()
    return result


def inserts(client: Client) -> dict[str, int]:
    """Entries a second by the number in one request, into a table of FLOWS entries; they are deleted again."""
    rates = {}
    for batch, count in ((1, 300), (10, 1000), (100, 4000), (1000, 10_000)):
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
    for request in client.requests(p4r.Update.MODIFY, range(300), 1):
        start = time.perf_counter()
        client.send(request)
        took.append((time.perf_counter() - start) * 1e6)
    return {"p50": percentile(took, 0.5), "p99": percentile(took, 0.99)}


def packet_ins(client: Client) -> int:
    """Packet-ins a second that the client gets while PUNTED frames a second are punted."""
    generator = Generator([frame(0, 64, suspended=True)] * 1200)
    before, start, steps = client.packet_ins, time.perf_counter(), 0
    while steps * PUNT_STEP < 1.5:
        generator.burst(int(PUNTED * PUNT_STEP))
        steps += 1
        time.sleep(max(0.0, start + steps * PUNT_STEP - time.perf_counter()))
    rate = (client.packet_ins - before) / (time.perf_counter() - start)
    generator.close()
    end, seen = time.perf_counter() + 5, -1
    while time.perf_counter() < end and client.packet_ins != seen:
        seen = client.packet_ins
        time.sleep(0.2)
    return int(rate)


def growth(target: Running, counts: tuple[int, ...], deadline: float) -> dict[str, Any]:
    """Resident memory and insert rate (1,000 a request) as the flow table grows; stops at the deadline (monotonic)."""
    client = Client(ADDRESS, 9)
    client.configure(P4INFO, P4BLOB, flow_size=max(counts) + FLOWS)
    client.prepare()
    result: dict[str, Any] = {}
    done = 0
    for count in counts:
        seconds, first = 0.0, done
        while done < count and time.monotonic() < deadline:
            step = range(done, min(done + 10_000, count))
            requests = client.requests(p4r.Update.INSERT, step, 1000)
            start = time.perf_counter()
            for request in requests:
                client.send(request)
            seconds += time.perf_counter() - start
            done = step.stop
        whole = done == count
        result[str(count)] = (
            {"inserts_per_s": int((done - first) / seconds), "rss_mib": target.resident_mib()} if whole else None
        )
    client.close()
    return result
