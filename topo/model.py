"""Topologies as data: which hosts, which replica slots, on which ports of which switch.

`one_switch` is the lab of the paper's evaluation: a client and a server on different subnets, the middlebox
between them as their router, and room for a number of replicas that all have the same MAC and IP addresses.
Files beside this module (`NAMED`) have several switches.
"""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Literal

import msgspec

from splitmerge.errors import BadInput
from splitmerge.trunks import Graph, Trunk, place_of

_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
_NAME = re.compile(r"[a-z][a-z0-9]{0,9}")
MAX_SLOTS = 64
NAMED = {path.stem: path for path in sorted((Path(__file__).parent / "topologies").glob("*.toml"))}
"""Topologies that come along, by the name that ``--topology`` takes."""


class Host(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A client or server: one interface, one network namespace."""

    name: str
    port: int
    """Port of the switch."""
    switch: str = "s1"
    mac: str
    addresses: tuple[str, ...]
    """Interface addresses with prefix length: ``10.0.1.2/24``."""
    gateways: tuple[str, ...]
    """The middlebox's address in each of those subnets, in the same order."""


class Slot(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A place for one replica."""

    slot: int
    port: int
    switch: str = "s1"
    kind: Literal["process", "vm"] = "process"
    """What the replicas there are."""


class Topology(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Switches, and trunks between them if there are several; their hosts and replica slots."""

    hosts: tuple[Host, ...]
    slots: tuple[Slot, ...]
    switches: tuple[str, ...] = ("s1",)
    trunks: tuple[Trunk, ...] = ()
    middlebox_mac: str = "02:00:00:00:00:fe"
    cpu_port: int = 510
    punt_port: int = 509
    """Port that is wired to the controller, where the lab has an Ethernet punt port."""
    virtual: tuple[str, ...] = ()
    """Further addresses of the middlebox, in hosts' subnets: where it answers itself (a NAT's external address, a load
    balancer's). Unlike the gateways they are not given to the replicas' kernels, which would answer too."""

    def middlebox_addresses(self) -> tuple[str, ...]:
        """Hosts' gateways and virtual addresses; the switch answers ARP and neighbour discovery for them."""
        return (*(gateway for host in self.hosts for gateway in host.gateways), *self.virtual)

    def slots_of(self, kind: str) -> tuple[Slot, ...]:
        """The slots for ``process`` or ``vm``."""
        return tuple(slot for slot in self.slots if slot.kind == kind)

    def validate(self) -> None:
        """:raises BadInput: naming the first thing that is wrong."""
        names = [host.name for host in self.hosts]
        self._check_switches()
        _unique("host names", names)
        _unique("slots", [str(slot.slot) for slot in self.slots])
        _unique("MAC addresses", [host.mac for host in self.hosts] + [self.middlebox_mac])
        reserved = {"switch", *self.switches, *(f"slot{slot.slot}" for slot in self.slots)}
        for name in names:
            if name in reserved:
                raise BadInput(f"topology: host {name!r}", "the name is the lab's own", "choose another")
        for slot in self.slots:
            if slot.slot < 1:
                raise BadInput("topology: slot", f"{slot.slot}", "number slots from 1")
        if not 1 <= len(self.slots) <= MAX_SLOTS:
            raise BadInput("topology: slots", f"{len(self.slots)} slots", f"1 to {MAX_SLOTS}")
        for host in self.hosts:
            _check_host(host)
        for address in self.virtual:
            _check_virtual(address, self.hosts)
        if not _MAC.fullmatch(self.middlebox_mac):
            raise BadInput("topology: middlebox_mac", repr(self.middlebox_mac), "six lower-case hex pairs with colons")

    def ports_of(self, switch: str) -> list[int]:
        """Every data port of this switch that is used."""
        hosts = [host.port for host in self.hosts if host.switch == switch]
        slots = [slot.port for slot in self.slots if slot.switch == switch]
        return hosts + slots + [port for trunk in self.trunks for name, port in trunk.ends() if name == switch]

    def place(self, slot: Slot) -> int:
        """The one number of a slot's switch and port (`splitmerge.trunks.place_of`)."""
        return place_of(self.switches.index(slot.switch), slot.port)

    def _check_switches(self) -> None:
        for name in self.switches:
            if not _NAME.fullmatch(name):
                remedy = "a lower-case letter, then up to nine letters or digits"
                raise BadInput(f"topology: switch {name!r}", "not a usable name", remedy)
        for what, switch in self._attached():
            if switch not in self.switches:
                raise BadInput(f"topology: {what}", f"no switch {switch!r}", "one of: " + ", ".join(self.switches))
        Graph(self.switches, self.trunks)
        for name in self.switches:
            self._check_ports(name)

    def _attached(self) -> list[tuple[str, str]]:
        hosts = [(f"host {host.name!r}", host.switch) for host in self.hosts]
        return hosts + [(f"slot {slot.slot}", slot.switch) for slot in self.slots]

    def _check_ports(self, switch: str) -> None:
        ports = self.ports_of(switch)
        _unique(f"ports of {switch}", [str(port) for port in ports])
        for port in ports:
            if not 1 <= port < 510:
                raise BadInput(f"topology: port of {switch}", f"{port} is not a data port", "1 to 509")
        if not 1 <= self.cpu_port <= 510 or self.cpu_port in ports:
            raise BadInput("topology: cpu_port", f"{self.cpu_port}", "1 to 510, and no other port's number")
        if not 1 <= self.punt_port < 510 or self.punt_port in (*ports, self.cpu_port):
            raise BadInput("topology: punt_port", f"{self.punt_port}", "1 to 509, and no other port's number")


def one_switch(slots: int = 8, vm_slots: int = 0) -> Topology:
    """Client on port 1, server on port 2, replica slots on ports 11 and up; those for machines come last.

    :raises BadInput: for a silly number.
    """
    kinds: list[Literal["process", "vm"]] = []
    kinds += ("process" for _ in range(slots))
    kinds += ("vm" for _ in range(vm_slots))
    topology = Topology(
        hosts=(
            Host(
                name="client",
                port=1,
                mac="02:00:00:00:01:02",
                addresses=("10.0.1.2/24", "fd00:1::2/64"),
                gateways=("10.0.1.1", "fd00:1::1"),
            ),
            Host(
                name="server",
                port=2,
                mac="02:00:00:00:02:02",
                addresses=("10.0.2.2/24", "fd00:2::2/64"),
                gateways=("10.0.2.1", "fd00:2::1"),
            ),
        ),
        slots=tuple(Slot(slot=number, port=10 + number, kind=kind) for number, kind in enumerate(kinds, 1)),
        virtual=("10.0.1.100", "fd00:1::100", "10.0.2.100", "fd00:2::100"),
    )
    topology.validate()
    return topology


def load_topology(path: Path) -> Topology:
    """Read a topology from a JSON or TOML file, or take one of `NAMED`.

    :raises BadInput: naming the file, the place and the remedy.
    """
    path = NAMED.get(str(path), path)
    try:
        raw = path.read_bytes()
    except OSError as error:
        remedy = "give a JSON or TOML file, or one of: " + ", ".join(NAMED)
        raise BadInput(str(path), error.strerror or str(error), remedy) from None
    try:
        topology = (
            msgspec.toml.decode(raw, type=Topology)
            if path.suffix == ".toml"
            else msgspec.json.decode(raw, type=Topology)
        )
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadInput(str(path), str(error), "see docs/topologies.md for an example") from None
    topology.validate()
    return topology


def _unique(what: str, values: list[str]) -> None:
    twice = sorted({value for value in values if values.count(value) > 1})
    if twice:
        raise BadInput(f"topology: {what}", f"used twice: {', '.join(twice)}", "give each its own")


def _check_virtual(address: str, hosts: tuple[Host, ...]) -> None:
    place = f"topology: virtual address {address!r}"
    try:
        packed = ipaddress.ip_address(address)
        interfaces = [ipaddress.ip_interface(each) for host in hosts for each in host.addresses]
    except ValueError as error:
        raise BadInput(place, str(error), "write an address like 10.0.2.100") from None
    if not any(packed in interface.network for interface in interfaces):
        raise BadInput(place, "in no host's subnet: nobody would look for it on the link", "choose one inside")
    taken = {str(interface.ip) for interface in interfaces} | {gateway for host in hosts for gateway in host.gateways}
    if str(packed) in taken:
        raise BadInput(place, "is a host's or a gateway's", "choose a free one")


def _check_host(host: Host) -> None:
    place = f"topology: host {host.name!r}"
    if not _NAME.fullmatch(host.name):
        raise BadInput(place, "not a usable name", "a lower-case letter, then up to nine letters or digits")
    if not _MAC.fullmatch(host.mac):
        raise BadInput(place, f"mac {host.mac!r}", "six lower-case hex pairs with colons")
    if len(host.addresses) != len(host.gateways) or not host.addresses:
        raise BadInput(place, f"{len(host.addresses)} addresses, {len(host.gateways)} gateways", "one gateway for each")
    for address, gateway in zip(host.addresses, host.gateways, strict=True):
        if "/" not in address:
            raise BadInput(place, f"address {address!r} has no prefix length", "write addresses like 10.0.1.2/24")
        try:
            inside = ipaddress.ip_address(gateway) in ipaddress.ip_interface(address).network
        except ValueError as error:
            raise BadInput(place, str(error), "write addresses like 10.0.1.2/24") from None
        if not inside:
            raise BadInput(place, f"gateway {gateway} is outside {address}", "both must share the subnet")
