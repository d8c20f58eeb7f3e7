"""Second keys: what is asked for, what waits for the answer, and how both travel."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from guestlib import FlowMigrated, Guest
from guestlib.instructions import Instruction, ToOrchestrator, ToPeer, Transmit
from guestlib.partitioned.steering import GIVE_UP, REPEAT, Steering
from splitmerge.colocation import Outside, PortRange
from splitmerge.flowkey import UDP, FlowKey
from splitmerge.messages import (
    AddKeys,
    Claim,
    Commit,
    Export,
    Exported,
    FlowList,
    KeysAdded,
    Owns,
    Relate,
    Related,
    Release,
    Scope,
    SecondKey,
    Stage,
    Staged,
    Thaw,
)
from tests.guestlib.conftest import Count, frame_of, key_of

EVERYTHING = tuple(range(1024))


def guest_of(replica: int = 1, owned: tuple[int, ...] | None = EVERYTHING) -> Guest:
    guest = Guest()
    guest.register_state(Count)
    guest.begin(replica, f"i{replica}")
    if owned is not None:
        guest.handle(Owns(buckets=owned), 0.0)
    return guest


def asked(steps: list[Instruction]) -> list[AddKeys]:
    return [each.message for each in steps if isinstance(each, ToOrchestrator) and isinstance(each.message, AddKeys)]


def frames(steps: list[Instruction]) -> list[bytes]:
    return [each.frame for each in steps if isinstance(each, Transmit)]


def colocated(key: FlowKey) -> FlowKey:
    """A translated key in the bucket of ``key``."""
    found = guest_of().colocated_port(Outside(bytes([192, 0, 2, 1]), bytes([10, 0, 2, 2]), 53, UDP), key, PortRange())
    assert found is not None
    return found[1]


def only(steps: list[Instruction]) -> AddKeys:
    (message,) = asked(steps)
    return message


def added(request: AddKeys, *refused: FlowKey) -> KeysAdded:
    keys = tuple(each.key for each in request.keys if each.key not in refused)
    return KeysAdded(request=request.request, keys=keys, refused=tuple(map(bytes, refused)))


# -- what is asked -----------------------------------------------------------------------------------------


def test_a_second_key_in_the_bucket_of_the_first_needs_no_entry_while_the_bucket_is_ours() -> None:
    guest = guest_of(owned=(key_of(1).bucket,))
    guest.create_flow(key_of(1), Count(), aliases=[colocated(key_of(1))])
    guest.create_flow(key_of(2), Count(), aliases=[colocated(key_of(2))])
    request = only(guest.poll(0.0))
    assert request.keys == (SecondKey(key=colocated(key_of(2)), flow=key_of(2)),)


def test_before_anybody_says_what_is_owned_nothing_is_asked() -> None:
    """A middlebox that is tested without an orchestrator sends at once."""
    guest = guest_of(owned=None)
    guest.create_flow(key_of(1), Count(), aliases=[key_of(9)], expected=True)
    guest.send(frame_of(9))
    assert guest.sent == [frame_of(9)] and guest.poll(0.0) == []


def test_an_expected_flow_asks_for_its_own_key_too() -> None:
    guest = guest_of(owned=())
    guest.create_flow(key_of(1), Count(), aliases=[key_of(9)], expected=True)
    assert {each.key for each in only(guest.poll(0.0)).keys} == {key_of(1), key_of(9)}


def test_an_expected_flow_asks_for_its_own_key_where_its_bucket_is_too() -> None:
    """A replica away from the bucket may have expected one of this key, and its entry may be there still."""
    guest = guest_of()
    guest.create_flow(key_of(1), Count(), aliases=[colocated(key_of(1))], expected=True)
    assert only(guest.poll(0.0)).keys == (SecondKey(key=key_of(1), flow=key_of(1)),)


def test_the_question_is_repeated_under_its_number_until_it_is_answered() -> None:
    guest = guest_of()
    guest.create_flow(key_of(1), Count(), aliases=[key_of(9)])
    first = only(guest.poll(0.0))
    assert guest.poll(REPEAT / 2) == []
    assert only(guest.poll(REPEAT)) == first
    guest.handle(added(first), 1.0)
    assert guest.poll(2.0) == [] and guest.table.find(key_of(9)).pending is None
    assert guest.next_due() is None or guest.next_due() > 2.0


def test_an_answer_to_what_another_life_of_the_flow_asked_does_not_count() -> None:
    guest = guest_of()
    guest.create_flow(key_of(1), Count(), aliases=[key_of(9)])
    first = only(guest.poll(0.0))
    guest.delete_flow(key_of(1))
    guest.create_flow(key_of(1), Count(), aliases=[key_of(9)])
    second = only(guest.poll(0.0))
    guest.handle(added(first), 0.1)
    assert guest.table.find(key_of(1)).pending == {key_of(9)}
    guest.handle(added(second), 0.1)
    assert guest.table.find(key_of(1)).pending is None


# -- what waits --------------------------------------------------------------------------------------------


def test_frames_of_the_second_key_wait_in_order_and_others_do_not() -> None:
    guest = guest_of()
    guest.create_flow(key_of(1), Count(), aliases=[key_of(9)])
    for number, flow in enumerate([9, 1, 9, 3]):
        guest.send(frame_of(flow, number))
    assert guest.sent == [frame_of(1, 1), frame_of(3, 3)]
    out = guest.handle(added(only(guest.poll(0.0))), 0.1)
    assert frames(out) == [frame_of(9, 0), frame_of(9, 2)]
    guest.send(frame_of(9, 4))
    assert guest.sent[-1] == frame_of(9, 4)


def test_a_frame_that_announces_a_connection_waits_for_that_and_its_successors_behind_it() -> None:
    guest = guest_of()
    guest.create_flow(key_of(5), Count())
    guest.create_flow(key_of(1), Count(), aliases=[key_of(9)], expected=True)
    guest.send_after(frame_of(5, 0), key_of(1))
    guest.send(frame_of(5, 1))
    guest.send(frame_of(6, 2))
    assert guest.sent == [frame_of(6, 2)]
    assert frames(guest.handle(added(only(guest.poll(0.0))), 0.1)) == [frame_of(5, 0), frame_of(5, 1)]


def test_send_after_a_flow_with_nothing_pending_is_send() -> None:
    guest = guest_of()
    guest.create_flow(key_of(1), Count())
    guest.send_after(frame_of(5), key_of(1))
    guest.send_after(frame_of(6), key_of(2))
    assert guest.sent == [frame_of(5), frame_of(6)]


def test_frames_are_given_up_after_a_while_and_counted() -> None:
    guest = guest_of()
    guest.create_flow(key_of(1), Count(), aliases=[key_of(9)])
    guest.send(frame_of(9))
    guest.poll(GIVE_UP - 0.1)
    assert guest.table.steering.kept == 1
    assert frames(guest.poll(GIVE_UP + 0.1)) == [] and guest.table.steering.kept == 0
    assert guest.table.steering.drops == {"second_key_unconfirmed": 1}


def test_a_refused_key_drops_what_waits_for_it_alone() -> None:
    guest = guest_of()
    guest.create_flow(key_of(1), Count(), aliases=[key_of(9), key_of(8)])
    guest.send(frame_of(9))
    guest.send(frame_of(8))
    assert frames(guest.handle(added(only(guest.poll(0.0)), key_of(9)), 0.1)) == [frame_of(8)]
    assert guest.table.steering.drops == {"second_key_refused": 1}


def test_a_frame_that_announces_a_flow_is_dropped_whichever_of_its_keys_is_refused() -> None:
    """Also where it waits behind another one of its own key."""
    guest = guest_of()
    guest.create_flow(key_of(5), Count())
    for number in (1, 2):
        guest.create_flow(key_of(number), Count(), aliases=[key_of(8 + number)], expected=True)
    guest.send_after(frame_of(5, 0), key_of(1))
    guest.send_after(frame_of(5, 1), key_of(2))
    guest.send(frame_of(5, 2))
    assert guest.waits_for(key_of(2)) and not guest.waits_for(key_of(5)) and not guest.waits_for(key_of(7))
    out = guest.handle(added(only(guest.poll(0.0)), key_of(10)), 0.1)
    assert frames(out) == [frame_of(5, 0), frame_of(5, 2)] and not guest.waits_for(key_of(2))
    assert guest.table.steering.drops == {"second_key_refused": 1}
    guest.table.validate_state()


def claimed(guest: Guest, number: int, flow: int = 99) -> tuple[bytes, ...]:
    """Which key it keeps when asked for this one, for a flow with that one."""
    (step,) = guest.handle(Claim(request=3, key=key_of(number), flow=key_of(flow)), 1.0)
    assert isinstance(step, ToOrchestrator) and isinstance(step.message, FlowList)
    assert (step.message.request, step.message.complete) == (3, True)
    return step.message.keys


def test_a_key_that_another_replicas_flow_is_to_have_is_given_up_by_the_middlebox_or_kept(
    caplog: pytest.LogCaptureFixture,
) -> None:
    guest = guest_of()
    for number in (1, 2, 3):
        guest.create_flow(key_of(number), Count(), aliases=[key_of(number + 10)])
    assert claimed(guest, 11) == (key_of(11),), "nobody is asked"
    heard: list[tuple[FlowKey, FlowKey]] = []

    def wanted(guest: Guest, key: FlowKey, wanted: FlowKey) -> None:
        heard.append((key, wanted))
        if key == key_of(1):
            guest.delete_flow(key)
        assert key != key_of(3)

    guest.on_wanted(wanted)
    assert [claimed(guest, number) for number in (11, 2, 13, 14)] == [(), (key_of(2),), (key_of(13),), ()]
    assert heard == [(key_of(1), key_of(11)), (key_of(2), key_of(2)), (key_of(3), key_of(13))]
    assert not guest.has_flow(key_of(1)) and "callback failed" in caplog.text


def test_a_flow_does_not_give_way_to_itself() -> None:
    """It has come here since another replica asked for its keys."""
    guest = guest_of()
    guest.on_wanted(lambda guest, key, wanted: guest.delete_flow(key))
    guest.create_flow(key_of(1), Count(), aliases=[key_of(9)], expected=True)
    assert claimed(guest, 9, flow=1) == (key_of(9),)
    assert claimed(guest, 1, flow=1) == (), "another one of this key may have been here before: the middlebox knows"


def test_the_middlebox_hears_of_a_refused_key_and_may_end_the_flow() -> None:
    guest = guest_of()
    heard: list[tuple[FlowKey, FlowKey]] = []

    def end(guest: Guest, key: FlowKey, second: FlowKey) -> None:
        heard.append((key, second))
        guest.delete_flow(key)

    guest.on_refused(end)
    guest.create_flow(key_of(1), Count(), aliases=[key_of(9), key_of(8)])
    guest.send(frame_of(9))
    assert frames(guest.handle(added(only(guest.poll(0.0)), key_of(9)), 0.1)) == []
    assert heard == [(key_of(1), key_of(9))] and not guest.has_flow(key_of(1)) and guest.sent == []
    guest.table.validate_state()


@pytest.mark.parametrize("group", ["ftp", ""], ids=["of a group", "of none"])
def test_a_flow_whose_own_key_is_refused_ends_and_one_that_lacks_a_second_key_goes_on_without_it(group: str) -> None:
    """Neither key is its to take along; so the others of the group go without it, wherever the buckets are."""
    guest = guest_of(owned=())
    guest.create_flow(key_of(2), Count(), group=group)
    for number in (1, 3):
        guest.create_flow(key_of(number), Count(), aliases=[key_of(8 + number)], group=group, expected=True)
    guest.handle(added(only(guest.poll(0.0)), key_of(1), key_of(11)), 0.0)
    assert [guest.has_flow(key_of(number)) for number in (1, 9, 2, 3, 11)] == [False, False, True, True, False]
    assert related(guest, Scope(keys=(bytes(key_of(2)),))).keys == ((bytes(key_of(3)),) if group else ())
    guest.table.validate_state()


def test_a_second_key_that_is_refused_in_a_transaction_is_the_flows_until_that_is_over() -> None:
    guest = guest_of()
    guest.create_flow(key_of(1), Count(), aliases=[key_of(9)])
    guest.get_flow(key_of(9))
    guest.handle(added(only(guest.poll(0.0)), key_of(9)), 0.1)
    guest.put_flow(key_of(9))
    assert not guest.has_flow(key_of(9)) and guest.table.find(key_of(1)).aliases == ()
    guest.table.validate_state()


def test_a_flow_that_is_made_anew_when_its_own_key_is_refused_stays() -> None:
    guest = guest_of()

    def again(guest: Guest, key: FlowKey, second: FlowKey) -> None:
        guest.delete_flow(key)
        guest.create_flow(key, Count(), expected=True)

    guest.on_refused(again)
    guest.create_flow(key_of(1), Count(), expected=True)
    guest.handle(added(only(guest.poll(0.0)), key_of(1)), 0.1)
    assert guest.has_flow(key_of(1)) and only(guest.poll(1.0)).keys[0].key == key_of(1)


def test_a_callback_for_refused_keys_that_fails_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    guest = guest_of()
    guest.on_refused(lambda guest, key, second: guest.delete_flow(key_of(7)))
    guest.create_flow(key_of(1), Count(), aliases=[key_of(9)])
    guest.handle(added(only(guest.poll(0.0)), key_of(9)), 0.1)
    assert guest.has_flow(key_of(1)) and "callback failed" in caplog.text


def test_room_is_bounded() -> None:
    guest = guest_of()
    steering = guest.table.steering = Steering(guest.table.active, guest.table.steering.on_busy, frames=2)
    guest.create_flow(key_of(1), Count(), aliases=[key_of(9)])
    for number in range(5):
        guest.send(frame_of(9, number))
    assert steering.kept == 2 and steering.drops == {"second_key_overflow": 3}


def test_what_a_flow_that_ends_has_to_say_is_said() -> None:
    guest = guest_of()
    guest.create_flow(key_of(1), Count(), aliases=[key_of(9)])
    guest.send(frame_of(9))
    guest.delete_flow(key_of(1))
    guest.send(frame_of(9, 1))
    assert guest.sent == [frame_of(9), frame_of(9, 1)] and guest.table.steering.kept == 0


# -- moves -------------------------------------------------------------------------------------------------


def related(guest: Guest, scope: Scope, *groups: str) -> Related:
    (step,) = guest.handle(Relate(request=3, scope=scope, groups=groups), 0.0)
    assert isinstance(step, ToOrchestrator) and isinstance(step.message, Related)
    return step.message


def confirm(guest: Guest) -> None:
    for request in asked(guest.poll(0.0)):
        guest.handle(added(request), 0.0)


def test_a_move_takes_along_second_keys_and_groups() -> None:
    guest = guest_of()
    guest.create_flow(key_of(1), Count(), aliases=[key_of(9)], group="ftp")
    guest.create_flow(key_of(2), Count(), aliases=[colocated(key_of(2))], group="ftp")
    guest.create_flow(key_of(3), Count(), aliases=[colocated(key_of(3))])
    confirm(guest)
    scope = Scope(buckets=(key_of(1).bucket, key_of(3).bucket))
    answer = related(guest, scope)
    assert set(answer.keys) == {key_of(9), key_of(2), colocated(key_of(2))}
    assert answer.groups == ("ftp",)
    assert set(related(guest, Scope(keys=(bytes(key_of(3)),))).keys) == {colocated(key_of(3))}
    assert set(related(guest, Scope(), "ftp").keys) == {key_of(1), key_of(9), key_of(2), colocated(key_of(2))}
    guest.group(key_of(2), "")
    assert set(related(guest, scope).keys) == {key_of(9)}


def test_a_group_takes_expected_flows_along_before_the_switch_knows_their_keys() -> None:
    """Else what announces them would leave with the group, and wait for nothing."""
    guest = guest_of(owned=())
    guest.create_flow(key_of(2), Count(), group="ftp")
    guest.create_flow(key_of(1), Count(), aliases=[key_of(9)], group="ftp", expected=True)
    scope = Scope(keys=(bytes(key_of(2)),))
    assert related(guest, scope).keys == (key_of(1),)
    (stage,), (answer,) = exported(guest, Scope(keys=(bytes(key_of(1)), bytes(key_of(2)))))
    assert answer.pinned == () and {record.key for record in stage.flows} == {key_of(1), key_of(2)}


def test_a_bucket_does_not_take_flows_along_of_which_it_has_a_second_key() -> None:
    guest = guest_of()
    guest.create_flow(key_of(1), Count(), aliases=[key_of(9)])
    confirm(guest)
    scope = Scope(buckets=(key_of(9).bucket,))
    assert related(guest, scope).keys == ()
    guest.handle(Export(epoch=5, scope=scope, target=2, address="unix:/t", deadline=0.1), 0.0)
    assert guest.get_flow(key_of(9)) == Count()
    guest.put_flow(key_of(9))
    # … and a new flow may have a second key there, whatever becomes of the bucket
    guest.create_flow(key_of(2), Count(), aliases=[FlowKey(key_of(9)[:-1] + b"\x06")])


def exported(guest: Guest, scope: Scope, epoch: int = 5) -> tuple[list[Stage], list[Exported]]:
    """Run the source's side to its end."""
    steps = guest.handle(Export(epoch=epoch, scope=scope, target=2, address="unix:/t", deadline=0.1), 0.0)
    steps += guest.poll(0.2)
    stages = [each.message for each in steps if isinstance(each, ToPeer) and isinstance(each.message, Stage)]
    for stage in stages:
        steps += guest.handle(Staged(epoch=epoch, part=stage.part), 0.3)
    done = [each.message for each in steps if isinstance(each, ToOrchestrator)]
    return stages, [message for message in done if isinstance(message, Exported)]


def test_a_flow_that_a_move_would_tear_stays_and_is_reported() -> None:
    """A key was added after the move was planned."""
    guest = guest_of()
    guest.create_flow(key_of(1), Count(), aliases=[key_of(9)])
    confirm(guest)
    _, (answer,) = exported(guest, Scope(keys=(bytes(key_of(1)),)))
    assert set(answer.pinned) == set(answer.torn) == {key_of(1), key_of(9)} and answer.aliases == (key_of(9),)
    guest.handle(Thaw(epoch=5, scope=Scope(keys=(bytes(key_of(1)),)), hold=False), 0.4)
    assert guest.get_flow(key_of(9)) == Count()


def test_pending_keys_and_kept_frames_travel_and_are_asked_for_where_they_arrive() -> None:
    source, target = guest_of(1), guest_of(2, owned=())
    source.create_flow(key_of(1), Count(), aliases=[key_of(9)], group="g")
    source.send(frame_of(9, 1))
    early = only(source.poll(0.0))
    scope = Scope(keys=(bytes(key_of(1)),))
    (stage,), (answer,) = exported(source, scope)
    assert answer.pinned == ()
    assert source.table.steering.kept == 0 and source.handle(added(early), 0.5) == []
    target.handle(stage, 1.0)
    target.handle(Commit(epoch=5, scope=scope, hold=False), 1.0)
    target.send(frame_of(9, 2))
    assert target.sent == []
    request = only(target.poll(1.0))
    assert [each.key for each in request.keys] == [key_of(9)]
    assert frames(target.handle(added(request), 1.1)) == [frame_of(9, 1), frame_of(9, 2)]
    assert target.table.find(key_of(9)).group == "g"


def test_a_move_that_is_called_off_gives_the_source_back_what_waited() -> None:
    source = guest_of(1)
    source.create_flow(key_of(1), Count(), aliases=[key_of(9)])
    source.send(frame_of(9, 1))
    scope = Scope(keys=(bytes(key_of(1)),))
    exported(source, scope)
    with pytest.raises(FlowMigrated):
        source.add_alias(key_of(1), key_of(8))
    source.handle(Thaw(epoch=5, scope=scope, hold=False), 0.4)
    assert frames(source.handle(added(only(source.poll(0.4))), 0.5)) == [frame_of(9, 1)]


@pytest.mark.parametrize("whole", [True, False])
def test_ownership_follows_moves_of_buckets(whole: bool) -> None:
    """Where the bucket is not said to come whole, another replica may have the key."""
    key, bucket = key_of(1), key_of(1).bucket
    source, target = guest_of(1), guest_of(2, owned=())
    scope = Scope(buckets=(bucket,))
    source.create_flow(key, Count())
    (stage,), _ = exported(source, scope)
    target.handle(stage, 1.0)
    assert bucket not in (source.table.fences.owned or ()) and bucket not in (target.table.fences.owned or ())
    target.handle(Commit(epoch=5, scope=scope, hold=False, whole=(bucket,) if whole else ()), 1.0)
    target.add_alias(key, colocated(key))
    assert len(asked(target.poll(1.0))) == (0 if whole else 1)


def test_a_colocated_port_is_not_one_that_moved_away_with_its_flow() -> None:
    guest = guest_of()
    outside = Outside(bytes([192, 0, 2, 1]), bytes([10, 0, 2, 2]), 53, UDP)
    found = guest.colocated_port(outside, key_of(1), PortRange())
    assert found is not None
    guest.create_flow(key_of(1), Count(), aliases=[found[1]])
    again = guest.colocated_port(outside, key_of(1), PortRange())
    assert again is not None and again[0] != found[0]
    exported(guest, Scope(keys=(bytes(key_of(1)), bytes(found[1]))))
    assert guest.colocated_port(outside, key_of(1), PortRange()) == again


def test_where_its_bucket_is_not_here_a_port_is_found_in_one_that_is() -> None:
    """Nobody else can choose it; the flow, which was moved without its bucket, is told by entries anyway."""
    key, outside = key_of(1), Outside(bytes([192, 0, 2, 1]), bytes([10, 0, 2, 2]), 53, UDP)
    here = ((key.bucket + 1) % 1024, (key.bucket + 2) % 1024)
    guest = guest_of(owned=here)
    seen = set()
    for start in range(2 * 63):
        found = guest.colocated_port(outside, key, PortRange(), start)
        assert found is not None
        guest.create_flow(found[1], Count())
        seen.add(found[1].bucket)
    assert seen == set(here) and guest.colocated_port(outside, key, PortRange()) is None


def test_a_replica_without_buckets_never_runs_out_of_ports_of_flows_that_have_left() -> None:
    """Ports of flows that were here come last: the orchestrator is asked whether they live elsewhere."""
    outside = Outside(bytes([192, 0, 2, 1]), bytes([10, 0, 2, 2]), 53, UDP)
    guest = guest_of(owned=())
    used: list[FlowKey] = []
    for epoch in range(1, 64):
        found = guest.colocated_port(outside, key_of(1), PortRange())
        assert found is not None and found[1] not in used
        used.append(found[1])
        guest.create_flow(found[1], Count(), expected=True)
        scope = Scope(keys=(bytes(found[1]),))
        exported(guest, scope, epoch)
        assert guest.table.fences.frozen(scope.keys, ()) == epoch
        if epoch < 63:
            guest.handle(Release(epoch=epoch, scope=scope), 0.4)
    again = guest.colocated_port(outside, key_of(1), PortRange())
    assert again is not None and again[1] == used[0]
    for key in used[:-1]:
        guest.create_flow(key, Count(), expected=True)
    assert guest.colocated_port(outside, key_of(1), PortRange()) is None, "the last one is on its way"


# -- whatever happens ---------------------------------------------------------------------------------------

FLOWS = st.integers(1, 4)


class Anything(RuleBasedStateMachine):
    """Flows come and go, are asked for and answered in any order; frames of one key leave in order, none twice."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.guest = guest_of()
        self.out: list[bytes] = self.guest.sent
        self.questions: list[AddKeys] = []
        self.numbers = 0

    def take(self, steps: list[Instruction]) -> None:
        self.out += frames(steps)
        self.questions += asked(steps)

    @rule(number=FLOWS)
    def create(self, number: int) -> None:
        if not self.guest.has_flow(key_of(number)):
            self.guest.create_flow(key_of(number), Count(), aliases=[key_of(number + 10)], expected=number == 1)

    @rule(number=FLOWS)
    def delete(self, number: int) -> None:
        if self.guest.has_flow(key_of(number)):
            self.guest.delete_flow(key_of(number))
            self.take(self.guest.poll(self.now))

    @rule(number=FLOWS, second=st.booleans())
    def send(self, number: int, second: bool) -> None:
        self.numbers += 1
        self.guest.send(frame_of(number + 10 * second, self.numbers))

    @rule(number=FLOWS, after=FLOWS)
    def announce(self, number: int, after: int) -> None:
        self.numbers += 1
        self.guest.send_after(frame_of(number, self.numbers), key_of(after))

    @rule(step=st.sampled_from([0.0, 0.1, 0.3, 1.0]))
    def time(self, step: float) -> None:
        self.now += step
        self.take(self.guest.poll(self.now))

    @precondition(lambda self: self.questions)
    @rule(pick=st.randoms(use_true_random=False), refuse=st.booleans())
    def answer(self, pick, refuse: bool) -> None:
        question = pick.choice(self.questions)
        refused = [FlowKey(question.keys[0].key)] if refuse else []
        self.take(self.guest.handle(added(question, *refused), self.now))

    @rule(number=FLOWS)
    def move_and_thaw(self, number: int) -> None:
        self.numbers += 1
        scope = Scope(keys=(bytes(key_of(number)), bytes(key_of(number + 10))))
        exported(self.guest, scope, epoch=self.numbers)
        self.take(self.guest.handle(Thaw(epoch=self.numbers, scope=scope, hold=False), self.now))

    @invariant()
    def consistent(self) -> None:
        self.guest.table.validate_state()
        seen: dict[FlowKey | None, int] = {}
        for frame in self.out:
            key = FlowKey.from_frame(frame)
            number = int.from_bytes(frame[42:50], "big")
            assert number > seen.get(key, 0)
            seen[key] = number


Anything.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestAnything = Anything.TestCase
