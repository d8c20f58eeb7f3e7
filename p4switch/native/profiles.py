"""Action profiles: members and groups in the region.

A member is a block with an action's number and arguments, laid out as an entry is from `layout.Entry.BODY` on. A group
is a cell (a word) that holds the offset of a block: u32 number of slots, then from byte 8 on a member's offset for each
slot, one slot for each unit of weight of those members whose port is up. So a change of a member or a group is one
command, whatever refers to it.
"""

import struct
from collections.abc import Callable, Iterable, Mapping, Sequence

from p4switch import ir
from p4switch.native.bodies import Body
from p4switch.native.changes import Changes
from p4switch.native.ops import Op
from p4switch.runtime.actions import ActionCall, ActionSet, EntryAction, GroupRef, MemberRef
from p4switch.runtime.profiles import ActionProfile, Group


class PortsDown(set[int]):
    """Ports without a link; ``changed`` is called after each change."""

    def __init__(self, changed: Callable[[], None]) -> None:
        super().__init__()
        self._changed = changed

    def add(self, port: int) -> None:
        """A port went down."""
        if port not in self:
            super().add(port)
            self._changed()

    def discard(self, port: object) -> None:
        """A port came up."""
        if port in self:
            super().discard(port)
            self._changed()

    def remove(self, port: int) -> None:
        """A port came up. :raises KeyError: it was not down."""
        super().remove(port)
        self._changed()

    def clear(self) -> None:
        """All ports are up."""
        super().clear()
        self._changed()

    def update(self, *others: Iterable[int]) -> None:
        """Ports went down."""
        super().update(*others)
        self._changed()


class _GroupPlace:
    """A group's cell and block, and what it is made of: (weight, port, member's offset)."""

    def __init__(self, changes: Changes) -> None:
        self._changes = changes
        self.cell = changes.take(8)
        self._block: tuple[int, int] | None = None
        self._choices: Sequence[tuple[int, int | None, int]] = ()

    def publish(self, choices: Sequence[tuple[int, int | None, int]], down: set[int]) -> None:
        """Make a new block and have the cell point to it."""
        self._choices = choices
        slots = [member for weight, port, member in choices if port not in down for _ in range(weight)]
        size = 8 + 8 * len(slots)
        offset = self._changes.take(size)
        struct.pack_into(f"<II{len(slots)}Q", self._changes.region.bytes, offset, len(slots), 0, *slots)
        self._changes.add(Op.POKE, self.cell, offset)
        self._free_block()
        self._block = (offset, size)

    def again(self, down: set[int]) -> None:
        """Ports changed: publish anew if the group watches any."""
        if any(port is not None for _, port, _ in self._choices):
            self.publish(self._choices, down)

    def _free_block(self) -> None:
        if self._block is not None:
            self._changes.give_back(*self._block)

    def free(self) -> None:
        """Nothing refers to the group any more."""
        self._free_block()
        self._changes.give_back(self.cell, 8)


class NativeProfile(ActionProfile):
    """A profile whose members and groups generated code uses. ``bodies``: its actions' layouts by name."""

    def __init__(
        self, spec: ir.ActionProfile, ports_down: set[int], changes: Changes, bodies: Mapping[str, Body], size: int
    ) -> None:
        super().__init__(spec, ports_down)
        self._changes = changes
        self._bodies = bodies
        self._size = size
        self._member_at: dict[int, int] = {}
        self._group_at: dict[int, _GroupPlace] = {}
        self._set_at: dict[ActionSet, tuple[_GroupPlace, list[int]]] = {}

    # -- members -----------------------------------------------------------------------------------------------------

    def _write(self, action: ActionCall) -> int:
        """A new block with an action that is one of the tables' (else: no action)."""
        offset = self._changes.take(self._size)
        body = self._bodies.get(action.name)
        if body is not None:
            body.pack(self._changes.region.bytes, offset, 0, action.args)
        return offset

    def insert_member(self, member: int, action: ActionCall) -> None:
        """As `ActionProfile.insert_member`."""
        super().insert_member(member, action)
        self._member_at[member] = self._write(action)

    def modify_member(self, member: int, action: ActionCall) -> None:
        """As `ActionProfile.modify_member`."""
        super().modify_member(member, action)
        offset = self._write(action)
        self._changes.add(Op.COPY, self._member_at[member], offset, self._size)
        self._changes.give_back(offset, self._size)

    def delete_member(self, member: int) -> None:
        """As `ActionProfile.delete_member`."""
        super().delete_member(member)
        self._changes.give_back(self._member_at.pop(member), self._size)

    # -- groups ------------------------------------------------------------------------------------------------------

    def _set_group(self, number: int, group: Group) -> None:
        super()._set_group(number, group)
        place = self._group_at.get(number)
        if place is None:
            place = self._group_at[number] = _GroupPlace(self._changes)
        choices = [(item.weight, item.watch_port, self._member_at[item.member]) for item in group.members]
        place.publish(choices, self._down)

    def delete_group(self, number: int) -> None:
        """As `ActionProfile.delete_group`."""
        super().delete_group(number)
        self._group_at.pop(number).free()

    def ports_changed(self) -> None:
        """Groups leave out members whose port is down."""
        for place in (*self._group_at.values(), *(place for place, _ in self._set_at.values())):
            place.again(self._down)

    # -- entries of tables -------------------------------------------------------------------------------------------

    def refer(self, action: EntryAction) -> None:
        """As `ActionProfile.refer`."""
        super().refer(action)
        if isinstance(action, ActionSet) and action not in self._set_at:
            place, blocks = _GroupPlace(self._changes), [self._write(choice.action) for choice in action.choices]
            choices = [
                (choice.weight, choice.watch_port, block) for choice, block in zip(action.choices, blocks, strict=True)
            ]
            place.publish(choices, self._down)
            self._set_at[action] = place, blocks

    def release(self, action: EntryAction) -> None:
        """As `ActionProfile.release`."""
        super().release(action)
        if isinstance(action, ActionSet) and action not in self._uses:
            place, blocks = self._set_at.pop(action)
            place.free()
            for block in blocks:
                self._changes.give_back(block, self._size)

    def target(self, action: EntryAction) -> tuple[bool, int]:
        """Whether the action is a group, and the region offset of its cell, or of the member."""
        match action:
            case MemberRef(member):
                return False, self._member_at[member]
            case GroupRef(group):
                return True, self._group_at[group].cell
            case ActionSet():
                return True, self._set_at[action][0].cell
        raise AssertionError(f"{action!r} was not checked")
