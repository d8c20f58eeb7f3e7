"""The packet modifier of `middleboxes.alg` with a guest and no network, and packets for it."""

from __future__ import annotations

from typing import Any

from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.l2 import Ether
from scapy.packet import Packet as Scapy
from scapy.packet import Raw

from guestlib import Guest, Packet, ReplicaConfig, prepare
from middleboxes.alg import Alg

CLIENT, SERVER, EXTERNAL = "10.0.1.2", "10.0.2.2", "10.0.2.100"


class Box:
    """The middlebox with a guest, a clock that stands still, and no network."""

    def __init__(self, **settings: Any) -> None:
        self.now = 1000.0
        self.choice = 7
        self.middlebox = Alg(lambda: self.now, lambda: self.choice)
        config = ReplicaConfig(replica=1, interface="x", control="unix:/c", peer="unix:/p", settings=settings)
        self.guest: Guest = prepare(self.middlebox, config)

    def through(self, packet: Scapy) -> Scapy | None:
        """What becomes of a packet; its checksums are right, or this fails."""
        self.guest.sent.clear()
        self.middlebox.on_packet(self.guest, Packet.of(bytes(Ether() / packet)))
        if not self.guest.sent:
            return None
        (frame,) = self.guest.sent
        got = Ether(frame).payload
        again = got.copy()
        for layer in (IP, TCP, UDP, ICMP):
            if layer in again:
                del again[layer].chksum
                if layer in (IP, UDP):
                    del again[layer].len
        assert bytes(type(got)(bytes(again))) == bytes(got)
        return got

    def dropped(self, packet: Scapy) -> str:
        """Why a packet is dropped."""
        before = dict(self.guest.figures)
        assert self.through(packet) is None
        (name,) = [name for name, count in self.guest.figures.items() if count != before.get(name)]
        return name


def out(flags: str = "S", data: bytes = b"", sport: int = 5000, dport: int = 80, **more: Any) -> Scapy:
    packet = IP(src=CLIENT, dst=SERVER) / TCP(sport=sport, dport=dport, flags=flags, **more)
    return packet / Raw(data) if data else packet


def back(to: Scapy, flags: str = "SA", data: bytes = b"", **more: Any) -> Scapy:
    """The other side's answer to a translated packet."""
    packet = IP(src=to.dst, dst=to.src) / TCP(sport=to.dport, dport=to.sport, flags=flags, **more)
    return packet / Raw(data) if data else packet
