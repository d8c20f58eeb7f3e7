"""SYNCH, one value under a lock, from the guest's cores to the lock service's, over links that do what they like.

The history checker judges every run; mutants of the lock service show that it would notice.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule, run_state_machine_as_test

from guestlib.coherence.synch import RETRY
from orchestrator.coherence.hub import Tell
from orchestrator.coherence.locks import LEASE, LockRow, Locks, Step
from splitmerge.messages import SharedLocked
from tests.guestlib.lossy import OverLossyLinks
from tests.guestlib.synch_world import KEY, Client, World


class Synch(OverLossyLinks):
    """Whatever links, clients, the lock service and time do, every transaction happened at one moment."""

    service: Callable[..., Locks] = Locks

    @initialize()
    def begin(self) -> None:
        self.world = World(self.service)

    def _one(self, which: int, fits: Callable[[Client], bool]) -> Client | None:
        fitting = [client for client in self.world.clients.values() if not client.paused and fits(client)]
        return fitting[which % len(fitting)] if fitting else None

    @rule(which=st.integers(0, 2))
    def get(self, which: int) -> None:
        if client := self._one(which, lambda each: not each.events):
            self.world.get(client)

    @rule(which=st.integers(0, 2))
    def put(self, which: int) -> None:
        if client := self._one(which, lambda each: each.value is not None):
            self.world.put(client)

    @rule(which=st.integers(0, 2))
    def drop(self, which: int) -> None:
        if client := self._one(which, lambda each: each.value is not None):
            self.world.drop(client)

    @rule(which=st.integers(0, 2))
    def time_out(self, which: int) -> None:
        if client := self._one(which, lambda each: each.sequence is not None):
            self.world.time_out(client)

    @rule(which=st.integers(0, 2))
    def pause_a_holder(self, which: int) -> None:
        if client := self._one(which, lambda each: bool(each.events)):
            client.paused = True

    @rule()
    def wake_all(self) -> None:
        for client in self.world.clients.values():
            client.paused = False

    @rule(which=st.integers(0, 2))
    def crash(self, which: int) -> None:
        self.world.crash(list(self.world.clients.values())[which])

    @precondition(lambda self: self.world.unburied)
    @rule(which=st.integers(0, 99))
    def bury(self, which: int) -> None:
        self.world.bury(which % len(self.world.unburied))

    @rule()
    def crash_service(self) -> None:
        self.world.crash_service()

    @rule(seconds=st.sampled_from([0.1, RETRY, LEASE / 3, LEASE]))
    def pass_time(self, seconds: float) -> None:
        self.world.pass_time(seconds)


Synch.TestCase.settings = settings(
    stateful_step_count=50, max_examples=150, deadline=None, suppress_health_check=[HealthCheck.filter_too_much]
)
TestSynch = Synch.TestCase


class Unfenced(Locks):
    """Takes writes of whoever had the lock once."""

    def holds(self, replica: int, token: int, key: str) -> bool:
        return key in self._locks


class Forgetful(Locks):
    """Keeps the value, but not who had the lock with which token."""

    def __init__(self, lease: float = LEASE, kept=()) -> None:
        super().__init__(lease, [(key, LockRow(0, value=row.value)) for key, row in kept])


class Hasty(Locks):
    """Grants with the value as of the request."""

    def _granted(self, lock) -> list[Step]:
        (step,) = super()._granted(lock)
        message = step.message
        return [Tell(step.replica, SharedLocked(request=message.request, key=KEY, token=message.token, lease=LEASE))]


def zombie(world: World) -> None:
    """A holder is paused until another one has written, and then writes."""
    first, second, _ = world.clients.values()
    for client in (first, second):
        world.get(client)
        world.deliver_all()
    first.paused = True
    world.pass_time(LEASE)
    world.deliver_all()
    assert second.value is not None, "the lock was not taken over"
    world.put(second)
    world.deliver_all()
    first.paused = False
    world.put(first)
    world.deliver_all()


def amnesia(world: World) -> None:
    """The service crashes when it has written and its answer is lost; the writer asks again."""
    first = world.clients[1]
    world.get(first)
    world.deliver_all()
    world.put(first)
    world.deliver(0)
    world.flying.clear()
    world.crash_service()
    world.pass_time(RETRY)
    world.deliver_all()


def one_after_another(world: World) -> None:
    for client in world.clients.values():
        world.get(client)
        world.deliver_all()
        world.put(client)
        world.deliver_all()


def lost_grant(world: World) -> None:
    """A grant is lost, and its lease is over when it is asked for again."""
    first, second, _ = world.clients.values()
    world.get(first)
    world.deliver(0)
    world.flying.clear()
    world.get(second)
    world.pass_time(LEASE)


@pytest.mark.parametrize("scenario", [zombie, amnesia, one_after_another, lost_grant], ids=lambda each: each.__name__)
def test_scenarios_are_explained(scenario: Callable[[World], None]) -> None:
    world = World()
    scenario(world)
    world.judge()
    assert world.locks.fenced == (scenario is zombie)


@pytest.mark.parametrize("buried", [False, True], ids=["hanging", "known to have ended"])
def test_a_crashed_client_keeps_others_waiting_for_one_lease_at_most(buried: bool) -> None:
    world, crashed = World(), 12
    for _ in range(crashed):
        client = next(iter(world.clients.values()))
        world.get(client)
        world.crash(client)
    late = list(world.flying)
    world.deliver_all()
    while buried and world.unburied:
        world.bury()
    world.flying += late  # repeats, on their way when the service heard that they had ended
    world.deliver_all()
    living = next(iter(world.clients.values()))
    world.get(living)
    world.deliver_all()
    assert (living.value is not None) is buried
    world.judge()
    assert world.locks.taken_over == (0 if buried else crashed)


@pytest.mark.parametrize(
    ("mutant", "scenario"), [(Unfenced, zombie), (Forgetful, amnesia), (Hasty, one_after_another)],
    ids=["unfenced", "forgetful", "hasty"],
)  # fmt: skip
def test_the_checker_notices_a_broken_service(mutant: type[Locks], scenario: Callable[[World], None]) -> None:
    world = World(mutant)
    scenario(world)
    with pytest.raises(AssertionError, match=r"read|->"):
        world.judge()


def test_the_search_finds_a_broken_service_by_itself() -> None:
    machine = type("Broken", (Synch,), {"service": Unfenced})
    how = settings(
        stateful_step_count=50, max_examples=2000, deadline=None, phases=[Phase.generate], database=None,
        derandomize=True, report_multiple_bugs=False,
    )  # fmt: skip
    with pytest.raises(AssertionError, match="->"):
        run_state_machine_as_test(machine, settings=how)
