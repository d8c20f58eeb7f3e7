"""Base of all tests: the lab's entries are on the switch, and what a test inserts is gone when it ends.

Run:  python ptf_tests/run.py [--target bmv2] [module[.Class] …]
"""

from __future__ import annotations

import functools
from typing import Any

import finsy
import ptf
from client import Client, until
from frames import CLIENT, GATEWAY4, GATEWAY6, MIDDLEBOX, SERVER
from ptf import testutils
from ptf.base_tests import BaseTest
from punt_client import PuntClient

from p4src import CPU_CLONE_SESSION, CPU_PORT, P4BLOB, P4INFO, DropReason, PuntReason
from splitmerge import FlowKey, Tag, TagKind

CLIENT_PORT, SERVER_PORT, NOBODYS_PORT = 1, 2, 3
PUNT_PORT = 20
R1, R2, R3 = 701, 702, 703
"""Replica ids; unlike their ports on purpose."""
PORT_OF = {R1: 11, R2: 12, R3: 13}
ALL_DROPS = finsy.P4CounterEntry("drops")


def key_of(frame: bytes) -> FlowKey:
    """The flow key of a frame that has one."""
    key = FlowKey.from_frame(frame)
    assert key is not None, "not an IP frame"
    return key


def entry(table: str, match: dict[str, Any], action: str, **parameters: Any) -> finsy.P4TableEntry:
    """A table entry."""
    return finsy.P4TableEntry(table, match=finsy.P4TableMatch(match), action=finsy.P4TableAction(action, **parameters))


def flow_entry(key: FlowKey, replica: int, suspend: bool = False, **more: Any) -> finsy.P4TableEntry:
    """The entry that steers the flow."""
    match = {
        "low_addr": int.from_bytes(key.low_addr, "big"),
        "high_addr": int.from_bytes(key.high_addr, "big"),
        "low_port": key.low_port,
        "high_port": key.high_port,
        "protocol": key.protocol,
    }
    action = finsy.P4TableAction("steer", replica=replica, suspend=int(suspend))
    return finsy.P4TableEntry(f"flow_v{key.version}", match=finsy.P4TableMatch(match), action=action, **more)


def bucket_entry(bucket: int, replica: int | None, suspend: bool = False) -> finsy.P4TableEntry:
    """The entry of a bucket; None asks the controller."""
    if replica is None:
        return entry("bucket", {"bucket": bucket}, "ask_controller")
    return entry("bucket", {"bucket": bucket}, "steer_bucket", replica=replica, suspend=int(suspend))


def lab(controller_port: int) -> list[Any]:
    """The entries that every test finds: roles, replicas, routes, the middlebox's addresses, the clone session."""
    roles = [entry("port_role", {"ingress_port": PUNT_PORT}, "set_controller")]
    roles += [entry("port_role", {"ingress_port": port}, "set_host") for port in (CLIENT_PORT, SERVER_PORT)]
    for replica, port in PORT_OF.items():
        roles.append(entry("port_role", {"ingress_port": port}, "set_replica", replica=replica))
        roles.append(entry("replica", {"replica": replica}, "to_replica", port=port))
    to_client = {"port": CLIENT_PORT, "src_mac": MIDDLEBOX, "dst_mac": CLIENT}
    to_server = {"port": SERVER_PORT, "src_mac": MIDDLEBOX, "dst_mac": SERVER}
    return [
        *roles,
        entry("route_v4", {"dst": "10.0.1.0/24"}, "forward", **to_client),
        entry("route_v4", {"dst": "10.0.2.0/24"}, "forward", **to_server),
        entry("route_v6", {"dst": "fd00:1::/64"}, "forward", **to_client),
        entry("route_v6", {"dst": "fd00:2::/64"}, "forward", **to_server),
        entry("arp", {"target": GATEWAY4}, "arp_reply", mac=MIDDLEBOX),
        entry("neighbor", {"target": GATEWAY6}, "neighbor_reply", mac=MIDDLEBOX),
        finsy.P4CloneSessionEntry(CPU_CLONE_SESSION, replicas=[controller_port]),
    ]


@functools.cache
def connected() -> Client:
    """The one client of this run: BMv2 keeps clone sessions over a reload, so the program is loaded once."""
    parameters = testutils.test_params_get()
    schema = finsy.P4Schema(P4INFO, P4BLOB)
    return Client(parameters["address"], parameters["device_id"], schema)


class SplitmergeTest(BaseTest):  # type: ignore[misc]  # ptf has no types
    """A test with the lab's entries installed. Everything inserted through it is deleted afterwards.

    The controller is behind the CPU port, or, run with ``--punt ethernet``, behind the punt port.
    """

    def setUp(self) -> None:
        super().setUp()
        self.dataplane = ptf.dataplane_instance
        self.dataplane.flush()
        self.client: Any = connected()
        self.controller_port = CPU_PORT
        if self.punt() == "ethernet":
            self.controller_port = PUNT_PORT
            self.client = PuntClient(self.client, self, PUNT_PORT)
        self._installed: list[Any] = []
        self.insert(*lab(self.controller_port))
        self.addCleanup(self._delete_installed)

    def punt(self) -> str:
        """Where the controller is: ``packet-in`` or ``ethernet``."""
        return str(testutils.test_param_get("punt"))

    def _delete_installed(self) -> None:
        self.client.delete(*reversed(self._installed))

    # -- tables ---------------------------------------------------------------------------------------

    def insert(self, *entities: Any) -> None:
        """Insert, until the end of the test."""
        self.client.insert(*entities)
        self._installed.extend(entities)

    def delete(self, *entities: Any) -> None:
        """Delete what this test inserted."""
        self.client.delete(*entities)
        keys = [_identity(entity) for entity in entities]
        self._installed = [each for each in self._installed if _identity(each) not in keys]

    def modify(self, *entities: Any) -> None:
        """Modify what this test inserted."""
        self.client.modify(*entities)

    def steer(self, frame: bytes, replica: int, suspend: bool = False) -> FlowKey:
        """Install the flow entry of this frame; return its key."""
        key = key_of(frame)
        self.insert(flow_entry(key, replica, suspend))
        return key

    # -- packets --------------------------------------------------------------------------------------

    def send(self, port: int, frame: bytes) -> None:
        """Into the switch."""
        testutils.send_packet(self, port, frame)

    def expect(self, port: int, frame: bytes) -> None:
        """Out of the switch: this frame on this port, and nothing else."""
        testutils.verify_packet(self, frame, port)
        testutils.verify_no_other_packets(self)

    def through(self, port: int, frame: bytes, out_port: int, out_frame: bytes | None = None) -> None:
        """A frame that is sent into one port comes out of another, unchanged unless ``out_frame`` says otherwise."""
        self.send(port, frame)
        self.expect(out_port, frame if out_frame is None else out_frame)

    def expect_packet_in(self, frame: bytes, port: int, reason: PuntReason, **fields: int) -> None:
        """The next packet-in has this frame, port and reason; and those fields, all others being 0."""
        packet = self.client.packet_in()
        metadata = {"version", "protocol", "bucket", "replica", "low_addr", "high_addr", "low_port", "high_port"}
        expected = dict.fromkeys(metadata, 0) | {"_pad": 0, "ingress_port": port, "reason": int(reason)} | fields
        self.assertEqual(packet.metadata, expected)
        self.assertEqual(packet.payload.hex(), frame.hex())

    def expect_punted(self, frame: bytes, port: int, reason: PuntReason, replica: int) -> None:
        """The next packet-in is this frame, with its flow key; no other port has it."""
        key = key_of(frame)
        self.expect_packet_in(
            frame,
            port,
            reason,
            version=key.version,
            protocol=key.protocol,
            bucket=key.bucket,
            replica=replica,
            low_addr=int.from_bytes(key.low_addr, "big"),
            high_addr=int.from_bytes(key.high_addr, "big"),
            low_port=key.low_port,
            high_port=key.high_port,
        )
        testutils.verify_no_other_packets(self)

    def expect_no_packet_in(self) -> None:
        """Nothing is on its way to the controller: a LOOP frame, which nothing overtakes, comes first."""
        frame = bytes(14)
        self.client.packet_out(frame, kind=TagKind.LOOP, epoch=0xFFFFFFFF, sequence=0xFFFFFFFF)
        looped = Tag(TagKind.LOOP, 0xFFFFFFFF, 0xFFFFFFFF).push(frame)
        self.expect_packet_in(looped, self.controller_port, PuntReason.TAGGED)
        self.assertFalse(self.client.has_packet_in())

    # -- counters -------------------------------------------------------------------------------------

    def all_drops(self) -> dict[DropReason, tuple[int, int]]:
        """Packets and bytes dropped, by reason."""
        found = {entry.index: (entry.packet_count, entry.byte_count) for entry in self.client.read(ALL_DROPS)}
        return {reason: found[reason] for reason in DropReason}

    def drops(self, reason: DropReason) -> tuple[int, int]:
        """Packets and bytes that were dropped for this reason."""
        return self.all_drops()[reason]

    def counted(self, key: FlowKey) -> tuple[int, int]:
        """Packets and bytes of the flow, from its entry."""
        match = flow_entry(key, 0).match
        wanted = finsy.P4TableEntry(f"flow_v{key.version}", match=match)
        (found,) = self.client.read(finsy.P4DirectCounterEntry(table_entry=wanted))
        return found.packet_count, found.byte_count

    def expect_drop(self, port: int, frame: bytes, reason: DropReason) -> None:
        """The frame is dropped, counted once for this reason and no other, and comes out nowhere."""
        before = self.all_drops()
        self.send(port, frame)
        until(lambda: self.drops(reason) != before[reason], f"a drop counted as {reason.name}")
        packets, octets = before[reason]
        self.assertEqual(self.all_drops(), before | {reason: (packets + 1, octets + len(frame))})
        testutils.verify_no_other_packets(self)
        self.expect_no_packet_in()


def _identity(entity: Any) -> tuple[Any, ...]:
    """What an entity is found by on the switch."""
    if isinstance(entity, finsy.P4TableEntry):
        return entity.table_id, tuple(sorted((entity.match or {}).items()))
    return type(entity).__name__, entity.session_id
