"""Actions, and the primitives that actions and parser states call."""

from dataclasses import replace
from typing import Any

from p4switch import ir
from p4switch.errors import LoadError
from p4switch.load import schema
from p4switch.load.expressions import ExpressionLoader
from p4switch.load.places import lookup, source, width

_ARRAYS = frozenset({"calculation", "counter_array", "meter_array", "register_array", "extern"})


class ActionLoader:
    """``arrays`` maps a kind of array to the names that the program declares."""

    def __init__(self, expressions: ExpressionLoader, arrays: dict[str, set[str]]) -> None:
        self._expressions = expressions
        self._arrays = arrays

    def actions(self, raw: list[schema.Action]) -> dict[int, ir.Action]:
        """All actions by id."""
        found: dict[int, ir.Action] = {}
        for i, item in enumerate(raw):
            place = f"actions[{i}]"
            if item.id in found:
                raise LoadError(place, f"two actions have the id {item.id}")
            found[item.id] = self._action(place, item)
        return found

    def _action(self, place: str, raw: schema.Action) -> ir.Action:
        params = tuple(
            ir.ActionParam(param.name, width(f"{place}.runtime_data[{i}]", param.bitwidth))
            for i, param in enumerate(raw.runtime_data)
        )
        expressions = replace(self._expressions, params=len(params))
        primitives = tuple(
            self.primitive(f"{place}.primitives[{i}]", call, expressions) for i, call in enumerate(raw.primitives)
        )
        return ir.Action(raw.id, raw.name, params, primitives, source(raw.source_info))

    def primitive(self, place: str, raw: schema.Call, expressions: ExpressionLoader | None = None) -> ir.Primitive:
        """One call. Which arguments the primitive takes is for p4switch.check to say."""
        loader = expressions or self._expressions
        args = tuple(
            self._argument(f"{place}.parameters[{i}]", arg.type, arg, loader) for i, arg in enumerate(raw.parameters)
        )
        return ir.Primitive(raw.op, args, source(raw.source_info))

    def _argument(self, place: str, kind: str, arg: schema.TypedValue, loader: ExpressionLoader) -> ir.Argument:
        if kind in _ARRAYS:
            names: Any = self._arrays[kind]
            if not isinstance(arg.value, str) or arg.value not in names:
                raise LoadError(place, f"there is no {kind} {arg.value!r}")
            return ir.Array(kind, arg.value)
        if kind == "parameters_vector":
            if not isinstance(arg.value, list):
                raise LoadError(place, "a parameters_vector is a list")
            return ir.Vector(tuple(loader.any(f"{place}.value[{i}]", item) for i, item in enumerate(arg.value)))
        return loader.any(place, {"type": kind, "value": arg.value, "bitwidth": arg.bitwidth})


def check_reference(place: str, action_id: int, actions: dict[int, ir.Action]) -> ir.Action:
    """:raises LoadError: there is no action with this id."""
    return lookup(place, action_id, actions, "action with id")
