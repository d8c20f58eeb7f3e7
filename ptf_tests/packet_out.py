"""What the controller sends: plain, relayed, marker, end, loop.

Run:  python ptf_tests/run.py [--target bmv2] packet_out[.Class]
"""

from base import CLIENT_PORT, PORT_OF, R1, R2, SplitmergeTest
from client import until
from frames import from_client, tcp4, tcp6
from ptf import testutils

from p4src import CPU_PORT, DROP_PORT, DropReason, PuntReason
from splitmerge import Tag, TagKind

EPOCH, SEQUENCE = 0xE0000001, 0x80000002
HEADER_LENGTH = {"packet-in": 11, "ethernet": 14 + 11}
"""Bytes in front of a frame that is a packet-out, which the drop counter counts."""


class Plain(SplitmergeTest):
    """Out of the port asked for, to the byte: no tag, no other change, whatever the frame is."""

    def runTest(self) -> None:
        for frame in (from_client(tcp4()), from_client(tcp6()), bytes(range(64)), bytes(14)):
            self.client.packet_out(frame, egress_port=PORT_OF[R1], kind=TagKind.PLAIN, epoch=EPOCH)
            self.expect(PORT_OF[R1], frame)
            self.client.packet_out(frame, egress_port=CLIENT_PORT, kind=TagKind.PLAIN)
            self.expect(CLIENT_PORT, frame)


class Tagged(SplitmergeTest):
    """Base: a tag with the epoch and sequence asked for is in front of the EtherType."""

    def check(self, kind: TagKind) -> None:
        for frame in (from_client(tcp4()), from_client(tcp6()), bytes(14)):
            self.client.packet_out(frame, egress_port=PORT_OF[R2], kind=kind, epoch=EPOCH, sequence=SEQUENCE)
            self.expect(PORT_OF[R2], Tag(kind, EPOCH, SEQUENCE).push(frame))


class Relayed(Tagged):
    def runTest(self) -> None:
        self.check(TagKind.RELAYED)


class Marker(Tagged):
    def runTest(self) -> None:
        self.check(TagKind.MARKER)


class End(Tagged):
    def runTest(self) -> None:
        self.check(TagKind.END)


class Loop(SplitmergeTest):
    """Comes back as a packet-in, tagged; the port asked for does not matter."""

    def runTest(self) -> None:
        frame = from_client(tcp4())
        for port in (0, PORT_OF[R1], CPU_PORT, DROP_PORT):
            self.client.packet_out(frame, egress_port=port, kind=TagKind.LOOP, epoch=EPOCH, sequence=SEQUENCE)
            self.expect_packet_in(
                Tag(TagKind.LOOP, EPOCH, SEQUENCE).push(frame), self.controller_port, PuntReason.TAGGED
            )
        testutils.verify_no_other_packets(self)


class LoopFollowsClones(SplitmergeTest):
    """A loop frame that is sent after packets were punted arrives after them."""

    def runTest(self) -> None:
        frames = [from_client(tcp4() / f"{number:04}") for number in range(30)]
        self.steer(frames[0], R1, suspend=True)
        punted, _ = self.drops(DropReason.PUNTED)
        for frame in frames:
            self.send(CLIENT_PORT, frame)
        until(lambda: self.drops(DropReason.PUNTED)[0] == punted + len(frames), "all punted")
        self.client.packet_out(bytes(14), kind=TagKind.LOOP, epoch=EPOCH, sequence=SEQUENCE)
        self.assertEqual([self.client.packet_in().payload for _ in frames], frames)
        self.expect_packet_in(
            Tag(TagKind.LOOP, EPOCH, SEQUENCE).push(bytes(14)), self.controller_port, PuntReason.TAGGED
        )


class MarkerFollowsPackets(SplitmergeTest):
    """A marker that is sent after the switch took packets leaves after them."""

    def runTest(self) -> None:
        frames = [from_client(tcp4() / f"{number:04}") for number in range(30)]
        key = self.steer(frames[0], R1)
        for frame in frames:
            self.send(CLIENT_PORT, frame)
        until(lambda: self.counted(key)[0] == len(frames), "all steered")
        self.client.packet_out(bytes(14), egress_port=PORT_OF[R1], kind=TagKind.MARKER, epoch=EPOCH, sequence=1)
        for frame in [*frames, Tag(TagKind.MARKER, EPOCH, 1).push(bytes(14))]:
            result = testutils.dp_poll(self, port_number=PORT_OF[R1])
            self.assertEqual(result.packet.hex(), frame.hex())


class BadPacketOut(SplitmergeTest):
    """Base: dropped and counted."""

    def check(self, frame: bytes, **metadata: int) -> None:
        packets, octets = self.drops(DropReason.BAD_PACKET_OUT)
        self.client.packet_out(frame, **metadata)
        expected = (packets + 1, octets + len(frame) + HEADER_LENGTH[self.punt()])
        until(lambda: self.drops(DropReason.BAD_PACKET_OUT) == expected, "a drop counted")
        testutils.verify_no_other_packets(self)
        self.expect_no_packet_in()


class BadKind(BadPacketOut):
    """Kinds that only replicas may send, and kinds that are none."""

    def runTest(self) -> None:
        for kind in (TagKind.MARKER_ECHO, TagKind.RELAY_ACK, 7, 255):
            self.check(from_client(tcp4()), egress_port=PORT_OF[R1], kind=kind)


class BadPort(BadPacketOut):
    """To the CPU port other than as a loop, or to the drop port."""

    def runTest(self) -> None:
        for kind in (TagKind.PLAIN, TagKind.RELAYED, TagKind.MARKER, TagKind.END):
            self.check(from_client(tcp4()), egress_port=CPU_PORT, kind=kind)
            self.check(from_client(tcp4()), egress_port=DROP_PORT, kind=kind)


class ShortFrame(BadPacketOut):
    """Not even an Ethernet header."""

    def runTest(self) -> None:
        self.check(bytes(13), egress_port=PORT_OF[R1], kind=TagKind.PLAIN)
        self.check(bytes(13), kind=TagKind.LOOP)
