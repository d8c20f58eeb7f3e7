"""Realise a topology with the kernel's own veth pairs (rtnetlink through pyroute2).

One end of every link stays beside the switch, the other goes into the namespace of a host or a slot. A slot's namespace
outlives the replicas that come and go in it, so that the switch never sees a port disappear.
"""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from pyroute2 import IPRoute

from splitmerge.linux.offloads import link_ready, offloads_off
from splitmerge.linux.quiet import quiet
from splitmerge.trunks import Trunk
from topo.apart import ADDRESSES, UPLINK, furnish, join
from topo.model import AGENTS, SWITCH, Host, Topology, punt_interface
from topo.namespaces import new_network_namespace, run_in

MIDDLEBOX_INTERFACE = "mb0"
HOST_INTERFACE = "eth0"
CONTROL_INTERFACE = "ctl0"
CONTROL_PREFIX = "169.254.77"
"""The control network's, where replicas are machines (link-local, RFC 3927)."""
CONTROL_HOST = f"{CONTROL_PREFIX}.254"
CONTROL_PORT = 9560
TAP_QUEUE = 10_000
"""Packets that wait for a machine to take them; the kernel counts the drops beyond (``ip -s link``)."""
SLOT_MTU = 1600
"""A relayed packet, or one on a trunk, is 12 bytes longer than it was (`splitmerge.tag`): these links have room."""
PUNT_MTU = SLOT_MTU + 64
"""Whatever comes from any port, with a packet-in header and an Ethernet header (`p4rt_controller.frames`) in front."""
_IFA_F_NODAD = 0x02
"""Duplicate address detection would make IPv6 unusable for a second, and every slot shares its addresses anyway."""


@dataclass(frozen=True, slots=True)
class Wiring:
    """What was built. Descriptors keep the namespaces; `close` lets them go."""

    ports: Mapping[str, dict[int, str]]
    """Switch → its port → interface beside it."""
    namespaces: Mapping[str, int]
    """Each of `Topology.namespaces` → its descriptor."""
    _open: list[int] = field(default_factory=list)

    def paths(self) -> dict[str, Path]:
        """Namespaces as paths that other processes can open while this one lives."""
        return {name: Path(f"/proc/{os.getpid()}/fd/{fd}") for name, fd in self.namespaces.items()}

    def close(self) -> None:
        """Let the namespaces go; again is harmless."""
        while self._open:
            os.close(self._open.pop())


def wire(topology: Topology, *, punt: bool = False, apart: bool = False) -> Wiring:
    """Build every namespace and link of the topology, from inside the sandbox; ``punt``: the punt ports' too.

    ``apart``: agents have namespaces of their own (`topo.apart`).
    """
    ports: dict[str, dict[int, str]] = {name: {} for name in topology.switches}
    namespaces: dict[str, int] = {}
    wiring = Wiring(ports, namespaces)
    namespaces[SWITCH] = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    wiring._open.append(namespaces[SWITCH])
    with IPRoute() as ip:
        quiet("all")
        quiet("default")
        ip.link("set", index=ip.link_lookup(ifname="lo")[0], state="up")
        for position, name in enumerate(topology.switches if punt else ()):
            ports[name][topology.punt_port] = _punt_link(ip, punt_interface(position))
        for host in topology.hosts:
            namespaces[host.name] = _link(ip, wiring, f"{host.name}-sw", HOST_INTERFACE, host.mac, 1500)
            ports[host.switch][host.port] = f"{host.name}-sw"
            run_in(namespaces[host.name], partial(_configure_host, host))
        for slot in topology.slots_of("process"):
            name = f"slot{slot.slot}"
            mac = topology.middlebox_mac
            namespaces[name] = _link(ip, wiring, f"{name}-sw", MIDDLEBOX_INTERFACE, mac, SLOT_MTU)
            ports[slot.switch][slot.port] = f"{name}-sw"
            run_in(namespaces[name], partial(_configure_slot, topology))
        for trunk in topology.trunks:
            for (switch, port), interface in zip(trunk.ends(), _trunk(ip, trunk), strict=True):
                ports[switch][port] = interface
        if topology.slots_of("vm") or apart:
            _control_network(ip, topology, wiring, namespaces, apart=apart)
        for slot in topology.slots_of("vm"):
            ports[slot.switch][slot.port] = f"slot{slot.slot}-sw"
    assert tuple(namespaces) == topology.namespaces(apart=apart)
    return wiring


def _trunk(ip: IPRoute, trunk: Trunk) -> tuple[str, ...]:
    """A veth pair between two switches, both ends beside them; the interfaces."""
    names = tuple(f"{switch}-{port}" for switch, port in trunk.ends())
    ip.link("add", ifname=names[0], kind="veth", mtu=SLOT_MTU, peer={"ifname": names[1], "mtu": SLOT_MTU})
    for name in names:
        quiet(name)
        ip.link("set", index=ip.link_lookup(ifname=name)[0], state="up")
        offloads_off(name)
    return names


def control_address(slot: int) -> str:
    """Of the replica in this slot, where replicas are machines: with prefix length."""
    return f"{CONTROL_PREFIX}.{slot}/24"


def _control_network(
    ip: IPRoute, topology: Topology, wiring: Wiring, namespaces: dict[str, int], *, apart: bool
) -> None:
    """Machines cannot open Unix sockets of the host: a bridge joins them, the sandbox and the other replicas.

    A machine's taps are there before it and stay after it: the switch never sees its port disappear.
    """
    ip.link("add", ifname="control", kind="bridge")
    bridge: int = ip.link_lookup(ifname="control")[0]
    quiet("control")
    ip.addr("add", index=bridge, address=CONTROL_HOST, prefixlen=24)
    ip.link("set", index=bridge, state="up")
    if apart:
        _agents_apart(ip, bridge, topology, wiring, namespaces)
    for slot in topology.slots:
        outside = f"slot{slot.slot}-ctl"
        if slot.kind == "vm" and apart:
            continue
        if slot.kind == "vm":
            _tap(ip, f"slot{slot.slot}-sw", SLOT_MTU)
            _tap(ip, outside, 1500, bridge)
            continue
        peer = {"ifname": CONTROL_INTERFACE, "net_ns_fd": namespaces[f"slot{slot.slot}"]}
        ip.link("add", ifname=outside, kind="veth", peer=peer)
        ip.link("set", index=ip.link_lookup(ifname=outside)[0], master=bridge, state="up")
        run_in(namespaces[f"slot{slot.slot}"], partial(_configure_control, control_address(slot.slot)))


def _agents_apart(ip: IPRoute, bridge: int, topology: Topology, wiring: Wiring, namespaces: dict[str, int]) -> None:
    for kind, name in AGENTS.items():
        slots = [slot.slot for slot in topology.slots if slot.kind == kind]
        if not slots:
            continue
        namespace = namespaces[name] = new_network_namespace()
        wiring._open.append(namespace)
        if kind == "process":
            join(ip, bridge, name, namespace, CONTROL_INTERFACE)
            run_in(namespace, partial(_configure_control, f"{CONTROL_PREFIX}.{ADDRESSES[name]}/24"))
            continue
        join(ip, bridge, name, namespace, UPLINK)
        for slot in slots:
            peer = {"ifname": f"slot{slot}-up", "net_ns_fd": namespace, "mtu": SLOT_MTU}
            ip.link("add", ifname=f"slot{slot}-sw", kind="veth", mtu=SLOT_MTU, peer=peer)
            quiet(f"slot{slot}-sw")
            ip.link("set", index=ip.link_lookup(ifname=f"slot{slot}-sw")[0], state="up")
            offloads_off(f"slot{slot}-sw")
        run_in(namespace, partial(_furnish, slots))


def _furnish(slots: list[int]) -> None:
    for scope in ("all", "default"):
        quiet(scope)
    furnish(slots, CONTROL_PREFIX, _tap, SLOT_MTU)
    for slot in slots:
        offloads_off(f"slot{slot}-up")


def _tap(ip: IPRoute, name: str, mtu: int, bridge: int = 0) -> None:
    ip.link("add", ifname=name, kind="tuntap", mode="tap")
    index = ip.link_lookup(ifname=name)[0]
    quiet(name)
    ip.link("set", index=index, mtu=mtu, txqlen=TAP_QUEUE, state="up", **({"master": bridge} if bridge else {}))


def _configure_control(address: str) -> None:
    with IPRoute() as ip:
        index: int = ip.link_lookup(ifname=CONTROL_INTERFACE)[0]
        host, _, length = address.partition("/")
        ip.addr("add", index=index, address=host, prefixlen=int(length))
        ip.link("set", index=index, state="up")


def _link(ip: IPRoute, wiring: Wiring, outside: str, inside: str, mac: str, mtu: int) -> int:
    """A veth pair with one end in a new namespace; returns the namespace's descriptor."""
    namespace = new_network_namespace()
    wiring._open.append(namespace)
    peer = {"ifname": inside, "net_ns_fd": namespace, "address": mac, "mtu": mtu}
    ip.link("add", ifname=outside, kind="veth", mtu=mtu, peer=peer)
    quiet(outside)
    ip.link("set", index=ip.link_lookup(ifname=outside)[0], state="up")
    offloads_off(outside)
    return namespace


def _punt_link(ip: IPRoute, inside: str) -> str:
    """A veth pair between switch and controller. Nothing but their frames is on it: it has no addresses."""
    outside = f"{inside}-sw"
    ip.link("add", ifname=outside, kind="veth", mtu=PUNT_MTU, peer={"ifname": inside, "mtu": PUNT_MTU})
    for interface in (outside, inside):
        quiet(interface)
        ip.link("set", index=ip.link_lookup(ifname=interface)[0], state="up")
        offloads_off(interface)
    return outside


def _configure_host(host: Host) -> None:
    with IPRoute() as ip:
        index, routed = _bring_up(ip, HOST_INTERFACE), set[int]()
        for address, gateway in zip(host.addresses, host.gateways, strict=True):
            interface = ipaddress.ip_interface(address)
            flags = {"flags": _IFA_F_NODAD} if interface.version == 6 else {}
            ip.addr("add", index=index, address=str(interface.ip), prefixlen=interface.network.prefixlen, **flags)
            if interface.version not in routed:  # in several subnets: by the first one's gateway
                ip.route("add", dst="default", gateway=gateway, family=_family(interface.version))
            routed.add(interface.version)


def _configure_slot(topology: Topology) -> None:
    """Every slot has the middlebox's own addresses, so that its kernel answers a ping; neighbours are given, not asked.

    The kernel forwards nothing (ip_forward is 0): packets on their way through are the middlebox program's.
    Nor does it complain: without the last route it would answer IPv6 packets to networks of no host (NAT64's prefix)
    with "no route to destination".
    """
    with IPRoute() as ip:
        index = _bring_up(ip, MIDDLEBOX_INTERFACE)
        for gateway in topology.gateways():
            flags = {"flags": _IFA_F_NODAD} if gateway.version == 6 else {}
            ip.addr("add", index=index, address=str(gateway.ip), prefixlen=gateway.network.prefixlen, **flags)
        for host in topology.hosts:
            for address in map(ipaddress.ip_interface, host.addresses):
                ip.neigh("replace", dst=str(address.ip), lladdr=host.mac, ifindex=index, state="permanent")
        ip.route("add", dst="default", type="blackhole", family=_family(6))


def _bring_up(ip: IPRoute, interface: str) -> int:
    """Both interfaces up, with no offloads and nothing sent on the kernel's own initiative; returns the index."""
    ip.link("set", index=ip.link_lookup(ifname="lo")[0], state="up")
    index: int = ip.link_lookup(ifname=interface)[0]
    quiet("all")
    quiet(interface)
    ip.link("set", index=index, state="up")
    offloads_off(interface)
    link_ready(interface)
    return index


def _family(version: int) -> int:
    return int(socket.AF_INET if version == 4 else socket.AF_INET6)
