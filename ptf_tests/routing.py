"""Packets from replicas go on by destination: MACs set, TTL decremented, checksum right, all else as it was.

Run:  python ptf_tests/run.py [--target bmv2] routing[.Class]
"""

import finsy
from base import CLIENT_PORT, PORT_OF, R1, R2, R3, SERVER_PORT, SplitmergeTest, entry
from frames import (
    CLIENT,
    CLIENT4,
    CLIENT6,
    ICMP,
    IP,
    MIDDLEBOX,
    SERVER,
    SERVER4,
    SERVER6,
    TCP,
    Ether,
    IPv6,
    IPv6ExtHdrFragment,
    Raw,
    from_replica,
    routed,
    tcp4,
    tcp6,
    udp4,
    udp6,
)

from p4src import DropReason


class ToServer(SplitmergeTest):
    """From every replica, flow entry or not."""

    def runTest(self) -> None:
        for replica in (R1, R2, R3):
            for packet in (tcp4(), udp4(), tcp6(), udp6(), IP(src=CLIENT4, dst=SERVER4) / ICMP()):
                self.through(PORT_OF[replica], from_replica(packet), SERVER_PORT, routed(packet, SERVER))


class ToClient(SplitmergeTest):
    def runTest(self) -> None:
        for packet in (tcp4(SERVER4, 80, CLIENT4, 40000), tcp6(SERVER6, 80, CLIENT6, 40000)):
            self.through(PORT_OF[R1], from_replica(packet), CLIENT_PORT, routed(packet, CLIENT))


class FlowEntryDoesNotMatter(SplitmergeTest):
    """A suspended or steered flow's packet from a replica has been through the middlebox: it goes on."""

    def runTest(self) -> None:
        frame = from_replica(tcp4())
        self.steer(frame, R2, suspend=True)
        self.through(PORT_OF[R1], frame, SERVER_PORT, routed(tcp4(), SERVER))
        self.expect_no_packet_in()


class FragmentsOn(SplitmergeTest):
    def runTest(self) -> None:
        v4 = IP(src=CLIENT4, dst=SERVER4, proto="udp", frag=3, flags="MF", id=9) / Raw(b"k" * 16)
        v6 = IPv6(src=CLIENT6, dst=SERVER6) / IPv6ExtHdrFragment(nh=6, offset=4, m=1, id=7) / Raw(b"l" * 16)
        for packet in (v4, v6):
            self.through(PORT_OF[R1], from_replica(packet), SERVER_PORT, routed(packet, SERVER))


class Options(SplitmergeTest):
    """Every length of options, from 4 to 40 bytes, survives, under a checksum that is right."""

    def runTest(self) -> None:
        for length in range(4, 44, 4):
            packet = tcp4()
            packet[IP].options = [bytes([0x44, length, 5, 0]) + bytes(range(length - 4))]
            out = IP(bytes(packet))
            self.assertEqual(out[IP].ihl, 5 + length // 4)
            self.through(PORT_OF[R1], from_replica(packet), SERVER_PORT, routed(packet, SERVER))


class LongestPrefix(SplitmergeTest):
    """The more special route wins."""

    def runTest(self) -> None:
        router = "02:00:00:00:03:02"
        other = {"port": CLIENT_PORT, "src_mac": MIDDLEBOX, "dst_mac": router}
        self.insert(
            entry("route_v4", {"dst": "10.0.2.128/25"}, "forward", **other),
            entry("route_v6", {"dst": "fd00:2::ff:0/112"}, "forward", **other),
        )
        for packet in (tcp4(dst="10.0.2.129"), tcp6(dst="fd00:2::ff:9")):
            self.through(PORT_OF[R1], from_replica(packet), CLIENT_PORT, routed(packet, router))
        for packet in (tcp4(dst="10.0.2.127"), tcp6(dst="fd00:2::fe:9")):
            self.through(PORT_OF[R1], from_replica(packet), SERVER_PORT, routed(packet, SERVER))


class DefaultRoute(SplitmergeTest):
    """A prefix of length 0."""

    def runTest(self) -> None:
        action = finsy.P4TableAction("forward", port=SERVER_PORT, src_mac=MIDDLEBOX, dst_mac=SERVER)
        self.insert(finsy.P4TableEntry("route_v4", action=action), finsy.P4TableEntry("route_v6", action=action))
        for packet in (tcp4(dst="198.51.100.7"), tcp6(dst="2001:db8::7")):
            self.through(PORT_OF[R1], from_replica(packet), SERVER_PORT, routed(packet, SERVER))


class ChecksumCarry(SplitmergeTest):
    """The incremental checksum around every value at which its carry changes."""

    def runTest(self) -> None:
        for wanted in (0x0000, 0x0001, 0x00FF, 0x0100, 0xFEFD, 0xFEFE, 0xFEFF, 0xFF00, 0xFF01, 0xFFFD, 0xFFFE):
            packet = IP(bytes(self.with_checksum(wanted)))
            self.assertEqual(packet.chksum, wanted)
            self.through(PORT_OF[R1], from_replica(packet), SERVER_PORT, routed(packet, SERVER))

    def with_checksum(self, wanted: int) -> IP:
        """A packet of which the identification makes the header's checksum this."""
        base = IP(bytes(IP(src=CLIENT4, dst=SERVER4, id=0) / TCP() / Raw(b"m")))
        total = (0xFFFF - base.chksum) + 0xFFFF - (0xFFFF - wanted)
        identification = 0xFFFF - (total & 0xFFFF) - (total >> 16)
        base.id = identification % 0x10000
        del base.chksum
        return base


class TtlTwo(SplitmergeTest):
    """The least that is forwarded."""

    def runTest(self) -> None:
        v4, v6 = tcp4(), tcp6()
        v4[IP].ttl = v6[IPv6].hlim = 2
        for packet in (v4, v6):
            self.through(PORT_OF[R1], from_replica(packet), SERVER_PORT, routed(packet, SERVER))


class TtlExpired(SplitmergeTest):
    def runTest(self) -> None:
        for ttl in (1, 0):
            v4, v6 = tcp4(), tcp6()
            v4[IP].ttl = v6[IPv6].hlim = ttl
            for packet in (v4, v6):
                self.expect_drop(PORT_OF[R1], from_replica(packet), DropReason.TTL_EXPIRED)


class TtlDoesNotMatterToReplica(SplitmergeTest):
    """The middlebox is the router: only the way out of it decrements."""

    def runTest(self) -> None:
        packet = tcp4()
        packet[IP].ttl = 1
        frame = bytes(Ether(src=CLIENT, dst=MIDDLEBOX) / packet)
        self.steer(frame, R1)
        self.through(CLIENT_PORT, frame, PORT_OF[R1])


class NoRoute(SplitmergeTest):
    def runTest(self) -> None:
        self.expect_drop(PORT_OF[R1], from_replica(tcp4(dst="192.0.2.1")), DropReason.NO_ROUTE)
        self.expect_drop(PORT_OF[R1], from_replica(tcp6(dst="2001:db8::1")), DropReason.NO_ROUTE)
