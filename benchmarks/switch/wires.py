"""veth pairs in this process's own network namespace, and what the kernel counts on them."""

from __future__ import annotations

import socket
import time
from dataclasses import dataclass
from pathlib import Path

from pyroute2 import IPRoute

from topo.links import offloads_off

IN, OUT = 1, 11
"""Switch ports: frames come in on the first and are steered to the second."""


@dataclass(frozen=True, slots=True)
class Wires:
    """One target's two cables: ``names`` are the switch's ends by port, ``peers`` the far ends."""

    names: dict[int, str]
    peers: dict[int, str]

    @staticmethod
    def of(number: int) -> Wires:
        """The cables of the target with this number."""
        names = {IN: f"s{number}in", OUT: f"s{number}out"}
        return Wires(names, {port: "h" + name[1:] for port, name in names.items()})

    def build(self) -> None:
        """Make them, quiet: nothing but our frames on them."""
        with IPRoute() as ip:
            ip.link("set", index=ip.link_lookup(ifname="lo")[0], state="up")
            for port, name in self.names.items():
                ip.link("add", ifname=name, kind="veth", peer={"ifname": self.peers[port]})
                for link in (name, self.peers[port]):
                    Path(f"/proc/sys/net/ipv6/conf/{link}/disable_ipv6").write_text("1")
                    offloads_off(link)
                    ip.link("set", index=ip.link_lookup(ifname=link)[0], state="up")


def received(interface: str) -> int:
    """Packets that came in on an interface of this namespace."""
    for line in Path("/proc/net/dev").read_text().splitlines():
        name, _, counts = line.partition(":")
        if name.strip() == interface:
            return int(counts.split()[1])
    raise LookupError(interface)


def settled(interface: str, quiet: float = 0.05, deadline: float = 3.0) -> int:
    """The count once it has not changed for ``quiet`` seconds."""
    end, last, since = time.monotonic() + deadline, received(interface), time.monotonic()
    while time.monotonic() < end and time.monotonic() - since < quiet:
        time.sleep(0.005)
        now = received(interface)
        if now != last:
            last, since = now, time.monotonic()
    return last


def packet_socket(interface: str) -> socket.socket:
    """A plain packet socket that receives nothing, to send from."""
    made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    made.setsockopt(263, 20, 1)  # SOL_PACKET, PACKET_QDISC_BYPASS
    made.bind((interface, 0))
    return made
