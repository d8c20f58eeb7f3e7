"""UDP streams one way, on a schedule, and what their receiver sees over time.

    python -m traffic.streams receive --bind 10.0.2.2 --port 9100 --bin 0.5
    python -m traffic.streams send --server 10.0.2.2 --port 9100 --flows 101 --rate 5 --size 1250 --every 0.5

Flow n is sent from port ``--first-port`` + n, so that anybody can tell its key; it begins n × ``--every`` seconds after
the start, at a phase of its own, as if each came from a program of its own. With ``--orders`` flows end when a line on
the sender's standard input says so: JSON, ``[[flow, seconds from now], …]``. The receiver keeps a figure for each bin
of time, not each packet; times are CLOCK_MONOTONIC, which processes of one host share, in seconds.
"""

from __future__ import annotations

import argparse
import asyncio
import heapq
import os
import random
import socket
import struct
import sys
import time
from dataclasses import dataclass, field

import msgspec

from traffic import command
from traffic.errors import TrafficInput
from traffic.ledger import Arrivals, Counts, Tally, settle, total
from traffic.udp import enlarge, kernel_drops, until_quiet

_WIRE = struct.Struct("!4sIQQ")
"""Magic, flow, number, sender's clock in nanoseconds."""
_MAGIC = b"SMst"
HEADER = _WIRE.size
OVERHEAD = 28
"""Bytes of IPv4 and UDP headers."""
_BATCH = 64
"""Datagrams read, or sent, before others get their turn."""
_STEP = 0.001
"""Seconds of the shortest sleep: timers are no finer."""
_LINE = 1 << 20


class Sent(msgspec.Struct, frozen=True, kw_only=True):
    """The sender's report."""

    started: float
    """When the first flow began."""
    sent: list[int]
    """Datagrams by flow."""
    late: int
    """Datagrams that left more than 50 ms after their time: the sender had no processor."""
    send_errors: int


class Bin(msgspec.Struct, frozen=True, array_like=True):
    """What arrived in one bin of time."""

    at: float
    """Its beginning."""
    packets: int
    bytes: int
    """Of payload."""
    mean_ms: float
    max_ms: float
    """One way latency of what arrived in it."""


class Received(msgspec.Struct, frozen=True, kw_only=True):
    """The receiver's report."""

    width: float
    bins: list[Bin]
    """Those in which something arrived, in order."""
    flows: dict[int, Counts]
    kernel_drops: int
    malformed: int


def account(sent: Sent, received: Received) -> Tally:
    """What became of every datagram. :raises LedgerError: if the reports are not of one run."""
    nothing = Counts()
    return total(settle(count, received.flows.get(flow, nothing)) for flow, count in enumerate(sent.sent))


# -- receiver ------------------------------------------------------------------------------------------------------


class _Receiver:
    """Counts by bin and flow."""

    def __init__(self, width: float) -> None:
        self._width = round(width * 1e9)
        self.bins: dict[int, list[int]] = {}
        self.flows: dict[int, Arrivals] = {}
        self.malformed = 0
        self.last = time.monotonic()

    def readable(self, sock: socket.socket) -> None:
        for _ in range(_BATCH):
            try:
                data = sock.recv(65536)
            except BlockingIOError:
                return
            self.take(data, time.monotonic_ns())

    def take(self, data: bytes, now: int) -> None:
        """One datagram arrived at ``now`` (nanoseconds)."""
        if len(data) < HEADER or data[:4] != _MAGIC:
            self.malformed += 1
            return
        _, flow, number, clock = _WIRE.unpack_from(data)
        arrivals = self.flows.get(flow)
        if arrivals is None:
            arrivals = self.flows[flow] = Arrivals()
        arrivals.record(number)
        self.last = now / 1e9
        latency = now - clock
        place = now // self._width
        found = self.bins.get(place)
        if found is None:
            found = self.bins[place] = [0, 0, 0, 0]
        found[0] += 1
        found[1] += len(data)
        found[2] += latency
        found[3] = max(found[3], latency)

    def report(self, drops: int) -> Received:
        bins = [
            Bin(place * self._width / 1e9, packets, octets, latency / packets / 1e6, most / 1e6)
            for place, (packets, octets, latency, most) in sorted(self.bins.items())
        ]
        flows = {flow: arrivals.counts() for flow, arrivals in sorted(self.flows.items())}
        return Received(width=self._width / 1e9, bins=bins, flows=flows, kernel_drops=drops, malformed=self.malformed)


async def receive(bind: str, port: int, control: command.Control, *, width: float, quiet: float = 1.0) -> Received:
    """Count until told to stop, then until nothing comes for ``quiet`` seconds (five seconds at most)."""
    if not width > 0:
        raise TrafficInput("--bin", f"{width}", "more than 0 seconds")
    side = _Receiver(width)
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        enlarge(sock)
        sock.bind((bind, port))
        loop.add_reader(sock.fileno(), side.readable, sock)
        control.ready(*sock.getsockname()[:2])
        await control.stopped.wait()
        await until_quiet(lambda: side.last, quiet, deadline=5.0)
        loop.remove_reader(sock.fileno())
        return side.report(kernel_drops(sock))


# -- sender --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class SendOptions:
    """One run; rates in datagrams a second a flow, times in seconds."""

    server: str
    port: int
    flows: int = 1
    rate: float = 100.0
    size: int = 1250
    every: float = 0.0
    first_port: int = 20_000
    seed: int = 1
    at: float = 0.0
    """CLOCK_MONOTONIC of the start; 0: at once."""
    poisson: bool = False
    """Intervals between a flow's datagrams are exponential, not all the same."""
    orders: bool = False
    """Read orders from standard input."""

    def __post_init__(self) -> None:
        if self.flows < 1 or not self.rate > 0 or self.every < 0 or not HEADER <= self.size <= 65_000:
            remedy = f"flows ≥ 1, rate > 0, every ≥ 0, size {HEADER} to 65000"
            raise TrafficInput("streams send", "flows, rate, every or size", remedy)
        if not 1024 <= self.first_port <= 65_536 - self.flows:
            raise TrafficInput("--first-port", f"{self.first_port}", f"1024 to {65_536 - self.flows}")


@dataclass(slots=True)
class _Sender:
    """All flows: a heap of what is due next."""

    options: SendOptions
    sockets: list[socket.socket]
    started: float
    rng: random.Random = field(default_factory=random.Random)
    sent: list[int] = field(default_factory=list)
    ends: dict[int, float] = field(default_factory=dict)
    late: int = 0
    send_errors: int = 0
    due: list[tuple[float, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        options = self.options
        rng = self.rng = random.Random(f"{options.seed}/phases")
        self.sent = [0] * options.flows
        self.due = [
            (self.started + flow * options.every + rng.random() / options.rate, flow) for flow in range(options.flows)
        ]
        heapq.heapify(self.due)

    def send_due(self, now: float) -> None:
        """Send what is due by now, `_BATCH` at most."""
        pad = bytes(self.options.size - HEADER)
        for _ in range(_BATCH):
            if not self.due or self.due[0][0] > now:
                return
            when, flow = self.due[0]
            if when >= self.ends.get(flow, when + 1):
                heapq.heappop(self.due)
                continue
            self.late += now - when > 0.05
            self._send(flow, pad)
            heapq.heapreplace(self.due, (when + self._interval(), flow))

    def _interval(self) -> float:
        rate = self.options.rate
        return self.rng.expovariate(rate) if self.options.poisson else 1 / rate

    def _send(self, flow: int, pad: bytes) -> None:
        try:
            self.sockets[flow].send(_WIRE.pack(_MAGIC, flow, self.sent[flow] + 1, time.monotonic_ns()) + pad)
        except OSError:  # no room, or an ICMP error for an earlier one: not counted as sent
            self.send_errors += 1
            return
        self.sent[flow] += 1

    def order(self, line: bytes, now: float) -> None:
        """Flows that are to end. :raises TrafficInput: for what is no such line."""
        try:
            pairs = msgspec.json.decode(line, type=list[tuple[int, float]])
        except msgspec.DecodeError as error:
            raise TrafficInput("standard input", str(error), "[[flow, seconds from now], …]") from None
        self.ends.update((flow, now + seconds) for flow, seconds in pairs)


async def send(options: SendOptions, control: command.Control) -> Sent:
    """Send until told to stop, or until every flow has ended. :raises TrafficInput: for a bad order."""
    sockets: list[socket.socket] = []
    loop = asyncio.get_running_loop()
    try:
        for flow in range(options.flows):
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sockets.append(sock)
            sock.setblocking(False)
            sock.bind(("", options.first_port + flow))
            sock.connect((options.server, options.port))
        control.ready(*sockets[0].getsockname()[:2])
        await control.stop_within(options.at - time.monotonic() if options.at else 0.0)
        side = _Sender(options, sockets, time.monotonic())
        orders = _Orders()
        if options.orders:
            loop.add_reader(sys.stdin.fileno(), orders.readable)
        await _send_all(side, orders, control)
        return Sent(started=side.started, sent=side.sent, late=side.late, send_errors=side.send_errors)
    finally:
        if options.orders:
            loop.remove_reader(sys.stdin.fileno())
        for sock in sockets:
            sock.close()


async def _send_all(side: _Sender, orders: _Orders, control: command.Control) -> None:
    while side.due and not control.stopped.is_set():
        now = time.monotonic()
        for line in orders.take():
            side.order(line, now)
        side.send_due(now)
        wait = side.due[0][0] - time.monotonic() if side.due else 0.0
        await control.stop_within(min(max(wait, _STEP if wait > 0 else 0.0), 0.1))


class _Orders:
    """Whole lines of standard input."""

    def __init__(self) -> None:
        self._begun = b""
        self._lines: list[bytes] = []

    def readable(self) -> None:
        data = os.read(sys.stdin.fileno(), _LINE)
        if not data:
            asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
        *whole, self._begun = (self._begun + data).split(b"\n")
        self._lines += whole
        if len(self._begun) > _LINE:
            raise TrafficInput("standard input", f"a line longer than {_LINE} bytes", "[[flow, seconds from now], …]")

    def take(self) -> list[bytes]:
        """The lines since the last call."""
        lines, self._lines = self._lines, []
        return lines


# -- command -------------------------------------------------------------------------------------------------------


async def _main(options: argparse.Namespace, control: command.Control) -> msgspec.Struct:
    if options.role == "receive":
        return await receive(options.bind, options.port, control, width=options.bin)
    return await send(command.options_of(SendOptions, options), control)


def main() -> int:
    """The command."""
    parser = command.parser("streams", "UDP streams one way, on a schedule, and what is seen of them over time")
    roles = parser.add_subparsers(dest="role", required=True)
    receiver = command.add_role(roles, "receive")
    receiver.add_argument("--bind", default="127.0.0.1", metavar="ADDRESS")
    receiver.add_argument("--port", type=int, default=9100)
    receiver.add_argument("--bin", type=float, default=0.5, help="seconds that one figure stands for")
    sender = command.add_role(roles, "send")
    sender.add_argument("--server", required=True, metavar="ADDRESS")
    sender.add_argument("--port", type=int, default=9100)
    sender.add_argument("--flows", type=int, default=1)
    sender.add_argument("--rate", type=float, default=100.0, help="datagrams a second on each flow")
    sender.add_argument("--size", type=int, default=1250, help="bytes of payload")
    sender.add_argument("--every", type=float, default=0.0, help="seconds between two flows' beginnings")
    sender.add_argument("--first-port", type=int, default=20_000, help="source port of the first flow")
    sender.add_argument("--seed", type=int, default=1, help="of the flows' phases")
    sender.add_argument("--at", type=float, default=0.0, help="begin at this time of CLOCK_MONOTONIC (default: now)")
    sender.add_argument("--poisson", action="store_true", help="exponential intervals, as of many senders")
    sender.add_argument("--orders", action="store_true", help="flows end as standard input says")
    return command.run(_main, parser.parse_args())


if __name__ == "__main__":
    sys.exit(main())
