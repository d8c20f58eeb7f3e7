"""Matching and choosing: kinds of match, odd widths, profiles and selectors, meters, digests, initial entries."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from finsy.proto import p4r

from tests.p4switch.conformance.harness import NAMES
from tests.p4switch.p4runtime.conftest import Names

N: Names = NAMES["choices"]
FM = p4r.FieldMatch
TERNARY, OPTIONAL, RANGE, WIDTH, PROFILE, SELECTOR, PACE, BUDGET, INITIAL = range(1, 10)
GREEN, YELLOW, RED = 0, 1, 2


def query(kind: int, word: int, *, flag: int = 0, small: int = 0, wide: int = 0) -> bytes:
    return bytes([flag << 7 | small, kind]) + word.to_bytes(2, "big") + wide.to_bytes(32, "big")


def note(b: Any, kind: int, word: int, **fields: int) -> int:
    """What the program answers."""
    frame = query(kind, word, **fields)
    ((port, answer),) = b.wire.answers(3, frame)
    assert (port, answer[0], answer[4:]) == (3, kind, frame)
    return int.from_bytes(answer[2:4], "big")


def colour(b: Any, kind: int, word: int) -> int:
    ((_, answer),) = b.wire.answers(3, query(kind, word))
    return int(answer[1])


def ternary(value: bytes, mask: bytes) -> p4r.FieldMatch:
    return FM(ternary=FM.Ternary(value=value, mask=mask))


def optional(value: bytes) -> p4r.FieldMatch:
    return FM(optional=FM.Optional(value=value))


def say(number: int) -> p4r.Action:
    return N.action("say", bytes([number]))


def test_ternary_highest_priority_wins(bench: Callable[..., Any]) -> None:
    b = bench("choices")
    high = N.entry("by_ternary", ternary(b"\x12\0", b"\xff\0"), None, priority=20, action=say(2))
    exact = N.entry(
        "by_ternary", ternary(b"\x12\x34", b"\xff\xff"), ternary(b"\5", b"\x0f"), priority=30, action=say(3)
    )
    rest = N.entry("by_ternary", None, None, priority=1, action=say(1))
    b.client.insert(rest, exact, high)
    got = [note(b, TERNARY, 0x1234, small=0x75), note(b, TERNARY, 0x1234, small=6), note(b, TERNARY, 0x1334)]
    assert got == [3, 2, 1]
    b.client.delete(high)
    assert note(b, TERNARY, 0x1234, small=6) == 1
    assert b.client.codes(p4r.Update(type="INSERT", entity=exact)) == [6]
    b.client.delete(rest, exact)
    assert note(b, TERNARY, 0x1234) == 0


def test_ternary_same_match_at_two_priorities(bench: Callable[..., Any]) -> None:
    b = bench("choices")
    low, high = (N.entry("by_ternary", ternary(b"\1", b"\xff\xff"), None, priority=n, action=say(n)) for n in (1, 2))
    b.client.insert(low, high)
    assert note(b, TERNARY, 1) == 2
    assert sorted(item.table_entry.priority for item in b.client.read(N.entry("by_ternary"))) == [1, 2]
    b.client.delete(high)
    assert note(b, TERNARY, 1) == 1


def test_optional_is_exact_or_anything(bench: Callable[..., Any]) -> None:
    b = bench("choices")
    entries = [
        N.entry("by_optional", optional(b"\x0a\xbc"), optional(b"\1"), priority=3, action=say(3)),
        N.entry("by_optional", optional(b"\x0a\xbc"), None, priority=2, action=say(2)),
        N.entry("by_optional", None, optional(b"\0"), priority=1, action=say(1)),
    ]
    b.client.insert(*entries)
    got = [note(b, OPTIONAL, word, flag=flag) for word, flag in ((0xABC, 1), (0xABC, 0), (5, 0), (5, 1))]
    assert got == [3, 2, 1, 0]
    read = sorted(b.client.read(N.entry("by_optional")), key=lambda item: -item.table_entry.priority)
    assert [item.table_entry.match for item in read] == [item.table_entry.match for item in entries]


def test_ranges_of_const_entries(bench: Callable[..., Any]) -> None:
    b = bench("choices")
    got = [note(b, RANGE, word) for word in (0, 5, 9, 10, 20, 21, 0x100, 0x1FF, 0x200)]
    assert got == [1, 1, 1, 2, 2, 0, 3, 3, 0]


@pytest.mark.parametrize(("flag", "small", "wide"), [(0, 0, 0), (1, 127, (1 << 256) - 1), (1, 0x55, 1 << 255)])
def test_fields_of_1_7_and_256_bits(bench: Callable[..., Any], flag: int, small: int, wide: int) -> None:
    b = bench("choices")
    key = [FM(exact=FM.Exact(value=bytes([flag]))), FM(exact=FM.Exact(value=bytes([small])))]
    raw = wide.to_bytes((wide.bit_length() + 7) // 8 or 1, "big")
    entry = N.entry("by_width", *key, FM(lpm=FM.LPM(value=raw, prefix_len=256)), action=say(7))
    b.client.insert(entry)
    assert note(b, WIDTH, 0, flag=flag, small=small, wide=wide) == 7
    assert note(b, WIDTH, 0, flag=flag, small=small, wide=wide ^ 1) == 0
    assert note(b, WIDTH, 0, flag=flag ^ 1, small=small, wide=wide) == 0
    (read,) = b.client.read(N.entry("by_width"))
    assert sorted(read.table_entry.match, key=lambda item: item.field_id) == list(entry.table_entry.match)


def member(profile: str, number: int, action: p4r.Action) -> p4r.Entity:
    return p4r.Entity(
        action_profile_member=p4r.ActionProfileMember(action_profile_id=N[profile], member_id=number, action=action)
    )


def group(number: int, *members: int, weight: int = 1) -> p4r.Entity:
    entry = p4r.ActionProfileGroup(action_profile_id=N.spreader, group_id=number)
    for item in members:
        entry.members.add(member_id=item, weight=weight)
    return p4r.Entity(action_profile_group=entry)


def indirect(table: str, key: bytes, **action: int) -> p4r.Entity:
    entity = N.entry(table, key)
    entity.table_entry.action.CopyFrom(p4r.TableAction(**action))
    return entity


def send(port: int) -> p4r.Action:
    return N.action("send", bytes([port]))


def ports(b: Any, kind: int = SELECTOR, count: int = 48) -> list[int]:
    """The port of each of some flows."""
    words = random.Random(count).sample(range(1 << 16), count)  # crc16's low bits take all values only over both bytes
    return [b.wire.answers(3, query(kind, word))[0][0] for word in words]


def test_entries_share_a_member(bench: Callable[..., Any]) -> None:
    b = bench("choices")
    b.client.insert(member("shared", 1, say(1)))
    b.client.insert(*(indirect("by_profile", bytes([n]), action_profile_member_id=1) for n in (1, 2)))
    assert [note(b, PROFILE, n) for n in (1, 2, 3)] == [1, 1, 0]
    b.client.modify(member("shared", 1, say(9)))
    assert [note(b, PROFILE, n) for n in (1, 2, 3)] == [9, 9, 0]


def test_group_spreads_and_follows_its_members(bench: Callable[..., Any]) -> None:
    b = bench("choices")
    b.client.insert(member("spreader", 1, send(1)), member("spreader", 2, send(2)), member("spreader", 5, send(5)))
    b.client.insert(group(1, 1, 2), indirect("by_selector", bytes([SELECTOR]), action_profile_group_id=1))
    spread = ports(b)
    assert set(spread) == {1, 2} and ports(b) == spread
    b.client.modify(group(1, 2))
    assert set(ports(b)) == {2}
    b.client.modify(group(1, 1, 2, 5))
    assert set(ports(b)) == {1, 2, 5}
    b.client.modify(member("spreader", 5, send(6)))
    assert set(ports(b)) == {1, 2, 6}


def test_group_goes_with_its_members(bench: Callable[..., Any]) -> None:
    b = bench("choices")
    one, two = member("spreader", 1, send(1)), member("spreader", 2, send(2))
    b.client.insert(one, two, group(1, 1, 2))
    b.client.delete(group(1), one, two)
    b.client.insert(one, group(1, 1), indirect("by_selector", bytes([SELECTOR]), action_profile_group_id=1))
    assert set(ports(b, count=16)) == {1}


def one_shot(*choices: tuple[int, int]) -> p4r.Entity:
    entity = N.entry("by_selector", bytes([SELECTOR]))
    for port, weight in choices:
        item = entity.table_entry.action.action_profile_action_set.action_profile_actions.add(weight=weight)
        item.action.CopyFrom(send(port))
    return entity


def test_one_shot(bench: Callable[..., Any]) -> None:
    b = bench("choices")
    b.client.insert(one_shot((1, 1), (2, 1)))
    spread = ports(b)
    assert set(spread) == {1, 2} and ports(b) == spread
    b.client.modify(one_shot((4, 1)))
    assert set(ports(b, count=8)) == {4}
    b.client.modify(one_shot((1, 1), (2, 7)))
    spread = ports(b, count=200)
    assert set(spread) == {1, 2} and spread.count(2) > spread.count(1)
    b.client.delete(one_shot())
    assert set(ports(b, count=4)) == {3}


def test_direct_meter_is_green_until_configured(bench: Callable[..., Any]) -> None:
    b = bench("choices")
    entry = N.entry("by_pace", b"\1", action=N.action("paced", b"\5"))
    b.client.insert(entry)
    query_meter = N.entry("by_pace", b"\1", meter_config=p4r.MeterConfig())
    (read,) = b.client.read(query_meter)
    assert not read.table_entry.HasField("meter_config")
    assert [colour(b, PACE, 1) for _ in range(4)] == [GREEN] * 4
    b.client.modify(p4r.Entity(direct_meter_entry=p4r.DirectMeterEntry(table_entry=entry.table_entry)))
    assert not b.client.read(query_meter)[0].table_entry.HasField("meter_config")
    config = p4r.MeterConfig(cir=1, cburst=1, pir=1, pburst=2)
    b.client.modify(p4r.Entity(direct_meter_entry=p4r.DirectMeterEntry(table_entry=entry.table_entry, config=config)))
    assert b.client.read(query_meter)[0].table_entry.meter_config == config
    assert [colour(b, PACE, 1) for _ in range(4)] == [GREEN, YELLOW, RED, RED]


def test_meters_of_an_array_are_apart(bench: Callable[..., Any]) -> None:
    b = bench("choices")
    entry = p4r.MeterEntry(meter_id=N.budget, index=p4r.Index(index=4))
    entry.config.CopyFrom(p4r.MeterConfig(cir=1, cburst=len(query(0, 0)), pir=1, pburst=2 * len(query(0, 0))))
    b.client.modify(p4r.Entity(meter_entry=entry))
    assert [colour(b, BUDGET, 4) for _ in range(3)] == [GREEN, YELLOW, RED]
    assert [colour(b, BUDGET, 5) for _ in range(3)] == [GREEN] * 3


def test_initial_entries_may_be_changed(bench: Callable[..., Any], request: pytest.FixtureRequest) -> None:
    b = bench("choices")
    assert [note(b, INITIAL, n) for n in (1, 2, 3)] == [0x11, 0x22, 0]
    if request.node.callspec.params["bench"] == "simple_switch_grpc":
        return  # it answers INTERNAL to everything about such a table: its P4Runtime state lacks the entries
    assert len(b.client.read(N.entry("initial"))) == 2
    b.client.modify(N.entry("initial", b"\2", action=say(0x44)))
    assert note(b, INITIAL, 2) == 0x44
    b.client.delete(N.entry("initial", b"\2"))
    b.client.insert(N.entry("initial", b"\3", action=say(0x33)))
    assert [note(b, INITIAL, n) for n in (1, 2, 3)] == [0x11, 0, 0x33]


def test_digests_by_list_size_and_acks(bench: Callable[..., Any]) -> None:
    b = bench("choices")
    config = p4r.DigestEntry.Config(max_timeout_ns=0, max_list_size=1, ack_timeout_ns=10**13)
    b.client.insert(
        N.entry("learner", bytes([TERNARY]), action=N.action("learn")),
        p4r.Entity(digest_entry=p4r.DigestEntry(digest_id=N.seen_t, config=config)),
    )

    def words(count: int) -> list[bytes]:
        lists = [b.client.next("digest") for _ in range(count)]
        for item in lists:
            ack = p4r.DigestListAck(digest_id=N.seen_t, list_id=item.list_id)
            b.client.send(p4r.StreamMessageRequest(digest_ack=ack))
        return [data.struct.members[1].bitstring for item in lists for data in item.data]

    for word in (1, 1, 2):  # the second 1 is not told again: nobody has acknowledged the first
        b.wire.answers(3, query(TERNARY, word))
    assert words(2) == [b"\1", b"\2"]
