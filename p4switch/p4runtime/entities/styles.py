"""The two styles of programming an action profile: action sets, or members and groups. Never both (specification)."""

from __future__ import annotations

from collections.abc import Iterator

from p4switch.p4runtime.entities.base import Context
from p4switch.p4runtime.schema import ProfileInfo
from p4switch.runtime import ActionSet, Entry, GroupRef, MemberRef


def one_shot_in_use(context: Context, info: ProfileInfo) -> bool:
    """Whether a table of this profile has an entry with an action set."""
    return any(
        isinstance(entry.action, ActionSet) for name in _tables_of(context, info) for entry in _first(context, name)
    )


def members_in_use(context: Context, info: ProfileInfo) -> bool:
    """Whether the profile is programmed with members or groups."""
    profile = context.state.profiles[info.name]
    return bool(profile.members or profile.groups) or any(
        isinstance(entry.action, MemberRef | GroupRef)
        for name in _tables_of(context, info)
        for entry in _first(context, name)
    )


def _tables_of(context: Context, info: ProfileInfo) -> list[str]:
    return [table.name for table in context.schema.tables.values() if table.profile == info.id]


def _first(context: Context, name: str) -> Iterator[Entry]:
    """One entry tells the style of all: the two are never mixed."""
    for entry in context.state.tables[name].entries():
        yield entry
        return
