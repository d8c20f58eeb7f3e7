"""Every reason for a drop that no other module shows: counted once, under its own index, and out nowhere.

Run:  python ptf_tests/run.py [--target bmv2] drops[.Class]
"""

from base import CLIENT_PORT, NOBODYS_PORT, PORT_OF, R1, SERVER_PORT, SplitmergeTest, bucket_entry, key_of
from frames import (
    ARP,
    CLIENT,
    CLIENT4,
    CLIENT6,
    ICMP,
    IP,
    MIDDLEBOX,
    SERVER,
    SERVER4,
    SERVER6,
    Ether,
    ICMPv6EchoRequest,
    ICMPv6ND_NS,
    IPv6,
    IPv6ExtHdrFragment,
    Packet,
    Raw,
    from_client,
    from_replica,
    routed,
    tcp4,
    tcp6,
    udp4,
    udp6,
)

from p4src import DropReason
from splitmerge import Tag, TagKind


def broken(packet: Packet, length: int) -> bytes:
    """The client's frame, cut after so many bytes behind the Ethernet header."""
    return from_client(packet)[: 14 + length]


class UnknownPort(SplitmergeTest):
    """Whatever comes from a port without a role, well-formed or not."""

    def runTest(self) -> None:
        self.steer(from_client(tcp4()), R1)
        for frame in (from_client(tcp4()), from_client(tcp6()), Tag(TagKind.MARKER_ECHO, 1, 1).push(bytes(14)), b"x"):
            self.expect_drop(NOBODYS_PORT, frame, DropReason.UNKNOWN_PORT)


class CutShort(SplitmergeTest):
    """Each header, one byte short; and every length of a frame up to the ports."""

    def runTest(self) -> None:
        options = tcp4()
        options[IP].options = [b"\x01" * 8]
        echo = IP(src=CLIENT4, dst=SERVER4) / ICMP(id=1)
        echo6 = IPv6(src=CLIENT6, dst=SERVER6) / ICMPv6EchoRequest(id=1)
        part = IPv6(src=CLIENT6, dst=SERVER6) / IPv6ExtHdrFragment(nh=17, m=1)
        solicitation = IPv6(src=CLIENT6, dst=SERVER6, hlim=255) / ICMPv6ND_NS(tgt=SERVER6)
        cases = [
            (tcp4(), 19),
            (tcp4(), 23),
            (udp4(), 23),
            (options, 27),
            (options, 31),
            (echo, 20),
            (echo, 23),
            (echo, 27),
            (tcp6(), 39),
            (tcp6(), 43),
            (udp6(), 43),
            (echo6, 47),
            (part, 47),
            (solicitation, 63),
            (ARP(), 27),
        ]
        for packet, length in cases:
            self.expect_drop(CLIENT_PORT, broken(packet, length), DropReason.MALFORMED)
        tagged = Tag(TagKind.MARKER_ECHO, 1, 1).push(bytes(14))
        self.expect_drop(PORT_OF[R1], tagged[:-1], DropReason.MALFORMED)
        self.expect_drop(CLIENT_PORT, from_client(tcp4())[:13], DropReason.MALFORMED)


class BadVersionOrLength(SplitmergeTest):
    """IPv4 that says it is version 6 or 0, an IHL below 5, IPv6 that says it is version 4; from hosts and replicas."""

    def runTest(self) -> None:
        v4, v6 = from_client(tcp4()), from_client(tcp6())
        for first in (0x65, 0x05, 0xF5, 0x44, 0x40):
            frame = v4[:14] + bytes([first]) + v4[15:]
            self.expect_drop(CLIENT_PORT, frame, DropReason.MALFORMED)
            self.expect_drop(PORT_OF[R1], frame, DropReason.MALFORMED)
        for first in (0x40, 0x00, 0x70):
            self.expect_drop(CLIENT_PORT, v6[:14] + bytes([first]) + v6[15:], DropReason.MALFORMED)


class BadChecksum(SplitmergeTest):
    """One bit wrong anywhere in an IPv4 header, options included."""

    def runTest(self) -> None:
        options = udp4()
        options[IP].options = [b"\x07\x07\x04\x01\x02\x03\x04\x00"]
        for packet, offsets in ((tcp4(), (1, 8, 10, 12, 19)), (options, (10, 20, 27))):
            frame = bytearray(from_client(packet))
            self.steer(bytes(frame), R1)
            for offset in offsets:
                frame[14 + offset] ^= 0x10
                self.expect_drop(CLIENT_PORT, bytes(frame), DropReason.BAD_CHECKSUM)
                self.expect_drop(PORT_OF[R1], bytes(frame), DropReason.BAD_CHECKSUM)
                frame[14 + offset] ^= 0x10
            self.through(CLIENT_PORT, bytes(frame), PORT_OF[R1])


class NotIp(SplitmergeTest):
    """LLDP, a VLAN tag, an 802.3 length, and an Ethernet header alone."""

    def runTest(self) -> None:
        for ether_type in (0x88CC, 0x8100, 0x0026):
            frame = bytes(Ether(src=CLIENT, dst=MIDDLEBOX, type=ether_type) / Raw(b"n" * 46))
            self.expect_drop(CLIENT_PORT, frame, DropReason.NOT_IP)
            self.expect_drop(PORT_OF[R1], frame, DropReason.NOT_IP)
        self.expect_drop(CLIENT_PORT, bytes(14), DropReason.NOT_IP)


class NotUnicast(SplitmergeTest):
    """By the MAC, or by the address; from hosts, and from replicas."""

    def runTest(self) -> None:
        frames = [
            bytes(Ether(src=CLIENT, dst="ff:ff:ff:ff:ff:ff") / udp4()),
            bytes(Ether(src=CLIENT, dst="01:00:5e:00:00:05") / udp4()),
            bytes(Ether(src=CLIENT, dst="33:33:00:00:00:05") / udp6()),
            from_client(udp4(dst="224.0.0.5")),
            from_client(udp4(dst="239.255.255.255")),
            from_client(udp4(dst="255.255.255.255")),
            from_client(udp6(dst="ff02::fb")),
        ]
        self.steer(frames[0], R1)
        for frame in frames:
            self.expect_drop(CLIENT_PORT, frame, DropReason.NOT_UNICAST)
            self.expect_drop(PORT_OF[R1], frame, DropReason.NOT_UNICAST)


class NoBucket(SplitmergeTest):
    """Neither the flow nor its bucket has an entry."""

    def runTest(self) -> None:
        self.expect_drop(CLIENT_PORT, from_client(tcp4()), DropReason.NO_BUCKET)
        self.expect_drop(SERVER_PORT, from_client(tcp6()), DropReason.NO_BUCKET)


class NoReplica(SplitmergeTest):
    """The flow's or bucket's replica has no port."""

    def runTest(self) -> None:
        frame, other = from_client(tcp4()), from_client(udp6())
        self.steer(frame, 9999)
        self.insert(bucket_entry(key_of(other).bucket, 9999))
        self.expect_drop(CLIENT_PORT, frame, DropReason.NO_REPLICA)
        self.expect_drop(CLIENT_PORT, other, DropReason.NO_REPLICA)


class NothingDropped(SplitmergeTest):
    """What is forwarded counts as no drop at all."""

    def runTest(self) -> None:
        frame = from_client(tcp4())
        self.steer(frame, R1)
        before = self.all_drops()
        self.through(CLIENT_PORT, frame, PORT_OF[R1])
        self.through(PORT_OF[R1], from_replica(tcp4()), SERVER_PORT, routed(tcp4(), SERVER))
        self.expect_no_packet_in()
        self.assertEqual(self.all_drops(), before)
        self.assertEqual(self.drops(DropReason.NONE), (0, 0))
