"""Marker rounds: repeated until one is back, whatever its number; strangers' numbers mean nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p4rt_controller.rounds import Begin, Expired, Proven, Returned, Rounds, RoundTick, SendMarker


def test_the_first_marker_goes_out_at_once_and_its_return_ends_it():
    rounds = Rounds(7, 0.1, 1.0, 0.0)
    assert rounds.handle(Begin(), 0.0) == [SendMarker(7)]
    assert rounds.handle(Begin(), 0.0) == []
    assert rounds.handle(Returned(7), 0.01) == [Proven()]
    assert (rounds.finished, rounds.timer, rounds.sent) == (True, None, 1)
    assert rounds.handle(Returned(7), 0.02) == []


def test_late_ones_are_repeated_with_new_numbers_at_doubled_intervals():
    rounds = Rounds(0xFFFFFFFF, 0.1, 1.0, 0.0)
    rounds.handle(Begin(), 0.0)
    assert rounds.handle(RoundTick(), 0.05) == []
    assert rounds.handle(RoundTick(), 0.1) == [SendMarker(0)]
    assert rounds.timer == pytest.approx(0.3)
    assert rounds.handle(RoundTick(), 0.31) == [SendMarker(1)]
    assert rounds.handle(Returned(0xFFFFFFFF), 0.4) == [Proven()]


@pytest.mark.parametrize("stranger", [6, 8, 0, 0xFFFFFFFF])
def test_numbers_not_sent_mean_nothing(stranger: int):
    rounds = Rounds(7, 0.1, 1.0, 0.0)
    rounds.handle(Begin(), 0.0)
    assert rounds.handle(Returned(stranger), 0.0) == []
    assert not rounds.finished


def test_the_deadline_ends_it():
    rounds = Rounds(1, 0.4, 1.0, 0.0)
    rounds.handle(Begin(), 0.0)
    rounds.handle(RoundTick(), 0.4)
    assert rounds.timer == 1.0
    assert rounds.handle(RoundTick(), 1.0) == [Expired()]
    assert rounds.finished


def test_a_busy_replica_is_waited_for_and_its_earlier_echoes_count():
    busy = True
    rounds = Rounds(1, 0.4, 1.0, 0.0)
    rounds.waited_for(lambda: busy, 0.0)
    rounds.handle(Begin(), 0.0)
    rounds.handle(RoundTick(), 0.4)
    assert rounds.handle(RoundTick(), 1.0) == [SendMarker(3)]
    assert rounds.timer == 2.0
    assert rounds.handle(RoundTick(), 2.0) == [SendMarker(4)]
    assert rounds.handle(Returned(1), 2.5) == [Proven()]


def test_one_that_is_busy_no_longer_has_what_is_left_of_the_deadline():
    busy = True
    rounds = Rounds(1, 1.0, 1.0, 0.0)
    rounds.waited_for(lambda: busy, 0.0)
    rounds.handle(Begin(), 0.0)
    rounds.handle(RoundTick(), 1.0)
    busy = False
    assert rounds.handle(RoundTick(), 2.0) == [Expired()]


def test_the_deadline_begins_when_somebody_waits():
    rounds = Rounds(1, 0.4, 1.0, 0.0)
    rounds.handle(Begin(), 0.0)
    rounds.waited_for(lambda: False, 3.0)
    assert rounds.handle(RoundTick(), 3.0) == [SendMarker(2)]
    assert rounds.handle(RoundTick(), 3.8) == [SendMarker(3)]
    assert rounds.handle(RoundTick(), 4.0) == [Expired()]


@given(st.lists(st.booleans(), max_size=40), st.integers(0, 0xFFFFFFFF))
def test_it_ends_by_its_deadline_whatever_is_lost(lost: list[bool], first: int):
    rounds = Rounds(first, 0.1, 5.0, 0.0)
    now, fates = 0.0, iter(lost)
    out = rounds.handle(Begin(), now)
    while not rounds.finished:
        for instruction in out:
            if isinstance(instruction, SendMarker) and not next(fates, False):
                assert rounds.handle(Returned(instruction.sequence), now) == [Proven()]
                return
        assert rounds.timer is not None
        now = rounds.timer
        out = rounds.handle(RoundTick(), now)
    assert out == [Expired()]
    assert now == pytest.approx(5.0)
