"""What generated code refers to: the objects of the state under plain global names."""

from collections.abc import Callable
from random import Random
from typing import Any

from p4switch import ir
from p4switch.interpreter import helpers
from p4switch.interpreter.layout import Layout
from p4switch.interpreter.tracing import Silent
from p4switch.runtime import State
from p4switch.runtime.hashes import make_hash


class Context:
    """Names for the objects of one state; ``names`` becomes the generated module's globals.

    Names in the text are made of a kind and a number, never of what the program calls things.
    """

    def __init__(self, state: State, layout: Layout, random: Random, trace: Silent) -> None:
        self.state = state
        self.trace = trace
        self.layout = layout
        self._known: dict[tuple[str, object], str] = {}
        self.names: dict[str, Any] = {
            "from_bytes": int.from_bytes,
            "randint": random.randint,
            "element": helpers.element,
            "shift_left": helpers.shift_left,
            "shift_right": helpers.shift_right,
            "divide": helpers.divide,
            "modulo": helpers.modulo,
            "two_comp_mod": helpers.two_comp_mod,
            "clamp": helpers.clamp,
            "usat_cast": helpers.usat_cast,
            "sat_cast": helpers.sat_cast,
            "push_front": helpers.push_front,
            "pop_front": helpers.pop_front,
            "holds": helpers.holds,
            "log_message": helpers.log_message,
            "register_value": self._register_value,
        }
        self.drop_port = state.drop_port
        spec = layout.intrinsic("standard_metadata.egress_spec")
        assert spec is not None, "check_program saw to it"
        self.egress_spec: ir.FieldRef = spec
        self.mcast_grp = layout.intrinsic("intrinsic_metadata.mcast_grp") or layout.intrinsic(
            "standard_metadata.mcast_grp"
        )

    def _register_value(self, array: str, index: int) -> int:
        values = self.state.registers[array].values
        return values[index] if 0 <= index < len(values) else 0

    def _name(self, kind: str, known: object, make: Callable[[], Any]) -> str:
        """A name for an object; the same for the same ``known`` of a kind."""
        key = (kind, known)
        if key not in self._known:
            self._known[key] = f"{kind}_{len(self._known)}"
            self.names[self._known[key]] = make()
        return self._known[key]

    def constant(self, value: Any) -> str:
        """A name for a constant that is hashable."""
        return self._name("constant", value, lambda: value)

    def mapping(self, values: dict[int, int]) -> str:
        """A name for the ``get`` of a dictionary."""
        return self._name("next_of", tuple(values.items()), lambda: values.get)

    def counter(self, name: str) -> tuple[str, int, str]:
        """(name of the list of packets, size, name of the list of bytes)."""
        array = self.state.counters[name]
        packets = self._name("counter_packets", name, lambda: array.packets)
        return packets, len(array), self._name("counter_bytes", name, lambda: array.bytes)

    def meter(self, name: str) -> tuple[str, int]:
        """(name of the meter array, size)."""
        array = self.state.meters[name]
        return self._name("meter", name, lambda: array), len(array)

    def register(self, name: str) -> tuple[str, ir.RegisterArray]:
        """(name of the list of values, the array's declaration)."""
        array = self.state.registers[name]
        return self._name("register", name, lambda: array.values), array.spec

    def hash(self, user: str, algorithm: str) -> str:
        """Name of a hash function of the user's own."""
        return self._name("hash", user, lambda: make_hash(algorithm))

    def calculation(self, name: str) -> str:
        """Name of the function, written elsewhere, of a calculation."""
        return f"calculation_{list(self.state.program.calculations).index(name)}"

    def table(self, name: str) -> str:
        """Name of a table."""
        return self._name("table", name, lambda: self.state.tables[name])

    def finder(self, name: str) -> str:
        """Name of a table's ``find``."""
        return self._name("find", name, lambda: self.state.tables[name].find)

    def value_set(self, name: str) -> str:
        """Name of a value set's ``holds``."""
        return self._name("value_set", name, lambda: self.state.value_sets[name].holds)
