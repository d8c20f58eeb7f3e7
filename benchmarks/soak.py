"""A day of packets: a hundred million through the native back end, every one accounted for, memory flat.

    python -m benchmarks.soak [--packets 100_000_000] [--limit-mib 4]

The project's own program with 10,000 flow entries (IPv4 and IPv6) gets batches in memory: both directions of known
flows, frames from replicas, flows that nobody knows, and frames that are damaged. Between any two batches a table
changes: flows move to the other replica, are suspended, deleted, and come back. What must become of each packet is
known beforehand, and compared with what comes out of each batch, by port, and with the program's own counter of
drops, by reason.

Prints progress and resident memory every 5 %. Exit status 1 if a packet is not accounted for, or if memory grew by more
than the limit after the first tenth.
"""

import argparse
import os
import random
import struct
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from p4src import CPU_CLONE_SESSION, CPU_PORT, P4BLOB, DropReason
from p4switch.load import load_program
from p4switch.native import NativeDevice
from p4switch.native.layout import Control, Output
from p4switch.runtime import ActionCall, CloneSession, Replica
from p4switch.runtime.hashes import csum16

CLIENTS, SERVERS, LEFT, RIGHT = 1, 2, 11, 12
"""Ports: two of hosts, two of replicas."""
REPLICAS = {LEFT: 7, RIGHT: 8}
FLOWS, BATCHES, REPEATS = 10_000, 20, 8
WARM = 0.1
STEPS = 20
_PREFIX = "SplitmergeIngress."
_DROPS = _PREFIX + "drop_count.drops"
_HOSTS = {
    4: (bytes([10, 0, 1, 2]), bytes([10, 0, 2, 2])),
    6: (bytes.fromhex("fd000001" + "0" * 23 + "2"), bytes.fromhex("fd000002" + "0" * 23 + "2")),
}
_ETHERNET = {4: bytes.fromhex("0200000000fe 020000000102 0800"), 6: bytes.fromhex("0200000000fe 020000000102 86dd")}


def dropped(reason: DropReason) -> int:
    """The fate of a packet that is dropped. That of another is the port it leaves by."""
    return -int(reason)


@dataclass(frozen=True, slots=True)
class Flow:
    """A UDP flow between the two hosts."""

    number: int

    @property
    def version(self) -> int:
        """Every fifth is IPv6."""
        return 6 if self.number % 5 == 0 else 4

    @property
    def ports(self) -> tuple[int, int]:
        """Of the client and the server."""
        return 1024 + self.number % 50_000, 5000 + self.number // 50_000

    @property
    def table(self) -> str:
        """Where its entry is."""
        return f"{_PREFIX}flow.flow_v{self.version}"

    @property
    def key(self) -> tuple[int, ...]:
        """Of its entry: the client's address is the lower one."""
        low, high = (int.from_bytes(address) for address in _HOSTS[self.version])
        return low, high, *self.ports, 17

    def frame(self, *, reply: bool = False, size: int = 0) -> bytes:
        """One of its packets; ``size`` more bytes of payload."""
        addresses, ports = _HOSTS[self.version], self.ports
        if reply:
            addresses, ports = addresses[::-1], ports[::-1]
        body = struct.pack("!HHHH", *ports, 8 + size, 0) + bytes(size)
        if self.version == 6:
            return _ETHERNET[6] + struct.pack("!IHBB", 6 << 28, len(body), 17, 64) + b"".join(addresses) + body
        head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), 1, 0, 64, 17, 0) + b"".join(addresses)
        head = head[:10] + struct.pack("!H", csum16(int.from_bytes(head), 160)) + head[12:]
        return _ETHERNET[4] + head + body


@dataclass
class Batch:
    """Frames with their ports, and what becomes of them: how many have which fate (a port, or minus a drop reason)."""

    frames: list[tuple[int, bytes]] = field(default_factory=list)
    fates: Counter[int] = field(default_factory=Counter)

    def add(self, port: int, frame: bytes, fate: int) -> None:
        """One more frame."""
        self.frames.append((port, frame))
        self.fates[fate] += 1


class Soak:
    """The device, its traffic, and the books."""

    def __init__(self, seed: int = 1) -> None:
        self.device = NativeDevice(load_program(P4BLOB.read_bytes()))
        self.packets = 0
        self.changes = 0
        self.expected: Counter[int] = Counter()
        self.seen: Counter[int] = Counter()
        self._random = random.Random(seed)
        self._fates = {number: self._random.choice((LEFT, RIGHT)) for number in range(FLOWS)}
        self.batches = [Batch() for _ in range(BATCHES)]
        self._fill()
        for number, batch in enumerate(self.batches):
            self._write(number, batch)

    # -- before ------------------------------------------------------------------------------------------------------

    def _fill(self) -> None:
        tables, state = self.device.state.tables, self.device.state
        with state.lock:
            for port in (CLIENTS, SERVERS):
                tables[_PREFIX + "port_roles.port_role"].insert((port,), _call("port_roles.set_host"))
            for port, replica in REPLICAS.items():
                role = _call("port_roles.set_replica", replica)
                tables[_PREFIX + "port_roles.port_role"].insert((port,), role)
                tables[_PREFIX + "replicas.replica"].insert((replica,), _call("replicas.to_replica", port))
            state.clone_sessions.insert(CPU_CLONE_SESSION, CloneSession((Replica(CPU_PORT),)))
            for version, (_, server) in _HOSTS.items():
                route = _call("route.forward", SERVERS, 0x0200000000FE, 0x020000000202)
                whole = (int.from_bytes(server), 8 * len(server))
                tables[f"{_PREFIX}route.route_v{version}"].insert((whole,), route)
            for number, port in self._fates.items():
                flow = Flow(number)
                tables[flow.table].insert(flow.key, _action(port))

    def _write(self, number: int, batch: Batch) -> None:
        """A thousand frames: both directions of this batch's share of the flows, and all that is not forwarded."""
        for flow in map(Flow, range(number, FLOWS, BATCHES)):
            reply = flow.number % 2 == 0
            frame = flow.frame(reply=reply, size=(0, 18, 500, 1400)[flow.number % 4])
            batch.add(SERVERS if reply else CLIENTS, frame, self._fates[flow.number])
        strangers = [Flow(FLOWS + number * 80 + i) for i in range(80)]
        for index, flow in enumerate(strangers):
            frame = flow.frame(size=22)
            batch.add(CLIENTS, frame, dropped(DropReason.NO_BUCKET))
            batch.add(CLIENTS, frame[: 14 + index % 20], dropped(DropReason.MALFORMED))
            batch.add(99, frame, dropped(DropReason.UNKNOWN_PORT))
        for index in range(75):
            broken = bytearray(Flow(FLOWS + 1).frame(size=22))
            broken[24] ^= 1 + index
            batch.add(CLIENTS, bytes(broken), dropped(DropReason.BAD_CHECKSUM))
            batch.add(LEFT, Flow(FLOWS + index).frame(reply=True), dropped(DropReason.NO_ROUTE))
            batch.add(RIGHT, Flow(index).frame(), SERVERS)
        self._random.shuffle(batch.frames)

    # -- during ------------------------------------------------------------------------------------------------------

    def run(self, packets: int) -> None:
        """At least so many more packets, in whole batches."""
        end = self.packets + packets
        while self.packets < end:
            self._turn(self.batches[self._random.randrange(BATCHES)], end)

    def _turn(self, batch: Batch, end: int) -> None:
        step = self.device.prepared_batch(batch.frames)
        for _ in range(REPEATS):
            self.packets += step()
            self.expected.update(batch.fates)
            self.seen.update(self._outputs())
            if self.packets >= end:
                return
            self._change()

    def _outputs(self) -> Counter[int]:
        """How many packets of the last batch left by which port."""
        layout, region = self.device.state.layout, self.device.state.region
        count = region.words[(layout.control + Control.OUTPUT_COUNT) // 8]
        start = layout.outputs + Output.PORT
        return Counter(region.bytes[start : start + count * Output.SIZE].cast("I")[:: Output.SIZE // 4].tolist())

    def _change(self) -> None:
        """Another fate for one flow."""
        number = self._random.randrange(FLOWS)
        old = self._fates[number]
        gone = dropped(DropReason.NO_BUCKET)
        new = self._random.choice([fate for fate in (LEFT, RIGHT, CPU_PORT, gone) if fate != old])
        flow = Flow(number)
        with self.device.state.lock:
            table = self.device.state.tables[flow.table]
            if new == gone:
                table.delete(flow.key)
            elif old == gone:
                table.insert(flow.key, _action(new))
            else:
                table.modify(flow.key, _action(new))
        self._fates[number] = new
        self.changes += 1
        fates = self.batches[number % BATCHES].fates
        fates[old] -= 1
        fates[new] += 1

    # -- after -------------------------------------------------------------------------------------------------------

    def found(self) -> Counter[int]:
        """What became of all packets so far, as the device says."""
        counts = self.device.state.counters[_DROPS].packets
        found = Counter(self.seen)
        for reason in DropReason:
            if reason is not DropReason.PUNTED:
                found[dropped(reason)] += counts[reason]
        return +found

    def unaccounted(self) -> int:
        """Packets that are not where they should be; 0 is right."""
        found, expected = self.found(), +self.expected
        wrong = sum(abs(found[fate] - expected[fate]) for fate in found.keys() | expected.keys())
        punted = self.device.state.counters[_DROPS].packets[DropReason.PUNTED]
        return wrong + abs(punted - expected[CPU_PORT]) + abs(self.packets - found.total())


def _call(name: str, *args: int) -> ActionCall:
    return ActionCall(_PREFIX + name, args)


def _action(fate: int) -> ActionCall:
    """Of a flow's entry."""
    return _call("flow.steer", REPLICAS.get(fate, REPLICAS[LEFT]), int(fate == CPU_PORT))


def resident_mib() -> float:
    """Memory of this process that is there, in MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


def soak(packets: int, limit_mib: float) -> int:
    """Run it all; the exit status."""
    run = Soak()
    started = time.perf_counter()
    warm = 0.0
    for step in range(1, STEPS + 1):
        run.run(packets * step // STEPS - run.packets)
        memory = resident_mib()
        if step <= STEPS * WARM:
            warm = memory
        seconds = time.perf_counter() - started
        print(
            f"{100 * step // STEPS:3} %  {run.packets:13,} packets  {run.packets / seconds / 1e6:5.2f} M/s"
            f"  {run.changes:9,} changes  {memory:7.1f} MiB ({memory - warm:+.2f})  {run.unaccounted()} unaccounted",
            flush=True,
        )
    return _verdict(run, resident_mib() - warm, limit_mib)


def _verdict(run: Soak, growth: float, limit_mib: float) -> int:
    found = run.found()
    for fate in sorted(found, reverse=True):
        what = f"port {fate}" if fate >= 0 else DropReason(-fate).name.lower()
        print(f"{what:16} {found[fate]:13,}")
    failures = []
    if run.unaccounted():
        failures.append(f"{run.unaccounted()} packets are not accounted for")
    if growth > limit_mib:
        failures.append(f"memory grew by {growth:.2f} MiB after the first tenth, more than {limit_mib:g}")
    for failure in failures:
        sys.stderr.write(f"error: {failure}\n")
    return int(bool(failures))


def main() -> int:
    """As the module says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--packets", type=int, default=100_000_000)
    parser.add_argument("--limit-mib", type=float, default=4.0)
    given = parser.parse_args()
    return soak(given.packets, given.limit_mib)


if __name__ == "__main__":
    sys.exit(main())
