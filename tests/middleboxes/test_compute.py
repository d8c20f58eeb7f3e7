"""The compute-bound middlebox: what a packet costs is what was configured."""

from __future__ import annotations

import hashlib
import time

import pytest
from scapy.layers.inet import IP
from scapy.layers.inet import UDP as UDPHeader
from scapy.layers.l2 import Ether
from scapy.packet import Raw

from guestlib import prepare
from guestlib.config import ReplicaConfig
from guestlib.middlebox import Packet
from middleboxes.compute import TOTALS, Compute, Totals, Worked, combine
from splitmerge.errors import BadInput
from splitmerge.flowkey import UDP, FlowKey

FRAME = bytes(Ether() / IP(src="10.0.1.2", dst="10.0.2.2") / UDPHeader(sport=5000, dport=53) / Raw(b"work"))
KEY = FlowKey.of(UDP, bytes([10, 0, 1, 2]), 5000, bytes([10, 0, 2, 2]), 53)


class FakeCpu:
    """A process that uses 100 ns between two looks at its clock."""

    def __init__(self) -> None:
        self.now = 0

    def __call__(self) -> int:
        self.now += 100
        return self.now


def guest_of(middlebox: Compute, **settings: object):
    config = ReplicaConfig(replica=1, interface="x", control="unix:/c", peer="unix:/p", settings=settings)
    return prepare(middlebox, config)


@pytest.mark.parametrize(("cost_us", "least", "most"), [(0, 0, 500), (10, 10_000, 10_500), (200, 200_000, 200_500)])
def test_a_packet_costs_the_cpu_time_that_is_set(cost_us: float, least: int, most: int) -> None:
    middlebox = Compute(FakeCpu())
    guest = guest_of(middlebox, cost_us=cost_us)
    for _ in range(3):
        middlebox.on_packet(guest, Packet.of(FRAME))
    with guest.flow(KEY) as worked:
        assert worked.packets == 3
        assert 3 * least <= worked.cpu_ns <= 3 * most
    assert guest.sent == [FRAME] * 3
    assert guest.figures["worked"] == 3


def test_real_cpu_time_is_what_it_takes() -> None:
    middlebox = Compute()
    guest = guest_of(middlebox, cost_us=500)

    def twenty() -> float:
        began = time.process_time()
        for _ in range(20):
            middlebox.on_packet(guest, Packet.of(FRAME))
        return time.process_time() - began

    rounds = [twenty() for _ in range(5)]  # in some of them other threads or the collector work too
    assert 0.010 <= min(rounds) < 0.020


def test_hashing_is_a_fixed_amount_of_work_with_a_result_that_travels() -> None:
    middlebox = Compute()
    guest = guest_of(middlebox, work="hash", rounds=2)
    middlebox.on_packet(guest, Packet.of(FRAME))
    middlebox.on_packet(guest, Packet.of(FRAME))
    once = hashlib.sha256(hashlib.sha256(FRAME).digest()).digest()
    with guest.flow(KEY) as worked:
        assert worked.digest == hashlib.sha256(hashlib.sha256(once + FRAME).digest()).digest()


def test_flows_are_forgotten_after_silence() -> None:
    middlebox = Compute(FakeCpu())
    guest = guest_of(middlebox, cost_us=0, idle=5)
    middlebox.on_packet(guest, Packet.of(FRAME))
    assert guest.fire_timers(4.9) == 0 and guest.has_flow(KEY)
    assert guest.fire_timers(5.1) == 1 and not guest.has_flow(KEY)


def test_totals_add_up() -> None:
    assert combine([Totals(1, 2), Totals(3, 4)]) == Totals(4, 6)
    middlebox = Compute(FakeCpu())
    guest = guest_of(middlebox)
    middlebox.on_packet(guest, Packet.of(FRAME))
    assert guest.get_shared(TOTALS).packets == 1
    guest.put_shared(TOTALS)


def test_packets_that_are_no_flows_pass_for_free() -> None:
    middlebox = Compute(FakeCpu())
    guest = guest_of(middlebox)
    arp = bytes(12) + b"\x08\x06" + bytes(46)
    middlebox.on_packet(guest, Packet.of(arp))
    assert guest.sent == [arp] and guest.table.count == 0


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"cost_us": -1}, "cost_us"),
        ({"work": "sleep"}, "work"),
        ({"speed": 1}, "speed"),
        ({"rounds": "many"}, "rounds"),
    ],
)
def test_a_wrong_setting_is_named(settings: dict[str, object], said: str) -> None:
    with pytest.raises(BadInput, match=said) as caught:
        guest_of(Compute(), **settings)
    assert "fields: work, cost_us, rounds, idle" in str(caught.value)


def test_state_is_data() -> None:
    guest = guest_of(Compute())
    state = Worked(3, 4, b"d")
    assert guest.types.decode("Worked", guest.types.encode(state)) == state
