"""SYNCH: one value under a lock, from the guest's cores to the lock service's, over links that do what they like.

The history checker judges every run; mutants of the lock service show that it would notice.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule, run_state_machine_as_test

from guestlib import (
    LOCAL,
    PULL,
    SYNCH,
    Guest,
    LockLost,
    SharedError,
    StateError,
    SynchUnavailable,
    TransactionError,
)
from guestlib.history import Operation, Outcome, check_linearizable, operations_of
from guestlib.instructions import Await, Instruction, ToLocks, Waiting
from guestlib.synch import HELD_MOST, RETRY
from orchestrator.coherent import Tell
from orchestrator.locks import LEASE, KeepLock, LockRow, Locks, Step
from splitmerge.errors import Timeout
from splitmerge.messages import (
    Message,
    SharedAbandon,
    SharedElement,
    SharedLock,
    SharedLocked,
    SharedLockRefused,
    SharedLost,
    SharedRenew,
    SharedWritten,
)
from tests.guestlib.conftest import Count
from tests.guestlib.lossy import LossyWorld, OverLossyLinks

KEY = "k"


def make(replica: int = 1) -> Guest:
    guest = Guest()
    guest.register_state(Count)
    guest.create_shared(KEY, Count())
    guest.begin(replica, f"i{replica}")
    return guest


@pytest.fixture
def guest() -> Guest:
    return make()


def said(steps: list[Instruction]) -> list[Message]:
    assert all(isinstance(step, ToLocks) for step in steps)
    return [step.message for step in steps]


def value(guest: Guest, token: int, packets: int) -> SharedElement:
    return SharedElement(origin="i2", version=token, kind="Count", value=guest.types.encode(Count(packets)))


def holding(guest: Guest, packets: int = 5, token: int = 3) -> Count:
    """The value in an open transaction."""
    sequence = guest.coherent.get(KEY, SYNCH, 0.0, 5.0)
    (ask,) = said(next(sequence).steps)
    locked = SharedLocked(request=ask.request, key=KEY, token=token, lease=3.0, value=value(guest, 2, packets))
    guest.handle(locked, 0.0)
    return ended(sequence)


def ended(sequence: Waiting) -> object:
    with pytest.raises(StopIteration) as stop:
        sequence.send(0.0)
    return stop.value.value


# -- the guest's side --------------------------------------------------------------------------------------


def test_a_guest_alone_has_a_lock_service_of_its_own(guest: Guest) -> None:
    for expected in (0, 1):
        with guest.shared(KEY, SYNCH) as count:
            assert count.packets == expected
            count.packets += 1
    assert guest.get_shared(KEY).packets == 2
    guest.put_shared(KEY)


def test_a_block_that_fails_writes_nothing_and_frees_the_lock(guest: Guest) -> None:
    with pytest.raises(ZeroDivisionError), guest.shared(KEY, SYNCH) as count:
        count.packets = 1 // 0
    with guest.shared(KEY, SYNCH) as count:
        assert count.packets == 0


def test_local_is_the_copy_seen_last_and_only_to_be_read(guest: Guest) -> None:
    count = holding(guest, packets=5)
    count.packets = 6
    assert guest.get_shared(KEY).packets == 5, "not written yet"
    guest.put_shared(KEY)
    guest.get_shared(KEY).packets = 7
    with pytest.raises(TransactionError, match="the copy that LOCAL gave was written to"):
        guest.put_shared(KEY)
    assert guest.get_shared(KEY).packets == 5
    guest.put_shared(KEY)


def test_the_request_is_repeated_until_it_is_granted(guest: Guest) -> None:
    sequence = guest.coherent.get(KEY, SYNCH, 0.0, 5.0)
    awaited = next(sequence)
    ask = SharedLock(request=1, key=KEY)
    assert said(awaited.steps) == [ask] and guest.coherent.next_due() == RETRY
    assert said(guest.poll(RETRY)) == [ask] and not awaited.done()
    guest.handle(SharedLocked(request=1, key=KEY, token=1, lease=3.0), 1.0)
    guest.handle(SharedLocked(request=1, key=KEY, token=1, lease=3.0), 1.0)
    assert awaited.done() and ended(sequence).packets == 0


def test_a_second_grant_of_one_request_is_given_back(guest: Guest) -> None:
    holding(guest, token=3)
    again = SharedLocked(request=1, key=KEY, token=3, lease=3.0)
    assert guest.handle(again, 1.0) == [] and guest.handle(msgspec.structs.replace(again, token=2), 1.0) == []
    newer = msgspec.structs.replace(again, token=5)
    assert said(guest.handle(newer, 1.0)) == [SharedAbandon(request=1, key=KEY)]
    guest.handle(SharedLost(key=KEY, token=3), 1.0)
    with pytest.raises(LockLost):
        next(guest.coherent.write(KEY, 1.0))


def test_a_lock_is_renewed_while_it_is_held_but_not_for_ever(guest: Guest) -> None:
    holding(guest)
    assert guest.coherent.next_due() == 1.0
    assert said(guest.poll(1.0)) == [SharedRenew(key=KEY, token=3)]
    assert guest.coherent.next_due() == 2.0
    assert guest.poll(HELD_MOST) == [] and guest.coherent.next_due() == math.inf


def test_a_write_ends_when_it_is_confirmed(guest: Guest) -> None:
    holding(guest).packets = 6
    sequence = guest.coherent.write(KEY, 0.0)
    awaited = next(sequence)
    (write,) = said(awaited.steps)
    assert write.element == SharedElement(
        origin="i1", version=3, kind="Count", value=guest.types.encode(Count(6))
    ) and said(guest.poll(RETRY)) == [write]
    guest.handle(SharedWritten(key=KEY, token=2), 0.0)
    assert not awaited.done()
    guest.handle(SharedWritten(key=KEY, token=3), 0.0)
    ended(sequence)
    assert guest.poll(9.0) == [] and guest.get_shared(KEY).packets == 6


@pytest.mark.parametrize("when", ["before the write", "after it"])
def test_a_lost_lock_is_an_error_of_put_shared_and_nothing_is_written(guest: Guest, when: str) -> None:
    holding(guest, 5).packets = 6
    lost = SharedLost(key=KEY, token=3)
    if when == "before the write":
        guest.handle(lost, 0.0)
    sequence = guest.coherent.write(KEY, 0.0)
    with pytest.raises(LockLost, match=r"token 3.*nothing changed"):
        next(sequence)
        guest.handle(lost, 0.0)
        sequence.send(0.0)
    assert guest.get_shared(KEY).packets == 5 and guest.coherent.poll(9.0) == []
    with pytest.raises(TransactionError, match="without get_shared"):
        next(guest.coherent.write(KEY, 0.0))


def test_a_wait_given_up_is_told_to_the_service(guest: Guest) -> None:
    sequence = guest.coherent.get(KEY, SYNCH, 0.0, 5.0)
    next(sequence)
    with pytest.raises(Timeout):
        sequence.throw(Timeout("x", 1.0))
    assert guest.coherent.next_due() == 0.0 and said(guest.poll(0.0)) == [SharedAbandon(request=1, key=KEY)]
    late = SharedLocked(request=1, key=KEY, token=1, lease=3.0)
    assert said(guest.handle(late, 1.0)) == [SharedAbandon(request=1, key=KEY)], "granted though nobody waits"


def test_a_refusal_says_why(guest: Guest) -> None:
    sequence = guest.coherent.get(KEY, SYNCH, 0.0, 5.0)
    next(sequence)
    guest.handle(SharedLockRefused(request=9, key=KEY, reason="not this one"), 0.0)
    guest.handle(SharedLockRefused(request=1, key=KEY, reason="too many keys"), 0.0)
    with pytest.raises(SynchUnavailable, match="refuses: too many keys"):
        sequence.send(0.0)
    assert guest.poll(9.0) == []


def test_a_value_that_cannot_travel_is_not_written_and_frees_the_lock(guest: Guest) -> None:
    holding(guest).packets = object()  # type: ignore[assignment]
    with pytest.raises(StateError):
        next(guest.coherent.write(KEY, 0.0))
    assert said(guest.poll(0.0)) == [SharedAbandon(request=1, key=KEY)]


def test_a_value_that_is_too_large_is_not_written(guest: Guest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("guestlib.transactions.VALUE_MOST", 2)
    holding(guest)
    with pytest.raises(StateError, match="may have 2"):
        next(guest.coherent.write(KEY, 0.0))


def test_the_end_frees_what_is_held(guest: Guest) -> None:
    holding(guest)
    assert said(guest.coherent.finish(0.0)) == [SharedAbandon(request=1, key=KEY)]


def test_a_middlebox_that_fails_keeps_no_lock(guest: Guest) -> None:
    holding(guest)
    guest.failed()
    assert said(guest.poll(0.0)) == [SharedAbandon(request=1, key=KEY)]


def test_one_waits_for_ones_own_transaction_where_it_can_end(guest: Guest) -> None:
    guest.coherent.concurrent = True
    holding(guest)
    guest.failed()  # another task's lock
    second = guest.coherent.get(KEY, SYNCH, 0.0, 5.0)
    awaited = next(second)
    assert awaited.steps == [] and not awaited.done()
    guest.drop_shared(KEY)
    assert awaited.done() and said(second.send(1.0).steps) == [SharedLock(request=2, key=KEY)]


def test_misuse_is_named(guest: Guest) -> None:
    with pytest.raises(SharedError, match="PULL needs a combiner"):
        guest.get_shared(KEY, PULL)
    with pytest.raises(TransactionError, match="no SYNCH transaction is open"):
        guest.drop_shared(KEY)
    holding(guest)
    with pytest.raises(TransactionError, match="inside a SYNCH transaction"):
        guest.get_shared(KEY, SYNCH)
    with pytest.raises(TransactionError, match="inside a transaction"):
        guest.delete_shared(KEY)
    with pytest.raises(TransactionError, match="without get_shared"):
        guest.put_shared(KEY, LOCAL)


# -- both sides --------------------------------------------------------------------------------------------


class Client:
    """A replica that runs transactions one after another. While ``paused`` it does nothing at all."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.guest = make(number)
        self.paused = False
        self.sequence: Waiting | None = None
        self.awaited: Await | None = None
        self.value: Count | None = None
        self.events: dict[str, tuple[float, object]] = {}


class World(LossyWorld):
    """Clients, a lock service with its journal, and messages on their way."""

    def __init__(self, service: Callable[..., Locks] = Locks) -> None:
        super().__init__()
        self.service = service
        self.locks = service()
        self.journal: dict[str, LockRow] = {}
        self.clients = {number: Client(number) for number in (1, 2, 3)}
        self.clients_ever = len(self.clients)
        self.unburied: list[int] = []
        """Replicas that have crashed, which the service does not know yet."""
        self.written = 0
        self.operations: list[Operation] = []

    # What clients do.

    def get(self, client: Client) -> None:
        client.events = {"begin": (self._tick(), KEY)}
        client.sequence = client.guest.coherent.get(KEY, SYNCH, self.now, 5.0)
        self._go_on(client, next)

    def put(self, client: Client) -> None:
        assert client.value is not None
        self.written += 1
        client.value.packets = self.written
        client.value = None
        client.events["write"] = (self._tick(), self.written)
        client.sequence = client.guest.coherent.write(KEY, self.now)
        self._go_on(client, next)

    def drop(self, client: Client) -> None:
        client.guest.drop_shared(KEY)
        client.value = None
        self._over(client)

    def time_out(self, client: Client) -> None:
        self._go_on(client, lambda sequence: sequence.throw(Timeout("the test", 1.0)))

    def _go_on(self, client: Client, how: Callable[[Waiting], Await]) -> None:
        assert client.sequence is not None
        try:
            client.awaited = how(client.sequence)
        except StopIteration as stop:
            client.sequence = client.awaited = None
            self._got(client, stop.value) if "read" not in client.events else self._over(client, Outcome.WRITTEN)
        except LockLost:
            self._over(client, Outcome.NOT_WRITTEN)
        except Timeout:
            self._over(client, Outcome.UNKNOWN)
        else:
            self._send(client, client.awaited.steps)

    def _got(self, client: Client, found: Count) -> None:
        client.value = found
        client.events["read"] = (self._tick(), found.packets)

    def _over(self, client: Client, outcome: Outcome | None = None) -> None:
        client.sequence = client.awaited = None
        if outcome is not None:
            client.events["end"] = (self._tick(), outcome.value)
        self.operations += operations_of(str(client.number), client.events)
        client.events = {}

    def crash(self, client: Client) -> None:
        del self.clients[client.number]
        self.unburied.append(client.number)
        if client.events:
            self._over(client)
        self.clients_ever += 1
        self.clients[self.clients_ever] = Client(self.clients_ever)

    # What the service and the network do.

    def bury(self, which: int = 0) -> None:
        self._do(self.locks.gone(self.unburied.pop(which), self.now))

    def crash_service(self) -> None:
        self.locks = self.service(kept=self.journal.items())
        self.locks.restart(self.now)

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        for client in self.clients.values():
            if not client.paused:
                self._send(client, client.guest.poll(self.now))
        self._do(self.locks.tick(self.now))

    def deliver(self, index: int, *, keep: bool = False) -> None:
        replica, message, to_replica = self.flying[index]
        client = self.clients.get(replica)
        if to_replica and client is not None and client.paused:
            return  # it waits in the socket
        if not keep:
            del self.flying[index]
        if not to_replica:
            if client is not None or replica in self.unburied:  # as `SharedState.handle`
                self._do(self.locks.handle(replica, message, self.now))
        elif client is not None:
            self._send(client, client.guest.handle(message, self.now))
            if client.awaited is not None and client.awaited.done():
                self._go_on(client, lambda sequence: sequence.send(self.now))

    def _send(self, client: Client, steps: list[Instruction]) -> None:
        self.flying += [(client.number, message, False) for message in said(steps)]

    def _do(self, steps: list[Step]) -> None:
        for step in steps:
            match step:
                case KeepLock(key, row):
                    self.journal[key] = row
                case Tell(replica, message):
                    self.flying.append((replica, message, True))

    def judge(self) -> None:
        """Everybody comes to an end, one more reads the value, and all of it must be explained.

        Each client may keep the others waiting for one lease, if what it said when it gave up was lost, and so may each
        crashed one that nobody has buried; those that are buried may not.
        """
        for client in self.clients.values():
            client.paused = False
        leases = len(self.clients) + len(self.unburied) + 1
        for _ in range((8 + 1) * leases):  # a lease is given on when time passes the next time
            self.deliver_all()
            for client in list(self.clients.values()):
                if client.value is not None:
                    self.put(client)
            self.pass_time(LEASE / 8)
        assert not any(client.events for client in self.clients.values()), "somebody waits for ever"
        last = next(iter(self.clients.values()))
        self.get(last)
        self.deliver_all()
        assert last.value is not None
        self.drop(last)
        assert check_linearizable(self.operations, 0) is not None, "\n".join(map(str, self.operations))


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
