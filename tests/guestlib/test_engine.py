"""The engine without sockets: what it does with frames, failures, and its end."""

from __future__ import annotations

from pathlib import Path

import pytest

from guestlib import Guest, Packet, ReplicaConfig
from guestlib.engine import POSTPONED, Counters, Engine
from guestlib.instructions import Hold, Process
from guestlib.packets.holds import Room
from splitmerge import wire
from splitmerge.messages import (
    AddKeys,
    Carried,
    Carry,
    Claim,
    Commit,
    Export,
    Finish,
    Finished,
    FlowsGone,
    KeysAdded,
    ListFlows,
    Message,
    Owns,
    Scope,
    SharedPush,
    SharedPushed,
    Stats,
)
from splitmerge.tag import Tag, TagKind, pop
from tests.guestlib.conftest import Count, frame_of, key_of, number_in
from tests.guestlib.harness import Counter, config_for


class Outside:
    """Outlets that remember."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []
        self.loops: list[int] = []
        self.messages: list[Message] = []
        self.peers: list[tuple[str, Message]] = []
        self.away = False

    def transmit(self, frame: bytes) -> None:
        self.frames.append(frame)

    def to_locks(self, message: Message) -> bool:
        return self.to_orchestrator(message)

    def looped(self, sequence: int) -> None:
        self.loops.append(sequence)

    def to_orchestrator(self, message: Message) -> bool:
        if not self.away:
            self.messages.append(message)
        return not self.away

    def to_peer(self, address: str, message: Message, *, again: bool = False) -> None:
        self.peers.append((address, message))

    def counters(self) -> Counters:
        return Counters(1.5, {"interface": 4})

    def said(self, kind: type) -> list[Message]:
        return [message for message in self.messages if isinstance(message, kind)]


@pytest.fixture
def config(tmp_path: Path) -> ReplicaConfig:
    return config_for(tmp_path)


@pytest.fixture
def outside() -> Outside:
    return Outside()


@pytest.fixture
def engine(config: ReplicaConfig, outside: Outside) -> Engine:
    middlebox, guest = Counter(), Guest()
    middlebox.setup(guest)
    guest.begin(1, "i1")
    guest.send = outside.transmit
    return Engine(middlebox, guest, config, outside)


def no_reply(message: Message) -> None:
    pytest.fail(f"replied {message}")


def test_a_marker_is_echoed_after_what_came_before(engine: Engine, outside: Outside) -> None:
    marker = Tag(TagKind.MARKER, 5, 2).push(frame_of(0))
    engine.frames([frame_of(1, 1), marker, frame_of(1, 2)], 1.0)
    first, echo, second = outside.frames
    assert (first, second) == (frame_of(1, 1), frame_of(1, 2))
    popped = pop(echo)
    assert popped and popped[0] == Tag(TagKind.MARKER_ECHO, 5, 2)


def test_held_packets_are_processed_at_the_end_of_the_hold(engine: Engine, outside: Outside) -> None:
    engine.guest.plane.hold(5, [key_of(1)], [], 0.0)
    engine.frames([frame_of(1, 1)], 0.5)
    engine.frames([frame_of(2, 1)], 1.0)
    assert outside.frames == [frame_of(2, 1)]
    engine.tick(30.5)
    assert outside.frames[-1] == frame_of(1, 1)
    (stats,) = outside.said(Stats)
    assert stats == Stats(
        replica=1, flows=2, packets=2, bytes=100, cpu_seconds=1.5, held=0, drops={"interface": 4},
        custom={"hold_expired": 1.0},
    )  # fmt: skip


def test_a_failing_middlebox_is_logged_a_few_times_and_counted_always(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    engine.frames([bytes(60)] * 30, 1.0)
    engine.guest.plane.hold(5, [key_of(1)], [], 0.0)
    engine.frames([bytes(60)], 1.0)
    assert engine.drops == {"middlebox_error": 31}
    assert len(caplog.records) == 20 and "ValueError: no flow key" in caplog.text


def test_loops_go_back_to_whoever_sends(engine: Engine, outside: Outside) -> None:
    engine.frames([Tag(TagKind.LOOP, 0, 256).push(bytes(60)), Tag(TagKind.LOOP, 0, 384).push(bytes(60))], 0.0)
    assert outside.loops == [256, 384] and outside.frames == []


def test_while_the_middlebox_waits_nothing_calls_it(engine: Engine, outside: Outside) -> None:
    engine.waiting = True
    engine.carry_out([Process(frame_of(1, 1), key_of(1))])
    engine.control_tick(0.0)
    assert outside.frames == []
    engine.waiting = False
    engine.tick(0.0)
    assert outside.frames == [frame_of(1, 1)]


def test_packets_due_while_it_waits_come_before_their_flow_is_frozen(engine: Engine, outside: Outside) -> None:
    engine.frames([frame_of(1, 1)], 0.0)
    scope = Scope(keys=(bytes(key_of(1)),))
    export = Export(
        epoch=6, scope=scope, target=2, address="unix:/t", deadline=1.0, late="keep", packets=10, bytes=10_000
    )
    engine.waiting = True
    engine.carry_out([Process(frame_of(1, 2), key_of(1))])
    engine.message(export, no_reply, 0.1)
    assert outside.peers == []
    engine.waiting = False
    engine.tick(0.2)
    engine.message(export, no_reply, 0.3)  # asked for again, as the orchestrator does until it is answered
    assert outside.frames == [frame_of(1, 1), frame_of(1, 2)] and len(outside.peers) == 1 and not engine.drops


def test_packets_before_a_marker_come_before_their_flow_is_frozen_though_it_waits(
    engine: Engine, outside: Outside
) -> None:
    """Export comes while the middlebox waits in the midst of what was released before the marker."""
    engine.frames([frame_of(1, 1)], 0.0)
    scope = Scope(keys=(bytes(key_of(1)),))
    export = Export(epoch=6, scope=scope, target=2, address="unix:/t", deadline=1.0, after=True)
    steps = engine.guest.plane.handle(Tag(TagKind.MARKER, 6, 1).push(frame_of(0)), 0.1)
    engine.message(export, no_reply, 0.1)
    assert outside.peers == []
    engine.carry_out([Process(frame_of(1, 2), key_of(1)), *steps])
    assert outside.frames[:2] == [frame_of(1, 1), frame_of(1, 2)] and len(outside.peers) == 1 and not engine.drops


def test_a_claim_is_decided_when_the_middlebox_does_not_wait(engine: Engine) -> None:
    engine.guest.on_wanted(lambda guest, key, wanted: guest.delete_flow(key))
    engine.guest.create_flow(key_of(1), Count())
    engine.waiting = True
    engine.message(Claim(request=1, key=key_of(1), flow=key_of(2)), no_reply, 0.0)
    engine.control_tick(0.0)
    assert engine.guest.has_flow(key_of(1))
    engine.waiting = False
    engine.tick(0.0)
    assert not engine.guest.has_flow(key_of(1))


def test_keys_that_other_flows_have_are_told_of_when_the_middlebox_does_not_wait(
    engine: Engine, outside: Outside
) -> None:
    """What waited for the others leaves at once; what needs the refused ones goes on waiting, and is dropped then."""
    guest, told = engine.guest, []
    guest.on_refused(lambda guest, key, second: told.append((key, second)))
    guest.handle(Owns(buckets=tuple(range(1024))), 0.0)
    for own, second in ((1, 11), (2, 12)):
        guest.create_flow(key_of(own), Count(), aliases=[key_of(second)])
        guest.send(frame_of(second))
    engine.tick(0.0)
    (asked,) = outside.said(AddKeys)
    assert isinstance(asked, AddKeys) and outside.frames == []
    answer = KeysAdded(request=asked.request, keys=(key_of(11),), refused=(key_of(12),))
    engine.waiting = True
    for _ in range(2):  # it is repeated as long as the question is
        engine.message(answer, no_reply, 0.1)
        engine.control_tick(0.1)
    assert told == [] and outside.frames == [frame_of(11)] and guest.waits_for(key_of(2))
    engine.waiting = False
    engine.tick(0.2)
    assert told == [(key_of(2), key_of(12))] and outside.frames == [frame_of(11)]
    assert guest.table.steering.drops == {"second_key_refused": 1} and not guest.waits_for(key_of(2))


def test_packets_carried_here_while_the_middlebox_waits_are_taken_and_acknowledged_when_it_does_not(
    engine: Engine, outside: Outside
) -> None:
    engine.message(Commit(epoch=5, scope=Scope(keys=(bytes(key_of(1)),)), hold=False), no_reply, 0.0)
    answers: list[Message] = []
    parts = [Carry(epoch=5, number=number, frames=(frame_of(1, number),)) for number in range(1, 2 * POSTPONED)]
    engine.waiting = True
    for part in parts:
        engine.message(part, answers.append, 0.0)
    engine.control_tick(0.0)
    assert answers == [] and outside.frames == []
    engine.waiting = False
    engine.message(parts[0], answers.append, 0.1)  # said again: it does not overtake
    assert answers == [] and engine.next_due() == 0.0
    engine.tick(0.1)
    assert outside.frames == [frame_of(1, number) for number in range(1, POSTPONED + 1)]
    assert answers == [Carried(epoch=5, expected=number) for number in range(2, POSTPONED + 2)]
    for part in parts[POSTPONED:]:  # there was no room for them: they are sent again
        engine.message(part, answers.append, 0.2)
    assert outside.frames == [frame_of(1, part.number) for part in parts]


def test_deleted_flows_are_told_when_the_orchestrator_is_there(engine: Engine, outside: Outside) -> None:
    engine.guest.create_flow(key_of(1), Count())
    engine.guest.delete_flow(key_of(1))
    outside.away = True
    engine.tick(1.0)
    outside.away = False
    engine.tick(1.01)  # too early
    assert not outside.said(FlowsGone)
    engine.tick(1.06)
    assert outside.said(FlowsGone) == [FlowsGone(keys=(bytes(key_of(1)),))]


def test_next_due_is_the_earliest_of_all(engine: Engine) -> None:
    engine.tick(1.0)
    assert engine.next_due() == 1.25
    engine.guest.create_flow(key_of(1), Count())
    engine.guest.flow_timer(key_of(1), 0.1, "idle")
    assert engine.next_due() == 1.1


def test_the_end_drains_pushes_and_says_so(engine: Engine, outside: Outside) -> None:
    engine.frames([frame_of(1, 1)], 0.0)
    engine.message(Finish(request=9), no_reply, 1.0)
    assert engine.next_due() == 0.0
    engine.tick(1.0)
    assert not engine.done and not outside.said(SharedPush)
    engine.guest.plane.hold(5, [key_of(1)], [], 1.0)
    engine.frames([frame_of(1, 2)], 1.0)
    engine.frames([], 1.0)
    engine.tick(1.0)
    (push,) = outside.said(SharedPush)
    assert push.final and push.element.version == 2
    engine.frames([frame_of(1, 3)], 1.0)  # too late
    assert outside.frames == [frame_of(1, 1), frame_of(1, 2)]
    assert engine.next_due() <= 1.05
    engine.tick(1.1)
    assert not engine.done
    engine.message(SharedPushed(request=push.request), no_reply, 1.2)
    engine.tick(1.2)
    assert engine.done and engine.clean
    assert outside.messages[-1] == Finished(request=9)


def test_the_end_has_a_deadline(engine: Engine, outside: Outside, caplog: pytest.LogCaptureFixture) -> None:
    engine.frames([frame_of(1, 1)], 0.0)
    engine.end(1.0, 2.0)
    engine.end(1.0, 99.0)
    engine.tick(3.0)
    assert engine.done and not engine.clean
    assert not outside.said(Finished)
    assert "1 final pushes unconfirmed" in caplog.text


class FailingEnd(Counter):
    def on_finish(self, guest: Guest) -> None:
        raise ZeroDivisionError


class WithoutEnd:
    def setup(self, guest: Guest) -> None: ...

    def on_packet(self, guest: Guest, packet: Packet) -> None: ...


@pytest.mark.parametrize(("middlebox", "clean"), [(FailingEnd(), False), (WithoutEnd(), True)], ids=["fails", "none"])
def test_on_finish_is_optional_and_may_fail(config: ReplicaConfig, outside: Outside, middlebox, clean: bool) -> None:
    engine = Engine(middlebox, Guest(), config, outside)
    engine.end(0.0, 1.0)
    engine.frames([], 0.0)
    engine.tick(0.0)
    assert engine.done and engine.clean is clean


def test_hold_is_the_guests_business(engine: Engine) -> None:
    with pytest.raises(AssertionError, match="itself"):
        engine.carry_out([Hold(1, (), ())])
    engine.message(ListFlows(request=1), no_reply, 0.0)


def test_packets_released_while_the_middlebox_waited_come_before_younger_ones(
    config: ReplicaConfig, outside: Outside
) -> None:
    """A marker of the same batch must not be echoed before them either: it says that they have been processed."""
    seen: list[bytes] = []
    key = key_of(1)

    class Waiting(Counter):
        def on_packet(self, guest: Guest, packet: Packet) -> None:
            if packet.frame == frame_of(2, 0):  # a PULL in which a hold runs out
                made.waiting = True
                made.carry_out([Process(frame_of(1, 1), key)])
                made.waiting = False
            seen.append(packet.frame)

    middlebox, guest = Waiting(), Guest()
    middlebox.setup(guest)
    guest.begin(1, "i1")
    made = Engine(middlebox, guest, config, outside)
    made.frames([frame_of(2, 0), Tag(TagKind.MARKER, 7, 1).push(bytes(60)), frame_of(1, 2)], 0.0)
    assert seen == [frame_of(2, 0), frame_of(1, 1), frame_of(1, 2)]
    made.frames([frame_of(2, 0)], 0.0)
    assert seen[-1] == frame_of(1, 1), "nothing that is due is left for later"


@pytest.mark.parametrize("wrong", ["7", float("nan"), 10**400, object()], ids=["str", "nan", "huge", "object"])
def test_a_wrong_figure_is_left_out_of_statistics_that_can_be_sent(
    engine: Engine, outside: Outside, wrong: object
) -> None:
    engine.guest.figures |= {"wrong": wrong, "seen": True, "big": 10**30}  # type: ignore[dict-item]
    engine.guest.figures[7] = 1.0  # type: ignore[index]
    engine.tick(0.0)
    (stats,) = outside.said(Stats)
    assert isinstance(stats, Stats) and wire.encode(stats)
    assert stats.custom == {"seen": 1.0, "big": 1e30, "figures_left_out": 2.0, "hold_expired": 0.0}


def signal(kind: TagKind, sequence: int, number: int = 0) -> bytes:
    return Tag(kind, 5, sequence).push(frame_of(1, number))


def relayed(sequence: int) -> bytes:
    return signal(TagKind.RELAYED, sequence, sequence)


COUNTED: dict[str, tuple[list[bytes], list[int]]] = {
    "direct": ([frame_of(1, 1), frame_of(1, 2)], [1, 2]),
    "a marker": ([frame_of(1, 1), signal(TagKind.MARKER, 1)], [1]),
    "LOOPs": ([signal(TagKind.LOOP, 128), frame_of(1, 1), signal(TagKind.LOOP, 256)], [1]),
    "relayed, and END": ([relayed(1), relayed(2), signal(TagKind.END, 3), frame_of(1, 3)], [1, 2, 3]),
    "relayed again": ([relayed(1), relayed(1), relayed(2), relayed(1)], [1, 2]),
    "relayed early": ([relayed(2), relayed(3), relayed(3), relayed(1)], [1, 2, 3]),
    "early, and not taken": ([relayed(2), relayed(3)], []),
    "a question where it stands": ([signal(TagKind.RELAYED, 0), relayed(1)], [1]),
    "cut short": ([relayed(1)[:20], frame_of(1, 1)], [1]),
    "of a kind for others": ([signal(TagKind.RELAY_ACK, 1), frame_of(1, 1)], [1]),
}


@pytest.mark.parametrize("holding", [False, True], ids=["quiet", "a hold is open"])
@pytest.mark.parametrize(("frames", "numbers"), COUNTED.values(), ids=COUNTED)
def test_packets_are_those_that_the_middlebox_gets_and_not_our_own_signals(
    engine: Engine, outside: Outside, frames: list[bytes], numbers: list[int], holding: bool
) -> None:
    if holding:
        engine.guest.plane.hold(99, [key_of(9)], [], 0.0)
    engine.frames(frames, 0.0)
    assert [number_in(frame) for frame in outside.frames if pop(frame) is None] == numbers
    stats = engine.stats()
    assert (stats.packets, stats.bytes) == (len(numbers), len(numbers) * len(frame_of(1)))


def test_packets_dropped_on_their_way_to_the_middlebox_count_as_well(engine: Engine, outside: Outside) -> None:
    engine.guest.plane.keep(99, [key_of(1)], [], Room(1, 10_000))
    engine.frames([frame_of(1, 1), frame_of(1, 2), bytes(60)], 0.0)
    stats = engine.stats()
    assert stats.drops == {"interface": 4, "hold_overflow": 1, "middlebox_error": 1}
    assert (stats.packets, stats.bytes, stats.held) == (3, 60 + 2 * len(frame_of(1)), 1)


def test_that_a_moves_room_is_nearly_used_up_is_in_all_figures_until_it_is_decided(engine: Engine) -> None:
    """HoldFull, said once, may be lost with the connection."""
    engine.guest.plane.keep(99, [key_of(1)], [], Room(10, 10_000))
    engine.guest.plane.keep(100, [key_of(2)], [], Room(10, 10_000))
    engine.frames([frame_of(1, number) for number in range(8)], 0.0)
    assert engine.stats().hold_full == ()
    engine.frames([frame_of(1, 8)], 0.0)
    assert engine.stats().hold_full == engine.stats().hold_full == (99,)
    engine.carry_out(engine.guest.plane.release(99))
    assert engine.stats().hold_full == ()
