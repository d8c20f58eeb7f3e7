"""The loader: what is refused with which words, and that nothing else than our errors comes out of it."""

import copy
import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from p4switch.check import check_program
from p4switch.device import Device
from p4switch.errors import LoadError, SwitchError, UnsupportedError
from p4switch.load import load_program

PROGRAMS = Path(__file__).parent.parent / "programs"
JSON: dict[str, Any] = {path.stem: json.loads(path.read_text()) for path in sorted(PROGRAMS.glob("*.json"))}


def load(program: Any) -> None:
    checked = load_program(json.dumps(program).encode())
    check_program(checked)
    device = Device(checked)
    device.process(0, bytes(64), 0)


def changed(change: Callable[[dict[str, Any]], object], name: str = "tables") -> dict[str, Any]:
    program: dict[str, Any] = copy.deepcopy(JSON[name])
    change(program)
    return program


MALFORMED: list[tuple[str, Callable[[dict[str, Any]], object], str]] = [
    ("missing member", lambda p: p.pop("headers"), "headers"),
    ("wrong type", lambda p: p["pipelines"][0].update(name=5), r"pipelines\[0\]\.name"),
    ("newer format", lambda p: p["__meta__"].update(version=[3, 0]), r"__meta__\.version"),
    ("unknown header type", lambda p: p["headers"][0].update(header_type="x"), r"headers\[0\]: .*header type 'x'"),
    ("header twice", lambda p: p["headers"].append(p["headers"][0]), r"headers\[3\]: .*exists already"),
    ("odd width", lambda p: p["header_types"][2]["fields"][0].__setitem__(1, 7), r"header_types\[2\]: .*whole number"),
    ("negative width", lambda p: p["header_types"][0]["fields"].append(["z", -8, False]), "no width"),
    ("action twice", lambda p: p["actions"].append(p["actions"][0]), r"two actions have the id"),
    ("unknown state", lambda p: p["parsers"][0].update(init_state="x"), r"parsers\[0\]\.init_state"),
    ("unknown next", lambda p: p["pipelines"][0]["conditionals"][0].update(true_next="x"), "does not exist"),
    ("loop", lambda p: p["pipelines"][0]["conditionals"][0].update(true_next=p["pipelines"][0]["init_table"]), "loop"),
    ("bad hex", lambda p: _default(p).__setitem__(0, "0xzz"), "hex"),
    ("too wide", lambda p: _default(p).__setitem__(0, "0x1ff"), "does not fit 8 bits"),
    ("no such field", lambda p: p["pipelines"][0]["tables"][1]["key"][0].update(target=["key", "no"]), "no field 'no'"),
]


def _default(program: dict[str, Any]) -> list[str]:
    data: list[str] = _table(program, "exact_table")["default_entry"]["action_data"]
    return data


def _table(program: dict[str, Any], name: str) -> dict[str, Any]:
    tables: list[dict[str, Any]] = program["pipelines"][0]["tables"]
    return next(table for table in tables if table["name"].endswith(name))


@pytest.mark.parametrize(("change", "words"), [case[1:] for case in MALFORMED], ids=[case[0] for case in MALFORMED])
def test_malformed_json_names_the_place(change: Callable[[dict[str, Any]], object], words: str) -> None:
    with pytest.raises(LoadError, match=words):
        load(changed(change))


@pytest.mark.parametrize("blob", [b"", b"{", b"[]", b"\xff", b"null", b'{"a":' * 5000])
def test_no_json(blob: bytes) -> None:
    with pytest.raises(LoadError):
        load_program(blob)


def _primitive(program: dict[str, Any], op: str) -> dict[str, Any]:
    return next(call for action in program["actions"] for call in action["primitives"] if call["op"] == op)


UNSUPPORTED: list[tuple[str, str, Callable[[dict[str, Any]], object], str]] = [
    (
        "primitive",
        "replication",
        lambda p: _primitive(p, "mark_to_drop").update(op="fly"),
        r"replication.p4:\d+: .*fly",
    ),
    ("hash", "externs", lambda p: p["calculations"][0].update(algo="md5"), r"externs.p4:\d+: hash algorithm md5"),
    ("match kind", "tables", lambda p: _table(p, "exact_table")["key"][0].update(match_type="fuzzy"), "kind fuzzy"),
    ("extern", "tables", lambda p: p["extern_instances"].append({"name": "x", "type": "Oracle"}), "extern Oracle"),
    ("no egress", "tables", lambda p: p["pipelines"].pop(), "egress"),
    ("argument", "replication", lambda p: _primitive(p, "assign")["parameters"].pop(), "assign with 1 arguments"),
    ("table type", "tables", lambda p: _table(p, "exact_table").update(type="odd"), "table type odd"),
]


@pytest.mark.parametrize(("name", "change", "words"), [c[1:] for c in UNSUPPORTED], ids=[c[0] for c in UNSUPPORTED])
def test_unsupported_construct_is_named_with_its_line(
    name: str, change: Callable[[dict[str, Any]], object], words: str
) -> None:
    with pytest.raises(UnsupportedError, match=words):
        load(changed(change, name))


def _paths(node: Any, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items: list[tuple[Any, Any]] = []
    if isinstance(node, dict):
        items = [(key, value) for key, value in node.items() if key not in ("source_info", "source_fragment")]
    elif isinstance(node, list):
        items = list(enumerate(node))
    return [here, *(path for key, value in items for path in _paths(value, (*here, key)))]


PATHS = {name: [path for path in _paths(program) if path] for name, program in JSON.items()}
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 300),
    st.just(1 << 70),
    st.text(max_size=6),
    st.sampled_from(["0x1", "-0x5", "field", "expression", "ingress", "==", "key", "standard_metadata", "*"]),
    st.just([]),
    st.just({}),
    st.lists(st.integers(0, 5), max_size=3),
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(st.data())
def test_mutated_json_loads_or_raises_our_errors(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(JSON)))
    program = copy.deepcopy(JSON[name])
    for _ in range(data.draw(st.integers(1, 3))):
        *way, last = data.draw(st.sampled_from(PATHS[name]))
        _mutate(program, way, last, data)
    with suppress(SwitchError):
        load(program)


def _has(node: Any, step: Any) -> bool:
    if isinstance(node, dict):
        return step in node
    return isinstance(node, list) and isinstance(step, int) and step < len(node)


def _mutate(program: Any, way: list[Any], last: Any, data: st.DataObject) -> None:
    node = program
    for step in way:
        if not _has(node, step):
            return  # an earlier mutation took it away
        node = node[step]
    if not _has(node, last):
        return
    if data.draw(st.booleans()):
        node[last] = data.draw(VALUES)
    else:
        del node[last]
