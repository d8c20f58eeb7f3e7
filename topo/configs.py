"""The configuration files that a lab writes for its orchestrator and its agent."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from splitmerge.tls import ORCHESTRATOR
from topo.apart import tls_of
from topo.links import (
    CONTROL_HOST,
    CONTROL_PORT,
    MIDDLEBOX_INTERFACE,
    SLOT_MTU,
    control_address,
)
from topo.model import PROCESS_AGENT, VM_AGENT, Topology, punt_interface
from topo.spec import LabSpec
from topo.switches import device_id, grpc_address

VM_HELLO = {"snapshot": 60.0, "boot": 180.0}
"""Seconds from asking for a machine to its replica's Hello: emulated ones share a busy host's processors."""
MACHINES_CONTROL = f"tcp:{CONTROL_HOST}:{CONTROL_PORT}"
EMBEDDED_ROOM = 3072
"""Frames, of the 4,096 that a port of the embedded switch keeps (`p4switch.ports.interface`): others send there too. Of
several switches each has as many edges to hear from over one trunk, so a replica may count on a part."""
ROOM_LEAST = 128
"""What the orchestrator takes: after so many frames a replica asks the switch how far it is (`guestlib.packets`)."""
TLS_CONTROL = f"tls:{CONTROL_HOST}:{CONTROL_PORT}"


def write_orchestrator_config(spec: LabSpec) -> Path:
    """``orchestrator.json`` in the lab's directory."""
    topology = spec.topology
    return _write(
        spec.root / "orchestrator.json",
        {
            **_control(spec),
            "api": f"unix:{spec.api_socket}",
            "journal": str(spec.root / "journal.sqlite"),
            **_network(spec),
            "defaults": spec.defaults_section,
            "elasticity": spec.elasticity_section,
            "replacement": {"enabled": spec.replace},
            "deadlines": {
                "silent": spec.silent,
                **({"hello": VM_HELLO[spec.vm_start]} if topology.slots_of("vm") else {}),
            },
            "log_level": spec.log_level.upper(),
        },
    )


def _control(spec: LabSpec) -> dict[str, Any]:
    if spec.tls:
        return {"control": TLS_CONTROL, "tls": tls_of(spec, ORCHESTRATOR)}
    machines = [MACHINES_CONTROL] if spec.topology.slots_of("vm") else []
    return {"control": [f"unix:{spec.control_socket}", *machines]}


def write_agent_config(spec: LabSpec, namespaces: Mapping[str, Path]) -> Path:
    """``agent.json``: the process agent's. ``namespaces``: name → path of a network namespace (``slot1`` …)."""
    reachable = spec.tls or bool(spec.topology.slots_of("vm"))
    return _write(
        spec.root / "agent.json",
        {
            **_any_agent(spec, f"unix:{spec.control_socket}", PROCESS_AGENT),
            "slots": {
                str(slot.slot): {
                    "netns": str(namespaces[f"slot{slot.slot}"]),
                    "interface": MIDDLEBOX_INTERFACE,
                    "port": slot.port,
                    "control_address": control_address(slot.slot) if reachable else "",
                }
                for slot in spec.topology.slots_of("process")
            },
        },
    )


def write_vm_agent_config(spec: LabSpec) -> Path:
    """``vm-agent.json``: the agent's whose replicas are machines."""
    topology = spec.topology
    addresses = [str(gateway) for gateway in topology.gateways()]
    neighbours = {
        str(ipaddress.ip_interface(address).ip): host.mac for host in topology.hosts for address in host.addresses
    }
    return _write(
        spec.root / "vm-agent.json",
        {
            **_any_agent(spec, MACHINES_CONTROL, VM_AGENT),
            "kind": "vm",
            "slots": {
                str(slot.slot): {
                    "interface": f"slot{slot.slot}-tap" if spec.tls else f"slot{slot.slot}-sw",
                    "port": slot.port,
                    "control_interface": f"slot{slot.slot}-ctl",
                    "control_address": control_address(slot.slot),
                }
                for slot in topology.slots_of("vm")
            },
            "machine": {
                "image": spec.vm_image,
                "start": spec.vm_start,
                "accelerator": spec.vm_accelerator,
                "traffic": {
                    "mac": topology.middlebox_mac,
                    "interface": MIDDLEBOX_INTERFACE,
                    "mtu": SLOT_MTU,
                    "addresses": addresses,
                    "neighbours": neighbours,
                },
            },
        },
    )


def _any_agent(spec: LabSpec, control: str, certificate: str) -> dict[str, Any]:
    return {
        "control": TLS_CONTROL if spec.tls else control,
        **({"tls": tls_of(spec, certificate)} if spec.tls else {}),
        "middlebox": spec.middlebox,
        "middlebox_config": spec.middlebox_config,
        "replica": spec.replica,
        "directory": spec.directory,
        "log_level": spec.log_level.upper(),
    }


def _network(spec: LabSpec) -> dict[str, Any]:
    """Slots and switches: ``switch`` if there is one, else ``switches`` and ``trunks``."""
    topology = spec.topology
    switches = {name: _switch(spec, position) for position, name in enumerate(topology.switches)}
    if len(switches) == 1:
        (switch,) = switches.values()
        return {"slots": {str(slot.slot): slot.port for slot in topology.slots}, "switch": switch}
    return {
        "slots": {str(slot.slot): f"{slot.switch}:{slot.port}" for slot in topology.slots},
        "switches": switches,
        "trunks": topology.trunks,
    }


def _switch(spec: LabSpec, position: int) -> dict[str, Any]:
    topology, name = spec.topology, spec.topology.switches[position]
    return {
        "address": grpc_address(position, spec.grpc_ports),
        "device_id": device_id(position),
        "cpu_port": topology.cpu_port,
        "punt": _punt(spec, position),
        "host_ports": [host.port for host in topology.hosts if host.switch == name],
        "routes": _routes(topology, name),
        "addresses": [
            {"address": address, "mac": topology.middlebox_mac} for address in topology.middlebox_addresses()
        ],
        "assignment": spec.assignment,
        **({"room": max(ROOM_LEAST, EMBEDDED_ROOM // len(topology.switches))} if spec.target == "embedded" else {}),
    }


def _punt(spec: LabSpec, position: int) -> dict[str, Any] | None:
    if spec.punt != "ethernet":
        return None
    return {"interface": punt_interface(position), "port": spec.topology.punt_port}


def _routes(topology: Topology, switch: str) -> list[dict[str, Any]]:
    """The host itself rather than its subnet: nothing else is behind its port."""
    return [
        {
            "network": str(ipaddress.ip_network(ipaddress.ip_interface(address).ip)),
            "port": host.port,
            "src_mac": topology.middlebox_mac,
            "dst_mac": host.mac,
        }
        for host in topology.hosts
        if host.switch == switch
        for address in host.addresses
    ]


def _write(path: Path, content: dict[str, Any]) -> Path:
    path.write_bytes(msgspec.json.format(msgspec.json.encode(content)))
    return path
