"""Tagged frames on the wire: replicas answer the controller with them; from anyone else they are forged.

Run:  python ptf_tests/run.py [--target bmv2] tags[.Class]
"""

from base import CLIENT_PORT, PORT_OF, R1, R2, SERVER_PORT, SplitmergeTest
from frames import from_client, from_replica, tcp4
from ptf import testutils

from p4src import DropReason, PuntReason
from splitmerge import Tag, TagKind

EPOCH, SEQUENCE = 0x01020304, 0x0A0B0C0D


class Answer(SplitmergeTest):
    """Base: to the controller, with its tag, its port and its replica."""

    def check(self, kind: TagKind) -> None:
        for replica in (R1, R2):
            for frame in (from_replica(tcp4()), bytes(14)):
                tagged = Tag(kind, EPOCH, SEQUENCE).push(frame)
                self.send(PORT_OF[replica], tagged)
                self.expect_packet_in(tagged, PORT_OF[replica], PuntReason.TAGGED, replica=replica)
        testutils.verify_no_other_packets(self)


class MarkerEcho(Answer):
    def runTest(self) -> None:
        self.check(TagKind.MARKER_ECHO)


class RelayAck(Answer):
    def runTest(self) -> None:
        self.check(TagKind.RELAY_ACK)


class ForgedByHost(SplitmergeTest):
    """No kind of tag from a host goes anywhere, not even to the flow's replica."""

    def runTest(self) -> None:
        frame = from_client(tcp4())
        self.steer(frame, R1)
        for kind in TagKind:
            for port in (CLIENT_PORT, SERVER_PORT):
                self.expect_drop(port, Tag(kind, EPOCH, SEQUENCE).push(frame), DropReason.FORGED_TAG)


class OwnLoop(SplitmergeTest):
    """A replica's LOOP comes back to it, as it was, and to nobody else."""

    def runTest(self) -> None:
        for replica in (R1, R2):
            loop = Tag(TagKind.LOOP, EPOCH, SEQUENCE).push(bytes(60))
            self.send(PORT_OF[replica], loop)
            self.expect(PORT_OF[replica], loop)
        testutils.verify_no_other_packets(self)
        self.expect_no_packet_in()


class ForgedByReplica(SplitmergeTest):
    """A replica may not send what the controller sends."""

    def runTest(self) -> None:
        allowed = (TagKind.MARKER_ECHO, TagKind.RELAY_ACK, TagKind.LOOP)
        for kind in [kind for kind in TagKind if kind not in allowed]:
            tagged = Tag(kind, EPOCH, SEQUENCE).push(from_replica(tcp4()))
            self.expect_drop(PORT_OF[R1], tagged, DropReason.FORGED_TAG)
