"""Actions on the wire ↔ actions of the runtime."""

from __future__ import annotations

from finsy.proto import p4r

from p4switch.p4runtime.bytestrings import decode, encode
from p4switch.p4runtime.entities.base import Context, unsupported
from p4switch.p4runtime.entities.styles import members_in_use
from p4switch.p4runtime.schema import ProfileInfo, Scope, TableInfo
from p4switch.p4runtime.status import Code, Refused, invalid
from p4switch.runtime import ActionCall, ActionSet, EntryAction, GroupRef, MemberRef, WeightedAction

_KNOWN = 4096


class ActionCodec:
    """Actions of one pipeline."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._schema = context.schema
        self._by_name = {action.name: action for action in context.schema.actions.values()}
        self._known: dict[bytes, ActionCall] = {}
        """Calls decoded before: entries by the thousand share a few, in memory too."""
        self._limits = {
            action.id: {param.id: (param.position, 1 << param.width) for param in action.params}
            for action in context.schema.actions.values()
        }

    # -- from the wire -----------------------------------------------------------------------------------------------

    def call(self, action: p4r.Action) -> ActionCall:
        """:raises Refused: unknown action, or parameters that are missing, unknown, twice or too wide."""
        raw = action.SerializeToString()
        known = self._known.get(raw)
        if known is None:
            known = self._checked_call(action)
            if len(self._known) >= _KNOWN:
                self._known.clear()
            self._known[raw] = known
        return known

    def _checked_call(self, action: p4r.Action) -> ActionCall:
        action_id = action.action_id
        limits = self._limits.get(action_id)
        if limits is None:
            raise invalid(f"action id {action_id} is not in the P4Info")
        params = action.params
        if len(params) != len(limits):
            raise invalid(f"action {self.name(action_id)!r} takes {len(limits)} parameters, not {len(params)}")
        args = [-1] * len(limits)
        for param in params:
            place = limits.get(param.param_id)
            value = param.value
            if place is None or args[place[0]] >= 0 or not value:
                raise self._wrong_param(action_id, param, args)
            position, limit = place
            args[position] = number = int.from_bytes(value, "big")
            if number >= limit:
                raise self._wrong_param(action_id, param, args)
        return ActionCall(self.name(action_id), tuple(args))

    def _wrong_param(self, action_id: int, param: p4r.Action.Param, args: list[int]) -> Refused:
        info = self._schema.actions[action_id]
        found = next((item for item in info.params if item.id == param.param_id), None)
        if found is None:
            return invalid(f"action {info.name!r} has no parameter with id {param.param_id}")
        what = f"action {info.name!r}, parameter {found.name!r}"
        try:
            decode(param.value, found.width, what)
        except Refused as error:
            return error
        return invalid(f"{what} is given twice")

    def table_action(self, table: TableInfo, action: p4r.TableAction, *, default: bool = False) -> EntryAction:
        """:raises Refused: not an action that this table takes, or not at this place."""
        kind = action.WhichOneof("type")
        if kind is None:
            raise invalid(f"table {table.name!r}: the action is not set")
        if not table.profile:
            if kind != "action":
                raise invalid(f"table {table.name!r} is direct: give an action, not {kind}")
            return self._table_call(table, action.action, default=default)
        profile = self._schema.profiles[table.profile]
        match kind:
            case "action":
                raise invalid(f"table {table.name!r} has an action profile: give a member, group or action set")
            case "action_profile_member_id":
                return MemberRef(action.action_profile_member_id)
            case "action_profile_group_id" if profile.with_selector:
                return GroupRef(action.action_profile_group_id)
            case "action_profile_action_set" if profile.with_selector:
                return self._action_set(table, profile, action.action_profile_action_set)
        raise invalid(f"table {table.name!r}: its action profile has no selector, so no {kind}")

    def _table_call(self, table: TableInfo, action: p4r.Action, *, default: bool) -> ActionCall:
        scope = table.scopes.get(action.action_id)
        if scope is None:
            raise invalid(f"table {table.name!r}: action id {action.action_id} is not one of its actions")
        if scope is Scope.DEFAULT_ONLY and not default:
            message = f"table {table.name!r}: action {self.name(action.action_id)!r} is @defaultonly"
            raise Refused(Code.PERMISSION_DENIED, message)
        if scope is Scope.TABLE_ONLY and default:
            message = f"table {table.name!r}: action {self.name(action.action_id)!r} is @tableonly"
            raise Refused(Code.PERMISSION_DENIED, message)
        return self.call(action)

    def _action_set(self, table: TableInfo, profile: ProfileInfo, actions: p4r.ActionProfileActionSet) -> ActionSet:
        if members_in_use(self._context, profile):
            message = (
                f"action profile {profile.name!r} is programmed with members or groups; not with action sets as well"
            )
            raise invalid(message)
        if actions.action_selection_mode or actions.size_semantics:
            raise unsupported(f"table {table.name!r}: selection mode and size semantics are the selector's own")
        choices = []
        for item in actions.action_profile_actions:
            if item.weight < 1:
                raise invalid(f"table {table.name!r}: weight {item.weight} of an action set; it is at least 1")
            call = self._table_call(table, item.action, default=False)
            choices.append(WeightedAction(call, item.weight, watch_port(item)))
        weights = sum(choice.weight for choice in choices)
        if profile.max_group_size and weights > profile.max_group_size:
            message = f"table {table.name!r}: weights sum up to {weights}, max_group_size is {profile.max_group_size}"
            raise invalid(message)
        return ActionSet(tuple(choices))

    # -- to the wire -------------------------------------------------------------------------------------------------

    def encode_call(self, call: ActionCall, into: p4r.Action) -> None:
        """Fill ``into``. Actions that P4Info does not list have no id and leave it empty."""
        info = self._by_name.get(call.name)
        if info is None:
            return
        into.action_id = info.id
        for param, value in zip(info.params, call.args, strict=True):
            into.params.add(param_id=param.id, value=encode(value))

    def encode(self, action: EntryAction, into: p4r.TableAction) -> None:
        """Fill ``into`` with what the client wrote."""
        match action:
            case ActionCall():
                self.encode_call(action, into.action)
            case MemberRef(member):
                into.action_profile_member_id = member
            case GroupRef(group):
                into.action_profile_group_id = group
            case ActionSet(choices):
                actions = into.action_profile_action_set
                actions.SetInParent()
                for choice in choices:
                    item = actions.action_profile_actions.add(weight=choice.weight)
                    self.encode_call(choice.action, item.action)
                    if choice.watch_port is not None:
                        item.watch_port = encode(choice.watch_port)

    def name(self, action_id: int) -> str:
        """The fully qualified name of an action that P4Info lists."""
        return self._schema.actions[action_id].name


def watch_port(item: p4r.ActionProfileAction | p4r.ActionProfileGroup.Member) -> int | None:
    """The port that a choice depends on, in either of its two forms."""
    match item.WhichOneof("watch_kind"):
        case "watch_port":
            return decode(item.watch_port, 32, "watch_port")
        case "watch":
            return int(item.watch)
    return None
