"""What an entry does: a call with arguments, a reference into an action profile, or a set with weights."""

from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class ActionCall:
    """An action by its fully qualified name, and its arguments in order."""

    name: str
    args: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class MemberRef:
    """A member of the table's action profile."""

    member: int


@dataclass(frozen=True, slots=True)
class GroupRef:
    """A group of the table's action profile."""

    group: int


@dataclass(frozen=True, slots=True)
class WeightedAction:
    """One choice of a one-shot action set. While ``watch_port`` is down the choice is skipped; None: never."""

    action: ActionCall
    weight: int = 1
    watch_port: int | None = None


@dataclass(frozen=True, slots=True)
class ActionSet:
    """A one-shot action selector programming: chosen among by the profile's hash."""

    choices: tuple[WeightedAction, ...]


EntryAction: TypeAlias = ActionCall | MemberRef | GroupRef | ActionSet
