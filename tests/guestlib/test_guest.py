"""What a middlebox sees: flows, transactions, timers, listing, state types, loading."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import guestlib
from guestlib import (
    FlowExists,
    FlowMigrated,
    FlowMissing,
    Guest,
    GuestError,
    Middlebox,
    MiddleboxError,
    Packet,
    ReplicaConfig,
    StateError,
    TransactionError,
    load_middlebox,
    prepare,
)
from guestlib.config import Address
from guestlib.errors import FlowError
from guestlib.partitioned.flows import Flow
from guestlib.partitioned.gone import GONE_KEYS
from guestlib.partitioned.timers import TimerQueue
from guestlib.state import StateTypes
from splitmerge.errors import BadInput
from splitmerge.flowkey import FlowKey
from splitmerge.messages import FlowsGone, ListFlows, Release, Scope
from tests.guestlib.conftest import Count, frame_of, key_of


@pytest.fixture
def guest():
    guest = Guest()
    guest.register_state(Count)
    yield guest
    guest.table.validate_state()


# -- flows ---------------------------------------------------------------------------------------------------


def test_a_flow_lives_between_create_and_delete(guest: Guest) -> None:
    key = key_of(1)
    with pytest.raises(FlowMissing, match=r"udp,10\.0\.1\.2:1025,10\.0\.2\.2:53: no such flow here"):
        guest.get_flow(key)
    state = guest.create_flow(key, Count())
    assert guest.get_flow(key) is state
    assert guest.get_flow(bytes(key)) is state
    guest.put_flow(key)
    guest.put_flow(key)
    with pytest.raises(TransactionError, match="put_flow without get_flow"):
        guest.put_flow(key)
    with pytest.raises(FlowExists, match="here already"):
        guest.create_flow(key, Count())
    guest.delete_flow(key)
    for use in (guest.get_flow, guest.delete_flow):
        with pytest.raises(FlowMissing):
            use(key)
    assert guest.table.count == 0 and not guest.has_flow(key)


def test_a_flow_is_found_by_its_aliases(guest: Guest) -> None:
    state = guest.create_flow(key_of(1), Count(), aliases=[key_of(2), key_of(1), key_of(2)])
    guest.add_alias(key_of(2), key_of(3))
    assert [guest.get_flow(key_of(number)) for number in (1, 2, 3)] == [state] * 3
    assert guest.table.count == 1
    with pytest.raises(FlowExists):
        guest.create_flow(key_of(4), Count(), aliases=[key_of(3)])
    with pytest.raises(FlowExists):
        guest.add_alias(key_of(1), key_of(2))
    guest.put_flow(key_of(3))
    guest.delete_flow(key_of(2))
    assert not guest.table.active
    guest.put_flow(key_of(3))
    guest.put_flow(key_of(1))
    with pytest.raises(TransactionError):
        guest.put_flow(key_of(1))


def test_an_alias_may_not_live_elsewhere(guest: Guest) -> None:
    """In the bucket of the flow's own key it is where that bucket is; another one only the orchestrator knows about."""
    sibling = next(key for key in map(key_of, range(2, 9999)) if key.bucket == key_of(1).bucket)
    guest.handle(Release(epoch=3, scope=Scope(keys=(bytes(sibling), bytes(key_of(2))))), 0.0)
    guest.create_flow(key_of(1), Count())
    with pytest.raises(FlowMigrated) as caught:
        guest.add_alias(key_of(1), sibling)
    assert (caught.value.key, caught.value.epoch) == (sibling, 3)
    guest.add_alias(key_of(1), key_of(2))
    assert guest.has_flow(key_of(2))


def test_deleting_inside_a_transaction(guest: Guest) -> None:
    key = key_of(1)
    guest.create_flow(key, Count(1))
    with guest.flow(key) as first:
        guest.delete_flow(key)
        guest.create_flow(key, Count(2))
        with guest.flow(key) as second:
            guest.delete_flow(key)
            guest.create_flow(key, Count(3))
    assert (first.packets, second.packets) == (1, 2)
    assert guest.table.find(key).refs == 0
    with pytest.raises(TransactionError):
        guest.put_flow(key)


def test_a_transaction_ends_on_an_exception(guest: Guest) -> None:
    guest.create_flow(key_of(1), Count())
    with pytest.raises(ZeroDivisionError), guest.flow(key_of(1)):
        raise ZeroDivisionError
    assert guest.table.find(key_of(1)).refs == 0


def test_state_of_an_unregistered_type_is_refused(guest: Guest) -> None:
    with pytest.raises(StateError, match="dict is not registered"):
        guest.create_flow(key_of(1), {})
    assert not guest.has_flow(key_of(1))


def test_an_error_shows_what_is_no_key() -> None:
    assert str(FlowError(b"\x01\x02")) == "0102: flow error"


# -- what the orchestrator is told ----------------------------------------------------------------------------


def test_deleted_flows_are_reported_once(guest: Guest) -> None:
    assert guest.take_gone() is None
    for number in (1, 2, 3):
        guest.create_flow(key_of(number), Count(), aliases=[key_of(number + 10)])
        guest.delete_flow(key_of(number))
    guest.create_flow(key_of(2), Count())
    gone = guest.take_gone()
    assert gone == FlowsGone(keys=tuple(bytes(key_of(number)) for number in (1, 11, 12, 3, 13)))
    assert guest.take_gone() is None
    guest.keep_gone(gone)
    assert guest.take_gone() == gone
    guest.delete_flow(key_of(2))
    guest.create_flow(key_of(2), Count())
    assert guest.take_gone() is None


def test_deleted_flows_that_cannot_be_reported_are_bounded(guest: Guest) -> None:
    keys = tuple(number.to_bytes(13, "big") for number in range(GONE_KEYS))
    guest.keep_gone(FlowsGone(keys=keys))
    guest.create_flow(key_of(1), Count())
    guest.delete_flow(key_of(1))
    assert len(guest._gone) == GONE_KEYS
    gone = guest.take_gone()
    assert gone is not None and gone.keys[0] == keys[1]


def test_listing_pages_in_byte_order(guest: Guest) -> None:
    keys = sorted(bytes(key_of(number)) for number in range(7))
    for key in keys:
        guest.create_flow(FlowKey(key), Count())
    seen: list[bytes] = []
    after, complete, request = b"", False, 0
    while not complete:
        request += 1
        (step,) = guest.handle(ListFlows(request=request, after=after, limit=3), 1.0)
        assert step.message.request == request
        seen += step.message.keys
        after, complete = step.message.keys[-1], step.message.complete
    assert (seen, request) == (keys, 3)


def test_a_page_of_flows_that_have_gone_is_skipped(guest: Guest) -> None:
    keys = sorted(bytes(key_of(number)) for number in range(6))
    for key in keys:
        guest.create_flow(FlowKey(key), Count())
    guest.handle(ListFlows(request=1, limit=2), 1.0)
    guest.delete_flow(keys[2])
    guest.delete_flow(keys[3])
    (step,) = guest.handle(ListFlows(request=2, after=keys[1], limit=2), 2.0)
    assert (step.message.keys, step.message.complete) == (tuple(keys[4:]), True)
    guest.delete_flow(keys[4])
    (step,) = guest.handle(ListFlows(request=3, after=keys[4], limit=0), 99.0)
    assert (step.message.keys, step.message.complete) == ((keys[5],), True)
    (step,) = guest.handle(ListFlows(request=3, after=keys[5]), 99.0)
    assert (step.message.keys, step.message.complete) == ((), True)


# -- timers --------------------------------------------------------------------------------------------------


def test_timers_fire_once_and_in_order(guest: Guest) -> None:
    fired: list[tuple[str, FlowKey, float]] = []
    for name in ("a", "b"):
        guest.on_timer(name, lambda guest, key, name=name: fired.append((name, key, guest.now)))
    for number in (1, 2):
        guest.create_flow(key_of(number), Count())
    guest.flow_timer(key_of(1), 3.0, "a")
    guest.flow_timer(key_of(2), 1.0, "a")
    guest.flow_timer(key_of(2), 2.0, "b")
    assert guest.next_due() == 1.0
    assert guest.fire_timers(2.5, limit=1) == 1
    assert guest.fire_timers(2.5) == 1
    assert guest.fire_timers(2.5) == 0
    assert guest.fire_timers(9.0) == 1
    assert fired == [("a", key_of(2), 2.5), ("b", key_of(2), 2.5), ("a", key_of(1), 9.0)]
    assert guest.next_due() is None


def test_a_timer_runs_from_when_it_is_set_and_not_from_when_the_batch_came(guest: Guest) -> None:
    """A middlebox may take long for a packet, or be stopped for a while in the middle of a batch."""
    guest.on_timer("idle", lambda guest, key: None)
    guest.create_flow(key_of(1), Count())
    guest.now, guest.clock = 10.0, lambda: 10.6
    guest.flow_timer(key_of(1), 0.5, "idle")
    assert guest.fire_timers(11.0) == 0 and guest.next_due() == pytest.approx(11.1)
    assert guest.fire_timers(11.2) == 1


def test_a_timer_set_again_moves(guest: Guest) -> None:
    fired: list[float] = []
    guest.on_timer("idle", lambda guest, key: fired.append(guest.now))
    guest.create_flow(key_of(1), Count())
    guest.flow_timer(key_of(1), 5.0, "idle")
    guest.flow_timer(key_of(1), 9.0, "idle")
    assert guest.fire_timers(6.0) == 0
    guest.flow_timer(key_of(1), 1.0, "idle")  # earlier again: at 7
    assert guest.fire_timers(7.0) == 1
    assert guest.fire_timers(20.0) == 0 and fired == [7.0]


def test_cancelled_and_deleted_timers_do_not_fire(guest: Guest) -> None:
    guest.on_timer("idle", lambda guest, key: pytest.fail("fired"))
    guest.create_flow(key_of(1), Count())
    guest.create_flow(key_of(2), Count())
    guest.flow_timer(key_of(1), 1.0, "idle")
    guest.flow_timer(key_of(2), 1.0, "idle")
    assert guest.cancel_timer(key_of(1), "idle")
    assert not guest.cancel_timer(key_of(1), "idle")
    guest.delete_flow(key_of(2))
    assert guest.fire_timers(9.0) == 0
    assert len(guest.timers) == 0


def test_timer_callbacks_may_arm_delete_and_fail(guest: Guest, caplog: pytest.LogCaptureFixture) -> None:
    def rearm(guest: Guest, key: FlowKey) -> None:
        guest.flow_timer(key, 1.0, "rearm")

    def fail(guest: Guest, key: FlowKey) -> None:
        raise ZeroDivisionError

    def migrated(guest: Guest, key: FlowKey) -> None:
        raise FlowMigrated(key, 3)

    guest.on_timer("rearm", rearm)
    guest.on_timer("delete", lambda guest, key: guest.delete_flow(key))
    guest.on_timer("fail", fail)
    guest.on_timer("migrated", migrated)
    guest.create_flow(key_of(1), Count())
    for name in ("rearm", "fail", "migrated"):
        guest.flow_timer(key_of(1), 1.0, name)
    assert guest.fire_timers(1.0) == 3
    assert "timer fail of udp,10.0.1.2:1025,10.0.2.2:53 failed" in caplog.text
    assert guest.next_due() == 2.0
    guest.flow_timer(key_of(1), 0.5, "delete")
    assert guest.fire_timers(2.0) == 1
    assert not guest.has_flow(key_of(1))


def test_timers_need_a_callback_and_a_flow(guest: Guest) -> None:
    guest.on_timer("idle", lambda guest, key: None)
    with pytest.raises(GuestError, match="has a callback already"):
        guest.on_timer("idle", lambda guest, key: None)
    with pytest.raises(FlowMissing):
        guest.flow_timer(key_of(1), 1.0, "idle")
    guest.create_flow(key_of(1), Count())
    with pytest.raises(GuestError, match="has no callback"):
        guest.flow_timer(key_of(1), 1.0, "other")


def test_the_timer_heap_is_compacted() -> None:
    queue = TimerQueue()
    flows = [Flow(key_of(number), None) for number in range(1000)]
    for flow in flows:
        queue.arm(flow, "idle", 100.0)
    for flow in flows[:-1]:
        queue.detach(flow)
    queue.arm(flows[-1], "idle", 5.0)
    assert len(queue._heap) == 1
    assert queue.pop_due(5.0) is not None


@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from("ab"), st.integers(0, 9), st.sampled_from("amct"))))
def test_the_timer_queue_does_what_a_dictionary_would(actions: list[tuple[int, str, int, str]]) -> None:
    queue, model, now = TimerQueue(), {}, 0
    flows = [Flow(key_of(number), None) for number in range(4)]
    for number, name, when, action in actions:
        if action in "am":
            queue.arm(flows[number], name, now + when)
            model[number, name] = now + when
        elif action == "c":
            assert queue.cancel(flows[number], name) == (model.pop((number, name), None) is not None)
        else:
            now += when
            fired = set()
            while (timer := queue.pop_due(now)) is not None:
                fired.add((flows.index(timer.flow), timer.name))
            assert fired == {entry for entry, due in model.items() if due <= now}
            model = {entry: due for entry, due in model.items() if due > now}
        due = queue.next_due()
        assert len(queue) == len(model)
        assert due is None if not model else due <= min(model.values())


# -- state types ----------------------------------------------------------------------------------------------


class Keyed(msgspec.Struct):
    key: FlowKey


def test_a_state_may_hold_flow_keys() -> None:
    types = StateTypes()
    types.register(Keyed)
    types.register(Keyed)
    assert types.decode("Keyed", types.encode(Keyed(key_of(1)))) == Keyed(key_of(1))
    with pytest.raises(StateError, match="bytes are no Keyed"):
        types.decode("Keyed", msgspec.msgpack.encode({"key": b"short"}))
    with pytest.raises(StateError, match="bytes are no Keyed"):
        types.decode("Keyed", msgspec.msgpack.encode({"key": 3}))


def test_what_cannot_be_a_state_type() -> None:
    types = StateTypes()
    types.register(Count)
    for wrong in (dict, Count(), int):
        with pytest.raises(StateError, match=r"register_state: .* is no msgspec\.Struct type .write `class Flow"):
            types.register(wrong)
    other = msgspec.defstruct("Count", [("x", int)])
    with pytest.raises(StateError, match="registered otherwise"):
        types.register(other)
    with pytest.raises(StateError, match="registered otherwise"):
        types.register(Count, "Name")
    types.register(other, "Other")
    with pytest.raises(StateError, match="registered: Count, Other"):
        types.decode("Third", b"")
    with pytest.raises(StateError, match="cannot be state"):
        types.register(msgspec.defstruct("Union", [("x", Count | Keyed)]))


@given(st.binary(max_size=200))
def test_any_bytes_decode_or_raise_our_error(raw: bytes) -> None:
    types = StateTypes()
    types.register(Count)
    try:
        assert isinstance(types.decode("Count", raw), Count)
    except StateError:
        return


# -- middleboxes and configuration -----------------------------------------------------------------------------


class Echo:
    def setup(self, guest: Guest) -> None:
        guest.register_state(Count)

    def on_packet(self, guest: Guest, packet: Packet) -> None:
        guest.send(packet.frame)


class NeedsArguments(Echo):
    def __init__(self, needed: int) -> None: ...


def test_a_guest_alone_is_enough_to_test_a_middlebox() -> None:
    echo = Echo()
    guest = prepare(echo)
    echo.on_packet(guest, Packet.of(frame_of(1)))
    assert guest.sent == [frame_of(1)]
    assert Packet.of(frame_of(1)).key == key_of(1)


def test_loading_a_middlebox(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("boxes")
    module.Echo, module.NeedsArguments, module.dict, module.number = Echo, NeedsArguments, dict, 3
    monkeypatch.setitem(sys.modules, "boxes", module)
    assert isinstance(load_middlebox("boxes:Echo"), Middlebox)
    for name, problem in [
        ("boxes", "write package.module:Class"),
        (":Echo", "write package.module:Class"),
        ("nowhere.at.all:Echo", "No module named 'nowhere'"),
        ("boxes:Absent", "boxes .without a file. has no Absent .it has: Echo, NeedsArguments"),
        ("boxes:number", "cannot be called"),
        ("boxes:NeedsArguments", "it must need no arguments"),
        ("boxes:dict", "dict is no middlebox"),
    ]:
        with pytest.raises(MiddleboxError, match=problem):
            load_middlebox(name)


def test_a_middlebox_in_the_current_directory_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "class Mine:\n    def setup(self, guest): pass\n    def on_packet(self, guest, packet): pass\n"
    (tmp_path / "box_of_my_own.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert isinstance(load_middlebox("box_of_my_own:Mine"), Middlebox)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("unix:/run/x", "unix:/run/x"),
        ("tcp:127.0.0.1:80", "tcp:127.0.0.1:80"),
        ("tcp:[::1]:80", "tcp:[::1]:80"),
    ],
)
def test_addresses(text: str, shown: str) -> None:
    assert str(Address.parse(text)) == shown


@pytest.mark.parametrize("text", ["", "unix:", "tcp:x", "tcp::1", "tcp:h:99999", "udp:h:1", "unix:/" + "x" * 107])
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(BadInput):
        Address.parse(text)


@pytest.mark.parametrize(
    "wrong",
    [
        {"replica": 0},
        {"replica": 65536},
        {"batch": 0},
        {"hold_deadline": 0.0},
        {"peer": "x"},
        {"control": "x"},
        {"hold_packets": 1},
        {"hold_packets": 1000.5},
        {"hold_bytes": 1500},
    ],
    ids=str,
)
def test_a_wrong_configuration_is_refused(wrong: dict[str, object]) -> None:
    good = {"replica": 1, "interface": "mb0", "control": "unix:/c", "peer": "unix:/p"}
    ReplicaConfig(**good)
    with pytest.raises(BadInput):
        ReplicaConfig(**{**good, **wrong})


def test_the_public_api_is_what_it_says() -> None:
    assert all(hasattr(guestlib, name) for name in guestlib.__all__)
    figure_5 = "create_flow delete_flow get_flow put_flow flow_timer create_shared delete_shared get_shared put_shared"
    assert all(hasattr(Guest, name) for name in figure_5.split())
