"""Packets from hosts go to the replica that the flow's entry, or else its bucket's, names; unchanged.

Run:  python ptf_tests/run.py [--target bmv2] steering[.Class]
"""

from base import CLIENT_PORT, PORT_OF, R1, R2, R3, SERVER_PORT, SplitmergeTest, bucket_entry, flow_entry, key_of
from frames import (
    CLIENT4,
    CLIENT6,
    ICMP,
    IP,
    SERVER4,
    SERVER6,
    ICMPv6EchoReply,
    ICMPv6EchoRequest,
    IPv6,
    Packet,
    Raw,
    from_client,
    from_server,
    tcp4,
    tcp6,
    udp4,
    udp6,
)


class BothDirections(SplitmergeTest):
    """Base: one entry, for the way there, also steers the way back."""

    def check(self, there: Packet, back: Packet) -> None:
        there_frame, back_frame = from_client(there), from_server(back)
        self.steer(there_frame, R1)
        self.through(CLIENT_PORT, there_frame, PORT_OF[R1])
        self.through(SERVER_PORT, back_frame, PORT_OF[R1])


class Tcp4(BothDirections):
    def runTest(self) -> None:
        self.check(tcp4(), tcp4(SERVER4, 80, CLIENT4, 40000))


class Udp4(BothDirections):
    def runTest(self) -> None:
        self.check(udp4(), udp4(SERVER4, 53, CLIENT4, 40000))


class Tcp6(BothDirections):
    def runTest(self) -> None:
        self.check(tcp6(), tcp6(SERVER6, 80, CLIENT6, 40000))


class Udp6(BothDirections):
    def runTest(self) -> None:
        self.check(udp6(), udp6(SERVER6, 53, CLIENT6, 40000))


class IcmpEcho(BothDirections):
    """Request and reply have their identifier as both ports."""

    def runTest(self) -> None:
        there = IP(src=CLIENT4, dst=SERVER4) / ICMP(type="echo-request", id=77, seq=3)
        back = IP(src=SERVER4, dst=CLIENT4) / ICMP(type="echo-reply", id=77, seq=3)
        key = key_of(from_client(there))
        self.assertEqual(str(key), "icmp,10.0.1.2:77,10.0.2.2:77")
        self.check(there, back)


class Icmp6Echo(BothDirections):
    def runTest(self) -> None:
        there = IPv6(src=CLIENT6, dst=SERVER6) / ICMPv6EchoRequest(id=77, seq=3)
        back = IPv6(src=SERVER6, dst=CLIENT6) / ICMPv6EchoReply(id=77, seq=3)
        key = key_of(from_client(there))
        self.assertEqual(str(key), "icmp6,[fd00:1::2]:77,[fd00:2::2]:77")
        self.check(there, back)


class IcmpError(BothDirections):
    """Other ICMP has ports 0, and goes both ways."""

    def runTest(self) -> None:
        there = IP(src=CLIENT4, dst=SERVER4) / ICMP(type="dest-unreach", code=3) / udp4()
        back = IP(src=SERVER4, dst=CLIENT4) / ICMP(type="dest-unreach", code=3) / udp4()
        self.check(there, back)


class OtherProtocol4(BothDirections):
    """A protocol without ports, of one byte."""

    def runTest(self) -> None:
        self.check(IP(src=CLIENT4, dst=SERVER4, proto=132) / b"x", IP(src=SERVER4, dst=CLIENT4, proto=132) / b"y")


class OtherProtocol6(BothDirections):
    """An extension header other than Fragment is keyed by its own number."""

    def runTest(self) -> None:
        self.check(IPv6(src=CLIENT6, dst=SERVER6, nh=60) / b"x", IPv6(src=SERVER6, dst=CLIENT6, nh=60) / b"y")


class FlowsApart(SplitmergeTest):
    """Flows that differ in one field only have their own replicas."""

    def runTest(self) -> None:
        frames = [from_client(packet) for packet in (tcp4(), udp4(dport=80), tcp4(sport=40001), tcp4(dst="10.0.2.3"))]
        replicas = [R1, R2, R3, R2]
        for frame, replica in zip(frames, replicas, strict=True):
            self.steer(frame, replica)
        for frame, replica in zip(frames, replicas, strict=True):
            self.through(CLIENT_PORT, frame, PORT_OF[replica])


class ByBucket(SplitmergeTest):
    """A flow without an entry goes where its bucket says, in both directions."""

    def runTest(self) -> None:
        there, back = from_client(tcp4()), from_server(tcp4(SERVER4, 80, CLIENT4, 40000))
        self.insert(bucket_entry(key_of(there).bucket, R2))
        self.through(CLIENT_PORT, there, PORT_OF[R2])
        self.through(SERVER_PORT, back, PORT_OF[R2])


class ByBucket6(SplitmergeTest):
    def runTest(self) -> None:
        there, back = from_client(udp6()), from_server(udp6(SERVER6, 53, CLIENT6, 40000))
        self.insert(bucket_entry(key_of(there).bucket, R3))
        self.through(CLIENT_PORT, there, PORT_OF[R3])
        self.through(SERVER_PORT, back, PORT_OF[R3])


class FlowBeforeBucket(SplitmergeTest):
    """The flow's entry wins; without it, the bucket's counts again."""

    def runTest(self) -> None:
        frame = from_client(tcp4())
        key = self.steer(frame, R1)
        self.insert(bucket_entry(key.bucket, R2))
        self.through(CLIENT_PORT, frame, PORT_OF[R1])
        self.delete(flow_entry(key, R1))
        self.through(CLIENT_PORT, frame, PORT_OF[R2])


class ModifyMoves(SplitmergeTest):
    """One MODIFY sends a flow to another replica."""

    def runTest(self) -> None:
        frame = from_client(tcp4())
        key = self.steer(frame, R1)
        self.through(CLIENT_PORT, frame, PORT_OF[R1])
        self.modify(flow_entry(key, R2))
        self.through(CLIENT_PORT, frame, PORT_OF[R2])


class LargeAndSmall(SplitmergeTest):
    """The shortest frame with a key, a full one, and one with Ethernet padding arrive as they were."""

    def runTest(self) -> None:
        shortest = from_client(IP(src=CLIENT4, dst=SERVER4, proto="udp") / Raw(bytes.fromhex("9c400035")))
        full = from_client(udp4() / Raw(b"z" * 1456))
        padded = from_client(udp4() / b"") + bytes(9)
        self.steer(shortest, R1)
        for frame in (shortest, full, padded):
            self.through(CLIENT_PORT, frame, PORT_OF[R1])
