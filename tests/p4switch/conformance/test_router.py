"""A small router: packet I/O, longest prefix, idle timeouts, counters, checksums, entries that come and go."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from finsy.proto import p4r

from tests.p4switch.conformance.harness import NAMES
from tests.p4switch.p4runtime.conftest import Names

N: Names = NAMES["router"]
HOST, ROUTER, GATEWAY = b"\2\0\0\0\0\1", b"\2\0\0\0\0\xfe", b"\2\0\0\0\0\2"


def checksum(header: bytes) -> int:
    total = sum(int.from_bytes(header[i : i + 2], "big") for i in range(0, len(header), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


def packet(dst: bytes, *, ttl: int = 9, ends: tuple[bytes, bytes] = (ROUTER, HOST), wrong: int = 0) -> bytes:
    header = b"\x45\0\0\x1c\0\0\0\0" + bytes([ttl, 17]) + b"\0\0" + b"\x0a\0\1\2" + dst
    total = checksum(header) ^ wrong
    return ends[0] + ends[1] + b"\x08\0" + header[:10] + total.to_bytes(2, "big") + header[12:] + b"datagram"


def lpm(value: bytes, length: int) -> p4r.FieldMatch:
    return p4r.FieldMatch(lpm=p4r.FieldMatch.LPM(value=value, prefix_len=length))


def route(prefix: p4r.FieldMatch | None, hop: bytes = b"\0", port: int = 2) -> p4r.Entity:
    return N.entry("route", prefix, action=N.action("via", hop, bytes([port])))


def neighbour(hop: bytes, **fields: Any) -> p4r.Entity:
    return N.entry("neighbour", hop, action=N.action("rewrite", GATEWAY), **fields)


def out(port: bytes, payload: bytes) -> p4r.StreamMessageRequest:
    message = p4r.PacketOut(payload=payload)
    message.metadata.add(metadata_id=1, value=port)
    message.metadata.add(metadata_id=2, value=b"\0")
    return p4r.StreamMessageRequest(packet=message)


def punted(client: Any) -> tuple[bytes, bytes, bytes]:
    note = client.next("packet")
    values = {item.metadata_id: item.value for item in note.metadata}
    return values[1], values[2], note.payload


def test_packets_to_and_from_the_controller(bench: Callable[..., Any]) -> None:
    b = bench("router")
    b.client.send(out(b"\3", b"anything at all"))
    assert b.wire.receive() == (3, b"anything at all")
    other = HOST + HOST + b"\x86\xdd" + bytes(50)
    b.wire.send(4, other)
    assert punted(b.client) == (b"\4", b"\3", other)
    b.client.send(out(b"\1\xff", b"to the drop port"))
    b.client.send(out(b"\5", b"x"))
    assert b.wire.receive() == (5, b"x")


def test_packet_ins_keep_their_order(bench: Callable[..., Any]) -> None:
    b = bench("router")
    frames = [HOST + HOST + b"\x86\xdd" + bytes([n]) * 50 for n in range(40)]
    for frame in frames:
        b.wire.send(4, frame)
    assert [punted(b.client)[2] for _ in frames] == frames


def test_route_neighbour_and_back(bench: Callable[..., Any]) -> None:
    """An unknown destination is punted until routes and neighbours are there, step by step."""
    b = bench("router")
    frame = packet(b"\x0a\1\2\3")
    b.wire.send(1, frame)
    assert punted(b.client) == (b"\1", b"\1", frame)
    b.client.insert(route(lpm(b"\x0a\0\0\0", 8)))
    b.wire.send(1, frame)
    assert punted(b.client) == (b"\1", b"\2", frame)
    b.client.insert(neighbour(b"\x0a\1\2\3"), N.entry("own_address", b"\2", action=N.action("source", ROUTER)))
    assert b.wire.answers(1, frame) == [(2, packet(b"\x0a\1\2\3", ttl=8, ends=(GATEWAY, ROUTER)))]
    b.client.delete(neighbour(b"\x0a\1\2\3"))
    b.wire.send(1, frame)
    assert punted(b.client)[1] == b"\2"


def test_longest_prefix_wins_whatever_the_order(bench: Callable[..., Any]) -> None:
    b = bench("router")
    hop = b"\x0a\0\0\1"
    narrow, wide = route(lpm(b"\x0a\1\2\0", 24), hop, 4), route(lpm(b"\x0a\1\0\0", 16), hop, 3)
    everything, host = route(None, hop, 2), route(lpm(b"\x0a\1\2\3", 32), hop, 5)
    b.client.insert(narrow, everything, host, wide, neighbour(hop))

    def port(dst: bytes) -> int:
        return int(b.wire.answers(1, packet(dst))[0][0])

    wanted = {b"\x0a\1\2\3": 5, b"\x0a\1\2\4": 4, b"\x0a\1\3\4": 3, b"\xc0\0\2\1": 2}
    assert {dst: port(dst) for dst in wanted} == wanted
    b.client.delete(narrow, host)
    assert {dst: port(dst) for dst in wanted} == wanted | {b"\x0a\1\2\3": 3, b"\x0a\1\2\4": 3}


def test_refused_packets_are_counted_and_hits_too(bench: Callable[..., Any]) -> None:
    b = bench("router")
    hop = b"\x0a\0\0\1"
    b.client.insert(route(lpm(b"\x0a\1\0\0", 16), hop), route(lpm(b"\x0a\2\0\0", 16), hop), neighbour(hop))
    b.wire.send(1, packet(b"\x0a\1\0\1", wrong=1))
    b.wire.send(1, packet(b"\x0a\1\0\1", ttl=1))
    b.wire.send(1, packet(b"\x0a\1\0\1", ttl=0))
    for _ in range(3):
        b.wire.answers(1, packet(b"\x0a\1\0\1"))
    b.wire.answers(1, packet(b"\x0a\2\0\1"))
    query = p4r.Entity(counter_entry=p4r.CounterEntry(counter_id=N.refused))
    assert [item.counter_entry.data.packet_count for item in b.client.read(query)] == [1, 2, 0, 0]
    rows = b.client.read(N.entry("route", counter_data=p4r.CounterData()))
    counts = {item.table_entry.match[0].lpm.value: item.table_entry.counter_data for item in rows}
    size = len(packet(b"\x0a\1\0\1"))
    assert counts[b"\x0a\1\0\0"] == p4r.CounterData(packet_count=3, byte_count=3 * size)
    assert counts[b"\x0a\2\0\0"] == p4r.CounterData(packet_count=1, byte_count=size)
    (one,) = b.client.read(
        p4r.Entity(direct_counter_entry=p4r.DirectCounterEntry(table_entry=route(lpm(b"\x0a\1\0\0", 16)).table_entry))
    )
    assert one.direct_counter_entry.data == counts[b"\x0a\1\0\0"]


def test_idle_entries_are_reported_and_stay(bench: Callable[..., Any]) -> None:
    b = bench("router")
    timed = neighbour(b"\x0a\0\0\1", idle_timeout_ns=500_000_000)
    b.client.insert(timed, neighbour(b"\x0a\0\0\2"))
    (entry,) = b.client.next("idle_timeout_notification").table_entry
    assert (entry.table_id, entry.match[0].exact.value) == (N.neighbour, b"\x0a\0\0\1")
    assert len(b.client.read(N.entry("neighbour"))) == 2
    b.client.delete(timed)
    assert len(b.client.read(N.entry("neighbour"))) == 1
