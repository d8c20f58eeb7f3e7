"""Which flows of a scope are in use: what is named, and when; nothing is frozen and nobody held up for it."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from guestlib import Guest
from guestlib.instructions import Instruction, ToOrchestrator
from guestlib.partitioned import relations
from guestlib.partitioned.flows import Flow, FlowTable
from guestlib.partitioned.relations import LONGEST, LOOK
from splitmerge.messages import Export, Exported, KeysAdded, Owns, Relate, Related, Scope, Staged, Thaw
from tests.guestlib.conftest import Count, key_of

K1, K2, K3, K4, K5, K9 = (bytes(key_of(number)) for number in (1, 2, 3, 4, 5, 9))
ALL = Scope(buckets=tuple(range(1024)))


@pytest.fixture
def guest():
    """Three flows; the first has a second key, the third is of a group."""
    made = Guest()
    made.register_state(Count)
    made.begin(1, "i1")
    made.create_flow(key_of(1), Count(), aliases=[key_of(9)])
    made.create_flow(key_of(2), Count())
    made.create_flow(key_of(3), Count(), group="ftp")
    yield made
    made.table.validate_state()


def answers(steps: list[Instruction]) -> list[Related]:
    messages = [each.message for each in steps if isinstance(each, ToOrchestrator)]
    return [message for message in messages if isinstance(message, Related)]


def ask(guest: Guest, patience: float | None, now: float = 0.0, **scope: object) -> list[Related]:
    return answers(guest.handle(Relate(request=7, patience=patience, **({"scope": ALL} | scope)), now))


USED = [
    ("a bucket's", {}, [1], (K1, K9), (K9,)),
    ("one that is named", {"scope": Scope(keys=(K2,))}, [1, 2], (K2,), ()),
    ("one that is named by its second key", {"scope": Scope(keys=(K9,))}, [1, 2], (K1, K9), (K9,)),
    ("one of a group that is named", {"scope": Scope(), "groups": ("ftp",)}, [2, 3], (K3,), ()),
    ("none", {}, [], (), ()),
]


@pytest.mark.parametrize(("what", "use", "used", "aliases"), [row[1:] for row in USED], ids=[row[0] for row in USED])
def test_flows_in_use_are_named_by_all_of_their_keys(
    guest: Guest, what: dict[str, object], use: list[int], used: tuple[bytes, ...], aliases: tuple[bytes, ...]
) -> None:
    for number in use:
        guest.get_flow(key_of(number))
    (answer,) = ask(guest, 0.0, **what)
    assert (answer.used, answer.aliases) == (used, aliases)


def test_who_does_not_want_to_know_is_not_told(guest: Guest) -> None:
    guest.get_flow(key_of(1))
    (answer,) = ask(guest, None)
    assert answer.used == () and guest.next_due() is None


def test_where_nothing_is_in_use_the_answer_comes_at_once(guest: Guest) -> None:
    assert len(ask(guest, 5.0)) == 1 and guest.next_due() is None


def test_the_answer_comes_when_the_last_flow_has_been_given_back_once(guest: Guest) -> None:
    for number in (1, 2):
        guest.get_flow(key_of(number))
    assert ask(guest, 5.0) == [] and guest.next_due() == LOOK
    guest.put_flow(key_of(1))
    guest.get_flow(key_of(1))  # in use again: a move would have had its moment
    guest.get_flow(key_of(3))  # and one that was not in use before
    assert answers(guest.poll(1.0)) == [] and guest.next_due() == 1.0 + LOOK
    guest.put_flow(key_of(2))
    assert guest.next_due() == 0.0
    (answer,) = answers(guest.poll(1.0))
    assert answer.used == () and guest.next_due() is None and answers(guest.poll(9.0)) == []


def test_what_is_not_given_back_is_named_when_the_time_is_over(guest: Guest) -> None:
    for number in (1, 2):
        guest.get_flow(key_of(number))
    ask(guest, 5.0, now=10.0)
    guest.put_flow(key_of(2))
    assert answers(guest.poll(14.99)) == []
    assert guest.next_due() == 15.0
    assert guest.get_flow(key_of(1)) == Count(), "nothing is frozen meanwhile"
    (answer,) = answers(guest.poll(15.0))
    assert answer.used == (K1, K9)
    guest.put_flow(key_of(1))
    guest.put_flow(key_of(1))


def test_a_nested_transaction_is_one(guest: Guest) -> None:
    guest.get_flow(key_of(1))
    guest.get_flow(key_of(9))
    ask(guest, 5.0)
    guest.put_flow(key_of(1))
    assert answers(guest.poll(1.0)) == []
    guest.put_flow(key_of(1))
    assert len(answers(guest.poll(1.0))) == 1


@pytest.fixture
def asking(guest: Guest) -> Guest:
    """The group has a flow more, whose key the orchestrator has been asked for: the guest has no buckets."""
    guest.table.fences.owned = set()
    guest.create_flow(key_of(4), Count(), aliases=[key_of(5)], expected=True, group="ftp")
    guest.poll(0.0)
    return guest


@pytest.mark.parametrize("end", ["granted", "refused", "deleted", "time"])
def test_a_group_is_in_use_until_it_is_answered_for_the_keys_of_flows_that_it_expects(asking: Guest, end: str) -> None:
    scope = Scope(keys=(K3,))
    assert ask(asking, 5.0, scope=scope) == [] and answers(asking.poll(1.0)) == []
    match end:
        case "granted" | "refused":
            answered = KeysAdded(request=1, **{"keys" if end == "granted" else "refused": (K4,)})
            asking.handle(answered, 1.0)
        case "deleted":
            asking.delete_flow(key_of(4))
    if end != "time":
        assert asking.next_due() == 0.0
    (answer,) = answers(asking.poll(5.0))
    assert (answer.used, answer.aliases) == (((K4, K5), (K5,)) if end == "time" else ((), ()))
    assert answer.keys == ((K4,) if end in ("time", "granted") else ())
    assert asking.table.find(key_of(3)).refs == 0 and answers(asking.poll(9.0)) == []


ANSWERED = [
    ("who does not want to know is not told, but of the key", Scope(keys=(K3,)), None, (K4,), ()),
    ("who does not wait is told", Scope(keys=(K3,)), 0.0, (K4,), (K4, K5)),
    ("its key is named: it leads here", Scope(keys=(K3, K4)), 5.0, (), ()),
    ("its bucket is: it goes with that, and its key stays where it leads", ALL, 5.0, (), ()),
]


@pytest.mark.parametrize(("scope", "patience", "keys", "used"), [e[1:] for e in ANSWERED], ids=[e[0] for e in ANSWERED])
def test_when_the_key_of_an_expected_flow_goes_along(
    asking: Guest, scope: Scope, patience: float | None, keys: tuple[bytes, ...], used: tuple[bytes, ...]
) -> None:
    (answer,) = ask(asking, patience, scope=scope)
    assert (set(answer.keys) - {K9}, answer.used) == (set(keys), used)


def test_in_use_in_both_ways_is_named_once(asking: Guest) -> None:
    asking.get_flow(key_of(4))
    (answer,) = ask(asking, 0.0, scope=Scope(keys=(K3,)))
    assert answer.used == (K4, K5)
    ask(asking, 5.0, scope=Scope(keys=(K3,)))
    asking.put_flow(key_of(4))
    assert answers(asking.poll(1.0)) == [], "it is not answered"
    (answer,) = answers(asking.poll(5.0))
    assert answer.used == (K4, K5)


def test_a_flow_that_ends_in_its_transaction_is_not_in_use(guest: Guest) -> None:
    with guest.flow(key_of(1)):
        ask(guest, 5.0)
        guest.delete_flow(key_of(1))
        (answer,) = answers(guest.poll(0.1))
        assert answer.used == ()


def test_what_a_move_takes_along_is_said_as_of_the_answer(guest: Guest) -> None:
    guest.get_flow(key_of(1))
    guest.get_flow(key_of(2))
    ask(guest, 1.0, scope=Scope(keys=(K2,)))
    guest.group(key_of(2), "ftp")
    (answer,) = answers(guest.poll(1.0))
    assert (answer.keys, answer.groups, answer.used) == ((K3,), ("ftp",), (K2,))


def test_the_same_question_again_goes_on_and_does_not_begin_anew(guest: Guest) -> None:
    guest.get_flow(key_of(1))
    ask(guest, 5.0, now=0.0)
    assert ask(guest, 5.0, now=4.0) == []
    assert len(answers(guest.poll(5.0))) == 1
    assert ask(guest, 5.0, now=6.0) == [], "the answer was lost: asked once more"


def test_another_orchestrators_question_of_the_same_number_takes_the_place_of_the_old_one(guest: Guest) -> None:
    guest.get_flow(key_of(1))
    ask(guest, 5.0)
    (answer,) = ask(guest, 5.0, scope=Scope(keys=(K2,)))
    assert answer.used == () and answers(guest.poll(9.0)) == []
    guest.put_flow(key_of(1))


@pytest.mark.parametrize("patience", [1e12, float("inf"), float("nan")])
def test_no_question_waits_for_ever(guest: Guest, patience: float) -> None:
    guest.get_flow(key_of(1))
    assert ask(guest, patience) == []
    assert len(answers(guest.poll(LONGEST))) == 1


def test_questions_that_wait_are_bounded(guest: Guest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relations, "OPEN", 2)
    guest.get_flow(key_of(1))
    asked = [Relate(request=number, scope=ALL, patience=5.0) for number in (1, 2, 3)]
    told = [[each.request for each in answers(guest.handle(question, 0.0))] for question in asked]
    assert told == [[], [], [1]]  # the oldest, that was most likely given up
    guest.put_flow(key_of(1))
    assert [each.request for each in answers(guest.poll(0.0))] == [2, 3]


def test_of_very_many_flows_some_are_named(guest: Guest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relations, "NAMED", 2)
    for number in (1, 2, 3):
        guest.get_flow(key_of(number))
    (answer,) = ask(guest, 0.0)
    assert len(set(answer.used) - set(answer.aliases)) == 2


def test_a_question_is_in_no_moves_way(guest: Guest) -> None:
    """An export waits for the same reference; the question that nobody waits for any more does not refuse it."""
    guest.get_flow(key_of(2))
    ask(guest, 60.0)
    scope = Scope(keys=(K2,))
    assert guest.handle(Export(epoch=5, scope=scope, target=2, address="unix:/t", deadline=9.0), 0.0) == []
    again = guest.handle(Export(epoch=6, scope=ALL, target=2, address="unix:/t", deadline=9.0), 0.0)
    assert "another move" in again[0].message.reason
    guest.put_flow(key_of(2))
    steps = guest.poll(0.1) + guest.handle(Staged(epoch=5, part=0), 0.1)
    told = [each.message for each in steps if isinstance(each, ToOrchestrator)]
    assert [type(each) for each in told] == [Related, Exported]
    guest.handle(Thaw(epoch=5, scope=scope, hold=False), 0.2)


FLOWS = st.integers(1, 5)


class Anything(RuleBasedStateMachine):
    """Transactions, flows and questions come and go: what is named was in use all the time, and nothing else."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.guest = Guest()
        self.guest.register_state(Count)
        self.guest.begin(1, "i1")
        self.asked: dict[int, tuple[float, set[bytes]]] = {}
        """Of each question that waits: its due time, and the flows in use ever since."""
        self.numbers = 0
        self.refs: dict[int, int] = {}

    def take(self, steps: list[Instruction]) -> None:
        for answer in answers(steps):
            due, used = self.asked.pop(answer.request)
            assert set(answer.used) == used
            assert not used or self.now >= due

    def given_back(self, number: int) -> None:
        for _, used in self.asked.values():
            used.discard(bytes(key_of(number)))

    @rule(number=FLOWS)
    def create(self, number: int) -> None:
        if not self.guest.has_flow(key_of(number)):
            self.guest.create_flow(key_of(number), Count())

    @rule(number=FLOWS)
    def delete(self, number: int) -> None:
        if self.guest.has_flow(key_of(number)) and not self.refs.get(number):
            self.guest.delete_flow(key_of(number))
            self.given_back(number)

    @rule(number=FLOWS)
    def get(self, number: int) -> None:
        if self.guest.has_flow(key_of(number)):
            self.guest.get_flow(key_of(number))
            self.refs[number] = self.refs.get(number, 0) + 1

    @rule(number=FLOWS)
    def put(self, number: int) -> None:
        if self.refs.get(number):
            self.guest.put_flow(key_of(number))
            self.refs[number] -= 1
            if not self.refs[number]:
                self.given_back(number)

    @rule(numbers=st.sets(FLOWS, min_size=1), patience=st.sampled_from([0.0, 0.1, 0.5]))
    def question(self, numbers: set[int], patience: float) -> None:
        self.numbers += 1
        used = {bytes(key_of(number)) for number in numbers if self.refs.get(number)}
        self.asked[self.numbers] = (self.now + patience, used)
        scope = Scope(keys=tuple(bytes(key_of(number)) for number in sorted(numbers)))
        self.take(self.guest.handle(Relate(request=self.numbers, scope=scope, patience=patience), self.now))

    @rule(step=st.sampled_from([0.0, 0.1, 0.4]))
    def time(self, step: float) -> None:
        self.now += step
        self.take(self.guest.poll(self.now))
        assert all(used and self.now < due for due, used in self.asked.values()), "answered when due, not later"

    @invariant()
    def consistent(self) -> None:
        self.guest.table.validate_state()
        assert waits(self.guest.table) == sum(len(used) for _, used in self.asked.values())


def waits(table: FlowTable) -> int:
    """How many times somebody waits for a flow to be given back."""
    return sum(len(flow.on_unpinned) for flow in table.flows())


Anything.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestAnything = Anything.TestCase


def test_of_very_many_that_are_expected_no_look_takes_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """The shell asks each time it waits; those that have been answered are looked at once."""
    guest = Guest()
    guest.register_state(Count)
    guest.begin(1, "i1")
    guest.handle(Owns(buckets=()), 0.0)
    keys = [key_of(number) for number in range(1, 200)]
    for key in keys:
        guest.create_flow(key, Count(), group="g", expected=key != keys[0])
    assert answers(guest.handle(Relate(request=1, scope=Scope(keys=(bytes(keys[0]),)), patience=5.0), 0.0)) == []
    looked: list[Flow] = []
    is_open = relations._is_open
    monkeypatch.setattr(relations, "_is_open", lambda flow, active: looked.append(flow) or is_open(flow, active))
    for _ in range(50):
        guest.next_due()
    assert len(looked) == 50
    monkeypatch.setattr(relations, "NAMED", 100)
    (answer,) = answers(guest.handle(Relate(request=2, scope=Scope(keys=(bytes(keys[0]),)), patience=0.0), 0.0))
    assert len(answer.used) == 100
