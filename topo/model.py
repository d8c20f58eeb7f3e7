"""Topologies as data: which hosts, which replica slots, on which ports of which switch.

`one_switch` is the lab of the paper's evaluation: a client and a server on different subnets, the middlebox
between them as their router, and room for a number of replicas that all have the same MAC and IP addresses.
Files beside this module (`NAMED`) have several switches.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal

import msgspec

from splitmerge.errors import BadInput
from splitmerge.files import read_whole
from splitmerge.once import check_keys
from splitmerge.trunks import Graph, Trunk, place_of
from topo.addresses import IP, Interface, address_of, check_mac, interface_of

Kind = Literal["process", "vm"]
_NAME = re.compile(r"[a-z][a-z0-9]{0,9}")
MAX_SLOTS = 64
LAST_SLOT = 249
"""Largest number of a slot: replicas have it as the last byte of their control addresses (`topo.links`); those above
are the agents' and the orchestrator's."""
LONE_SWITCH = "switch"
"""What users call a topology's only switch; the orchestrator's configuration has a key of this name for it."""
SWITCH = "switch"
"""The network namespace of a lab's own processes: switches, orchestrator and, unless they are apart, agents."""
PROCESS_AGENT, VM_AGENT = "agent", "vm-agent"
"""Network namespaces of agents that are apart (`topo.apart`), and names of the files of certificates."""
AGENTS: Mapping[Kind, str] = {"process": PROCESS_AGENT, "vm": VM_AGENT}
PUNT_INTERFACE = "punt"
"""The controller's end of the punt port's link, in the sandbox's own namespace. The switch's end, beside it, has this
name with ``-sw`` behind it, as the switch's end of a host's link has the host's."""
LOOPBACK = "localhost"
"""RFC 6761, section 6.3: a lab's hosts file (`topo.names`) would give the name to a host."""
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
    kind: Kind = "process"
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

    def gateways(self) -> tuple[Interface, ...]:
        """The middlebox's address in each subnet, once, whoever shares it; with the widest of their prefix lengths."""
        lengths: dict[IP, int] = {}
        for host in self.hosts:
            for text, address in zip(host.gateways, host.addresses, strict=True):
                gateway, length = ipaddress.ip_address(text), ipaddress.ip_interface(address).network.prefixlen
                lengths[gateway] = min(length, lengths.get(gateway, length))
        return tuple(ipaddress.ip_interface((gateway, length)) for gateway, length in lengths.items())

    def middlebox_addresses(self) -> tuple[str, ...]:
        """Hosts' gateways and virtual addresses; the switch answers ARP and neighbour discovery for them."""
        return (*(str(gateway.ip) for gateway in self.gateways()), *self.virtual)

    def shown_switches(self) -> tuple[str, ...]:
        """The switches' names in commands and the API: one that is alone is ``switch`` there, whatever it is here."""
        return self.switches if len(self.switches) > 1 else (LONE_SWITCH,)

    def slots_of(self, kind: str) -> tuple[Slot, ...]:
        """The slots for ``process`` or ``vm``."""
        return tuple(slot for slot in self.slots if slot.kind == kind)

    def namespaces(self, *, apart: bool = False) -> tuple[str, ...]:
        """The network namespaces, in which commands may be run. ``apart``: agents have their own (`topo.apart`)."""
        hosts = (host.name for host in self.hosts)
        slots = (f"slot{slot.slot}" for slot in self.slots_of("process"))
        agents = (name for kind, name in AGENTS.items() if apart and self.slots_of(kind))
        return (SWITCH, *hosts, *slots, *agents)

    def validate(self) -> None:
        """:raises BadInput: naming the first thing that is wrong."""
        names = [host.name for host in self.hosts]
        self._check_switches()
        _unique("host names", names)
        _unique("slots", [str(slot.slot) for slot in self.slots])
        _unique("MAC addresses", [host.mac for host in self.hosts] + [self.middlebox_mac])
        reserved = {LONE_SWITCH, SWITCH, *self.switches, *AGENTS.values(), *(f"slot{each.slot}" for each in self.slots)}
        reserved |= {punt_interface(position) for position in range(len(self.switches))}
        for name in names:
            if name in reserved:
                raise BadInput(f"topology: host {name!r}", "the name is the lab's own", "choose another")
            if name == LOOPBACK:
                problem = "every command means itself by this name, and finds this host in its place"
                raise BadInput(f"topology: host {name!r}", problem, "choose another")
        for slot in self.slots:
            if not 1 <= slot.slot <= LAST_SLOT:
                raise BadInput("topology: slot", f"{slot.slot}", f"number slots from 1, to {LAST_SLOT} at most")
        if not 1 <= len(self.slots) <= MAX_SLOTS:
            raise BadInput("topology: slots", f"{len(self.slots)} slots", f"1 to {MAX_SLOTS}")
        for host in self.hosts:
            _check_host(host)
        check_mac("topology: middlebox_mac", self.middlebox_mac)
        self._check_addresses()

    def ports_of(self, switch: str) -> list[int]:
        """Every data port of this switch that is used."""
        hosts = [host.port for host in self.hosts if host.switch == switch]
        slots = [slot.port for slot in self.slots if slot.switch == switch]
        return hosts + slots + [port for trunk in self.trunks for name, port in trunk.ends() if name == switch]

    def place(self, slot: Slot) -> int:
        """The one number of a slot's switch and port (`splitmerge.trunks.place_of`)."""
        return place_of(self.switches.index(slot.switch), slot.port)

    def check_answers(self, middlebox: str, answers: Iterable[bytes]) -> None:
        """Whether packets to these addresses, where this middlebox answers itself, find their way to it.

        An address in a host's subnet is looked for on the link: the switch answers for virtual ones. What is in
        nobody's subnet goes to the gateway anyway.
        :raises BadInput: naming the first one that is lost.
        """
        interfaces = [interface for _, interface in self._interfaces()]
        virtual = {ipaddress.ip_address(each) for each in self.virtual}
        for address in map(ipaddress.ip_address, answers):
            if address not in virtual and any(address in interface.network for interface in interfaces):
                fitting = [str(each) for each in sorted(virtual, key=int) if each.version == address.version]
                remedy = f"add it to `virtual`, or configure one of: {', '.join(fitting) or 'none of its version'}"
                raise BadInput(f"--middlebox {middlebox}", f"{address} is not virtual in the topology", remedy)

    def _interfaces(self) -> list[tuple[Host, Interface]]:
        return [(host, ipaddress.ip_interface(text)) for host in self.hosts for text in host.addresses]

    def _check_addresses(self) -> None:
        """Who has which: one each, but that hosts of a subnet share their gateway."""
        interfaces = self._interfaces()
        networks = [interface.network for _, interface in interfaces]
        owners: dict[IP, str] = {}
        for host, interface in interfaces:
            if interface.ip in owners:
                problem = f"{interface.ip} is host {owners[interface.ip]!r}'s"
                raise BadInput(f"topology: host {host.name!r}", problem, "choose a free one")
            owners[interface.ip] = host.name
        gateways = {ipaddress.ip_address(text) for host in self.hosts for text in host.gateways}
        for address in sorted(gateways & owners.keys(), key=str):
            problem = f"{address} is a gateway's, the middlebox's own"
            raise BadInput(f"topology: host {owners[address]!r}", problem, "choose a free one")
        taken = gateways | owners.keys()
        for text in self.virtual:
            place = f"topology: virtual address {text!r}"
            address = address_of(place, text, networks, "write an address like 10.0.2.100")
            if not any(address in network for network in networks):
                raise BadInput(place, "in no host's subnet: nobody would look for it on the link", "choose one inside")
            if address in taken:
                raise BadInput(place, "is a host's, a gateway's, or given twice", "choose a free one")
            taken.add(address)

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


def punt_interface(position: int = 0) -> str:
    """The controller's end of the link to the punt port of the switch at this position of the topology."""
    return f"{PUNT_INTERFACE}{position or ''}"


def one_switch(slots: int = 8, vm_slots: int = 0) -> Topology:
    """Client on port 1, server on port 2, replica slots on ports 11 and up; those for machines come last.

    :raises BadInput: for a silly number.
    """
    kinds: list[Kind] = []
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
        raw = read_whole(path, str(path))
    except OSError as error:
        remedy = "give a JSON or TOML file, or one of: " + ", ".join(NAMED)
        raise BadInput(str(path), error.strerror or str(error), remedy) from None
    if not raw.strip():
        raise BadInput(str(path), "is empty", "see docs/topologies.md for an example")
    try:
        topology = (
            msgspec.toml.decode(raw, type=Topology)
            if path.suffix == ".toml"
            else msgspec.json.decode(raw, type=Topology)
        )
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadInput(str(path), str(error), "see docs/topologies.md for an example") from None
    if path.suffix != ".toml":
        check_keys(raw, str(path))
    try:
        topology.validate()
    except BadInput as error:
        raise BadInput(f"{path}: {error.where.removeprefix('topology: ')}", error.problem, error.remedy) from None
    return topology


def _unique(what: str, values: list[str]) -> None:
    twice = sorted({value for value in values if values.count(value) > 1})
    if twice:
        raise BadInput(f"topology: {what}", f"used twice: {', '.join(twice)}", "give each its own")


def _check_host(host: Host) -> None:
    """What is wrong with it alone."""
    place = f"topology: host {host.name!r}"
    if not _NAME.fullmatch(host.name):
        raise BadInput(place, "not a usable name", "a lower-case letter, then up to nine letters or digits")
    check_mac(place, host.mac)
    if len(host.addresses) != len(host.gateways) or not host.addresses:
        raise BadInput(place, f"{len(host.addresses)} addresses, {len(host.gateways)} gateways", "one gateway for each")
    for text, gateway_text in zip(host.addresses, host.gateways, strict=True):
        interface = interface_of(place, text)
        remedy = "write a gateway like 10.0.1.1"
        gateway = address_of(f"{place}: gateway", gateway_text, (interface.network,), remedy)
        if gateway not in interface.network:
            raise BadInput(place, f"gateway {gateway} is outside {text}", "both must share the subnet")
        if gateway == interface.ip:
            raise BadInput(place, f"gateway {gateway} is its own address", "the gateway is the middlebox: another one")
