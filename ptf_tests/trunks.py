"""Several switches: a tag names the replica on trunks, the last switch takes it off; what comes back is routed on.

Run:  python ptf_tests/run.py [--target bmv2] trunks[.Class]
"""

from base import CLIENT_PORT, PORT_OF, R1, SERVER_PORT, SplitmergeTest, entry
from frames import (
    ARP,
    CLIENT,
    CLIENT4,
    CLIENT6,
    GATEWAY4,
    MIDDLEBOX,
    SERVER,
    SERVER4,
    SERVER6,
    Ether,
    from_client,
    from_replica,
    routed,
    tcp4,
    tcp6,
)
from ptf import testutils

from p4src import DropReason, PuntReason
from splitmerge import Tag, TagKind

WEST, EAST = 14, 15
"""Trunk ports."""
FAR, FARTHER = 801, 802
"""Replicas behind the eastern trunk."""
HERE, THERE = 0xF000, 0xF001
"""This switch's own number, and another's, behind the eastern trunk."""
MOST = 16


def on_trunk(frame: bytes, destination: int, crossed: int = 0) -> bytes:
    """The frame with the tag that it has between switches."""
    tagged = Tag(TagKind.TRUNK, 0, destination).push(frame)
    return tagged[:15] + bytes((crossed,)) + tagged[16:]


class TrunkTest(SplitmergeTest):
    """Base: trunks, and what is behind them."""

    def setUp(self) -> None:
        super().setUp()
        self.insert(
            *(entry("port_role", {"ingress_port": port}, "set_trunk") for port in (WEST, EAST)),
            *(entry("replica", {"replica": number}, "over_trunk", port=EAST) for number in (FAR, FARTHER, THERE)),
            entry("replica", {"replica": HERE}, "to_controller"),
        )


class FromHost(TrunkTest):
    """The edge pushes the tag; the frame in it is as it came."""

    def runTest(self) -> None:
        for packet in (tcp4(), tcp6(), tcp4(SERVER4, 80, CLIENT4, 40001)):
            frame = from_client(packet)
            self.steer(frame, FAR)
            self.through(CLIENT_PORT, frame, EAST, on_trunk(frame, FAR))


class Suspended(TrunkTest):
    """A suspended flow of a replica behind another switch is punted like any other."""

    def runTest(self) -> None:
        frame = from_client(tcp4())
        self.steer(frame, FAR, suspend=True)
        self.send(CLIENT_PORT, frame)
        self.expect_punted(frame, CLIENT_PORT, PuntReason.SUSPENDED, FAR)


class Onwards(TrunkTest):
    """Behind another switch still: the tag stays, and counts the trunks. Flow entries here do not matter."""

    def runTest(self) -> None:
        frame = from_client(tcp4())
        self.steer(frame, R1)
        for crossed in (0, 1, MOST - 1):
            self.through(WEST, on_trunk(frame, FARTHER, crossed), EAST, on_trunk(frame, FARTHER, crossed + 1))


class LastSwitch(TrunkTest):
    """The replica is here: the tag goes, suspended or not, and whatever the frame is, another tagged one too."""

    def runTest(self) -> None:
        frame = from_client(tcp4())
        self.steer(frame, FAR, suspend=True)
        for inner in (frame, Tag(TagKind.MARKER, 7, 9).push(frame), bytes(14)):
            self.through(WEST, on_trunk(inner, R1, 3), PORT_OF[R1], inner)
        self.expect_no_packet_in()


class RoundInCircles(TrunkTest):
    def runTest(self) -> None:
        for crossed in (MOST, 255):
            self.expect_drop(WEST, on_trunk(from_client(tcp4()), FAR, crossed), DropReason.TOO_FAR)


class NobodyThere(TrunkTest):
    def runTest(self) -> None:
        self.expect_drop(WEST, on_trunk(from_client(tcp4()), 899), DropReason.NO_REPLICA)


class Fence(TrunkTest):
    """A frame for this switch goes to its controller, behind all that came over the trunk before."""

    def runTest(self) -> None:
        fence = Tag(TagKind.FENCE, 7, 9).push(from_client(tcp4()))
        self.send(WEST, on_trunk(fence, HERE, 2))
        self.expect_packet_in(on_trunk(fence, HERE, 2), WEST, PuntReason.TAGGED, replica=HERE)
        self.through(WEST, on_trunk(fence, THERE), EAST, on_trunk(fence, THERE, 1))


class FromController(TrunkTest):
    """The controller's own frames for others leave as they are: it has put the tag on."""

    def runTest(self) -> None:
        frame = on_trunk(Tag(TagKind.MARKER, 7, 9).push(bytes(60)), FAR)
        self.client.packet_out(frame, kind=TagKind.PLAIN, egress_port=EAST)
        self.expect(EAST, frame)


class Back(TrunkTest):
    """Untagged frames from a trunk have been routed once: they go on by destination, TTL unchanged."""

    def runTest(self) -> None:
        last4, last6 = tcp4(), tcp6()
        last4.ttl = last6.hlim = 2
        for packet in (tcp4(), last4, tcp6(), last6):
            frame = routed(packet, SERVER)
            self.through(WEST, frame, SERVER_PORT, frame)
        frame = routed(tcp6(SERVER6, 80, CLIENT6, 40000), CLIENT)
        self.through(WEST, frame, CLIENT_PORT, frame)


class Further(TrunkTest):
    """A replica's packet to a network behind another switch: TTL one less here, and no tag."""

    def runTest(self) -> None:
        self.insert(
            entry("route_v4", {"dst": "10.0.3.0/24"}, "forward", port=EAST, src_mac=MIDDLEBOX, dst_mac=SERVER),
        )
        packet = tcp4(dst="10.0.3.2")
        self.through(PORT_OF[R1], from_replica(packet), EAST, routed(packet, SERVER))
        self.through(WEST, routed(packet, SERVER), EAST, routed(packet, SERVER))


class NoNeighbors(TrunkTest):
    """ARP is for hosts."""

    def runTest(self) -> None:
        asked = bytes(Ether(src=CLIENT, dst="ff:ff:ff:ff:ff:ff") / ARP(psrc=CLIENT4, pdst=GATEWAY4))
        self.expect_drop(WEST, asked, DropReason.UNANSWERED)


class Forged(TrunkTest):
    """The tag of trunks is theirs alone, and they have no other."""

    def runTest(self) -> None:
        frame = from_client(tcp4())
        for port in (CLIENT_PORT, PORT_OF[R1]):
            self.expect_drop(port, on_trunk(frame, FAR), DropReason.FORGED_TAG)
        for kind in [kind for kind in TagKind if kind is not TagKind.TRUNK]:
            self.expect_drop(WEST, Tag(kind, 1, R1).push(from_replica(tcp4())), DropReason.FORGED_TAG)
        testutils.verify_no_other_packets(self)
