"""The configuration files that a lab writes for its orchestrator and its agent."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from topo.links import MIDDLEBOX_INTERFACE, punt_interface
from topo.model import Topology
from topo.spec import LabSpec
from topo.switches import device_id, grpc_address


def write_orchestrator_config(spec: LabSpec) -> Path:
    """``orchestrator.json`` in the lab's directory."""
    topology = spec.topology
    return _write(
        spec.root / "orchestrator.json",
        {
            "control": f"unix:{spec.control_socket}",
            "api": f"unix:{spec.api_socket}",
            "journal": str(spec.root / "journal.sqlite"),
            **_network(spec),
            "defaults": {"guarantee": spec.guarantee, "buffer": spec.buffer},
            "elasticity": {
                "enabled": spec.policy == "flow-count",
                "split_above": spec.split_above,
                "merge_below": spec.merge_below,
                "max_replicas": len(topology.slots),
            },
            "log_level": spec.log_level.upper(),
        },
    )


def write_agent_config(spec: LabSpec, namespaces: Mapping[str, Path]) -> Path:
    """``agent.json`` in the lab's directory. ``namespaces``: name → path of a network namespace (``slot1`` …)."""
    return _write(
        spec.root / "agent.json",
        {
            "control": f"unix:{spec.control_socket}",
            "middlebox": spec.middlebox,
            "middlebox_config": spec.middlebox_config,
            "directory": spec.directory,
            "slots": {
                str(slot.slot): {
                    "netns": str(namespaces[f"slot{slot.slot}"]),
                    "interface": MIDDLEBOX_INTERFACE,
                    "port": slot.port,
                }
                for slot in spec.topology.slots
            },
            "log_level": spec.log_level.upper(),
        },
    )


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
        "address": grpc_address(position),
        "device_id": device_id(position),
        "cpu_port": topology.cpu_port,
        "punt": _punt(spec, position),
        "host_ports": [host.port for host in topology.hosts if host.switch == name],
        "routes": _routes(topology, name),
        "addresses": [
            {"address": address, "mac": topology.middlebox_mac} for address in topology.middlebox_addresses()
        ],
        "assignment": spec.assignment,
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
