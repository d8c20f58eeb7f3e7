"""ARP and IPv6 neighbour discovery for the middlebox's addresses are answered in the switch.

Run:  python ptf_tests/run.py [--target bmv2] neighbors[.Class]
"""

from base import CLIENT_PORT, PORT_OF, R1, SplitmergeTest
from frames import (
    ARP,
    CLIENT,
    CLIENT4,
    CLIENT6,
    GATEWAY4,
    GATEWAY6,
    MIDDLEBOX,
    Ether,
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6NDOptDstLLAddr,
    ICMPv6NDOptSrcLLAddr,
    IPv6,
    Packet,
    Raw,
    from_client,
)

from p4src import DropReason

BROADCAST = "ff:ff:ff:ff:ff:ff"
SOLICITED_MAC, SOLICITED_NODE = "33:33:ff:00:00:01", "ff02::1:ff00:1"
ALL_NODES_MAC, ALL_NODES = "33:33:00:00:00:01", "ff02::1"
NONCE = Raw(bytes.fromhex("0e01a1a2a3a4a5a6"))
"""Option that Linux puts into its duplicate address detection, RFC 3971 §5.3.2."""


def request(dst: str = BROADCAST) -> bytes:
    """An ARP request of the client's for its gateway."""
    arp = ARP(op="who-has", hwsrc=CLIENT, psrc=CLIENT4, hwdst="00:00:00:00:00:00", pdst=GATEWAY4)
    return bytes(Ether(src=CLIENT, dst=dst) / arp)


def patched(frame: bytes, offset: int, octets: str) -> bytes:
    """The frame with these bytes (hexadecimal) at this offset behind the Ethernet header."""
    new = bytes.fromhex(octets)
    return frame[: 14 + offset] + new + frame[14 + offset + len(new) :]


def solicitation(src: str = CLIENT6, target: str = GATEWAY6, options: Packet | None = None, **ip: int) -> bytes:
    """A neighbour solicitation of the client's for its gateway."""
    head = IPv6(src=src, dst=SOLICITED_NODE, hlim=255)
    for name, value in ip.items():
        setattr(head, name, value)
    body = ICMPv6ND_NS(tgt=target)
    return bytes(Ether(src=CLIENT, dst=SOLICITED_MAC) / head / (body if options is None else body / options))


def advertisement(dst_mac: str = CLIENT, dst: str = CLIENT6, solicited: int = 1) -> bytes:
    """What the switch answers; scapy computes the checksum."""
    body = ICMPv6ND_NA(R=1, S=solicited, O=1, tgt=GATEWAY6) / ICMPv6NDOptDstLLAddr(lladdr=MIDDLEBOX)
    return bytes(Ether(src=MIDDLEBOX, dst=dst_mac) / IPv6(src=GATEWAY6, dst=dst, hlim=255) / body)


class ArpReply(SplitmergeTest):
    """To the asker alone; broadcast or unicast, padded or not."""

    def runTest(self) -> None:
        reply = ARP(op="is-at", hwsrc=MIDDLEBOX, psrc=GATEWAY4, hwdst=CLIENT, pdst=CLIENT4)
        expected = bytes(Ether(src=MIDDLEBOX, dst=CLIENT) / reply)
        self.through(CLIENT_PORT, request(), CLIENT_PORT, expected)
        self.through(CLIENT_PORT, request(dst=MIDDLEBOX), CLIENT_PORT, expected)
        self.through(CLIENT_PORT, request() + bytes(18), CLIENT_PORT, expected + bytes(18))


class ArpProbe(SplitmergeTest):
    """A host that wants the middlebox's address for itself learns that it is taken (RFC 5227 §2.1.1)."""

    def runTest(self) -> None:
        probe = ARP(op="who-has", hwsrc=CLIENT, psrc="0.0.0.0", hwdst="00:00:00:00:00:00", pdst=GATEWAY4)
        reply = ARP(op="is-at", hwsrc=MIDDLEBOX, psrc=GATEWAY4, hwdst=CLIENT, pdst="0.0.0.0")
        expected = bytes(Ether(src=MIDDLEBOX, dst=CLIENT) / reply)
        self.through(CLIENT_PORT, bytes(Ether(src=CLIENT, dst=BROADCAST) / probe), CLIENT_PORT, expected)


ODD_ARP = {
    "another address": (24, "0a000109"),
    "a reply": (6, "0002"),
    "a reverse request": (6, "0003"),
    "not Ethernet": (0, "0006"),
    "not IPv4": (2, "86dd"),
    "long MACs": (4, "08"),
    "long addresses": (5, "10"),
}
"""What makes a request of the client's one that is not answered: offset in the ARP packet, bytes there."""


class ArpUnanswered(SplitmergeTest):
    """Requests for others, replies, odd ARP, and replicas' requests: dropped."""

    def runTest(self) -> None:
        for name, (offset, octets) in ODD_ARP.items():
            with self.subTest(name):
                self.expect_drop(CLIENT_PORT, patched(request(), offset, octets), DropReason.UNANSWERED)
        self.expect_drop(PORT_OF[R1], request(), DropReason.UNANSWERED)


class NeighborReply(SplitmergeTest):
    """The advertisement, checksum and all, whether the solicitation has an option or none, or is unicast."""

    def runTest(self) -> None:
        source = ICMPv6NDOptSrcLLAddr(lladdr=CLIENT)
        self.through(CLIENT_PORT, solicitation(options=source), CLIENT_PORT, advertisement())
        self.through(CLIENT_PORT, solicitation(), CLIENT_PORT, advertisement())
        unicast = IPv6(src=CLIENT6, dst=GATEWAY6, hlim=255) / ICMPv6ND_NS(tgt=GATEWAY6) / source
        self.through(CLIENT_PORT, from_client(unicast), CLIENT_PORT, advertisement())


class NeighborReplyManyOptions(SplitmergeTest):
    """Options beyond the first stay behind the end of the IPv6 packet, as padding."""

    def runTest(self) -> None:
        options = ICMPv6NDOptSrcLLAddr(lladdr=CLIENT) / NONCE
        expected = advertisement() + bytes(NONCE)
        self.through(CLIENT_PORT, solicitation(options=options), CLIENT_PORT, expected)


class DuplicateAddress(SplitmergeTest):
    """A host that wants the middlebox's address for itself: all nodes are told that it is taken (RFC 4861 §7.2.4)."""

    def runTest(self) -> None:
        expected = advertisement(ALL_NODES_MAC, ALL_NODES, solicited=0)
        self.through(CLIENT_PORT, solicitation(src="::"), CLIENT_PORT, expected)
        self.through(CLIENT_PORT, solicitation(src="::", options=NONCE), CLIENT_PORT, expected)


class NeighborUnanswered(SplitmergeTest):
    """Other addresses, packets from beyond the link, other neighbour discovery, and replicas: dropped."""

    def runTest(self) -> None:
        self.expect_drop(CLIENT_PORT, solicitation(target="fd00:1::9"), DropReason.UNANSWERED)
        self.expect_drop(CLIENT_PORT, solicitation(hlim=254), DropReason.UNANSWERED)
        self.expect_drop(CLIENT_PORT, solicitation(plen=23, options=NONCE), DropReason.UNANSWERED)
        self.expect_drop(PORT_OF[R1], solicitation(), DropReason.UNANSWERED)
        coded = IPv6(src=CLIENT6, dst=GATEWAY6, hlim=255) / ICMPv6ND_NS(code=1, tgt=GATEWAY6)
        self.expect_drop(CLIENT_PORT, from_client(coded), DropReason.UNANSWERED)
        for kind in (133, 134, 136, 137):
            other = IPv6(src=CLIENT6, dst=GATEWAY6, hlim=255, nh=58) / Raw(bytes([kind]) + bytes(39))
            self.expect_drop(CLIENT_PORT, from_client(other), DropReason.UNANSWERED)
