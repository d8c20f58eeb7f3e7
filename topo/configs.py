"""The configuration files that a lab writes for its orchestrator and its agent."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from topo.links import MIDDLEBOX_INTERFACE, PUNT_INTERFACE
from topo.model import Topology
from topo.spec import LabSpec
from topo.switches import DEVICE_ID, GRPC_HOST, GRPC_PORT


def write_orchestrator_config(spec: LabSpec) -> Path:
    """``orchestrator.json`` in the lab's directory."""
    topology = spec.topology
    return _write(
        spec.root / "orchestrator.json",
        {
            "control": f"unix:{spec.control_socket}",
            "api": f"unix:{spec.api_socket}",
            "journal": str(spec.root / "journal.sqlite"),
            "slots": {str(slot.slot): slot.port for slot in topology.slots},
            "switch": {
                "address": f"{GRPC_HOST}:{GRPC_PORT}",
                "device_id": DEVICE_ID,
                "cpu_port": topology.cpu_port,
                "punt": {"interface": PUNT_INTERFACE, "port": topology.punt_port} if spec.punt == "ethernet" else None,
                "host_ports": [host.port for host in topology.hosts],
                "routes": _routes(topology),
                "addresses": [
                    {"address": address, "mac": topology.middlebox_mac} for address in topology.middlebox_addresses()
                ],
                "assignment": spec.assignment,
            },
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


def _routes(topology: Topology) -> list[dict[str, Any]]:
    """The host itself rather than its subnet: nothing else is behind its port."""
    return [
        {
            "network": str(ipaddress.ip_network(ipaddress.ip_interface(address).ip)),
            "port": host.port,
            "src_mac": topology.middlebox_mac,
            "dst_mac": host.mac,
        }
        for host in topology.hosts
        for address in host.addresses
    ]


def _write(path: Path, content: dict[str, Any]) -> Path:
    path.write_bytes(msgspec.json.format(msgspec.json.encode(content)))
    return path
