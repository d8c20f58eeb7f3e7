"""Who is silent: a replica, or an orchestrator that does not get to listen."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from orchestrator.replicas.health import AT_LONGEST, PULSE, Awake


@dataclass
class Told:
    """A replica, as far as it is looked at: when it last said something."""

    told: float


def looks(awake: Awake, begin: float, end: float) -> None:
    """Looks in time, from one time to the other."""
    for number in range(round((end - begin) / PULSE) + 1):
        awake.since(begin + number * PULSE)


@pytest.mark.parametrize(
    ("asleep", "silent"),
    [
        ((), True),
        ((10.0, 10.9), False),  # and what came meanwhile has not been read yet
        ((8.5, 9.5), True),  # long enough ago: it would have been heard
    ],
)
def test_silence_counts_from_when_this_process_listens_again(asleep: tuple[float, ...], silent: bool) -> None:
    awake = Awake()
    if asleep:
        looks(awake, 0.0, asleep[0])
        looks(awake, asleep[1], 11.0)
    else:
        looks(awake, 0.0, 11.0)
    assert awake.is_silent(Told(9.9), 11.0, 1.0) is silent  # type: ignore[arg-type]


def test_a_process_that_never_gets_its_turns_does_not_wait_for_ever() -> None:
    awake = Awake()
    for number in range(20):
        assert awake.is_silent(Told(0.0), number / 2, 1.0) is (number / 2 > AT_LONGEST)  # type: ignore[arg-type]
