"""Counters under LOCAL, PUSH and PULL, from the guests' cores to the hub's, over links that do what they like.

Replicas are killed, end (and are asked to again), the hub crashes and reads its journal; the checker judges all pulls.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from guestlib import LOCAL, PULL, PUSH, Flags, Guest
from guestlib.coherence.coherent import RETRY
from guestlib.coherence.history import Add, Pull, check_counter
from guestlib.instructions import Await, Instruction, ToOrchestrator, Waiting
from orchestrator.coherence.hub import Hub, Keep, KeepFolded, Tell
from orchestrator.coherence.hub import Instruction as HubStep
from splitmerge.errors import Timeout
from splitmerge.messages import SharedElement, SharedPull, SharedPush, SharedPushed
from tests.guestlib.conftest import Count
from tests.guestlib.harness import add
from tests.guestlib.lossy import LossyWorld, OverLossyLinks

KEY = "hits"


class Client:
    """A replica. ``added``: per addition its amount, beginning, end, and version of the element that has it."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.guest = Guest()
        self.guest.register_state(Count)
        self.guest.create_shared(KEY, Count(), add)
        self.guest.begin(number, f"i{number}")
        self.added: list[tuple[int, float, float, int]] = []
        self.pushed: dict[int, int] = {}
        """Version by request."""
        self.safe: dict[int, float] = {}
        """When a version was confirmed, or this replica's own pull with it answered."""
        self.ending = False
        self.pull: tuple[Waiting, Await, float] | None = None

    def adds(self) -> list[Add]:
        return [Add(str(self.number), amount, begun, end, self._safe(v)) for amount, begun, end, v in self.added]

    def _safe(self, version: int) -> float:
        return min((at for confirmed, at in self.safe.items() if confirmed >= version), default=math.inf)


class World(LossyWorld):
    """Clients, a hub with its journal, and messages on their way."""

    def __init__(self, hub: Callable[..., Hub] = Hub) -> None:
        super().__init__()
        self.make_hub = partial(hub, fold_from=2, last_words=0.0)  # the sooner, the more may come too late
        self.hub = self.make_hub()
        self.journal: dict[tuple[str, str], SharedElement] = {}
        self.clients = {number: Client(number) for number in (1, 2, 3)}
        self.everybody = list(self.clients.values())
        self.dead: list[int] = []
        """Killed, and the hub does not know yet."""
        self.died: list[str] = []
        self.pulls: list[Pull] = []

    def add(self, client: Client, amount: int, flags: Flags) -> None:
        begun = self._tick()
        client.guest.get_shared(KEY).packets += amount
        client.guest.put_shared(KEY, flags)
        client.added.append((amount, begun, self._tick(), client.guest.coherent.find(KEY).version))
        self._send(client, client.guest.poll(self.now))

    def start_pull(self, client: Client) -> None:
        sequence = client.guest.coherent.get(KEY, PULL, self.now, 2.0)
        begun = self._tick()
        awaited = next(sequence)
        client.pull = (sequence, awaited, begun)
        self._send(client, awaited.steps)

    def _look(self, client: Client) -> None:
        if client.pull is None or not client.pull[1].done():
            return
        sequence, awaited, begun = client.pull
        client.pull = None
        (asked,) = awaited.steps
        assert isinstance(asked, ToOrchestrator) and isinstance(asked.message, SharedPull)
        try:
            sequence.send(self.now)
        except StopIteration as stop:
            self.pulls.append(Pull(str(client.number), stop.value.packets, begun, self._tick()))
            if asked.message.element is not None:
                client.safe.setdefault(asked.message.element.version, self._tick())
            client.guest.put_shared(KEY)
        except Timeout:
            self._tick()

    def time_out(self, client: Client) -> None:
        assert client.pull is not None
        client.pull[0].close()
        client.pull = None

    def begin_end(self, client: Client) -> None:
        if client.pull is not None:
            self.time_out(client)
        client.ending = True
        self._send(client, client.guest.coherent.finish(self.now))

    def leave(self, client: Client) -> None:
        """It has ended well: every push was confirmed."""
        self._replace(client)
        self._do(self.hub.gone(client.number, self.now))

    def kill(self, client: Client) -> None:
        self._replace(client)
        self.dead.append(client.number)
        self.died.append(str(client.number))

    def _replace(self, client: Client) -> None:
        del self.clients[client.number]
        new = Client(len(self.everybody) + 1)
        self.clients[new.number] = new
        self.everybody.append(new)

    def bury(self) -> None:
        self._do(self.hub.gone(self.dead.pop(), self.now))

    def crash_hub(self) -> None:
        kept: dict[str, tuple[SharedElement, ...]] = {}
        for (key, _), element in self.journal.items():
            kept[key] = (*kept.get(key, ()), element)
        owners = {f"i{number}": number for number in (*self.clients, *self.dead)}
        self.hub = self.make_hub(kept=kept.items(), first=1000 * self.moment, owners=owners)

    def pass_time(self) -> None:
        self.now += RETRY
        for client in self.clients.values():
            self._send(client, client.guest.poll(self.now))
        self._do(self.hub.tick(self.now))

    def deliver(self, index: int, *, keep: bool = False) -> None:
        replica, message, to_replica = self.flying[index]
        if not keep:
            del self.flying[index]
        client = self.clients.get(replica)
        if not to_replica:
            self._do(self.hub.handle(replica, message, [*self.clients, *self.dead], self.now))
        elif client is not None:
            self._send(client, client.guest.handle(message, self.now))
            if isinstance(message, SharedPushed):
                client.safe.setdefault(client.pushed[message.request], self._tick())
            self._look(client)

    def _send(self, client: Client, steps: list[Instruction]) -> None:
        for step in steps:
            assert isinstance(step, ToOrchestrator)
            self.flying.append((client.number, step.message, False))
            if isinstance(step.message, SharedPush):
                client.pushed[step.message.request] = step.message.element.version

    def _do(self, steps: list[HubStep]) -> None:
        for step in steps:
            match step:
                case Keep(key, element):
                    self.journal[key, element.origin] = element
                case KeepFolded(key, element, origins):
                    for origin in origins:
                        del self.journal[key, origin]
                    self.journal[key, element.origin] = element
                case Tell(replica, message):
                    self.flying.append((replica, message, True))

    def judge(self) -> None:
        """Everybody ends but one, whose pull must be right, as every earlier one."""
        while self.dead:
            self.bury()
        last, *others = self.clients.values()
        for client in others:
            self.begin_end(client)
        for _ in range(8):
            self.deliver_all()
            self.pass_time()
        for client in others:
            assert not client.guest.coherent.unconfirmed
            self.leave(client)
        self.crash_hub()
        del self.clients[max(self.clients)], self.clients[max(self.clients)]  # nobody new
        if last.pull is None and not last.ending:
            self.start_pull(last)
            self.deliver_all()
            assert self.pulls[-1].process == str(last.number)
        adds = [each for client in self.everybody for each in client.adds()]
        assert check_counter(adds, self.pulls, self.died) == []


class Counting(OverLossyLinks):
    """Whatever happens, no pull misses anything that it must have, has anything twice, or goes back."""

    @initialize()
    def begin(self) -> None:
        self.world = World()

    def _one(self, which: int, fits: Callable[[Client], bool]) -> Client | None:
        fitting = [client for client in self.world.clients.values() if fits(client)]
        return fitting[which % len(fitting)] if fitting else None

    @rule(which=st.integers(0, 2), amount=st.integers(1, 5), flags=st.sampled_from([LOCAL, PUSH]))
    def add(self, which: int, amount: int, flags: Flags) -> None:
        if client := self._one(which, lambda each: not each.ending):
            self.world.add(client, amount, flags)

    @rule(which=st.integers(0, 2))
    def pull(self, which: int) -> None:
        if client := self._one(which, lambda each: not each.ending and each.pull is None):
            self.world.start_pull(client)

    @rule(which=st.integers(0, 2))
    def time_out(self, which: int) -> None:
        if client := self._one(which, lambda each: each.pull is not None):
            self.world.time_out(client)

    @rule(which=st.integers(0, 2))
    def begin_end(self, which: int) -> None:
        self.world.begin_end(list(self.world.clients.values())[which])  # once more, too

    @rule(which=st.integers(0, 2))
    def leave(self, which: int) -> None:
        if client := self._one(which, lambda each: each.ending and not each.guest.coherent.unconfirmed):
            self.world.leave(client)

    @rule(which=st.integers(0, 2))
    def kill(self, which: int) -> None:
        self.world.kill(list(self.world.clients.values())[which])

    @precondition(lambda self: self.world.dead)
    @rule()
    def bury(self) -> None:
        self.world.bury()

    @rule()
    def crash_hub(self) -> None:
        self.world.crash_hub()

    @rule()
    def pass_time(self) -> None:
        self.world.pass_time()


Counting.TestCase.settings = settings(stateful_step_count=50, max_examples=100, deadline=None)
TestCounting = Counting.TestCase


class Forgetful(Hub):
    """Confirms before it has kept anything."""

    def _keep(self, key: str, element: SharedElement) -> list[HubStep]:
        super()._keep(key, element)
        return []


class Impatient(Hub):
    """Does not wait for the others."""

    def _pull(self, asker, request, key, living, now, deadline) -> list[HubStep]:
        return super()._pull(asker, request, key, [], now, deadline)


class Gullible(Hub):
    """Takes whatever comes, of whomever."""

    def _may_write(self, replica: int, element: SharedElement, living: frozenset[int]) -> bool:
        return super()._may_write(replica, element, living) or True


class Hasty(Hub):
    """Folds what its replica goes on with."""

    def _may_write(self, replica: int, element: SharedElement, living: frozenset[int]) -> bool:
        may = super()._may_write(replica, element, living)
        self._owners.clear()
        return may


class Deaf(Hub):
    """Does not listen to what comes with a pull."""

    def _given(self, asker: int, pull: SharedPull, living: frozenset[int]) -> list[HubStep] | None:
        return []


def folded_as_it_counts(world: World) -> None:
    one, two, three = world.clients.values()
    world.add(one, 3, PUSH)
    world.add(two, 3, PUSH)
    world.deliver_all()
    world.start_pull(three)
    world.deliver_all()
    world.add(one, 1, PUSH)
    world.deliver_all()


def pushed_and_killed(world: World) -> None:
    world.add(world.clients[1], 3, PUSH)
    world.deliver_all()
    world.kill(world.clients[1])
    world.crash_hub()


def pulled(world: World) -> None:
    world.add(world.clients[1], 3, LOCAL)
    world.start_pull(world.clients[2])
    world.deliver_all()


def pulled_by_one_that_is_killed(world: World) -> None:
    """What its middlebox has seen includes what only it had counted."""
    client = world.clients[1]
    world.add(client, 3, LOCAL)
    world.start_pull(client)
    world.deliver_all()
    assert world.pulls[-1].value == 3
    world.kill(client)


def counted_while_it_pulled_and_killed(world: World) -> None:
    """What it counts while its question is on its way the hub never hears of: no pull may show it."""
    client = world.clients[1]
    world.start_pull(client)
    world.deliver(0)
    world.add(client, 3, LOCAL)
    world.deliver_all()
    assert world.pulls[-1].process == "1"
    world.kill(client)
    world.bury()
    world.crash_hub()


def pulled_twice_with_something_counted_between(world: World) -> None:
    """The first question comes again, and late: it takes nothing back."""
    client = world.clients[1]
    world.add(client, 3, LOCAL)
    world.start_pull(client)
    question = world.flying[0]
    world.deliver_all()
    world.add(client, 1, LOCAL)
    world.start_pull(client)
    world.deliver_all()
    assert [pull.value for pull in world.pulls] == [3, 4]
    world.flying.append(question)
    world.deliver_all()
    world.kill(client)


def ended_twice_while_the_hub_crashes(world: World) -> None:
    client = world.clients[1]
    world.add(client, 3, LOCAL)
    world.begin_end(client)
    world.deliver(0)  # kept, and the answer is lost
    world.flying.clear()
    world.crash_hub()
    world.begin_end(client)
    world.deliver_all()
    world.leave(client)


def answered_to_a_former_hub(world: World) -> None:
    """A collected element that is on its way when the hub crashes is no answer to the next hub's pull."""
    one, two, three = world.clients.values()
    world.add(one, 3, LOCAL)
    world.start_pull(two)
    world.deliver(0)
    collects = [message for replica, message, _ in world.flying if replica == one.number]
    world.flying.clear()
    world.crash_hub()
    world._send(one, one.guest.handle(collects[0], world.now))
    late, world.flying = world.flying, []
    world.add(one, 4, LOCAL)
    world.start_pull(three)
    world.deliver(0)
    world.flying = late + [each for each in world.flying if each[0] != one.number]  # it is not asked in time
    world.deliver_all()


def folded_and_said_again(world: World) -> None:
    """What two ended replicas have left is one part now; then their last words arrive once more."""
    last_words = []
    for client in list(world.clients.values())[:2]:
        world.add(client, 3, PUSH)
        world.begin_end(client)
        last_words += world.flying
        world.deliver_all()
        world.leave(client)
    world.start_pull(world.clients[3])
    world.deliver_all()
    assert world.hub.kept == 1 and world.hub.folded == 2
    world.flying += last_words
    world.deliver_all()


def folded_as_the_hub_crashes(world: World) -> None:
    """The hub asks for it, crashes, and is answered after."""
    for client in list(world.clients.values())[:2]:
        world.add(client, 3, PUSH)
        world.begin_end(client)
        world.deliver_all()
        world.leave(client)
    world.start_pull(world.clients[3])
    world.deliver(0)
    world.crash_hub()
    world.deliver_all()
    world.pass_time()
    world.deliver_all()
    assert world.hub.kept == 1


SCENARIOS = [
    answered_to_a_former_hub, pushed_and_killed, pulled, ended_twice_while_the_hub_crashes, folded_and_said_again,
    folded_as_the_hub_crashes, folded_as_it_counts, pulled_by_one_that_is_killed, counted_while_it_pulled_and_killed,
    pulled_twice_with_something_counted_between,
]  # fmt: skip


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda each: each.__name__)
def test_scenarios_are_right(scenario: Callable[[World], None]) -> None:
    world = World()
    scenario(world)
    world.judge()


@pytest.mark.parametrize(
    ("mutant", "scenario", "wrong"),
    [
        (Forgetful, pushed_and_killed, "pulled 0"),
        (Impatient, pulled, "should be 3 to 3"),
        (Gullible, folded_and_said_again, "pulled 12"),
        (Hasty, folded_as_it_counts, "pulled 12"),
        (Deaf, pulled_by_one_that_is_killed, "should be 3 to 3"),
    ],
    ids=["forgetful", "impatient", "gullible", "hasty", "deaf"],
)
def test_the_checker_notices_a_broken_hub(mutant: type[Hub], scenario: Callable[[World], None], wrong: str) -> None:
    world = World(mutant)
    scenario(world)
    with pytest.raises(AssertionError, match=wrong):
        world.judge()


def test_over_many_generations_no_more_is_kept_than_of_a_few_replicas() -> None:
    """Each counts, ends and is replaced; some are killed, and now and then the hub crashes."""
    world = World()
    most = 0
    for generation in range(300):
        client = next(iter(world.clients.values()))
        world.add(client, 1, PUSH)
        world.deliver_all()
        if generation % 7 == 0:
            world.kill(client)
            world.bury()
        else:
            world.begin_end(client)
            world.deliver_all()
            world.leave(client)
        if generation % 50 == 0:
            world.crash_hub()
        most = max(most, world.hub.kept, len(world.journal), len(world.hub._owners), len(world.hub._ended))
    assert most <= 5, "the living, the newest that ended, and one for all before"
    world.judge()
