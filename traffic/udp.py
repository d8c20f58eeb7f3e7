"""Numbered UDP flows in both directions: the ledger's traffic.

    python -m traffic.udp server --bind 10.0.2.2 --port 9000
    python -m traffic.udp client --server 10.0.2.2 --port 9000 --flows 10 --rate 100 --duration 5
    python -m traffic.udp settle CLIENT.json SERVER.json

The client numbers the datagrams of each flow; the server answers every one that arrives with a datagram numbered by
itself. Each side reports what it sent and the order in which the other's arrived (`SideReport`); `settle` makes the
account of both directions. A datagram that the receiving socket had no room for was not lost by the network: the kernel
counts it (SO_MEMINFO's ``drops``, the counter that SO_RXQ_OVFL shows too, but readable without a later datagram), and
the reports show it as ``kernel_drops``. A datagram's one-way latency ends when the kernel receives it (SO_TIMESTAMPNS),
not when this process gets to it; latencies compare clocks of two processes and hold on one host only.
"""

from __future__ import annotations

import argparse
import asyncio
import errno
import socket
import struct
import sys
import time
from array import array
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from splitmerge.flowkey import UDP, FlowKey
from traffic import command
from traffic.errors import TrafficInput
from traffic.ledger import Arrivals
from traffic.summary import latency
from traffic.udp_report import FlowSide, SideReport, account

_WIRE = struct.Struct("!4sIQQQ")
"""Magic, flow, number, sender's clock in nanoseconds, and (in an answer) the clock of the datagram answered."""
_MAGIC = b"SMLG"
HEADER = _WIRE.size
_SO_MEMINFO = 55
_MEMINFO = struct.Struct("=9I")
_MEMINFO_DROPS = 8
_SO_TIMESTAMPNS = 35
_TIMESPEC = struct.Struct("@ll")
_ANCILLARY = socket.CMSG_SPACE(_TIMESPEC.size)
_RECEIVE_BUFFER = 16 * 1024 * 1024
_BATCH = 64
"""Datagrams read from one socket before others get their turn."""
_LOOK = 0.02
"""Seconds between two looks at whether anything arrives."""


class _Datagram(NamedTuple):
    flow: int
    number: int
    clock: int
    echo: int


class _FlowState:
    """One flow at this side while the run lasts."""

    __slots__ = ("arrivals", "key", "last", "latencies", "longest", "sent")

    def __init__(self, key: str) -> None:
        self.key = key
        self.sent = 0
        self.arrivals = Arrivals()
        self.latencies = array("d")
        self.longest = 0.0
        self.last = 0.0

    def arrived(self, datagram: _Datagram, now: int) -> None:
        self.arrivals.record(datagram.number)
        self.latencies.append((now - datagram.clock) / 1e9)
        seconds = now / 1e9
        if self.last:
            self.longest = max(self.longest, seconds - self.last)
        self.last = seconds

    def report(self) -> FlowSide:
        return FlowSide(
            flow=self.key,
            sent=self.sent,
            arrived=self.arrivals.counts(),
            latency_ms=latency(self.latencies),
            longest_gap_ms=self.longest * 1000,
        )


async def until_quiet(heard: Callable[[], float], quiet: float, deadline: float, complete: int = 0) -> None:
    """Wait until nothing arrives for ``quiet`` seconds, or ``complete`` datagrams have; ``deadline`` at most.

    ``heard``: changes with each that arrives; their number where ``complete`` says one. The silence is counted in
    looks: a process that does not get its turn must not take that for silence. The orchestrator's `health.Awake` is for
    another question: there the clock of many that were told at different times goes on, within bounds, while nobody
    looks; here a run may end only after so many looks, however long they take, and one deadline bounds them all.
    """
    end = time.monotonic() + deadline
    silent, before = 0.0, heard()
    while silent < quiet and time.monotonic() < end and not 0 < complete <= heard():
        await asyncio.sleep(_LOOK)
        silent = silent + _LOOK if heard() == before else 0.0
        before = heard()


class _Side:
    """What both sides count."""

    def __init__(self, role: str) -> None:
        self.role = role
        self.flows: list[_FlowState] = []
        self.sockets: list[socket.socket] = []
        self.rtts = array("d")
        self.received = self.send_errors = self.malformed = 0
        self.started = time.monotonic()

    def open_socket(self, family: socket.AddressFamily) -> socket.socket:
        sock = socket.socket(family, socket.SOCK_DGRAM)
        self.sockets.append(sock)
        sock.setblocking(False)
        enlarge(sock)
        sock.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        return sock

    def parse(self, data: bytes) -> _Datagram | None:
        if len(data) < HEADER or data[:4] != _MAGIC:
            self.malformed += 1
            return None
        _, flow, number, clock, echo = _WIRE.unpack_from(data)
        return _Datagram(flow, number, clock, echo)

    def report(self) -> SideReport:
        flows = [flow.report() for flow in self.flows]
        return SideReport(
            role=self.role,
            seconds=time.monotonic() - self.started,
            sent=sum(flow.sent for flow in flows),
            received=self.received,
            kernel_drops=sum(map(kernel_drops, self.sockets)),
            send_errors=self.send_errors,
            malformed=self.malformed,
            rtt_ms=latency(self.rtts),
            latency_ms=latency([sample for flow in self.flows for sample in flow.latencies]),
            longest_gap_ms=max((flow.longest_gap_ms for flow in flows), default=0.0),
            flows=flows,
        )

    def close(self) -> None:
        for sock in self.sockets:
            sock.close()


def received_at(ancillary: Sequence[tuple[int, int, bytes]]) -> int:
    """Nanoseconds of the monotonic clock: when the kernel received a datagram; now, if it does not say."""
    now = time.monotonic_ns()
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, _SO_TIMESTAMPNS) and len(data) == _TIMESPEC.size:
            seconds, rest = _TIMESPEC.unpack(data)
            waited: int = time.time_ns() - seconds * 10**9 - rest
            return now - max(0, waited)
    return now


def enlarge(sock: socket.socket) -> None:
    """Give a socket a large receive buffer: what is measured is the network, not this process's turn on a processor."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, 33, _RECEIVE_BUFFER)  # SO_RCVBUFFORCE: beyond rmem_max, as root
    except PermissionError:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)


def kernel_drops(sock: socket.socket) -> int:
    """Datagrams that this socket had no room for (since Linux 4.12)."""
    raw = sock.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, _MEMINFO.size)
    return int(_MEMINFO.unpack(raw)[_MEMINFO_DROPS])


# -- server --------------------------------------------------------------------------------------------------------


class _Server(_Side):
    def __init__(self, size: int) -> None:
        super().__init__("server")
        self._by_peer: dict[tuple[object, int], _FlowState] = {}
        self._pad = bytes(max(0, size - HEADER))

    def readable(self, sock: socket.socket) -> None:
        for _ in range(_BATCH):
            try:
                data, stamp, _, peer = sock.recvmsg(65536, _ANCILLARY)
            except BlockingIOError:
                return
            datagram = self.parse(data)
            if datagram is not None:
                self._answer(sock, peer, datagram, received_at(stamp))

    def _answer(self, sock: socket.socket, peer: tuple[str, int], datagram: _Datagram, now: int) -> None:
        flow = self._by_peer.get((peer, datagram.flow))
        if flow is None:
            flow = self._by_peer[peer, datagram.flow] = _FlowState(_key(sock.getsockname(), peer))
            self.flows.append(flow)
        self.received += 1
        flow.arrived(datagram, now)
        wire = _WIRE.pack(_MAGIC, datagram.flow, flow.sent + 1, time.monotonic_ns(), datagram.clock) + self._pad
        try:
            sock.sendto(wire, peer)
        except OSError:
            # Never counted as sent, so the account stays exact; the client sees one answer less.
            self.send_errors += 1
            return
        flow.sent += 1


async def serve(bind: str, port: int, control: command.Control, *, size: int = 0, quiet: float = 0.3) -> SideReport:
    """Answer until told to stop, then until it has been quiet. Port 0 takes a free one."""
    side = _Server(size)
    loop = asyncio.get_running_loop()
    sock = side.open_socket(_family(bind))
    try:
        sock.bind((bind, port))
        loop.add_reader(sock.fileno(), side.readable, sock)
        address = sock.getsockname()
        control.ready(address[0], address[1])
        while not await control.stop_within(1.0):
            control.progress(f"{side.received} received")
        await until_quiet(lambda: side.received, quiet, deadline=5.0)
        loop.remove_reader(sock.fileno())
        return side.report()
    finally:
        side.close()


# -- client --------------------------------------------------------------------------------------------------------


class _Client(_Side):
    def __init__(self, server: tuple[str, int], flows: int, size: int) -> None:
        super().__init__("client")
        self._pad = bytes(max(0, size - HEADER))
        for _ in range(flows):
            sock = self.open_socket(_family(server[0]))
            sock.connect(server)
            self.flows.append(_FlowState(_key(sock.getsockname(), sock.getpeername())))

    def readable(self, number: int) -> None:
        sock, flow = self.sockets[number], self.flows[number]
        for _ in range(_BATCH):
            try:
                data, stamp, _, _ = sock.recvmsg(65536, _ANCILLARY)
            except BlockingIOError:
                return
            except (
                ConnectionRefusedError
            ):  # an ICMP error for an earlier datagram: that one is lost, and counts as such
                continue
            datagram = self.parse(data)
            if datagram is None:
                continue
            now = received_at(stamp)
            self.received += 1
            flow.arrived(datagram, now)
            self.rtts.append((now - datagram.echo) / 1e9)

    def send(self, number: int) -> bool:
        """Send the flow's next datagram; False if the kernel has no room now."""
        flow = self.flows[number]
        wire = _WIRE.pack(_MAGIC, number, flow.sent + 1, time.monotonic_ns(), 0) + self._pad
        try:
            self.sockets[number].send(wire)
        except OSError as error:
            self.send_errors += 1
            if error.errno in (errno.EAGAIN, errno.ENOBUFS, errno.ECONNREFUSED):
                return False
            raise
        flow.sent += 1
        return True


async def run_client(
    server: tuple[str, int],
    control: command.Control,
    *,
    flows: int = 10,
    rate: float = 100.0,
    count: int = 0,
    size: int = 64,
    quiet: float = 2.0,
    deadline: float = 5.0,
) -> SideReport:
    """Send ``rate`` datagrams a second of ``size`` bytes on each flow, ``count`` on each or until told to stop.

    Then wait for the answers: until all have come, or none has for ``quiet`` seconds, or ``deadline`` has passed.
    :raises TrafficInput: for a number that makes no sense.
    """
    if flows < 1 or rate <= 0 or count < 0 or not HEADER <= size <= 65_000:
        raise TrafficInput("udp client", "flows, rate, count or size", f"flows ≥ 1, rate > 0, size {HEADER} to 65000")
    side = _Client(server, flows, size)
    loop = asyncio.get_running_loop()
    for number, sock in enumerate(side.sockets):
        loop.add_reader(sock.fileno(), side.readable, number)
    try:
        control.ready(*side.sockets[0].getsockname()[:2])
        await _send_all(side, control, flows * rate, flows * count)
        complete = sum(flow.sent for flow in side.flows)
        await until_quiet(lambda: side.received, quiet, deadline, complete)
        for sock in side.sockets:
            loop.remove_reader(sock.fileno())
        return side.report()
    finally:
        side.close()


async def _send_all(side: _Client, control: command.Control, rate: float, count: int) -> None:
    """Flows take turns, evenly spread; what is late is sent at once."""
    started, sent, shown = time.monotonic(), 0, 0.0
    while not control.stopped.is_set() and (not count or sent < count):
        now = time.monotonic() - started
        due = min(int(now * rate) + 1, sent + _BATCH)
        while sent < (min(due, count) if count else due) and side.send(sent % len(side.flows)):
            sent += 1
        if now - shown >= 1.0:
            shown = now
            control.progress(f"{sent} sent, {side.received} received")
        # 1 ms at least: timers are no finer, and the sockets must be read
        await control.stop_within(max(sent / rate - (time.monotonic() - started), 0.001 if sent < due else 0.0))


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def _key(here: tuple[str, int], there: tuple[str, int]) -> str:
    family = _family(here[0])
    ours, theirs = (socket.inet_pton(family, each[0].partition("%")[0]) for each in (here, there))
    return str(FlowKey.of(UDP, ours, here[1], theirs, there[1]))


# -- command -------------------------------------------------------------------------------------------------------


async def _main(options: argparse.Namespace, control: command.Control) -> msgspec.Struct:
    if options.role == "server":
        return await serve(options.bind, options.port, control, size=options.size, quiet=options.quiet)
    if options.role == "client":
        return await run_client(
            (options.server, options.port),
            control,
            flows=options.flows,
            rate=options.rate,
            count=options.count,
            size=options.size,
            quiet=options.quiet,
            deadline=options.deadline,
        )
    return account(_read(options.client), _read(options.server))


def _read(path: Path) -> SideReport:
    try:
        return msgspec.json.decode(path.read_bytes(), type=SideReport)
    except msgspec.DecodeError as error:
        raise TrafficInput(str(path), str(error), "the JSON that a traffic.udp command printed") from None


def main() -> int:
    """The command."""
    parser = command.parser("udp", "numbered UDP flows in both directions")
    roles = parser.add_subparsers(dest="role", required=True)
    server = command.add_role(roles, "server")
    server.add_argument("--bind", default="127.0.0.1", metavar="ADDRESS")
    server.add_argument("--port", type=int, default=9000)
    server.add_argument("--size", type=int, default=64, help="bytes of an answer's payload")
    server.add_argument("--quiet", type=float, default=0.3, help="seconds without arrivals before the report")
    client = command.add_role(roles, "client")
    client.add_argument("--server", required=True, metavar="ADDRESS")
    client.add_argument("--port", type=int, default=9000)
    client.add_argument("--flows", type=int, default=10)
    client.add_argument("--rate", type=float, default=100.0, help="datagrams a second on each flow")
    client.add_argument(
        "--count", type=int, default=0, help="datagrams on each flow, then end (default: until stopped)"
    )
    client.add_argument("--size", type=int, default=64, help="bytes of payload")
    client.add_argument("--quiet", type=float, default=2.0, help="seconds without arrivals before the rest is lost")
    client.add_argument("--deadline", type=float, default=5.0, help="longest wait for the last answers")
    settled = command.add_role(roles, "settle")
    settled.add_argument("client", type=Path)
    settled.add_argument("server", type=Path)
    return command.run(_main, parser.parse_args())


if __name__ == "__main__":
    sys.exit(main())
