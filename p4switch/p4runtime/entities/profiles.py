"""Members and groups of action profiles."""

from __future__ import annotations

from collections.abc import Iterator

from finsy.proto import p4r

from p4switch.p4runtime.bytestrings import encode
from p4switch.p4runtime.entities.actions import ActionCodec, watch_port
from p4switch.p4runtime.entities.base import DELETE, INSERT, Context, Undo
from p4switch.p4runtime.entities.styles import one_shot_in_use
from p4switch.p4runtime.schema import ProfileInfo
from p4switch.p4runtime.status import Code, Refused, invalid
from p4switch.runtime import ActionCall, ActionProfile, Group, GroupMember


class _Profiles:
    def __init__(self, context: Context, actions: ActionCodec) -> None:
        self._context = context
        self._actions = actions

    def _profile(self, profile_id: int) -> tuple[ProfileInfo, ActionProfile]:
        info = self._context.schema.profiles.get(profile_id)
        if info is None:
            raise invalid(f"action profile id {profile_id} is not in the P4Info")
        return info, self._context.state.profiles[info.name]

    def _selected(self, profile_id: int) -> list[tuple[ProfileInfo, ActionProfile]]:
        """The profile of this id; all of them for id 0."""
        if profile_id:
            return [self._profile(profile_id)]
        return [(info, self._context.state.profiles[info.name]) for info in self._context.schema.profiles.values()]


class Members(_Profiles):
    """`Handler` of action profile members."""

    def write(self, kind: int, entity: p4r.ActionProfileMember) -> Undo:
        """As `Handler.write`."""
        info, profile = self._profile(entity.action_profile_id)
        number = int(entity.member_id)
        if number == 0:
            raise invalid(f"action profile {info.name!r}: member id 0 is not an id")
        before = profile.members.get(number)
        if kind == DELETE:
            profile.delete_member(number)
            assert before is not None
            return lambda: profile.insert_member(number, before)
        call = self._call(info, entity)
        if kind == INSERT:
            self._refuse_mixture(info)
            profile.insert_member(number, call)
            return lambda: profile.delete_member(number)
        profile.modify_member(number, call)
        assert before is not None
        return lambda: profile.modify_member(number, before)

    def _call(self, info: ProfileInfo, entity: p4r.ActionProfileMember) -> ActionCall:
        if entity.action.action_id not in info.actions:
            raise invalid(f"action profile {info.name!r}: action id {entity.action.action_id} is of none of its tables")
        return self._actions.call(entity.action)

    def _refuse_mixture(self, info: ProfileInfo) -> None:
        if one_shot_in_use(self._context, info):
            raise invalid(f"action profile {info.name!r} is programmed with action sets; not with members as well")

    def read(self, entity: p4r.ActionProfileMember) -> Iterator[p4r.Entity]:
        """As `Handler.read`. Profile id 0: all; member id 0: all of the profile."""
        found = [
            (info.id, number, call)
            for info, profile in self._selected(entity.action_profile_id)
            for number, call in profile.members.items()
            if entity.member_id in (0, number)
        ]
        return self._encode(found)

    def _encode(self, found: list[tuple[int, int, ActionCall]]) -> Iterator[p4r.Entity]:
        for profile_id, number, call in found:
            answer = p4r.Entity()
            item = answer.action_profile_member
            item.action_profile_id, item.member_id = profile_id, number
            self._actions.encode_call(call, item.action)
            yield answer


class Groups(_Profiles):
    """`Handler` of action profile groups."""

    def write(self, kind: int, entity: p4r.ActionProfileGroup) -> Undo:
        """As `Handler.write`."""
        info, profile = self._profile(entity.action_profile_id)
        number = int(entity.group_id)
        if number == 0:
            raise invalid(f"action profile {info.name!r}: group id 0 is not an id")
        before = profile.groups.get(number)
        if kind == DELETE:
            profile.delete_group(number)
            assert before is not None
            return lambda: profile.insert_group(number, before)
        group = self._group(info, entity)
        if kind == INSERT:
            if one_shot_in_use(self._context, info):
                raise invalid(f"action profile {info.name!r} is programmed with action sets; not with groups as well")
            profile.insert_group(number, group)
            return lambda: profile.delete_group(number)
        profile.modify_group(number, group)
        assert before is not None
        return lambda: profile.modify_group(number, before)

    def _group(self, info: ProfileInfo, entity: p4r.ActionProfileGroup) -> Group:
        what = f"action profile {info.name!r}, group {entity.group_id}"
        members = tuple(GroupMember(item.member_id, item.weight, watch_port(item)) for item in entity.members)
        if len({item.member for item in members}) != len(members):
            raise invalid(f"{what}: a member is there twice; use its weight")
        if any(item.weight < 1 for item in members):
            raise invalid(f"{what}: a weight is at least 1")
        if entity.max_size < 0 or 0 < info.max_group_size < entity.max_size:
            raise invalid(f"{what}: max_size {entity.max_size}; max_group_size is {info.max_group_size}")
        limit = entity.max_size or info.max_group_size
        weights = sum(item.weight for item in members)
        if limit and weights > limit:
            message = f"{what}: weights sum up to {weights}, its size is {limit}"
            raise Refused(Code.RESOURCE_EXHAUSTED, message, strict=Code.RESOURCE_EXHAUSTED)
        return Group(members, entity.max_size)

    def read(self, entity: p4r.ActionProfileGroup) -> Iterator[p4r.Entity]:
        """As `Handler.read`. Profile id 0: all; group id 0: all of the profile."""
        found = [
            (info.id, number, group)
            for info, profile in self._selected(entity.action_profile_id)
            for number, group in profile.groups.items()
            if entity.group_id in (0, number)
        ]
        return _encode_groups(found)


def _encode_groups(found: list[tuple[int, int, Group]]) -> Iterator[p4r.Entity]:
    for profile_id, number, group in found:
        answer = p4r.Entity()
        into = answer.action_profile_group
        into.action_profile_id, into.group_id, into.max_size = profile_id, number, group.max_size
        for member in group.members:
            item = into.members.add(member_id=member.member, weight=member.weight)
            if member.watch_port is not None:
                item.watch_port = encode(member.watch_port)
        yield answer
