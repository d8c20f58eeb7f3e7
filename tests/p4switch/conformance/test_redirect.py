"""What becomes of packets: unicast, multicast, clones, resubmit, recirculate, exit, truncate, errors, queues, swap."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from finsy.proto import p4r

from tests.p4switch.conformance.harness import CONFIGS, NAMES
from tests.p4switch.p4runtime.conftest import Names

N: Names = NAMES["redirect"]
FM = p4r.FieldMatch
NORMAL, CLONED_IN, CLONED_OUT, REPLICATED = 0, 1, 2, 5


def instance(number: int) -> p4r.FieldMatch:
    return FM(ternary=FM.Ternary(value=bytes([number]), mask=b"\xff"))


def first(kind: int, action: p4r.Action, kept: int = 0) -> p4r.Entity:
    return N.entry("first", bytes([kind]), bytes([kept]), action=action)


def then(table: str, kind: int, action: p4r.Action, only: int = NORMAL) -> p4r.Entity:
    return N.entry(table, bytes([kind]), instance(only), action=action, priority=1)


def forward(port: int) -> p4r.Action:
    return N.action("forward", bytes([port]))


def group(number: int, *replicas: tuple[int, int]) -> p4r.Entity:
    entry = p4r.MulticastGroupEntry(multicast_group_id=number)
    for port, rid in replicas:
        entry.replicas.add(egress_port=port, instance=rid)
    return p4r.Entity(packet_replication_engine_entry=p4r.PacketReplicationEngineEntry(multicast_group_entry=entry))


def session(number: int, *replicas: tuple[int, int]) -> p4r.Entity:
    entry = p4r.CloneSessionEntry(session_id=number)
    for port, rid in replicas:
        entry.replicas.add(egress_port=port, instance=rid)
    return p4r.Entity(packet_replication_engine_entry=p4r.PacketReplicationEngineEntry(clone_session_entry=entry))


@dataclass(frozen=True, order=True)
class Seen:
    """A frame that came out."""

    port: int
    instance: int
    step: int = 1
    kept: int = 0
    rid: int = 0
    length: int = 6
    fault: int = 0


def seen(frames: list[tuple[int, bytes]]) -> list[Seen]:
    found = []
    for port, frame in frames:
        rid, length = int.from_bytes(frame[2:4], "big"), int.from_bytes(frame[4:6], "big")
        assert frame[7] == 1, "times of the queue"
        found.append(Seen(port, frame[0], frame[9], frame[1], rid, length, frame[6]))
    return sorted(found)


def order(kind: int) -> bytes:
    return bytes([kind, 0]) + b"body"


def test_unicast_and_drop(bench: Callable[..., Any]) -> None:
    b = bench("redirect")
    b.client.insert(first(1, forward(2)), first(2, N.action("drop")))
    assert seen(b.wire.answers(1, order(1))) == [Seen(2, NORMAL)]
    b.wire.send(1, order(2))
    assert seen(b.wire.answers(1, order(1))) == [Seen(2, NORMAL)]


def test_multicast(bench: Callable[..., Any]) -> None:
    b = bench("redirect")
    b.client.insert(first(1, forward(2)), first(2, N.action("replicate", b"\x0a")))
    both, more = ((1, 1), (2, 2)), ((1, 1), (2, 2), (3, 1))
    for change, replicas in (("insert", both), ("modify", more), ("modify", both)):
        getattr(b.client, change)(group(10, *replicas))
        wanted = sorted(Seen(port, REPLICATED, rid=rid) for port, rid in replicas)
        assert seen(b.wire.answers(5, order(2), len(replicas))) == wanted
    b.client.delete(group(10))
    b.wire.send(5, order(2))  # a group that is not there gives no packet
    assert seen(b.wire.answers(5, order(1))) == [Seen(2, NORMAL)]


def test_ports_of_replicas_need_not_differ(bench: Callable[..., Any]) -> None:
    b = bench("redirect")
    b.client.insert(first(2, N.action("replicate", b"\x0a")), group(10, (3, 1), (3, 2), (5, 3)))
    wanted = [Seen(3, REPLICATED, rid=1), Seen(3, REPLICATED, rid=2), Seen(5, REPLICATED, rid=3)]
    assert seen(b.wire.answers(5, order(2), 3)) == wanted


@pytest.mark.parametrize("copies", [((3, 1),), ((3, 1), (4, 2))], ids=["one", "multicast"])
def test_ingress_clone_is_the_packet_as_received(
    bench: Callable[..., Any], copies: tuple[tuple[int, int], ...]
) -> None:
    b = bench("redirect")
    b.client.insert(first(3, forward(2)), then("second", 3, N.action("clone_in", b"\1", b"\x5a")), session(1, *copies))
    wanted = [Seen(2, NORMAL, kept=0x5A)]
    wanted += [Seen(port, CLONED_IN, step=0, kept=0x5A, rid=rid) for port, rid in copies]
    assert seen(b.wire.answers(1, order(3), len(wanted))) == wanted
    b.client.modify(session(1, (7, 9)))
    wanted = [Seen(2, NORMAL, kept=0x5A), Seen(7, CLONED_IN, step=0, kept=0x5A, rid=9)]
    assert seen(b.wire.answers(1, order(3), 2)) == wanted
    b.client.delete(session(1))  # clones to a session that is not there vanish, the packet goes on
    assert seen(b.wire.answers(1, order(3))) == [Seen(2, NORMAL, kept=0x5A)]


def test_a_dropped_packet_is_cloned_all_the_same(bench: Callable[..., Any]) -> None:
    b = bench("redirect")
    b.client.insert(
        first(3, N.action("drop")), then("second", 3, N.action("clone_in", b"\1", b"\1")), session(1, (3, 0))
    )
    assert seen(b.wire.answers(1, order(3))) == [Seen(3, CLONED_IN, step=0, kept=1)]


@pytest.mark.parametrize("copies", [((3, 1),), ((3, 1), (4, 2))], ids=["one", "multicast"])
def test_egress_clone_is_the_packet_as_sent(bench: Callable[..., Any], copies: tuple[tuple[int, int], ...]) -> None:
    b = bench("redirect")
    b.client.insert(first(4, forward(2)), then("last", 4, N.action("clone_out", b"\1", b"\x5a")), session(1, *copies))
    frames = b.wire.answers(1, order(4), 1 + len(copies))
    wanted = [Seen(2, NORMAL, kept=0x5A)]
    wanted += [Seen(port, CLONED_OUT, kept=0x5A, rid=rid) for port, rid in copies]
    # the clone carries the trailer that its original got, so a second one is not added: it is the same header
    assert [item.port for item in seen(frames)] == [item.port for item in wanted]
    assert [(item.instance, item.step, item.kept, item.rid) for item in seen(frames)] == [
        (item.instance, item.step, item.kept, item.rid) for item in wanted
    ]


def test_resubmit_keeps_its_field_list_and_nothing_else(bench: Callable[..., Any]) -> None:
    b = bench("redirect")
    b.client.insert(
        first(5, forward(2)), first(5, forward(3), kept=7), then("second", 5, N.action("again", b"\7"), NORMAL)
    )
    assert seen(b.wire.answers(1, order(5))) == [Seen(3, NORMAL, kept=7)]


def test_recirculated_packet_has_what_egress_did(bench: Callable[..., Any]) -> None:
    b = bench("redirect")
    # Parsed again, the trailer's first two bytes are the order: kind is the instance, 0, and step what was kept.
    b.client.insert(first(6, forward(2)), first(0, forward(3), kept=9), then("last", 6, N.action("around", b"\x09")))
    ((port, frame),) = b.wire.answers(1, order(6))
    assert port == 3
    assert frame[0] == NORMAL and frame[1] == 9  # the second trailer, with the field kept
    assert frame[8:10] == b"\0\x0a"  # the first one's instance, and its kept raised as a step
    assert frame[-4:] == b"body" and int.from_bytes(frame[4:6], "big") == len(order(6)) + 8


def test_exit_leaves_ingress_only(bench: Callable[..., Any]) -> None:
    b = bench("redirect")
    b.client.insert(
        first(7, N.action("leave")), then("second", 7, N.action("clone_in", b"\1", b"\1")), session(1, (3, 0))
    )
    assert seen(b.wire.answers(1, order(7))) == [Seen(0, NORMAL)]  # egress_spec was never set: port 0, as on BMv2


@pytest.mark.parametrize("length", [4, 14, 32, 200])
def test_truncate(bench: Callable[..., Any], length: int) -> None:
    b = bench("redirect")
    b.client.insert(first(8, forward(2)), then("second", 8, N.action("cut", bytes([length]))))
    frame = order(8) + bytes(range(90))
    ((port, got),) = b.wire.answers(1, frame)
    assert (port, len(got)) == (2, min(length, len(frame) + 8))
    if length > 10:
        assert got[10:] == frame[2:][: length - 10]


def test_parser_errors_reach_ingress_and_egress(bench: Callable[..., Any]) -> None:
    b = bench("redirect")
    b.client.insert(first(1, forward(2)))
    assert seen(b.wire.answers(1, order(1))) == [Seen(2, NORMAL)]
    ((port, short),) = b.wire.answers(4, b"\1")
    assert (port, short[6], short[8:]) == (4, 1, b"\1")  # nothing was extracted: the byte is payload
    ((port, forbidden),) = b.wire.answers(4, order(0xEE))
    assert (port, forbidden[6], forbidden[8:]) == (4, 2, order(0xEE))


def test_queue_metadata_of_a_burst(bench: Callable[..., Any]) -> None:
    b = bench("redirect")
    b.client.insert(first(1, forward(2)))
    for number in range(60):
        b.wire.send(1, order(1) + bytes([number]))
    frames = [b.wire.receive() for _ in range(60)]
    assert [frame[-1] for _, frame in frames] == list(range(60))
    assert {item.port for item in seen(frames)} == {2}


def test_swap_of_programs_between_packets(bench: Callable[..., Any]) -> None:
    """Packets are of the one program or of the other, none of a mixture; the new one starts with nothing."""
    b = bench("redirect")
    b.client.insert(first(1, forward(2)))
    assert seen(b.wire.answers(1, order(1))) == [Seen(2, NORMAL)]
    b.client.set_pipeline(CONFIGS["choices"])
    query = bytes([0, 1, 0, 5]) + bytes(32)
    ((port, answer),) = b.wire.answers(6, query)
    assert (port, answer[4:]) == (6, query)
    b.client.set_pipeline(CONFIGS["redirect"])
    assert b.client.read(N.entry("first")) == []
    b.client.insert(first(1, forward(3)))
    assert seen(b.wire.answers(1, order(1))) == [Seen(3, NORMAL)]
