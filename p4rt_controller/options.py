"""What the controller is told: frozen, checked where it is made."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from finsy import GRPCCredentialsTLS

from p4rt_controller import bmv2
from splitmerge.errors import BadInput

Assignment = Literal["hash", "least-loaded", "round-robin"]
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_MAC = re.compile(r"[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}")
_PORTS = range(512)
"""A port is 9 bits in v1model."""


def parse_mac(where: str, text: str) -> bytes:
    """The six bytes of ``02:00:00:00:00:fe``. :raises BadInput: naming ``where``."""
    if not _MAC.fullmatch(text):
        raise BadInput(where, f"{text!r} is no MAC address", "write six hexadecimal pairs, 02:00:00:00:00:fe")
    return bytes.fromhex(text.replace(":", ""))


@dataclass(frozen=True, slots=True)
class Route:
    """Packets to ``network`` leave through ``port`` with these MAC addresses (bytes, 6 each)."""

    network: Network
    port: int
    src_mac: bytes
    dst_mac: bytes

    def __post_init__(self) -> None:
        _check_port(f"route {self.network}", self.port)
        _check_mac(f"route {self.network}, source", self.src_mac)
        _check_mac(f"route {self.network}, destination", self.dst_mac)

    @classmethod
    def parse(cls, network: str, port: int, src_mac: str, dst_mac: str) -> Route:
        """From text. :raises BadInput: for a network with host bits, an unknown address form, a wrong MAC or port."""
        try:
            parsed = ipaddress.ip_network(network)
        except ValueError as error:
            raise BadInput(f"route {network!r}", str(error), "write address/length, 10.0.1.0/24") from None
        where = f"route {network}"
        return cls(parsed, port, parse_mac(where, src_mac), parse_mac(where, dst_mac))


@dataclass(frozen=True, slots=True)
class AddressReply:
    """The switch answers ARP requests or neighbour solicitations for ``address`` with ``mac`` (6 bytes)."""

    address: Address
    mac: bytes

    def __post_init__(self) -> None:
        _check_mac(f"address {self.address}", self.mac)

    @classmethod
    def parse(cls, address: str, mac: str) -> AddressReply:
        """From text. :raises BadInput: for anything that is no IP address and MAC."""
        try:
            parsed = ipaddress.ip_address(address)
        except ValueError as error:
            raise BadInput(f"address {address!r}", str(error), "write an IPv4 or IPv6 address") from None
        return cls(parsed, parse_mac(f"address {address}", mac))


@dataclass(frozen=True, slots=True)
class PuntPort:
    """Packet-ins and packet-outs pass through switch port ``port``, wired to ``interface`` of this host."""

    interface: str
    """Name, in the controller's network namespace. Its MTU, and the port's, must exceed those of the other ports by
    `p4rt_controller.frames.HEADROOM` bytes."""
    port: int = 509
    ring_bytes: int = 32 * 1024 * 1024
    """Room for frames that the controller has not taken yet; at an MTU below 1,920 a frame takes 2 KiB."""

    def __post_init__(self) -> None:
        if not 0 < len(self.interface.encode()) < 16 or "/" in self.interface or " " in self.interface:
            raise BadInput("punt", f"{self.interface!r} names no interface", "see `ip link`")
        if not 1 <= self.port <= 509:
            raise BadInput("punt", f"port {self.port}", "1..509")
        if self.ring_bytes < 1:
            raise BadInput("punt", f"ring of {self.ring_bytes} bytes", "at least 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class ControllerOptions:
    """One switch and how to run it. :raises BadInput: at construction, naming the field."""

    address: str
    """gRPC target of the switch, ``127.0.0.1:9559`` or ``unix:/path``."""
    p4info: Path
    """P4Info in text form."""
    p4blob: Path
    """The JSON that p4c made for BMv2."""
    device_id: int = 1
    """P4Runtime device id."""
    cpu_port: int = 510
    """Port number through which clones reach the controller over P4Runtime."""
    punt: PuntPort | None = None
    """Where clones go instead, and packet-outs come from: an Ethernet port; None for P4Runtime's packet-ins."""
    clone_session: int = 1
    """Clone session that the P4 program uses."""
    host_ports: tuple[int, ...] = ()
    """Switch ports with clients or servers; every other known port belongs to a replica."""
    routes: tuple[Route, ...] = ()
    """Where packets that replicas send go, longest prefix first."""
    addresses: tuple[AddressReply, ...] = ()
    """Addresses of the middlebox for which the switch answers ARP and neighbour solicitations."""
    trunk_ports: tuple[int, ...] = ()
    """Switch ports that lead to other switches of this kind."""
    number: int = 0
    """This switch's own number among several (from `scopes.FIRST_SWITCH` on); 0: it is the only one."""
    beyond: tuple[tuple[int, int], ...] = ()
    """(number of another switch, trunk port that leads there), one for each."""
    assignment: Assignment = "hash"
    """``hash``: buckets have owners; else every new flow is reported (`NewFlow`) and waits for `resume`."""
    credentials: GRPCCredentialsTLS | None = None
    """TLS towards the switch; None for plain text."""

    buffer_packets: int = 262_144
    """Packets of suspended flows kept, all moves together; more are dropped (tail drop) and counted."""
    buffer_bytes: int = 256 * 1024 * 1024
    """Bytes of suspended flows kept."""
    move_packets: int = 131_072
    """Of these, packets kept for one move: a flood at one leaves room to the others."""
    move_bytes: int = 128 * 1024 * 1024
    """Bytes kept for one move."""
    new_flow_packets: int = 16_384
    """Packets kept of flows that nobody owns yet."""
    new_flow_bytes: int = 16 * 1024 * 1024
    """Bytes kept of flows that nobody owns yet."""
    orphan_packets: int = 16_384
    """Packets kept of flows that are suspended in the switch without a move known here."""
    orphan_bytes: int = 16 * 1024 * 1024
    """Bytes kept of such flows."""
    orphan_seconds: float = 30.0
    """Packets of flows nobody owns, or without a move, are dropped (and counted) after this long."""

    relay_window: int = bmv2.RELAY_WINDOW
    """Relayed packets on their way to a replica and not acknowledged, per move."""
    relay_retry: float = 0.1
    """Seconds without an acknowledgement until relayed packets are sent again; doubles up to 8 times this."""
    relay_deadline: float = 10.0
    """Seconds without any progress until `resume` gives up."""
    relay_total: float = 60.0
    """Seconds of delivery after which what has not been sent yet is dropped, and counted, and END follows."""
    marker_retry: float = 0.1
    """Seconds until a marker that has not come back is sent again; doubles up to 8 times this."""
    marker_deadline: float = 10.0
    """Seconds for a marker's way back until `drain` or `resume` gives up."""

    ready_deadline: float = 10.0
    """Seconds that an operation waits for a switch that is away."""
    rpc_deadline: float = 10.0
    """Seconds for one write, or for one message of a read."""
    read_deadline: float = 60.0
    """Seconds for reading a whole table."""
    batch: int = 1000
    """Table updates in one request."""
    flow_idle_seconds: float = 0.0
    """A flow entry without packets this long is reported (`FlowIdle`); 0 = never."""

    election_id: int = 100
    """First election id; grows with every connection and every bid."""
    reclaim: bool = True
    """Bid again, higher, when another client became primary; else wait until it leaves."""
    mastership_retry: float = 1.0
    """Seconds between losing mastership and bidding again."""
    reconnect_min: float = 0.1
    """Seconds until the first attempt to connect again; doubles up to ``reconnect_max``."""
    reconnect_max: float = 2.0
    """Most seconds between two attempts to connect."""
    health_interval: float = 5.0
    """Seconds between two looks at the pipeline's cookie, which show a switch that hangs or was reloaded."""

    def __post_init__(self) -> None:
        self._check_names()
        _check_port("cpu_port", self.cpu_port)
        for port in self.host_ports:
            _check_port("host_ports", port)
        if self.punt is not None and self.punt.port in (*self.host_ports, *self.trunk_ports, self.cpu_port):
            raise BadInput("punt", f"port {self.punt.port} is in use", "give it a port of its own")
        for port in self.trunk_ports:
            _check_port("trunk_ports", port)
        _unique("host_ports, trunk_ports", self.host_ports + self.trunk_ports)
        _unique("beyond", (number for number, _ in self.beyond))
        _unique("routes", (route.network for route in self.routes))
        _unique("addresses", (reply.address for reply in self.addresses))
        self._check_ranges()

    def _check_names(self) -> None:
        if not self.address:
            raise BadInput("address", "empty", "write host:port of the switch's P4Runtime server")
        if self.assignment not in ("hash", "least-loaded", "round-robin"):
            raise BadInput("assignment", f"unknown {self.assignment!r}", "hash, least-loaded or round-robin")
        for name in ("p4info", "p4blob"):
            path: Path = getattr(self, name)
            if not path.is_file():
                raise BadInput(name, f"no file {path}", "compile the P4 program, or point to its output")

    def _check_ranges(self) -> None:
        for name in (
            "buffer_packets", "buffer_bytes", "move_packets", "move_bytes", "new_flow_packets", "new_flow_bytes",
            "orphan_packets", "orphan_bytes", "relay_window", "batch", "election_id", "device_id",
        ):  # fmt: skip
            if getattr(self, name) < 1:
                raise BadInput(name, f"{getattr(self, name)}", "at least 1")
        for name in (
            "relay_retry", "relay_deadline", "relay_total", "marker_retry", "marker_deadline", "ready_deadline",
            "rpc_deadline", "read_deadline", "orphan_seconds", "mastership_retry", "reconnect_min", "reconnect_max",
            "health_interval",
        ):  # fmt: skip
            if not getattr(self, name) > 0:
                raise BadInput(name, f"{getattr(self, name)}", "seconds, more than 0")
        if self.flow_idle_seconds < 0:
            raise BadInput("flow_idle_seconds", f"{self.flow_idle_seconds}", "seconds, or 0 for never")
        if 0 < self.flow_idle_seconds < bmv2.IDLE_SECONDS_MIN:
            raise BadInput("flow_idle_seconds", f"{self.flow_idle_seconds}", bmv2.IDLE_REMEDY)
        if not 1 <= self.clone_session <= bmv2.CLONE_SESSION_MAX:
            raise BadInput("clone_session", f"{self.clone_session}", f"1..{bmv2.CLONE_SESSION_MAX}")


def _check_port(where: str, port: int) -> None:
    if port not in _PORTS:
        raise BadInput(where, f"port {port}", f"0..{_PORTS[-1]}")


def _check_mac(where: str, mac: bytes) -> None:
    if len(mac) != 6:
        raise BadInput(where, f"MAC address of {len(mac)} bytes", "6 bytes")


def _unique(where: str, values: Iterable[object]) -> None:
    seen: set[object] = set()
    for value in values:
        if value in seen:
            raise BadInput(where, f"{value} is there twice")
        seen.add(value)
