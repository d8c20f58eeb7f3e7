"""All fragments of a datagram, the first one too, have ports 0, and so one key.

Run:  python ptf_tests/run.py [--target bmv2] fragments[.Class]
"""

from base import CLIENT_PORT, PORT_OF, R1, R2, SERVER_PORT, SplitmergeTest, key_of
from frames import (
    CLIENT6,
    IP,
    SERVER4,
    SERVER6,
    IPv6,
    IPv6ExtHdrFragment,
    Raw,
    from_client,
    from_server,
    tcp4,
    udp4,
)
from scapy.layers.inet import fragment


class Fragments4(SplitmergeTest):
    """Of a UDP datagram: all to one replica, in both directions, apart from the whole datagrams of the same flow."""

    def runTest(self) -> None:
        whole = udp4() / Raw(b"f" * 3000)
        frames = [from_client(part) for part in fragment(whole, fragsize=1200)]
        self.assertEqual(len(frames), 3)
        self.assertEqual({str(key_of(frame)) for frame in frames}, {"udp,10.0.1.2:0,10.0.2.2:0"})
        self.steer(frames[0], R2)
        self.steer(from_client(udp4()), R1)
        for frame in frames:
            self.through(CLIENT_PORT, frame, PORT_OF[R2])
        for part in fragment(udp4(SERVER4, 53, "10.0.1.2", 40000) / Raw(b"g" * 2000), fragsize=1200):
            self.through(SERVER_PORT, from_server(part), PORT_OF[R2])
        self.through(CLIENT_PORT, from_client(udp4()), PORT_OF[R1])


class FragmentOfNothing(SplitmergeTest):
    """A fragment too short to hold ports is no malformed packet."""

    def runTest(self) -> None:
        frame = from_client(IP(src="10.0.1.2", dst=SERVER4, proto="tcp", frag=7) / Raw(b"x"))
        self.steer(frame, R1)
        self.through(CLIENT_PORT, frame, PORT_OF[R1])


class DontFragment(SplitmergeTest):
    """DF, and the reserved bit, make no fragment."""

    def runTest(self) -> None:
        plain = from_client(tcp4())
        self.steer(plain, R1)
        for flags in ("DF", "evil", "DF+evil"):
            packet = tcp4()
            packet[IP].flags = flags
            self.through(CLIENT_PORT, from_client(packet), PORT_OF[R1])


class Fragments6(SplitmergeTest):
    """IPv6: first, middle and last, and the atomic fragment that is both first and last."""

    def runTest(self) -> None:
        head = IPv6(src=CLIENT6, dst=SERVER6)
        payload = Raw(bytes.fromhex("9c400035") + b"h" * 60)
        parts = [
            head / IPv6ExtHdrFragment(nh=17, offset=offset, m=more, id=5) / payload
            for offset, more in ((0, 1), (8, 1), (16, 0), (0, 0))
        ]
        frames = [from_client(part) for part in parts]
        self.assertEqual({str(key_of(frame)) for frame in frames}, {"udp,[fd00:1::2]:0,[fd00:2::2]:0"})
        self.steer(frames[0], R2)
        for frame in frames:
            self.through(CLIENT_PORT, frame, PORT_OF[R2])
