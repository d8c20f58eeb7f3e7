"""Action profiles: members, groups, and the choice of a member by hash."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from p4switch import ir
from p4switch.errors import BadEntry, DuplicateEntry, InUse, NoSuchEntry, TableFull
from p4switch.runtime.actions import ActionCall, ActionSet, EntryAction, GroupRef, MemberRef, WeightedAction


@dataclass(frozen=True, slots=True)
class GroupMember:
    """A member's share of a group. While ``watch_port`` is down the member is skipped; None: never."""

    member: int
    weight: int = 1
    watch_port: int | None = None


@dataclass(frozen=True, slots=True)
class Group:
    """``max_size`` bounds the sum of weights; 0: the profile's size does."""

    members: tuple[GroupMember, ...]
    max_size: int = 0


class _Choices:
    """A group made ready: one slot for each unit of weight."""

    __slots__ = ("_slots", "_watched")

    def __init__(self, choices: Sequence[tuple[int, int | None, ActionCall | int]]) -> None:
        self._slots = [(port, target) for weight, port, target in choices for _ in range(weight)]
        self._watched = any(port is not None for _, port, _ in choices)

    def pick(self, number: int, down: set[int]) -> ActionCall | int | None:
        """The target for hash value ``number``; None if no member is alive."""
        slots = self._slots
        if self._watched and down:
            slots = [slot for slot in slots if slot[0] not in down]
        return slots[number % len(slots)][1] if slots else None


class ActionProfile:
    """Members and groups of one profile, which several tables may share.

    ``ports_down`` is the device's set of ports without a link.
    """

    def __init__(self, spec: ir.ActionProfile, ports_down: set[int]) -> None:
        self.spec = spec
        self._down = ports_down
        self._members: dict[int, ActionCall] = {}
        self._groups: dict[int, Group] = {}
        self._choices: dict[int, _Choices] = {}
        self._uses: dict[EntryAction, int] = {}
        self._sets: dict[ActionSet, _Choices] = {}

    # -- reading -----------------------------------------------------------------------------------------------------

    @property
    def members(self) -> Mapping[int, ActionCall]:
        """Members by id."""
        return self._members

    @property
    def groups(self) -> Mapping[int, Group]:
        """Groups by id."""
        return self._groups

    # -- members -----------------------------------------------------------------------------------------------------

    def insert_member(self, member: int, action: ActionCall) -> None:
        """:raises DuplicateEntry: the id is taken.
        :raises TableFull: the profile is full."""
        if member in self._members:
            raise DuplicateEntry(self.spec.name, f"member {member} exists")
        if len(self._members) >= self.spec.size:
            raise TableFull(self.spec.name, f"{self.spec.size} members are in")
        self._members[member] = action

    def modify_member(self, member: int, action: ActionCall) -> None:
        """:raises NoSuchEntry: there is none."""
        self._must_exist("member", member, self._members)
        self._members[member] = action

    def delete_member(self, member: int) -> None:
        """:raises NoSuchEntry: there is none.
        :raises InUse: an entry or a group refers to it."""
        self._must_exist("member", member, self._members)
        if self._uses.get(MemberRef(member)) or any(member in self._ids(group) for group in self._groups.values()):
            raise InUse(self.spec.name, f"member {member} is referred to")
        del self._members[member]

    # -- groups ------------------------------------------------------------------------------------------------------

    def insert_group(self, number: int, group: Group) -> None:
        """:raises DuplicateEntry: the id is taken.
        :raises BadEntry: the profile has no selector, or a weight is not positive.
        :raises NoSuchEntry: a member does not exist.
        :raises TableFull: the weights exceed the size."""
        if number in self._groups:
            raise DuplicateEntry(self.spec.name, f"group {number} exists")
        self._set_group(number, group)

    def modify_group(self, number: int, group: Group) -> None:
        """:raises NoSuchEntry: the group or a member does not exist; also as insert_group."""
        self._must_exist("group", number, self._groups)
        self._set_group(number, group)

    def delete_group(self, number: int) -> None:
        """:raises NoSuchEntry: there is none.
        :raises InUse: an entry refers to it."""
        self._must_exist("group", number, self._groups)
        if self._uses.get(GroupRef(number)):
            raise InUse(self.spec.name, f"group {number} is referred to")
        del self._groups[number], self._choices[number]

    def _set_group(self, number: int, group: Group) -> None:
        where = f"{self.spec.name} group {number}"
        if self.spec.selector is None:
            raise BadEntry(where, "the profile has no selector, so it has no groups")
        for item in group.members:
            self._must_exist("member", item.member, self._members)
        self._check_weights(where, [item.weight for item in group.members], group.max_size)
        self._groups[number] = group
        self._choices[number] = _Choices([(item.weight, item.watch_port, item.member) for item in group.members])

    def _check_weights(self, where: str, weights: list[int], max_size: int) -> None:
        if any(weight < 1 for weight in weights):
            raise BadEntry(where, "a weight is at least 1")
        limit = min(max_size or self.spec.size, self.spec.size) if self.spec.size else max_size
        if limit and sum(weights) > limit:
            raise TableFull(where, f"the weights' sum {sum(weights)} is above {limit}")

    # -- entries of tables -------------------------------------------------------------------------------------------

    def check(self, action: EntryAction) -> None:
        """:raises NoSuchEntry: the member or group does not exist.
        :raises BadEntry: the profile cannot do this."""
        match action:
            case MemberRef(member):
                self._must_exist("member", member, self._members)
            case GroupRef(group):
                self._must_exist("group", group, self._groups)
            case ActionSet(choices):
                if self.spec.selector is None:
                    raise BadEntry(self.spec.name, "the profile has no selector, so it takes no action set")
                self._check_weights(self.spec.name, [choice.weight for choice in choices], 0)
            case ActionCall():
                raise BadEntry(self.spec.name, "the table is indirect: give a member, a group or an action set")

    def refer(self, action: EntryAction) -> None:
        """An entry begins to use ``action``."""
        self._uses[action] = self._uses.get(action, 0) + 1
        if isinstance(action, ActionSet) and action not in self._sets:
            self._sets[action] = _one_shot(action.choices)

    def release(self, action: EntryAction) -> None:
        """An entry no longer uses ``action``."""
        self._uses[action] -= 1
        if not self._uses[action]:
            del self._uses[action]
            if isinstance(action, ActionSet):
                del self._sets[action]

    def choose(self, action: EntryAction, number: int) -> ActionCall | None:
        """The action for a packet whose selector hash is ``number``; None if a group has no member alive."""
        match action:
            case MemberRef(member):
                return self._members[member]
            case GroupRef(group):
                picked = self._choices[group].pick(number, self._down)
            case ActionSet():
                picked = self._sets[action].pick(number, self._down)
            case _:
                return action
        return self._members[picked] if isinstance(picked, int) else picked

    @staticmethod
    def _ids(group: Group) -> Iterator[int]:
        return (item.member for item in group.members)

    def _must_exist(self, what: str, number: int, there: Mapping[int, object]) -> None:
        if number not in there:
            raise NoSuchEntry(self.spec.name, f"{what} {number} does not exist")


def _one_shot(choices: tuple[WeightedAction, ...]) -> _Choices:
    return _Choices([(choice.weight, choice.watch_port, choice.action) for choice in choices])
