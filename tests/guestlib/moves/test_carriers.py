"""What is given up between two replicas, and what is taken though it was: `guestlib.moves.carriers`, and Seal."""

from __future__ import annotations

import pytest

from guestlib import Guest
from guestlib.instructions import Instruction, Process, Reply, ToOrchestrator, ToPeer
from guestlib.moves import carriers
from splitmerge.messages import (
    AllStaged,
    Carried,
    Carry,
    Commit,
    Committed,
    Export,
    Forward,
    Message,
    Prepare,
    Refused,
    Release,
    Released,
    Return,
    Returned,
    Seal,
    Sealed,
    Stage,
    Staged,
    Thaw,
)
from tests.guestlib.conftest import Count, frame_of, key_of, number_in
from tests.guestlib.moves.replicas import SCOPE

LONG = 10 * carriers.DEADLINE


class Hold:
    """As `DataPlane.take`."""

    def __init__(self, *numbers: int) -> None:
        self.frames = [frame_of(1, number) for number in numbers]

    def take(self, epoch: int, packets: int, size: int) -> list[bytes]:
        taken, self.frames = self.frames[:packets], self.frames[packets:]
        return taken


def sent(steps: list[Instruction]) -> list[Carry]:
    return [step.message for step in steps if isinstance(step, ToPeer) and isinstance(step.message, Carry)]


def said(steps: list[Instruction]) -> list[Message]:
    return [step.message for step in steps if isinstance(step, ToOrchestrator)]


def processed(steps: list[Instruction]) -> list[int]:
    return [number_in(step.frame) for step in steps if isinstance(step, Process)]


def test_nothing_is_given_up_while_more_may_follow() -> None:
    hold = Hold(1)
    carrier = carriers.Carrier(5, "unix:/t", hold.take, 0.0, open=True)
    carrier.pump(0.0)
    assert sent(carrier.poll(LONG)) and not carrier.idle and carrier.dropped == 0
    carrier.close(LONG)
    assert sent(carrier.poll(LONG + carriers.DEADLINE - 1)) and not carrier.idle
    assert carrier.poll(LONG + carriers.DEADLINE + 2) == []
    assert carrier.idle and (carrier.dropped, carrier.unsure) == (1, 1)


def test_any_answer_is_a_sign_that_it_goes_on() -> None:
    carrier = carriers.Carrier(5, "unix:/t", Hold(1).take, 0.0)
    carrier.pump(0.0)
    carrier.acknowledged(1, carriers.DEADLINE - 1)
    assert sent(carrier.poll(carriers.DEADLINE + 1))
    carrier.poll(2 * carriers.DEADLINE)
    assert carrier.idle and carrier.dropped == 1


def test_what_follows_what_was_given_up_is_taken() -> None:
    hold, arrivals = Hold(1), carriers.Arrivals()
    carrier = carriers.Carrier(5, "unix:/t", hold.take, 0.0)
    (lost,) = sent(carrier.pump(0.0))
    carrier.give_up()
    hold.frames = [frame_of(1, 2)]
    (part,) = sent(carrier.pump(1.0))
    assert (part.number, part.oldest) == (2, 2)
    *packets, reply = arrivals.take(part)
    assert processed(packets) == [2] and reply == Reply(Carried(epoch=5, expected=3))
    carrier.acknowledged(3, 1.1)
    assert carrier.idle and (carrier.carried, carrier.dropped) == (1, 1)
    assert arrivals.take(lost) == [Reply(Carried(epoch=5, expected=3))], "it comes too late"


def test_a_part_that_is_late_and_not_given_up_is_waited_for() -> None:
    carrier, arrivals = carriers.Carrier(5, "unix:/t", Hold(*range(65)).take, 0.0), carriers.Arrivals()
    first, second = sent(carrier.pump(0.0))
    assert processed(arrivals.take(second)) == []
    assert processed(arrivals.take(first)) == list(range(64))
    assert processed(arrivals.take(second)) == [64]


def test_a_sealed_epoch_takes_nothing_more() -> None:
    arrivals = carriers.Arrivals()
    arrivals.take(Carry(epoch=5, number=1, frames=(frame_of(1, 1), frame_of(1, 2))))
    assert arrivals.seal(5) == 2
    assert arrivals.take(Carry(epoch=5, number=2, frames=(frame_of(1, 3),))) == []
    assert arrivals.seal(5) == 2 and arrivals.seal(6) == 0


# -- moves -------------------------------------------------------------------------------------------------


def make(replica: int) -> Guest:
    guest = Guest()
    guest.register_state(Count)
    guest.begin(replica, f"i{replica}")
    return guest


@pytest.fixture
def source() -> Guest:
    guest = make(1)
    guest.create_flow(key_of(1), Count(7))
    return guest


@pytest.fixture
def target() -> Guest:
    guest = make(2)
    guest.handle(Prepare(epoch=5, scope=SCOPE, packets=10_000, bytes=10_000_000), 0.0)
    return guest


def returning(target: Guest, packets: int) -> list[Carry]:
    for number in range(packets):
        target.plane.handle(frame_of(1, number), 0.0)
    return sent(target.handle(Return(epoch=5, address="unix:/s"), 0.0))


MANY = carriers.PART_PACKETS * carriers.WINDOW
"""As many as are on their way at a time."""


def test_a_source_that_took_what_the_target_gave_up_says_so_and_takes_no_more(source: Guest, target: Guest) -> None:
    first, *others = returning(target, MANY + 3)
    source.handle(Thaw(epoch=5, scope=SCOPE), 0.0)
    source.handle(first, 0.1)  # its answer is lost
    (answer,) = said(target.poll(carriers.DEADLINE))
    assert answer == Returned(epoch=5, carried=MANY, dropped=3)
    assert said(source.handle(Seal(epoch=5), 11.0)) == [Sealed(epoch=5, taken=carriers.PART_PACKETS)]
    for late in (first, *others):
        assert source.handle(late, 11.1) == []
    assert said(source.handle(Seal(epoch=5), 12.0)) == [Sealed(epoch=5, taken=carriers.PART_PACKETS)]


def test_a_source_that_dies_then_has_taken_no_packet_that_counts(source: Guest, target: Guest) -> None:
    (stage,) = [
        step.message
        for step in source.handle(Export(epoch=5, scope=SCOPE, target=2, address="unix:/t", deadline=1.0), 0.0)
        if isinstance(step, ToPeer) and isinstance(step.message, Stage)
    ]
    all_staged = ToOrchestrator(AllStaged(epoch=5, staged=1))
    assert target.handle(stage, 0.0) == [all_staged, Reply(Staged(epoch=5, part=0))]
    returning(target, MANY + 3)
    target.poll(carriers.DEADLINE)
    (committed,) = said(target.handle(Commit(epoch=5, scope=SCOPE, hold=False), 11.0))
    assert committed == Committed(epoch=5, flows=1, dropped=MANY + 3)


def test_only_a_source_whose_move_is_off_has_something_to_seal(source: Guest, target: Guest) -> None:
    for guest in (source, target):
        (refused,) = said(guest.handle(Seal(epoch=5), 0.0))
        assert isinstance(refused, Refused) and refused.request == "Seal"


def test_late_packets_wait_for_a_target_that_does_not_answer_until_the_release(source: Guest) -> None:
    export = Export(epoch=5, scope=SCOPE, target=2, address="unix:/t", deadline=1.0, late="keep", packets=9, bytes=9999)
    source.handle(export, 0.0)
    source.handle(Staged(epoch=5, part=0), 0.0)
    source.handle(Forward(epoch=5, address="unix:/t"), 0.0)
    source.plane.handle(frame_of(1, 1), 0.0)
    assert sent(source.flush(0.0))
    now = LONG
    source.poll(now)
    source.handle(Release(epoch=5, scope=SCOPE), now)
    assert said(source.poll(now + carriers.DEADLINE - 1)) == []
    source.handle(Release(epoch=5, scope=SCOPE), now + carriers.DEADLINE - 1)  # said again: the time goes on
    assert said(source.poll(now + carriers.DEADLINE + 2)) == [Released(epoch=5, dropped=1)]
