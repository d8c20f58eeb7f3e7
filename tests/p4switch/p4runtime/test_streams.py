"""StreamChannel over gRPC: arbitration, packets both ways, digests, idle timeouts, errors, and order."""

from __future__ import annotations

import threading
import time
from typing import Any

import grpc
import pytest
from finsy.proto import p4r

from p4switch.p4runtime import StreamLimits
from p4switch.ports import DropReason

OK, BACKUP, NONE = 0, 6, 5
BODY = b"\x02\0\0\0\0\x0a\x02\0\0\0\0\x0b\x12\x34"


def frame(number: int = 0, kind: int = 1) -> bytes:
    return BODY + bytes([kind, 0]) + number.to_bytes(2, "big") + b"\x0a\0\0\1" + bytes(30)


def packet_out(port: bytes, payload: bytes) -> p4r.StreamMessageRequest:
    packet = p4r.PacketOut(payload=payload)
    packet.metadata.add(metadata_id=1, value=port)
    packet.metadata.add(metadata_id=2, value=b"\0")
    return p4r.StreamMessageRequest(packet=packet)


def test_primary_and_backups_hear_of_each_change(switch: Any) -> None:
    first, second = switch.client(), switch.client()
    first.arbitrate(10)
    assert first.status() == (OK, 10)
    second.arbitrate(5)
    assert second.status() == (BACKUP, 10)
    second.arbitrate(11)
    assert first.status() == (BACKUP, 11)
    assert second.status() == (OK, 11)
    second.close()
    assert first.status() == (NONE, 11)
    first.arbitrate(11)
    assert first.status() == (OK, 11)


def test_election_id_unset_is_a_backup(switch: Any) -> None:
    client = switch.client()
    client.arbitrate(None)
    assert client.status() == (NONE, None)


@pytest.mark.parametrize(
    ("device", "second", "code"),
    [
        (2, None, grpc.StatusCode.NOT_FOUND),
        (1, {"device_id": 2}, grpc.StatusCode.FAILED_PRECONDITION),
        (1, {"role": "x"}, grpc.StatusCode.FAILED_PRECONDITION),
    ],
)
def test_bad_arbitration_ends_the_stream(switch: Any, device: int, second: Any, code: grpc.StatusCode) -> None:
    client = switch.client()
    client.arbitrate(1, device_id=device)
    if second is not None:
        assert client.status() == (OK, 1)
        client.arbitrate(1, **second)
    assert client.ended() is code


def test_election_id_in_use_ends_the_stream(switch: Any) -> None:
    switch.primary(election_id=3)
    other = switch.client()
    other.arbitrate(3)
    assert other.ended() is grpc.StatusCode.INVALID_ARGUMENT


def test_role_config_is_refused(switch: Any) -> None:
    client = switch.client()
    update = p4r.MasterArbitrationUpdate(device_id=1, role=p4r.Role(name="r"))
    update.role.config.type_url = "type.googleapis.com/x"
    client.send(p4r.StreamMessageRequest(arbitration=update))
    assert client.ended() is grpc.StatusCode.INVALID_ARGUMENT


def test_half_close_gives_up_the_primary(switch: Any) -> None:
    client = switch.primary(election_id=3)
    other = switch.client()
    other.arbitrate(2)
    assert other.status() == (BACKUP, 3)
    client._requests.put(None)
    assert other.status() == (NONE, 3)


def test_writes_need_the_primarys_id_and_role(switch: Any, names: Any, configs: Any) -> None:
    client = switch.primary(configs["entities"], election_id=5)
    update = p4r.Update(type="INSERT", entity=names.entry("exact_table", b"\1", action=names.action("drop")))
    cases: list[tuple[int | None, str, int, grpc.StatusCode]] = [
        (4, "", 1, grpc.StatusCode.PERMISSION_DENIED),
        (None, "", 1, grpc.StatusCode.PERMISSION_DENIED),
        (5, "x", 1, grpc.StatusCode.NOT_FOUND),
        (5, "", 2, grpc.StatusCode.NOT_FOUND),
    ]
    for election_id, role, device_id, code in cases:
        client.election_id, client.role, client.device_id = election_id, role, device_id
        with pytest.raises(grpc.RpcError) as caught:
            client.write(update)
        assert caught.value.code() is code
        with pytest.raises(grpc.RpcError) as caught:
            client.set_pipeline(configs["entities"])
        assert caught.value.code() is code
    client.election_id, client.role, client.device_id = 5, "", 1
    client.write(update)


def test_two_roles_each_have_a_primary(switch: Any, names: Any, configs: Any) -> None:
    switch.primary(configs["entities"], election_id=5)
    other = switch.client()
    other.arbitrate(1, role="second")
    update = other.next("arbitration")
    assert (update.status.code, update.role.name) == (OK, "second")
    other.insert(names.entry("exact_table", b"\1", action=names.action("drop")))


def test_packet_out_and_in(ent: Any, switch: Any, names: Any) -> None:
    ent.send(packet_out(b"\2", frame(7)))
    assert switch.receive(2) == frame(7)
    ent.send(packet_out(b"\1\xfe", frame(8)))
    packet = ent.next("packet")
    assert packet.payload == frame(8)
    assert [(item.metadata_id, item.value) for item in packet.metadata] == [(1, b"\1\xfe"), (2, b"\0")]


def test_missing_packet_out_metadata_is_zero(ent: Any, switch: Any) -> None:
    packet = p4r.PacketOut(payload=frame())
    packet.metadata.add(metadata_id=1, value=b"\1")
    ent.send(p4r.StreamMessageRequest(packet=packet))
    assert switch.receive(1) == frame()


@pytest.mark.parametrize(
    "metadata",
    [[(9, b"\1")], [(1, b"\2\0")], [(1, b"")], [(1, b"\1"), (1, b"\1")]],
    ids=["unknown", "wide", "empty", "twice"],
)
def test_bad_packet_out_is_told_and_dropped(ent: Any, switch: Any, metadata: list[tuple[int, bytes]]) -> None:
    packet = p4r.PacketOut(payload=frame())
    for number, value in metadata:
        packet.metadata.add(metadata_id=number, value=value)
    ent.send(p4r.StreamMessageRequest(packet=packet))
    error = ent.next("error")
    assert error.canonical_code in (3, 11)
    assert error.packet_out.packet_out == packet
    ent.send(packet_out(b"\1", frame(3)))
    assert switch.receive(1) == frame(3)


def test_backups_neither_send_nor_receive(ent: Any, switch: Any, names: Any) -> None:
    backup = switch.client()
    backup.arbitrate(0)
    assert backup.status() == (BACKUP, 1)
    backup.send(packet_out(b"\1", frame()))
    assert backup.next("error").canonical_code == 7
    ent.send(packet_out(b"\1\xfe", frame(1)))
    assert ent.next("packet").payload == frame(1)
    assert backup.responses.empty()


def test_other_stream_messages(ent: Any) -> None:
    ent.send(p4r.StreamMessageRequest())
    assert ent.next("error").canonical_code == 12
    ent.send(p4r.StreamMessageRequest(digest_ack=p4r.DigestListAck(digest_id=4)))
    error = ent.next("error")
    assert (error.canonical_code, error.digest_list_ack.digest_list_ack.digest_id) == (3, 4)


def test_packet_out_without_pipeline(switch: Any) -> None:
    client = switch.primary()
    client.send(packet_out(b"\1", frame()))
    assert client.next("error").canonical_code == 9


def test_packets_without_a_primary_are_counted(switch: Any, configs: Any, names: Any) -> None:
    client = switch.primary(configs["entities"])
    client.modify(names.entry("exact_table", is_default_action=True, action=names.action("measured", b"\1\xfe")))
    other = switch.client()
    other.arbitrate(None)
    other.next("arbitration")
    client.close()
    assert other.status() == (NONE, 1)
    switch.send(1, BODY[:12] + b"\0\0" + bytes(46))
    other.arbitrate(1)
    assert other.status() == (OK, 1)
    other.send(packet_out(b"\2", b"after it"))
    assert switch.receive(2) == b"after it"
    assert switch.engine.drops.total(DropReason.NO_PRIMARY) in (0, 1)  # 0: it came after the arbitration


def test_slow_client_loses_counted_packets_and_stalls_nobody(start: Any, configs: Any, names: Any) -> None:
    switch = start(limits=StreamLimits(packets=50))
    client = switch.primary(configs["entities"])
    client.modify(names.entry("exact_table", is_default_action=True, action=names.action("measured", b"\1\xfe")))
    (stream,) = switch.control.streams()
    frames = [BODY[:12] + b"\0\0" + n.to_bytes(2, "big") + bytes(44) for n in range(400)]
    with stream._ready:  # as if the connection took nothing: the client's thread cannot take from the queue meanwhile
        lost = stream.put_packets(switch.control.pipeline.packet_in.serialized, [b"\0\0" + item for item in frames])
    assert lost == 350
    assert stream.dropped_packets == 350
    assert [client.next("packet").payload for _ in range(50)] == frames[:50]
    switch.send(1, frames[0])
    assert client.next("packet").payload == frames[0]


def test_digests(ent: Any, switch: Any, names: Any) -> None:
    ent.modify(names.entry("keyless", is_default_action=True, action=names.action("learn")))
    config = p4r.DigestEntry.Config(max_timeout_ns=0, max_list_size=1, ack_timeout_ns=10**12)
    ent.insert(p4r.Entity(digest_entry=p4r.DigestEntry(digest_id=names.seen_t, config=config)))
    switch.send(2, frame())
    switch.send(2, frame())
    first = ent.next("digest")
    (data,) = first.data
    assert [item.bitstring for item in data.struct.members] == [b"\2\0\0\0\0\x0b", b"\2"]
    ent.send(p4r.StreamMessageRequest(digest_ack=p4r.DigestListAck(digest_id=names.seen_t, list_id=first.list_id)))
    ent.send(packet_out(b"\2", b"handled after the ack"))
    assert switch.receive(2) == b"handled after the ack"
    switch.send(2, frame())
    second = ent.next("digest")
    assert second.list_id > first.list_id and second.data == first.data
    queries = (
        p4r.Entity(register_entry=p4r.RegisterEntry(register_id=names.last_source, index=p4r.Index(index=0))),
        p4r.Entity(counter_entry=p4r.CounterEntry(counter_id=names.both, index=p4r.Index(index=1))),
    )
    end = time.monotonic() + 10
    reads = ent.read(*queries)
    # Digests are looked at every 50 ms: where the first two fell into different looks, this was that of the second.
    while reads[1].counter_entry.data.packet_count < 3 and time.monotonic() < end:
        reads = ent.read(*queries)
    assert reads[0].register_entry.data.bitstring == b"\2\0\0\0\0\x0b"
    assert reads[1].counter_entry.data == p4r.CounterData(packet_count=3, byte_count=3 * len(frame()))


def test_idle_timeout_notifications(ent: Any, names: Any) -> None:
    fields = {"idle_timeout_ns": 60_000_000, "metadata": b"m", "controller_metadata": 4}
    ent.insert(names.entry("exact_table", b"\1", action=names.action("drop"), **fields))
    for _ in range(2):  # again after another timeout
        (entry,) = ent.next("idle_timeout_notification").table_entry
        assert entry == names.entry("exact_table", b"\1", **fields).table_entry
    ent.delete(names.entry("exact_table", b"\1"))


class Collector:
    """Reads one port; says when a marker has come."""

    def __init__(self, switch: Any, port: int) -> None:
        self.frames: list[bytes] = []
        self.marked = threading.Semaphore(0)
        self._switch = switch
        self._port = port
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        while not self.frames or self.frames[-1] != b"last":
            self.frames.append(self._switch.receive(self._port))
            if self.frames[-1] == b"marker":
                self.marked.release()

    def runs(self) -> list[list[int]]:
        """Sequence numbers between the markers."""
        runs: list[list[int]] = [[]]
        for item in self.frames[:-1]:
            if item == b"marker":
                runs.append([])
            else:
                runs[-1].append(int.from_bytes(item[14:18], "big"))
        return runs


def test_packet_out_after_a_write_sees_it_and_nothing_older_follows(ent: Any, switch: Any, names: Any) -> None:
    """While frames stream in, entries flip between ports 2 and 11. After each flip returned, a marker goes to the port
    that was left: behind it nothing that was looked up before, and all numbers stay in order across the ports."""
    key = b"\2\0\0\0\0\x0a"
    ent.insert(names.entry("exact_table", key, action=names.action("measured", b"\2")))
    done = threading.Event()

    def feed() -> None:
        number = 0
        while not done.is_set():
            switch.send(1, BODY[:12] + b"\0\0" + number.to_bytes(4, "big") + bytes(42))
            number += 1

    ports = {2: Collector(switch, 2), 11: Collector(switch, 11)}
    feeder = threading.Thread(target=feed)
    feeder.start()
    try:
        for target, left in ((11, 2), (2, 11)) * 10:
            ent.modify(names.entry("exact_table", key, action=names.action("measured", bytes([target]))))
            ent.send(packet_out(bytes([left]), b"marker"))
            assert ports[left].marked.acquire(timeout=10)
        ent.modify(names.entry("exact_table", key, action=names.action("drop")))
    finally:
        done.set()
        feeder.join(10)
        for port in ports:
            ent.send(packet_out(bytes([port]), b"last"))
        for collector in ports.values():
            collector.thread.join(10)
            assert not collector.thread.is_alive()
    order: list[int] = []
    for two, eleven in zip(ports[2].runs(), ports[11].runs(), strict=True):
        order += two + eleven
    assert order == list(range(len(order)))
    assert len(order) > 100
