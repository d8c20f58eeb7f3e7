"""Packets of suspended flows, and of new flows that the controller assigns, go to the controller and nowhere else.

Run:  python ptf_tests/run.py [--target bmv2] suspend[.Class]
"""

from base import CLIENT_PORT, PORT_OF, R1, R2, SERVER_PORT, SplitmergeTest, bucket_entry, flow_entry, key_of
from client import until
from frames import CLIENT4, CLIENT6, IP, SERVER4, SERVER6, from_client, from_server, tcp4, tcp6, udp4, udp6
from ptf import testutils

from p4src import DropReason, PuntReason
from splitmerge import Tag, TagKind


class Suspended(SplitmergeTest):
    """Both directions come to the controller as they entered, with the flow's key; no replica has them."""

    def runTest(self) -> None:
        there, back = from_client(tcp4()), from_server(tcp4(SERVER4, 80, CLIENT4, 40000))
        self.steer(there, R1, suspend=True)
        self.send(CLIENT_PORT, there)
        self.expect_punted(there, CLIENT_PORT, PuntReason.SUSPENDED, R1)
        self.send(SERVER_PORT, back)
        self.expect_punted(back, SERVER_PORT, PuntReason.SUSPENDED, R1)
        self.expect_no_packet_in()


class Suspended6(SplitmergeTest):
    def runTest(self) -> None:
        there, back = from_client(tcp6()), from_server(tcp6(SERVER6, 80, CLIENT6, 40000))
        self.steer(there, R1, suspend=True)
        self.send(CLIENT_PORT, there)
        self.expect_punted(there, CLIENT_PORT, PuntReason.SUSPENDED, R1)
        self.send(SERVER_PORT, back)
        self.expect_punted(back, SERVER_PORT, PuntReason.SUSPENDED, R1)


class SuspendedOptions(SplitmergeTest):
    """IPv4 options and payload survive the clone."""

    def runTest(self) -> None:
        packet = tcp4()
        packet[IP].options = [b"\x01\x01\x01\x01\x07\x07\x04\x00\x00\x00\x00\x00"]
        frame = from_client(packet)
        self.steer(frame, R1, suspend=True)
        self.send(CLIENT_PORT, frame)
        self.expect_punted(frame, CLIENT_PORT, PuntReason.SUSPENDED, R1)


class SuspendedBucket(SplitmergeTest):
    """A suspended bucket suspends its flows that have no entry, and only those."""

    def runTest(self) -> None:
        frame = from_client(tcp4())
        key = key_of(frame)
        self.insert(bucket_entry(key.bucket, R2, suspend=True))
        self.send(CLIENT_PORT, frame)
        self.expect_punted(frame, CLIENT_PORT, PuntReason.SUSPENDED, R2)
        self.steer(frame, R1)
        self.through(CLIENT_PORT, frame, PORT_OF[R1])
        self.expect_no_packet_in()


class Resume(SplitmergeTest):
    """One MODIFY each: suspend where it is; resume at another replica."""

    def runTest(self) -> None:
        frame = from_client(udp4())
        key = self.steer(frame, R1)
        self.through(CLIENT_PORT, frame, PORT_OF[R1])
        self.modify(flow_entry(key, R1, suspend=True))
        self.send(CLIENT_PORT, frame)
        self.expect_punted(frame, CLIENT_PORT, PuntReason.SUSPENDED, R1)
        self.modify(flow_entry(key, R2))
        self.through(CLIENT_PORT, frame, PORT_OF[R2])
        self.expect_no_packet_in()


class SuspendedInOrder(SplitmergeTest):
    """A burst of 40 (BMv2's queues hold 64) comes complete and in order."""

    def runTest(self) -> None:
        frames = [from_client(udp4() / f"{number:04}") for number in range(40)]
        self.steer(frames[0], R1, suspend=True)
        for frame in frames:
            self.send(CLIENT_PORT, frame)
        self.assertEqual([self.client.packet_in().payload for _ in frames], frames)
        self.expect_no_packet_in()


class PuntedIsCounted(SplitmergeTest):
    """A punted packet counts as PUNTED and as nothing else."""

    def runTest(self) -> None:
        frame = from_client(tcp4())
        self.steer(frame, R1, suspend=True)
        before = self.all_drops()
        self.send(CLIENT_PORT, frame)
        self.expect_punted(frame, CLIENT_PORT, PuntReason.SUSPENDED, R1)
        packets, octets = before[DropReason.PUNTED]
        after = self.all_drops()
        self.assertEqual(after, before | {DropReason.PUNTED: (packets + 1, octets + len(frame))})


class NewFlow(SplitmergeTest):
    """A bucket that asks: the packet is the controller's, and names no replica."""

    def runTest(self) -> None:
        for frame in (from_client(tcp4()), from_client(udp6())):
            self.insert(bucket_entry(key_of(frame).bucket, None))
            self.send(CLIENT_PORT, frame)
            self.expect_punted(frame, CLIENT_PORT, PuntReason.NEW_FLOW, 0)


class NewFlowAssigned(SplitmergeTest):
    """Once the controller has given the flow an entry, it asks no more."""

    def runTest(self) -> None:
        frame = from_client(tcp4())
        key = key_of(frame)
        self.insert(bucket_entry(key.bucket, None))
        self.send(CLIENT_PORT, frame)
        self.expect_punted(frame, CLIENT_PORT, PuntReason.NEW_FLOW, 0)
        self.insert(flow_entry(key, R2))
        self.through(CLIENT_PORT, frame, PORT_OF[R2])
        self.expect_no_packet_in()


class SuspendedWithoutReplica(SplitmergeTest):
    """A flow may stay suspended while its replica has no port: it is not a drop."""

    def runTest(self) -> None:
        frame = from_client(tcp4())
        self.steer(frame, 9999, suspend=True)
        self.send(CLIENT_PORT, frame)
        self.expect_punted(frame, CLIENT_PORT, PuntReason.SUSPENDED, 9999)


class Burst(SplitmergeTest):
    """500 at once: none twice, none out of order; none lost, except where BMv2's queue of 64 overflows in silence."""

    def runTest(self) -> None:
        frames = [from_client(udp4() / f"{number:04}") for number in range(500)]
        self.steer(frames[0], R1, suspend=True)
        punted, _ = self.drops(DropReason.PUNTED)
        for frame in frames:
            self.send(CLIENT_PORT, frame)
        until(lambda: self.drops(DropReason.PUNTED)[0] == punted + len(frames), "all punted")
        loop = Tag(TagKind.LOOP, 1, 1).push(bytes(14))
        self.client.packet_out(bytes(14), kind=TagKind.LOOP, epoch=1, sequence=1)
        arrived = list(iter(lambda: self.client.packet_in().payload, loop))
        self.assertEqual(arrived, [frame for frame in frames if frame in set(arrived)])
        if testutils.test_param_get("target") != "bmv2":
            self.assertEqual(len(arrived), len(frames))
