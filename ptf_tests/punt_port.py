"""The punt port: packet-ins and packet-outs in Ethernet frames, from the controller's wire and from no other.

Run:  python ptf_tests/run.py [--target bmv2] [--punt ethernet] punt_port[.Class]
"""

from base import CLIENT_PORT, NOBODYS_PORT, PORT_OF, PUNT_PORT, R1, SERVER_PORT, SplitmergeTest, bucket_entry, key_of
from client import until
from frames import ARP, CLIENT, IP, MIDDLEBOX, Ether, Raw, from_client, from_replica, from_server, tcp4, tcp6, udp4
from ptf import testutils
from punt_client import packet_in_frame, packet_out_frame

from p4src import CPU_PORT, DropReason, PuntReason
from splitmerge import Tag, TagKind

EPOCH, SEQUENCE = 0xE0000001, 0x80000002


class PacketOut(SplitmergeTest):
    """From the punt port's wire all kinds are carried out, wherever clones go."""

    def runTest(self) -> None:
        for frame in (from_client(tcp4()), from_client(tcp6()), bytes(range(64)), bytes(14)):
            self.send(PUNT_PORT, packet_out_frame(frame, egress_port=PORT_OF[R1], epoch=EPOCH))
            self.expect(PORT_OF[R1], frame)
            for kind in (TagKind.RELAYED, TagKind.MARKER, TagKind.END):
                fields = {"egress_port": PORT_OF[R1], "kind": kind, "epoch": EPOCH, "sequence": SEQUENCE}
                self.send(PUNT_PORT, packet_out_frame(frame, **fields))
                self.expect(PORT_OF[R1], Tag(kind, EPOCH, SEQUENCE).push(frame))


class Loop(SplitmergeTest):
    """Comes back to the wire it came from, and only there."""

    def runTest(self) -> None:
        frame = from_client(tcp4())
        self.send(PUNT_PORT, packet_out_frame(frame, kind=TagKind.LOOP, epoch=EPOCH, sequence=SEQUENCE))
        looped = Tag(TagKind.LOOP, EPOCH, SEQUENCE).push(frame)
        self.expect(PUNT_PORT, packet_in_frame(looped, PUNT_PORT, reason=PuntReason.TAGGED))
        self.expect_no_packet_in()


class LoopOfP4Runtime(SplitmergeTest):
    """A packet-out of P4Runtime is carried out too, and its LOOP comes back as a packet-in of P4Runtime."""

    def runTest(self) -> None:
        client = getattr(self.client, "_client", self.client)
        client.packet_out(bytes(14), kind=TagKind.LOOP, epoch=EPOCH, sequence=SEQUENCE)
        packet = client.packet_in()
        self.assertEqual(packet.payload, Tag(TagKind.LOOP, EPOCH, SEQUENCE).push(bytes(14)))
        self.assertEqual(packet.metadata["ingress_port"], CPU_PORT)
        testutils.verify_no_other_packets(self)


class LongestFrame(SplitmergeTest):
    """1,514 bytes of a suspended flow, to the byte; and back again, relayed."""

    def runTest(self) -> None:
        frame = from_client(IP(src="10.0.1.2", dst="10.0.2.2", proto=99) / Raw(bytes(range(185)) * 8))
        self.assertEqual(len(frame), 1514)
        self.steer(frame, R1, suspend=True)
        self.send(CLIENT_PORT, frame)
        self.expect_punted(frame, CLIENT_PORT, PuntReason.SUSPENDED, R1)
        self.send(
            PUNT_PORT, packet_out_frame(frame, egress_port=PORT_OF[R1], kind=TagKind.RELAYED, epoch=1, sequence=1)
        )
        self.expect(PORT_OF[R1], Tag(TagKind.RELAYED, 1, 1).push(frame))


class Forged(SplitmergeTest):
    """A host or a replica that sends what only the controller may: nothing comes of it."""

    def runTest(self) -> None:
        frame = from_client(udp4())
        self.insert(bucket_entry(key_of(frame).bucket, R1))
        for kind in (*TagKind, 99):
            forged = packet_out_frame(frame, egress_port=PORT_OF[R1], kind=kind, epoch=EPOCH, sequence=SEQUENCE)
            for port in (CLIENT_PORT, SERVER_PORT, PORT_OF[R1]):
                self.expect_drop(port, forged, DropReason.FORGED_PACKET_OUT)
        self.expect_drop(CLIENT_PORT, packet_in_frame(frame, 1, reason=1), DropReason.FORGED_PACKET_OUT)
        self.expect_drop(NOBODYS_PORT, forged, DropReason.UNKNOWN_PORT)


class CutShort(SplitmergeTest):
    """A punt frame that ends too early: malformed from a host, a bad packet-out from the controller."""

    def runTest(self) -> None:
        whole = packet_out_frame(bytes(14), egress_port=PORT_OF[R1])
        for length in (14, 15, 24, 25, 38):
            self.expect_drop(CLIENT_PORT, whole[:length], DropReason.MALFORMED)
            self.expect_drop(PUNT_PORT, whole[:length], DropReason.BAD_PACKET_OUT)
        self.expect_drop(PUNT_PORT, whole[:13], DropReason.BAD_PACKET_OUT)


class OtherFrames(SplitmergeTest):
    """What else comes from the punt port's wire is steered nowhere: no host is there, and no replica."""

    def runTest(self) -> None:
        frame = from_server(tcp4())
        self.insert(bucket_entry(key_of(frame).bucket, R1))
        tagged = Tag(TagKind.MARKER_ECHO, 1, 1).push(from_replica(tcp4()))
        request = bytes(Ether(src=CLIENT, dst=MIDDLEBOX) / ARP(pdst="10.0.1.1"))
        for other in (frame, tagged, request):
            self.expect_drop(PUNT_PORT, other, DropReason.BAD_PACKET_OUT)


class BadPacketOut(SplitmergeTest):
    """Kinds and ports that cannot be."""

    def runTest(self) -> None:
        frame = from_client(tcp4())
        for kind in (TagKind.MARKER_ECHO, TagKind.RELAY_ACK, 7, 255):
            bad = packet_out_frame(frame, egress_port=PORT_OF[R1], kind=kind)
            self.expect_drop(PUNT_PORT, bad, DropReason.BAD_PACKET_OUT)
        for port in (CPU_PORT, 511):
            self.expect_drop(PUNT_PORT, packet_out_frame(frame, egress_port=port), DropReason.BAD_PACKET_OUT)


class OrderOfClonesAndLoop(SplitmergeTest):
    """Clones, then the loop frame: also when the frames are those of two ports and two flows."""

    def runTest(self) -> None:
        there = [from_client(udp4() / f"{number:04}") for number in range(20)]
        back = [from_server(udp4("10.0.2.2", 53, "10.0.1.2", 40001) / f"{number:04}") for number in range(20)]
        self.steer(there[0], R1, suspend=True)
        self.steer(back[0], R1, suspend=True)
        punted, _ = self.drops(DropReason.PUNTED)
        for one, other in zip(there, back, strict=True):
            self.send(CLIENT_PORT, one)
            self.send(SERVER_PORT, other)
        until(lambda: self.drops(DropReason.PUNTED)[0] == punted + 40, "all punted")
        self.client.packet_out(bytes(14), kind=TagKind.LOOP, epoch=EPOCH, sequence=SEQUENCE)
        arrived = [self.client.packet_in().payload for _ in range(40)]
        self.assertEqual([frame for frame in arrived if frame in there], there)
        self.assertEqual([frame for frame in arrived if frame in back], back)
        looped = Tag(TagKind.LOOP, EPOCH, SEQUENCE).push(bytes(14))
        self.expect_packet_in(looped, self.controller_port, PuntReason.TAGGED)
