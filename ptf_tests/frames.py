"""Frames for the tests, as bytes; the addresses of the lab."""

from __future__ import annotations

from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6EchoReply,
    ICMPv6EchoRequest,
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6NDOptDstLLAddr,
    ICMPv6NDOptSrcLLAddr,
    IPv6,
    IPv6ExtHdrFragment,
)
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Packet, Raw

MIDDLEBOX = "02:00:00:00:00:fe"
CLIENT = "02:00:00:00:01:02"
SERVER = "02:00:00:00:02:02"
REPLICA_SIDE = "02:00:00:00:00:aa"
"""What a replica may well leave in a frame's MAC addresses; the switch sets them anew."""

CLIENT4, SERVER4 = "10.0.1.2", "10.0.2.2"
CLIENT6, SERVER6 = "fd00:1::2", "fd00:2::2"
GATEWAY4, GATEWAY6 = "10.0.1.1", "fd00:1::1"

PAYLOAD = Raw(b"split and merge ")

__all__ = [
    "ARP",
    "CLIENT",
    "CLIENT4",
    "CLIENT6",
    "GATEWAY4",
    "GATEWAY6",
    "ICMP",
    "IP",
    "MIDDLEBOX",
    "PAYLOAD",
    "REPLICA_SIDE",
    "SERVER",
    "SERVER4",
    "SERVER6",
    "TCP",
    "UDP",
    "Ether",
    "ICMPv6EchoReply",
    "ICMPv6EchoRequest",
    "ICMPv6NDOptDstLLAddr",
    "ICMPv6NDOptSrcLLAddr",
    "ICMPv6ND_NA",
    "ICMPv6ND_NS",
    "IPv6",
    "IPv6ExtHdrFragment",
    "Packet",
    "Raw",
    "from_client",
    "from_replica",
    "from_server",
    "routed",
    "tcp4",
    "tcp6",
    "udp4",
    "udp6",
]


def from_client(packet: Packet) -> bytes:
    """The packet as the client sends it."""
    return bytes(Ether(src=CLIENT, dst=MIDDLEBOX) / packet)


def from_server(packet: Packet) -> bytes:
    """The packet as the server sends it."""
    return bytes(Ether(src=SERVER, dst=MIDDLEBOX) / packet)


def from_replica(packet: Packet) -> bytes:
    """The packet as a replica sends it on."""
    return bytes(Ether(src=REPLICA_SIDE, dst=MIDDLEBOX) / packet)


def routed(packet: Packet, to: str) -> bytes:
    """The packet as the switch forwards it to the host with this MAC: TTL one less, IPv4 checksum right."""
    out = packet.__class__(bytes(packet))
    if IP in out:
        out[IP].ttl -= 1
        del out[IP].chksum
    else:
        out[IPv6].hlim -= 1
    return bytes(Ether(src=MIDDLEBOX, dst=to) / out)


def tcp4(src: str = CLIENT4, sport: int = 40000, dst: str = SERVER4, dport: int = 80) -> Packet:
    """A TCP segment over IPv4, from the client to the server unless said otherwise."""
    return IP(src=src, dst=dst) / TCP(sport=sport, dport=dport, flags="PA") / PAYLOAD


def udp4(src: str = CLIENT4, sport: int = 40000, dst: str = SERVER4, dport: int = 53) -> Packet:
    """A UDP datagram over IPv4."""
    return IP(src=src, dst=dst) / UDP(sport=sport, dport=dport) / PAYLOAD


def tcp6(src: str = CLIENT6, sport: int = 40000, dst: str = SERVER6, dport: int = 80) -> Packet:
    """A TCP segment over IPv6."""
    return IPv6(src=src, dst=dst) / TCP(sport=sport, dport=dport, flags="PA") / PAYLOAD


def udp6(src: str = CLIENT6, sport: int = 40000, dst: str = SERVER6, dport: int = 53) -> Packet:
    """A UDP datagram over IPv6."""
    return IPv6(src=src, dst=dst) / UDP(sport=sport, dport=dport) / PAYLOAD
