"""Frames with bytes changed and ends cut off: each is accounted for once, and what gets a key gets Python's key.

Run:  python ptf_tests/run.py [--target bmv2] fuzz[.Class]
"""

import random

from base import CLIENT_PORT, SplitmergeTest, bucket_entry
from client import until
from frames import (
    CLIENT4,
    CLIENT6,
    ICMP,
    IP,
    SERVER4,
    SERVER6,
    Ether,
    ICMPv6EchoRequest,
    IPv6,
    IPv6ExtHdrFragment,
    from_client,
    tcp4,
    tcp6,
    udp4,
    udp6,
)
from ptf import testutils

from p4src import DropReason, PuntReason
from splitmerge import BUCKETS, FlowKey

SEEDS = [
    tcp4(),
    udp4(),
    tcp6(),
    udp6(),
    IP(src=CLIENT4, dst=SERVER4) / ICMP(id=5),
    IP(src=CLIENT4, dst=SERVER4, frag=2, flags="MF") / b"fragment",
    IP(src=CLIENT4, dst=SERVER4, options=[b"\x01" * 8]) / tcp4().payload,
    IP(src=CLIENT4, dst=SERVER4, options=[b"\x01" * 40]) / ICMP(id=5),
    IPv6(src=CLIENT6, dst=SERVER6) / ICMPv6EchoRequest(id=5),
    IPv6(src=CLIENT6, dst=SERVER6) / IPv6ExtHdrFragment(nh=6, offset=1, m=1) / b"fragment",
]
FRAMES = 250


class Mutations(SplitmergeTest):
    def runTest(self) -> None:
        chance = random.Random(2013)
        self.insert(*(bucket_entry(bucket, None) for bucket in range(BUCKETS)))
        outcomes = {self.outcome(mutated(chance)) for _ in range(FRAMES)}
        likely = {DropReason.PUNTED, DropReason.MALFORMED, DropReason.BAD_CHECKSUM, DropReason.NOT_IP}
        self.assertLessEqual(likely, outcomes)

    def outcome(self, frame: bytes) -> DropReason:
        """Send the frame, see that it is counted once, and punted if and only if it is counted so."""
        before = self.all_drops()
        self.send(CLIENT_PORT, frame)
        until(lambda: self.all_drops() != before, f"what became of {frame.hex()}")
        after = self.all_drops()
        (reason,) = [each for each in DropReason if after[each] != before[each]]
        packets, octets = before[reason]
        self.assertEqual(after[reason], (packets + 1, octets + len(frame)))
        if reason is DropReason.PUNTED:
            self.expect_punted(frame, CLIENT_PORT, PuntReason.NEW_FLOW, 0)
        if FlowKey.from_frame(frame) is None:
            self.assertNotEqual(reason, DropReason.PUNTED)
        return reason

    def tearDown(self) -> None:
        testutils.verify_no_other_packets(self)
        self.expect_no_packet_in()
        super().tearDown()


def mutated(chance: random.Random) -> bytes:
    """A frame with up to four bytes changed, mostly in its headers; sometimes with its checksum put right, or cut."""
    frame = bytearray(from_client(chance.choice(SEEDS)))
    for _ in range(chance.randrange(4)):
        frame[chance.randrange(12, min(len(frame), 70))] = chance.choice(
            (0, 1, 0x45, 0x80, 0xFF, chance.randrange(256))
        )
    out = bytes(frame)
    if chance.random() < 0.5 and out[12:15] == b"\x08\x00\x45":
        packet = Ether(out)
        del packet[IP].chksum
        out = bytes(packet)
    return out[: chance.randrange(1, len(out))] if chance.random() < 0.2 else out
