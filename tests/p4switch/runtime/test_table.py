"""Changes of tables: what is refused, that refusing changes nothing, and idle timeouts."""

from pathlib import Path

import pytest

from p4switch.device import Device
from p4switch.errors import BadEntry, ConstError, DuplicateEntry, InUse, NoSuchEntry, StateError, TableFull
from p4switch.load import load_program
from p4switch.runtime import ActionCall, EntryAction, Group, GroupMember, GroupRef, Match, MemberRef, Table

PROGRAMS = Path(__file__).parent.parent / "programs"
SET = ActionCall("MyIngress.set", (5,))


class Clock:
    """Set by hand."""

    def __init__(self) -> None:
        self.now = 0

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def device(clock: Clock) -> Device:
    return Device(load_program((PROGRAMS / "tables.json").read_bytes()), clock=clock)


def table(device: Device, name: str) -> Table:
    return device.state.table(f"MyIngress.{name}")


BAD = [
    ("exact_table", (1,), SET, 0, "fields"),
    ("exact_table", (256, 1), SET, 0, "no number of 8 bits"),
    ("exact_table", (-1, 1), SET, 0, "no number of 8 bits"),
    ("exact_table", ((1, 1), 1), SET, 0, "no number of 8 bits"),
    ("exact_table", (1, 1), SET, 3, "priority must be 0"),
    ("exact_table", (1, 1), ActionCall("MyIngress.nothing"), 0, "not one of the table's"),
    ("exact_table", (1, 1), ActionCall("MyIngress.set"), 0, "takes 1 arguments"),
    ("exact_table", (1, 1), ActionCall("MyIngress.set", (256,)), 0, "does not fit 8 bits"),
    ("exact_table", (1, 1), MemberRef(1), 0, "no action profile"),
    ("lpm_table", ((0x0A01, 8),), ActionCall("NoAction"), 0, "below its prefix"),
    ("lpm_table", ((0x0A01, 17),), ActionCall("NoAction"), 0, "no lpm match"),
    ("ternary_table", ((1, 1), (0, 0)), SET, 0, "priority above 0"),
    ("ternary_table", ((2, 1), (0, 0)), SET, 1, "outside of its mask"),
    ("range_table", ((2, 1), 1), SET, 1, "no range match"),
    ("profile_table", (1,), SET, 0, "indirect"),
]


@pytest.mark.parametrize(("name", "match", "action", "priority", "problem"), BAD, ids=[f"{b[0]}-{b[4]}" for b in BAD])
def test_bad_entry_is_refused_and_nothing_changes(
    device: Device, name: str, match: Match, action: EntryAction, priority: int, problem: str
) -> None:
    with pytest.raises(BadEntry, match=problem):
        table(device, name).insert(match, action, priority=priority)
    assert len(table(device, name)) == 0


def test_duplicate_full_and_missing(device: Device) -> None:
    exact = table(device, "exact_table")
    for i in range(4):
        exact.insert((i, 0), SET)
    with pytest.raises(DuplicateEntry):
        exact.insert((0, 0), SET)
    with pytest.raises(TableFull):
        exact.insert((9, 0), SET)
    exact.delete((0, 0))
    for call in (exact.delete, exact.get):
        with pytest.raises(NoSuchEntry):
            call((0, 0))
    with pytest.raises(NoSuchEntry):
        exact.modify((0, 0), SET)
    assert [entry.match for entry in exact.entries()] == [(1, 0), (2, 0), (3, 0)]


def test_same_match_at_two_priorities_are_two_entries(device: Device) -> None:
    ternary = table(device, "ternary_table")
    ternary.insert(((1, 1), (0, 0)), SET, priority=1)
    ternary.insert(((1, 1), (0, 0)), ActionCall("NoAction"), priority=2)
    entry = ternary.find((1, 0))
    assert entry is not None and entry.priority == 2
    ternary.delete(((1, 1), (0, 0)), 2)
    entry = ternary.find((1, 0))
    assert entry is not None and entry.priority == 1


def test_modify_keeps_the_counters(device: Device) -> None:
    exact = table(device, "exact_table")
    exact.insert((1, 1), SET).packets = 7
    entry = exact.modify((1, 1), ActionCall("MyIngress.stop"), metadata=b"x")
    assert (entry.packets, entry.args, entry.metadata) == (7, (), b"x")


def test_const_entries_and_defaults_stay(device: Device) -> None:
    const = table(device, "const_table")
    assert [entry.priority for entry in const.entries()] == [4, 3, 2, 1]
    for change in (
        lambda: const.insert(((9, 255),), SET, priority=9),
        lambda: const.delete(((0x10, 0xF0),), 4),
        lambda: const.modify(((0x10, 0xF0),), SET, priority=4),
        lambda: const.set_default(SET),
    ):
        with pytest.raises(ConstError):
            change()
    const.clear()
    assert len(const) == 4


def test_default_is_set_and_reset(device: Device) -> None:
    exact = table(device, "exact_table")
    exact.set_default(ActionCall("MyIngress.set", (1,)))
    assert device.process(0, bytes([1, 0, 0, 0, 0, 0]), 0)[0].frame[4] == 1
    exact.reset_default()
    assert device.process(0, bytes([1, 0, 0, 0, 0, 0]), 0)[0].frame[4] == 0xD0
    with pytest.raises(BadEntry):
        table(device, "profile_table").set_default(SET)


def test_members_in_use_are_not_deleted(device: Device) -> None:
    profile = table(device, "selector_table").profile
    assert profile is not None
    with pytest.raises(NoSuchEntry):
        profile.insert_group(1, Group((GroupMember(1),)))
    profile.insert_member(1, SET)
    profile.insert_group(1, Group((GroupMember(1),)))
    table(device, "selector_table").insert((1,), GroupRef(1))
    for call, number in ((profile.delete_member, 1), (profile.delete_group, 1)):
        with pytest.raises(InUse):
            call(number)
    with pytest.raises(TableFull):
        profile.modify_group(1, Group((GroupMember(1, weight=17),)))
    table(device, "selector_table").delete((1,))
    profile.delete_group(1)
    profile.delete_member(1)


def test_every_refusal_is_a_state_error(device: Device) -> None:
    with pytest.raises(StateError):
        device.state.table("nothing")


def test_idle_entries_are_reported_after_their_timeout_and_again_after_another(device: Device, clock: Clock) -> None:
    exact = table(device, "exact_table")
    entry = exact.insert((1, 1), SET, idle_timeout_ns=10_000_000)
    exact.insert((2, 1), SET)
    assert exact.expired(9_999) == []
    device.process(0, bytes([1, 1, 0, 1, 0, 0]), 5_000)
    assert exact.expired(10_000) == []
    assert exact.expired(15_000) == [entry]
    assert exact.expired(15_001) == []
    assert [found.entry for found in device.state.expired(25_000)] == [entry]
    device.process(0, bytes([1, 1, 0, 1, 0, 0]), 30_000)
    assert exact.expired(35_000) == []
    clock.now = 36_000
    exact.modify((1, 1), SET)  # no timeout any more
    assert exact.expired(1_000_000) == []
    exact.delete((1, 1))
    exact.insert((1, 1), SET, idle_timeout_ns=1000)
    exact.delete((1, 1))
    assert exact.expired(9_000_000) == []


def test_idle_timeout_needs_support(device: Device) -> None:
    with pytest.raises(BadEntry, match="support_timeout"):
        table(device, "lpm_table").insert(((0, 0),), ActionCall("NoAction"), idle_timeout_ns=5)
