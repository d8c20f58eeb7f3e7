"""What the guest library costs a packet, and a move.

    python -m pytest benchmarks/bench_guestlib.py --benchmark-only

Beside a plain dict, with memory and the bars that the project sets itself: benchmarks/guestlib_cost.py.
"""

from __future__ import annotations

import struct

import msgspec
import pytest

from guestlib import Guest, Packet, ReplicaConfig
from guestlib.engine import Counters, Engine
from guestlib.instructions import ToPeer
from splitmerge import wire
from splitmerge.flowkey import UDP, FlowKey
from splitmerge.messages import Commit, Export, Message, Scope

FLOWS = 10_000
TRANSACTIONS = 1_000
BATCH = 64


class Count(msgspec.Struct):
    packets: int = 0
    bytes: int = 0


def key_of(number: int) -> FlowKey:
    return FlowKey.of(UDP, bytes((10, 0, 1, number >> 14)), 1024 + (number & 0x3FFF), bytes((10, 0, 2, 2)), 53)


def frame_of(number: int) -> bytes:
    udp = struct.pack("!HHHH", 1024 + number, 53, 16, 0) + bytes(8)
    ip = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), 0, 0, 64, UDP, 0) + bytes((10, 0, 1, 2, 10, 0, 2, 2))
    return bytes.fromhex("0200000000fe020000000102") + b"\x08\x00" + ip + udp


class Counting:
    """A transaction, a timer and a send for every packet."""

    def setup(self, guest: Guest) -> None:
        guest.register_state(Count)
        guest.on_timer("idle", lambda guest, key: guest.delete_flow(key))

    def on_packet(self, guest: Guest, packet: Packet) -> None:
        assert packet.key is not None
        state = guest.get_flow(packet.key)
        state.packets += 1
        guest.flow_timer(packet.key, 30.0, "idle")
        guest.put_flow(packet.key)
        guest.send(packet.frame)


class Passing:
    """Nothing: what is left is the library's own."""

    def setup(self, guest: Guest) -> None:
        guest.register_state(Count)

    def on_packet(self, guest: Guest, packet: Packet) -> None:
        guest.send(packet.frame)


class Nowhere:
    """Outlets to nowhere."""

    def transmit(self, frame: bytes) -> None: ...

    def to_locks(self, message: Message) -> bool:
        return self.to_orchestrator(message)

    def to_orchestrator(self, message: Message) -> bool:
        return True

    def to_peer(self, address: str, message: Message, *, again: bool = False) -> None: ...

    def counters(self) -> Counters:
        return Counters(0.0, {})


def guest_with(flows: int, replica: int = 1) -> Guest:
    guest = Guest()
    Counting().setup(guest)
    guest.begin(replica, f"i{replica}")
    for number in range(flows):
        guest.create_flow(key_of(number), Count())
        guest.flow_timer(key_of(number), 30.0, "idle")
    return guest


def test_transactions(benchmark) -> None:
    guest = guest_with(FLOWS)
    keys = [key_of(number) for number in range(TRANSACTIONS)]

    def run() -> None:
        get, put = guest.get_flow, guest.put_flow
        for key in keys:
            get(key)
            put(key)

    benchmark(run)
    benchmark.extra_info["ns_each"] = benchmark.stats.stats.min / TRANSACTIONS * 1e9


def test_transactions_with_the_context_manager(benchmark) -> None:
    guest = guest_with(FLOWS)
    keys = [key_of(number) for number in range(TRANSACTIONS)]

    def run() -> None:
        for key in keys:
            with guest.flow(key):
                pass

    benchmark(run)
    benchmark.extra_info["ns_each"] = benchmark.stats.stats.min / TRANSACTIONS * 1e9


def test_timers_moved(benchmark) -> None:
    guest = guest_with(FLOWS)
    keys = [key_of(number) for number in range(TRANSACTIONS)]

    def run() -> None:
        guest.now += 0.001
        for key in keys:
            guest.flow_timer(key, 30.0, "idle")

    benchmark(run)
    benchmark.extra_info["ns_each"] = benchmark.stats.stats.min / TRANSACTIONS * 1e9


@pytest.mark.parametrize("middlebox", [Passing(), Counting()], ids=["passing", "counting"])
@pytest.mark.parametrize("holding", [False, True], ids=["quiet", "a hold is open"])
def test_a_batch_of_packets(benchmark, middlebox, holding: bool) -> None:
    guest = Guest()
    middlebox.setup(guest)
    guest.begin(1, "i1")
    guest.send = Nowhere().transmit
    frames = [frame_of(number) for number in range(BATCH)]
    for frame in frames:
        guest.create_flow(FlowKey.from_frame(frame), Count())
    if holding:
        guest.plane.hold(5, [key_of(FLOWS)], [], 0.0)
    config = ReplicaConfig(replica=1, interface="-", control="unix:/c", peer="unix:/p")
    engine = Engine(middlebox, guest, config, Nowhere())

    def run() -> None:
        engine.frames(frames, 0.0)
        engine.tick(0.0)
        engine.next_due()

    benchmark(run)
    benchmark.extra_info["ns_each"] = benchmark.stats.stats.min / BATCH * 1e9


@pytest.mark.parametrize("flows", [500, 5_000, 20_000])
def test_a_move_of_flows(benchmark, flows: int) -> None:
    """Export, every Stage encoded and decoded, Commit: the cores' part of a move."""

    def prepare() -> tuple[tuple[Guest, Guest], dict]:
        source, target = guest_with(flows, 1), guest_with(0, 2)
        return (source, target), {}

    def run(source: Guest, target: Guest) -> None:
        scope = Scope(buckets=tuple(range(1024)))
        steps = source.handle(Export(epoch=1, scope=scope, target=2, address="t", deadline=1.0), 0.0)
        while any(isinstance(step, ToPeer) for step in steps):
            answers = [answer for step in steps for answer in target.handle(carry(step.message), 0.0)]
            steps = [step for answer in answers for step in source.handle(carry(answer.message), 0.0)]
        target.handle(Commit(epoch=1, scope=scope), 0.0)
        assert target.table.count == flows

    benchmark.pedantic(run, setup=prepare, rounds=3)
    benchmark.extra_info["us_each"] = benchmark.stats.stats.min / flows * 1e6


def carry(message: Message) -> Message:
    decoder = wire.Decoder()
    decoder.receive_data(wire.encode(message))
    decoded = decoder.next_message()
    assert decoded is not None
    return decoded
