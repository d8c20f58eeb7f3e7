"""A whole move as the controller does it: the target sees every packet once and in order, the source none too many.

Run:  python ptf_tests/run.py [--target bmv2] move[.Class]
"""

from typing import Any

from base import CLIENT_PORT, PORT_OF, R1, R2, SplitmergeTest, bucket_entry, flow_entry, key_of
from client import until
from frames import Packet, from_client, udp4, udp6
from ptf import testutils

from p4src import DropReason, PuntReason
from splitmerge import Tag, TagKind

EPOCH = 17
SIGNAL = bytes(14)
"""The frame that carries a marker, a loop or an end: an Ethernet header alone."""
EACH = 12
"""Packets sent in each phase."""


class Move(SplitmergeTest):
    """Base: three phases of traffic, before, during and after; BMv2's queue of 64 is never filled."""

    def phase(self, number: int) -> list[bytes]:
        """This phase's packets of the flow."""
        return [from_client(self.packet() / f"{number}-{index:02}") for index in range(EACH)]

    def packet(self) -> Packet:
        return udp4()

    def send_all(self, frames: list[bytes]) -> None:
        for frame in frames:
            self.send(CLIENT_PORT, frame)

    def receive(self, replica: int, count: int) -> list[bytes]:
        """The next frames that come out to the replica."""
        results = [testutils.dp_poll(self, port_number=PORT_OF[replica]) for _ in range(count)]
        return [result.packet for result in results]

    def move(self, suspended_entry: Any, resumed_entry: Any) -> None:
        """The flow goes from R1 to R2."""
        before, during, after = (self.phase(number) for number in range(3))
        self.send_all(before)
        self.assertEqual(self.receive(R1, EACH), before)

        punted, _ = self.drops(DropReason.PUNTED)
        self.modify(suspended_entry)
        self.client.packet_out(SIGNAL, egress_port=PORT_OF[R1], kind=TagKind.MARKER, epoch=EPOCH, sequence=1)
        self.send_all(during)
        self.assertEqual(self.receive(R1, 1), [Tag(TagKind.MARKER, EPOCH, 1).push(SIGNAL)])
        until(lambda: self.drops(DropReason.PUNTED)[0] == punted + EACH, "all punted")
        echo = Tag(TagKind.MARKER_ECHO, EPOCH, 1).push(SIGNAL)
        self.send(PORT_OF[R1], echo)

        self.modify(resumed_entry)
        self.send_all(after)
        self.assertEqual(self.receive(R2, EACH), after)
        self.client.packet_out(SIGNAL, kind=TagKind.LOOP, epoch=EPOCH, sequence=2)
        buffered = [self.client.packet_in() for _ in range(EACH)]
        self.assertEqual([packet.payload for packet in buffered], during)
        self.expect_packet_in(echo, PORT_OF[R1], PuntReason.TAGGED, replica=R1)
        self.expect_packet_in(Tag(TagKind.LOOP, EPOCH, 2).push(SIGNAL), self.controller_port, PuntReason.TAGGED)

        relayed = [(packet.payload, TagKind.RELAYED) for packet in buffered] + [(SIGNAL, TagKind.END)]
        for number, (frame, kind) in enumerate(relayed, start=1):
            self.client.packet_out(frame, egress_port=PORT_OF[R2], kind=kind, epoch=EPOCH, sequence=number)
        expected = [Tag(kind, EPOCH, number).push(frame) for number, (frame, kind) in enumerate(relayed, start=1)]
        self.assertEqual(self.receive(R2, len(expected)), expected)

        acknowledgement = Tag(TagKind.RELAY_ACK, EPOCH, len(expected) + 1).push(SIGNAL)
        self.send(PORT_OF[R2], acknowledgement)
        self.expect_packet_in(acknowledgement, PORT_OF[R2], PuntReason.TAGGED, replica=R2)
        testutils.verify_no_other_packets(self)
        self.expect_no_packet_in()


class MoveFlow(Move):
    """A flow with an entry of its own."""

    def runTest(self) -> None:
        key = self.steer(from_client(self.packet()), R1)
        self.move(flow_entry(key, R1, suspend=True), flow_entry(key, R2))


class MoveBucket(Move):
    """A flow that its bucket takes along; IPv6."""

    def packet(self) -> Packet:
        return udp6()

    def runTest(self) -> None:
        key = key_of(from_client(self.packet()))
        self.insert(bucket_entry(key.bucket, R1))
        self.move(bucket_entry(key.bucket, R1, suspend=True), bucket_entry(key.bucket, R2))
