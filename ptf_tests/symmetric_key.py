"""The key and the bucket are those of splitmerge.FlowKey, whatever the endpoints.

Every bucket asks the controller, so that each packet comes back with the key that the switch made of it.

Run:  python ptf_tests/run.py [--target bmv2] symmetric_key[.Class]
"""

import random
import socket

from base import CLIENT_PORT, SplitmergeTest, bucket_entry
from frames import CLIENT6, IP, TCP, UDP, IPv6, Packet, Raw, from_client, tcp4, tcp6

from p4src import PuntReason
from splitmerge import BUCKETS


class KeyTest(SplitmergeTest):
    """Base: both directions of each packet have the key that Python computes."""

    def check(self, *packets: Packet) -> None:
        self.insert(*(bucket_entry(bucket, None) for bucket in range(BUCKETS)))
        for packet in packets:
            for frame in (from_client(packet), from_client(turned(packet))):
                self.send(CLIENT_PORT, frame)
                self.expect_key(frame)

    def expect_key(self, frame: bytes) -> None:
        self.expect_punted(frame, CLIENT_PORT, PuntReason.NEW_FLOW, 0)


def turned(packet: Packet) -> Packet:
    """The same packet the other way."""
    out = packet.copy()
    head = out[IP] if IP in out else out[IPv6]
    head.src, head.dst = head.dst, head.src
    for layer in (TCP, UDP):
        if layer in out:
            out[layer].sport, out[layer].dport = out[layer].dport, out[layer].sport
    return out


class EqualAddresses(KeyTest):
    """The port decides; if it is equal too, there is one order only."""

    def runTest(self) -> None:
        here = CLIENT6
        self.check(
            *(tcp4("10.0.1.2", a, "10.0.1.2", b) for a, b in ((1, 2), (255, 256), (0, 65535), (7, 7), (0, 0))),
            *(tcp6(here, a, here, b) for a, b in ((1, 2), (255, 256), (0, 65535), (7, 7), (0, 0))),
        )


class AddressBeforePort(KeyTest):
    """A larger port does not make up for a smaller address; addresses are unsigned."""

    def runTest(self) -> None:
        self.check(
            tcp4("10.0.1.2", 65535, "10.0.1.3", 0),
            tcp4("127.255.255.255", 1, "128.0.0.0", 2),
            tcp4("0.0.0.1", 1, "223.255.255.255", 2),
            tcp6("2001:db8::1", 65535, "2001:db8::2", 0),
            tcp6("7fff::", 1, "8000::", 2),
        )


class EachWord(KeyTest):
    """IPv6 addresses are compared in words: the first that differs decides, whatever the later ones say."""

    def runTest(self) -> None:
        pairs = [
            ("2001:db8::", "2001:db9::"),
            ("2001:db8:0:ffff:ffff:ffff:ffff:ffff", "2001:db9::"),
            ("2001:db8:0:1::", "2001:db8:0:2::"),
            ("2001:db8:0:1:ffff:ffff:ffff:ffff", "2001:db8:0:2::"),
            ("2001:db8::1:0:0", "2001:db8::2:0:0"),
            ("2001:db8::1:ffff:ffff", "2001:db8::2:0:0"),
            ("2001:db8::1", "2001:db8::2"),
            ("2001:db8::7fff:ffff", "2001:db8::8000:0"),
        ]
        self.check(*(tcp6(low, 9, high, 5) for low, high in pairs))


class Random(KeyTest):
    """Any endpoints; addresses close to each other and far apart."""

    def runTest(self) -> None:
        chance = random.Random(20130402)
        self.check(*(packet for _ in range(25) for packet in (random4(chance), random6(chance))))


def random4(chance: random.Random) -> Packet:
    src = chance.randrange(0x01000000, 0xDF000000)
    dst = src ^ 1 << chance.randrange(24)
    head = IP(src=socket.inet_ntoa(src.to_bytes(4, "big")), dst=socket.inet_ntoa(dst.to_bytes(4, "big")))
    return head / UDP(sport=chance.randrange(65536), dport=chance.randrange(65536)) / Raw(b"o")


def random6(chance: random.Random) -> Packet:
    src = chance.getrandbits(120) | 0x20 << 120
    dst = src ^ chance.getrandbits(chance.randrange(1, 120))
    head = IPv6(
        src=socket.inet_ntop(socket.AF_INET6, src.to_bytes(16, "big")),
        dst=socket.inet_ntop(socket.AF_INET6, dst.to_bytes(16, "big")),
    )
    return head / UDP(sport=chance.randrange(65536), dport=chance.randrange(65536)) / Raw(b"p")
