"""Holds that meet: a flow's packets are in one of them, and nobody's in more than its share of the room."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

import pytest

from guestlib.guest import Guest
from guestlib.instructions import Instruction, Process, ToOrchestrator, ToPeer
from guestlib.packets.dataplane import DataPlane
from guestlib.packets.holds import SLICE, Room
from splitmerge.messages import (
    Carry,
    Commit,
    Committed,
    Export,
    Exported,
    Forward,
    HoldFull,
    Message,
    Prepare,
    Release,
    Released,
    Scope,
    Staged,
    Thaw,
)
from splitmerge.tag import Tag, TagKind
from tests.guestlib.conftest import Count, frame_of, key_of, number_in

ONE = 1
BUCKET = key_of(ONE).bucket
MATE = next(number for number in count(2) if key_of(number).bucket == BUCKET)
"""A flow of the same bucket."""
OTHER = 2
ELSEWHERE = key_of(OTHER).bucket
K = bytes(key_of(ONE))
SCOPES: dict[str, tuple[list[bytes], list[int]]] = {"by key": ([K], []), "by bucket": ([], [BUCKET])}
LARGE = Room(10_000, 10**7)


@pytest.fixture
def plane() -> DataPlane:
    return DataPlane(hold_deadline=10.0)


def arrive(plane: DataPlane, *numbers: int, flow: int = ONE) -> list[Instruction]:
    return [step for number in numbers for step in plane.handle(frame_of(flow, number), 0.0)]


def processed(steps: list[Instruction]) -> list[int]:
    return [number_in(step.frame) for step in steps if isinstance(step, Process)]


def taken(plane: DataPlane, epoch: int) -> list[int]:
    return [number_in(frame) for frame in plane.take(epoch, 10_000, 10**9)]


def leaving(plane: DataPlane, scope: tuple[list[bytes], list[int]], numbers: range, flow: int = ONE) -> None:
    """A hold of epoch 5 that was released and has got rid of one slice."""
    plane.keep(5, *scope, LARGE)
    arrive(plane, *numbers, flow=flow)
    assert processed(plane.release(5)) == list(numbers[:SLICE])


@pytest.mark.parametrize("newer", SCOPES.values(), ids=[f"then {name}" for name in SCOPES])
@pytest.mark.parametrize("older", SCOPES.values(), ids=SCOPES)
def test_what_an_older_hold_still_has_of_a_newer_ones_flows_is_the_newer_ones_and_in_front(
    plane: DataPlane, older: tuple[list[bytes], list[int]], newer: tuple[list[bytes], list[int]]
) -> None:
    leaving(plane, older, range(SLICE + 2))
    assert plane.keep(6, *newer, LARGE) == []
    assert arrive(plane, SLICE + 2) == [] and plane.poll(0.0) == []
    assert taken(plane, 6) == [SLICE, SLICE + 1, SLICE + 2]
    plane.drop(6)
    assert plane.quiet and plane.held == 0 and processed(arrive(plane, 9)) == [9]


def test_what_an_older_hold_has_of_other_flows_leaves_in_its_slices(plane: DataPlane) -> None:
    plane.keep(5, [], [BUCKET, ELSEWHERE], LARGE)
    arrive(plane, *range(2 * SLICE + 1), flow=OTHER)
    arrive(plane, 1, 2)
    plane.release(5)
    assert plane.keep(6, [], [BUCKET], LARGE) == []
    assert arrive(plane, 2 * SLICE + 1, flow=OTHER) == [], "it queues behind"
    assert processed(plane.poll(0.0)) == list(range(SLICE, 2 * SLICE))
    assert processed(plane.poll(0.0)) == [2 * SLICE, 2 * SLICE + 1]
    assert taken(plane, 6) == [1, 2]


def test_a_hold_until_end_that_a_newer_one_meets_is_over_and_leaves_in_slices(plane: DataPlane) -> None:
    plane.hold(5, [], [BUCKET, ELSEWHERE], 0.0)
    arrive(plane, *range(SLICE + 1), flow=OTHER)
    arrive(plane, 1)
    assert processed(plane.keep(6, [], [BUCKET], LARGE)) == list(range(SLICE))
    assert processed(plane.poll(0.0)) == [SLICE]
    assert taken(plane, 6) == [1] and processed(arrive(plane, 9, flow=OTHER)) == [9]


def test_of_an_undecided_one_a_newer_one_takes_its_own_flows_only(plane: DataPlane) -> None:
    plane.keep(5, [], [BUCKET, ELSEWHERE], LARGE)
    arrive(plane, 1)
    arrive(plane, 2, flow=OTHER)
    assert plane.keep(6, [K], [], LARGE) == []
    assert arrive(plane, 3) == arrive(plane, 4, flow=MATE) == arrive(plane, 5, flow=OTHER) == []
    assert (taken(plane, 6), taken(plane, 5)) == ([1, 3], [2, 4, 5])


def test_a_flow_that_the_newer_one_spares_queues_behind_what_is_here_of_it(plane: DataPlane) -> None:
    leaving(plane, SCOPES["by bucket"], range(SLICE + 1))
    arrive(plane, 7, flow=MATE)
    assert plane.keep(6, [], [BUCKET], LARGE, spared=frozenset([K])) == []
    assert arrive(plane, SLICE + 1) == []
    assert processed(plane.poll(0.0)) == [SLICE, SLICE + 1]
    assert processed(arrive(plane, SLICE + 2)) == [SLICE + 2]
    assert taken(plane, 6) == [7]


def test_a_flow_held_until_end_gets_first_what_an_older_hold_of_its_bucket_has_of_it(plane: DataPlane) -> None:
    plane.keep(5, [], [BUCKET], LARGE)
    for number in range(SLICE):
        arrive(plane, number)
        arrive(plane, number, flow=MATE)
    plane.release(5)
    left = list(range(SLICE // 2, SLICE))
    assert processed(plane.hold(6, [K], [], 0.0)) == left
    assert arrive(plane, 1001) == []
    assert processed(plane.handle(Tag(TagKind.RELAYED, 6, 1).push(frame_of(ONE, 1000)), 0.0)) == [1000]
    assert processed(plane.poll(0.0)) == left, "its mate's"
    assert processed(plane.handle(Tag(TagKind.END, 6, 2).push(frame_of(0)), 0.0)) == [1001] and plane.quiet


def test_what_had_room_keeps_it_in_a_hold_that_has_less_which_is_told(plane: DataPlane) -> None:
    leaving(plane, SCOPES["by bucket"], range(SLICE + 10))
    assert plane.keep(6, [K], [], Room(5, 10**6)) == [ToOrchestrator(HoldFull(epoch=6))]
    arrive(plane, 1)
    assert plane.kept(6, 0.0).dropped == 1 and taken(plane, 6) == list(range(SLICE, SLICE + 10))


def test_without_any_room_it_is_late_and_counted(plane: DataPlane) -> None:
    leaving(plane, SCOPES["by bucket"], range(SLICE + 10))
    assert plane.keep(6, [K], [], Room(0, 0)) == []
    assert plane.kept(6, 0.0).dropped == plane.drops["late_dropped"] == 10 and plane.held == 0


@pytest.mark.parametrize(
    "begin",
    [
        pytest.param(lambda plane: plane.keep(5, [K], [], LARGE), id="until it is decided"),
        pytest.param(lambda plane: plane.hold(5, [K], [], 0.0), id="until END"),
    ],
)
def test_one_hold_has_half_of_the_room_for_all(begin: Callable[[DataPlane], object]) -> None:
    plane = DataPlane(hold_packets=20)
    begin(plane)
    arrive(plane, *range(50))
    assert (plane.held, plane.kept(5, 0.0).dropped) == (10, 40)
    plane.keep(6, [bytes(key_of(OTHER))], [], LARGE)
    assert arrive(plane, *range(7), flow=OTHER) == [] and plane.held == 17


# -- moves -------------------------------------------------------------------------------------------------


@pytest.fixture
def guest() -> Guest:
    """It has got a bucket, of whose packets three still wait for the middlebox; one of its flows moves on."""
    guest = Guest()
    guest.register_state(Count)
    guest.begin(2, "i2")
    bucket = Scope(buckets=(BUCKET,))
    guest.handle(Prepare(epoch=5, scope=bucket, packets=10_000, bytes=10**7), 0.0)
    arrive(guest.plane, *range(SLICE + 3))
    *packets, answer = guest.handle(Commit(epoch=5, scope=bucket, hold=False), 0.0)
    assert processed(packets) == list(range(SLICE))
    assert answer == ToOrchestrator(Committed(epoch=5, flows=0, held=SLICE + 3, held_seconds=0.0))
    guest.create_flow(key_of(ONE), Count(SLICE))
    return guest


SCOPE = Scope(keys=(K,))
LAST = SLICE + 3


def export(guest: Guest, late: str) -> None:
    """The flow is frozen and at replica 3."""
    room = {"packets": 10, "bytes": 10_000} if late == "keep" else {}
    asked = Export(epoch=6, scope=SCOPE, target=3, address="unix:/t", deadline=1.0, late=late, **room)  # type: ignore[arg-type]
    assert processed(guest.handle(asked, 1.0)) == []
    assert said(guest.handle(Staged(epoch=6, part=0), 1.0)) == [Exported(epoch=6, staged=1)]
    assert arrive(guest.plane, LAST) == []
    assert guest.poll(1.1) == [], "what the middlebox would get now it could only refuse"


def said(steps: list[Instruction]) -> list[Message]:
    return [step.message for step in steps if isinstance(step, ToOrchestrator | ToPeer)]


def test_a_flow_that_moves_on_without_a_buffer_takes_along_what_still_waits_for_it(guest: Guest) -> None:
    export(guest, "keep")
    answers = said(guest.handle(Forward(epoch=6, address="unix:/t"), 1.2))
    (carry,) = [message for message in answers if isinstance(message, Carry)]
    assert [number_in(frame) for frame in carry.frames] == [SLICE, SLICE + 1, SLICE + 2, LAST]


def test_if_it_is_called_off_they_are_processed_here(guest: Guest) -> None:
    export(guest, "keep")
    steps = guest.handle(Thaw(epoch=6, scope=SCOPE, hold=False), 1.2)
    assert processed(steps) == [SLICE, SLICE + 1, SLICE + 2, LAST] and guest.plane.quiet


def test_a_flow_that_moves_on_without_a_guarantee_counts_what_still_waits_for_it(guest: Guest) -> None:
    export(guest, "drop")
    assert said(guest.handle(Release(epoch=6, scope=SCOPE), 1.2)) == [Released(epoch=6, dropped=4)]
    assert guest.plane.quiet and guest.plane.drops == {"late_dropped": 4}
