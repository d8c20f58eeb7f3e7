"""What happens around the pipelines, and externs that STF cannot see."""

import logging
from pathlib import Path

import pytest

from p4switch.device import Device, Transmit
from p4switch.load import load_program
from p4switch.runtime import (
    ActionCall,
    ActionSet,
    CloneSession,
    Count,
    Digest,
    Drop,
    Group,
    GroupMember,
    GroupRef,
    MemberRef,
    MeterConfig,
    Replica,
    WeightedAction,
)

PROGRAMS = Path(__file__).parent.parent / "programs"


def device_of(name: str) -> Device:
    return Device(load_program((PROGRAMS / f"{name}.json").read_bytes()))


def command(kind: int, value: int = 0, tail: bytes = b"") -> bytes:
    """A packet of externs.p4."""
    return bytes([kind]) + value.to_bytes(4) + bytes(8) + tail


def result(sent: list[Transmit]) -> int:
    (frame,) = sent
    return int.from_bytes(frame.frame[5:13])


def test_clone_is_cut_to_the_sessions_length_and_the_original_is_not() -> None:
    device = device_of("replication")
    device.state.clone_sessions.insert(7, CloneSession((Replica(3, 5),), packet_length=9))
    sent = device.process(0, bytes([1]) + bytes(20), 0)
    assert [(frame.port, len(frame.frame)) for frame in sent] == [(3, 9), (1, 21)]


def test_clone_to_a_session_that_does_not_exist_is_nothing() -> None:
    assert [frame.port for frame in device_of("replication").process(0, bytes([1]) + bytes(20), 0)] == [1]


def test_multicast_to_a_group_that_does_not_exist_is_counted() -> None:
    device = device_of("replication")
    assert device.process(0, bytes([5]) + bytes(20), 0) == []
    assert device.state.drops == {Drop.NO_COPIES: 1}


def test_drop_is_counted_and_its_clone_goes_out() -> None:
    device = device_of("replication")
    device.state.clone_sessions.insert(7, CloneSession((Replica(2),)))
    assert [frame.port for frame in device.process(0, bytes([7]) + bytes(20), 0)] == [2]
    assert device.state.drops == {Drop.INGRESS: 1}


def test_a_clone_of_every_clone_ends() -> None:
    device = device_of("replication")
    device.state.clone_sessions.insert(7, CloneSession((Replica(2),)))
    assert len(device.process(0, bytes([2]) + bytes(20), 0)) == 2  # the program clones only the original


def test_digest_carries_the_values() -> None:
    device = device_of("replication")
    device.process(3, bytes([8]) + bytes(20), 0)
    assert device.state.digests.take() == [Digest("digest_t", (8, 3))]
    assert device.state.digests.take() == []


def test_counter_counts_packets_and_bytes_within_its_size() -> None:
    device = device_of("externs")
    counter = device.state.counters["MyIngress.packets"]
    device.process(0, command(3, 2), 0)
    device.process(0, command(3, 2, b"tail"), 0)
    device.process(0, command(3, 4), 0)
    assert list(counter) == [Count(0, 0), Count(0, 0), Count(2, 30), Count(0, 0)]


def test_register_is_shared_with_the_control_plane() -> None:
    device = device_of("externs")
    register = device.state.registers["MyIngress.totals"]
    register.write(1, 40)
    assert result(device.process(0, command(1, 2), 0)) == 42
    assert register.read(1) == 42


def test_meter_colours_by_rate() -> None:
    device = device_of("externs")
    device.state.meters["MyIngress.limits"].configure(1, MeterConfig(1, 1, 2, 2), 0)
    colours = [result(device.process(0, command(4, 1), 0)) for _ in range(4)]
    assert colours == [0, 1, 2, 2]
    assert result(device.process(0, command(4, 1), 1_000_000)) == 0
    assert result(device.process(0, command(4, 0), 0)) == 0, "a meter without configuration is green"


def test_value_set_selects_the_state() -> None:
    device = device_of("externs")
    assert result(device.process(0, command(99, 0, bytes(8)), 0)) == 0
    (value_set,) = device.state.value_sets.values()
    value_set.replace(((99, 0xFF),))
    assert result(device.process(0, command(99, 0, bytes(8)), 0)) == 0x5BEC1A1


def test_random_stays_within_its_bounds() -> None:
    device = device_of("externs")
    assert {result(device.process(0, command(5), 0)) for _ in range(50)} == {1}


def test_failed_assertion_ends_the_packet_only(caplog: pytest.LogCaptureFixture) -> None:
    device = device_of("externs")
    assert device.process(0, command(13, 0), 0) == []
    assert result(device.process(0, command(13, 1), 0)) == 1
    assert device.state.drops == {Drop.ASSERTION: 1}


def test_log_msg_logs(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "p4switch.program"):
        device_of("externs").process(0, command(12, 7), 0)
    assert caplog.messages == ["value 7 of kind 12"]


def test_direct_counter_and_last_hit_are_the_entrys() -> None:
    device = device_of("tables")
    table = device.state.tables["MyIngress.exact_table"]
    entry = table.insert((1, 2), ActionCall("MyIngress.set", (5,)), idle_timeout_ns=1_000_000)
    assert device.process(0, bytes([1, 1, 0, 2, 0, 0]), 77)[0].frame == bytes([0x81, 1, 0, 3, 5, 0])
    device.process(0, bytes([1, 9, 0, 2, 0, 0]), 78)
    assert (entry.packets, entry.bytes, entry.last_hit_us) == (1, 6, 77)


def test_direct_meter_colours_hits() -> None:
    device = device_of("tables")
    table = device.state.tables["MyIngress.lpm_table"]
    entry = table.insert(((0x0A00, 8),), ActionCall("MyIngress.metered", (5,)))
    assert entry.meter is not None
    entry.meter.configure(MeterConfig(0, 1, 0, 2), "meter", 0)
    frames = [device.process(0, bytes([2, 1, 10, 2, 0, 0]), 0)[0].frame for _ in range(3)]
    assert [frame[5] for frame in frames] == [0, 1, 2]


def test_profile_members_run_and_say_which_action_ran() -> None:
    device = device_of("tables")
    table = device.state.tables["MyIngress.profile_table"]
    assert table.profile is not None
    table.profile.insert_member(1, ActionCall("MyIngress.set", (5,)))
    table.insert((1,), MemberRef(1))
    assert device.process(0, bytes([7, 1, 0, 0, 0, 0]), 0)[0].frame == bytes([0x87, 1, 0, 1, 5, 0])
    table.profile.modify_member(1, ActionCall("MyIngress.set_and_mark", (6,)))
    assert device.process(0, bytes([7, 1, 0, 0, 0, 0]), 0)[0].frame == bytes([0x97, 1, 0, 1, 6, 1])
    assert device.process(0, bytes([7, 2, 0, 0, 0, 0]), 0)[0].frame == bytes([7, 2, 0, 1, 0, 0])


def test_selector_chooses_by_hash_weight_and_living_port() -> None:
    device = device_of("tables")
    table = device.state.tables["MyIngress.selector_table"]
    profile = table.profile
    assert profile is not None
    for member in (1, 2):
        profile.insert_member(member, ActionCall("MyIngress.set", (member,)))
    profile.insert_group(1, Group((GroupMember(1, weight=1), GroupMember(2, weight=3, watch_port=4))))
    table.insert((1,), GroupRef(1))

    def picks() -> list[int]:
        return [device.process(0, bytes([9, 1, 0, i, 0, 0]), 0)[0].frame[4] for i in range(4)]

    assert picks() == [1, 2, 2, 2]
    device.state.ports_down.add(4)
    assert picks() == [1, 1, 1, 1]
    device.state.ports_down.clear()
    one_shot = ActionSet((WeightedAction(ActionCall("MyIngress.set", (8,)), 2),))
    table.modify((1,), one_shot)
    assert picks() == [8, 8, 8, 8]
    profile.delete_group(1)
