"""Agents as on machines of their own: network namespaces that reach the rest of the lab over IP and mutual TLS alone.

sandbox: switch, orchestrator            agent: the process agent      vm-agent: the one of machines
  control (bridge) ── 169.254.77.254       ctl0 ── 169.254.77.250        control (bridge) ── 169.254.77.251
    ├── a link to each of them                                             ├── a tap of each machine
    └── a link to each process slot                                        └── a link to the sandbox
  slotN-sw ───────────────────────────────────────────────────────────── slotN-br (bridge) ── slotN-tap
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pyroute2 import IPRoute

from splitmerge.certs import issue, make_ca
from splitmerge.tls import ORCHESTRATOR, REPLICA, agent_name
from topo.model import AGENTS, PROCESS_AGENT, VM_AGENT
from topo.spec import LabSpec

ADDRESSES = {PROCESS_AGENT: 250, VM_AGENT: 251}
"""Last byte of each one's address on the control network."""
UPLINK = "up0"


def certificates(spec: LabSpec) -> Path:
    """The directory of the lab's authority and certificates; made if they are not there."""
    directory = spec.root / "certs"
    if not (directory / "ca.key").exists():
        make_ca(directory)
        issue(directory, ORCHESTRATOR, (ORCHESTRATOR,))
        for kind, file in AGENTS.items():
            issue(directory, file, (agent_name(f"{kind} agent"), REPLICA))
    return directory


def tls_of(spec: LabSpec, file: str) -> dict[str, str]:
    """The ``tls`` section of a part's configuration."""
    directory = certificates(spec)
    return {
        "ca": str(directory / "ca.pem"),
        "certificate": str(directory / f"{file}.pem"),
        "key": str(directory / f"{file}.key"),
    }


def join(ip: IPRoute, bridge: int, name: str, namespace: int, inside: str) -> None:
    """A link from the sandbox's control bridge to this namespace's interface, which nobody has configured yet."""
    outside = f"{name}-ctl"
    ip.link("add", ifname=outside, kind="veth", peer={"ifname": inside, "net_ns_fd": namespace})
    ip.link("set", index=ip.link_lookup(ifname=outside)[0], master=bridge, state="up")


def bridged(ip: IPRoute, name: str, *members: str) -> int:
    """A new bridge that is up, with these interfaces, brought up too; its index."""
    ip.link("add", ifname=name, kind="bridge")
    index: int = ip.link_lookup(ifname=name)[0]
    for member in members:
        ip.link("set", index=ip.link_lookup(ifname=member)[0], master=index, state="up")
    ip.link("set", index=index, state="up")
    return index


def furnish(slots: list[int], prefix: str, tap: Callable[[IPRoute, str, int], None], mtu: int) -> None:
    """The namespace of the machines' agent, from inside: its uplink and the slots' links (``slotN-up``) are there."""
    with IPRoute() as ip:
        ip.link("set", index=ip.link_lookup(ifname="lo")[0], state="up")
        for slot in slots:
            tap(ip, f"slot{slot}-ctl", 1500)
            tap(ip, f"slot{slot}-tap", mtu)
            ends = (f"slot{slot}-up", f"slot{slot}-tap")
            ip.link("set", index=bridged(ip, f"slot{slot}-br", *ends), mtu=mtu)
            for end in ends:  # a wire: a replica sends frames with others' addresses, which must teach nobody anything
                ip.brport("set", index=ip.link_lookup(ifname=end)[0], learning=0)
        control = bridged(ip, "control", UPLINK, *(f"slot{slot}-ctl" for slot in slots))
        ip.addr("add", index=control, address=f"{prefix}.{ADDRESSES[VM_AGENT]}", prefixlen=24)
