"""Expressions and primitives one by one, in programs of one action; also those that p4c no longer writes."""

import json
from typing import Any

import pytest

from p4switch.check import check_program
from p4switch.device import Device
from p4switch.errors import LoadError, SwitchError, UnsupportedError
from p4switch.load import load_program

STANDARD = ["ingress_port", "egress_spec", "egress_port", "instance_type", "packet_length", "mcast_grp", "padding"]
WIDTHS = [9, 9, 9, 32, 32, 16, 5]
Node = dict[str, Any]


def number(value: int) -> Node:
    return {"type": "hexstr", "value": hex(value)}


def field(name: str, header: str = "h") -> Node:
    return {"type": "field", "value": [header, name]}


def op(name: str, left: Node | None, right: Node | None, **more: Any) -> Node:
    return {"type": "expression", "value": {"op": name, "left": left, "right": right, **more}}


def call(name: str, *parameters: Node) -> Node:
    return {"op": name, "parameters": list(parameters)}


def program(*primitives: Node, out_signed: bool = False) -> bytes:
    """Header h: a, b of 8 bits, s signed; out of 32 bits. Stack st, unions u and u2, register r. One action."""
    tuple_type = {"name": "t_t", "fields": [["v", 8, False]]}
    root = {
        "header_types": [
            {"name": "sm_t", "fields": [[name, width, False] for name, width in zip(STANDARD, WIDTHS, strict=True)]},
            {
                "name": "h_t",
                "fields": [["a", 8, False], ["b", 8, False], ["s", 8, True], ["pad", 8], ["out", 32, out_signed]],
            },
            tuple_type,
        ],
        "headers": [
            {"name": "standard_metadata", "id": 0, "header_type": "sm_t", "metadata": True},
            {"name": "h", "id": 1, "header_type": "h_t", "metadata": False},
            *({"name": name, "id": 2 + i, "header_type": "t_t", "metadata": False} for i, name in enumerate(HEADERS)),
        ],
        "header_stacks": [{"name": "st", "header_type": "t_t", "header_ids": [2, 3]}],
        "header_union_types": [{"name": "u_t", "headers": [["x", "t_t"], ["y", "t_t"]]}],
        "header_unions": [
            {"name": "u", "id": 0, "union_type": "u_t", "header_ids": [4, 5]},
            {"name": "u2", "id": 1, "union_type": "u_t", "header_ids": [6, 7]},
        ],
        "header_union_stacks": [{"name": "us", "union_type": "u_t", "header_union_ids": [0, 1]}],
        "register_arrays": [{"name": "r", "size": 2, "bitwidth": 8}],
        "parsers": [{"name": "parser", "init_state": "start", "parse_states": [PARSE_H]}],
        "deparsers": [{"name": "deparser", "order": ["h", *HEADERS]}],
        "actions": [{"name": "act", "id": 0, "runtime_data": [], "primitives": list(primitives)}],
        "pipelines": [
            {
                "name": "ingress",
                "init_table": "call",
                "tables": [],
                "action_calls": [{"name": "call", "action_id": 0, "next_node": None}],
            },
            {"name": "egress", "init_table": None, "tables": []},
        ],
    }
    return json.dumps(root).encode()


HEADERS = ["st[0]", "st[1]", "x", "y", "x2", "y2", "plain"]
PARSE_H = {"name": "start", "parser_ops": [{"op": "extract", "parameters": [{"type": "regular", "value": "h"}]}]}


def run(blob: bytes, a: int = 0, b: int = 0, s: int = 0) -> tuple[int, bytes]:
    """(value of out, bytes after h) for one packet."""
    loaded = load_program(blob)
    check_program(loaded)
    (sent,) = Device(loaded).process(1, bytes([a, b, s & 0xFF, 0]) + bytes(4), 0)
    return int.from_bytes(sent.frame[4:8]), sent.frame[8:]


A, B, S, OUT = field("a"), field("b"), field("s"), field("out")
THEN, ELSE = number(3), number(4)
EXPRESSIONS = [
    ("sum", op("+", A, B), 300 - 1, (200, 99, 0)),
    ("difference wraps when stored", op("-", A, B), (1 << 32) - 1, (1, 2, 0)),
    ("quotient", op("/", A, B), 28, (200, 7, 0)),
    ("quotient by zero", op("/", A, B), 0, (200, 0, 0)),
    ("quotient of a negative", op("/", S, B), (1 << 32) - 2, (0, 3, -7)),
    ("remainder", op("%", A, B), 4, (200, 7, 0)),
    ("remainder by zero", op("%", A, B), 0, (200, 0, 0)),
    ("shift by data", op("<<", A, B), 40, (5, 3, 0)),
    ("shift far", op("<<", A, number(1 << 40)), 0, (5, 0, 0)),
    ("shift by less than nothing", op("<<", A, S), 0, (5, 0, -1)),
    ("shift right by data", op(">>", A, B), 2, (5, 1, 0)),
    ("shift right by less than nothing", op(">>", A, S), 0, (5, 0, -1)),
    ("complement", op("&", op("~", None, A), number(0xFF)), 0xFA, (5, 0, 0)),
    ("signed to 4 bits", op("two_comp_mod", A, number(4)), (1 << 32) - 7, (0x39, 0, 0)),
    ("signed to a width from the packet", op("two_comp_mod", A, B), (1 << 32) - 7, (0x39, 4, 0)),
    ("saturated", op("usat_cast", A, number(4)), 15, (0x39, 0, 0)),
    ("saturated below", op("usat_cast", S, B), 0, (0, 4, -3)),
    ("saturated signed", op("sat_cast", A, number(4)), 7, (0x39, 0, 0)),
    ("saturated signed below", op("sat_cast", S, B), (1 << 32) - 8, (0, 4, -90)),
    ("choice", op("?", THEN, ELSE, cond=op("<", S, number(0))), 3, (0, 0, -1)),
    ("other choice", op("?", THEN, ELSE, cond=op("<", S, number(0))), 4, (0, 0, 1)),
    (
        "truth as data",
        op("b2d", None, op("and", op("d2b", None, A), op("not", None, op("d2b", None, B)))),
        1,
        (9, 0, 0),
    ),
    ("equal truths", op("b2d", None, op("==", op("d2b", None, A), op("d2b", None, B))), 1, (9, 1, 0)),
    ("validity", field("$valid$"), 1, (0, 0, 0)),
    ("valid", op("b2d", None, op("valid", None, {"type": "header", "value": "plain"})), 0, (0, 0, 0)),
    ("invalid union", op("b2d", None, op("valid_union", None, {"type": "header_union", "value": "u"})), 0, (0, 0, 0)),
    ("empty stack", op("size_stack", None, {"type": "header_stack", "value": "st"}), 0, (0, 0, 0)),
    ("register", {"type": "register", "value": ["r", A]}, 0, (1, 0, 0)),
    ("register out of range", {"type": "register", "value": ["r", A]}, 0, (9, 0, 0)),
    ("last of an empty stack", {"type": "stack_field", "value": ["st", "v"]}, 0, (0, 0, 0)),
    ("last of an empty stack of unions", {"type": "union_stack_field", "value": ["us", "x", "v"]}, 0, (0, 0, 0)),
    (
        "equal headers are both valid",
        op("b2d", None, op("==", *[{"type": "header", "value": "plain"}] * 2)),
        0,
        (0,) * 3,
    ),
    ("equal unions are valid", op("b2d", None, op("!=", *[{"type": "header_union", "value": "u"}] * 2)), 1, (0,) * 3),
]


@pytest.mark.parametrize(("node", "expected", "given"), [c[1:] for c in EXPRESSIONS], ids=[c[0] for c in EXPRESSIONS])
def test_expression(node: Node, expected: int, given: tuple[int, int, int]) -> None:
    assert run(program(call("assign", OUT, node)), *given)[0] == expected


def header(name: str) -> Node:
    return {"type": "header", "value": name}


def element(index: Node) -> Node:
    return op("dereference_header_stack", {"type": "header_stack", "value": "st"}, index)


def member(index: Node, number_of_member: int) -> Node:
    union = op("dereference_union_stack", {"type": "header_union_stack", "value": "us"}, index)
    return op("access_union_header", union, number_of_member)  # type: ignore[arg-type]  # the JSON has a bare number


def value(of: Node) -> Node:
    return op("access_field", of, 0)  # type: ignore[arg-type]  # the JSON has a bare number


PRIMITIVES = [
    ("add", [call("add", OUT, A, B)], 7, b""),
    ("add_to_field", [call("add_to_field", OUT, A), call("add_to_field", OUT, A)], 10, b""),
    ("subtract", [call("subtract", OUT, A, B)], 3, b""),
    ("subtract_from_field", [call("subtract_from_field", OUT, number(1))], (1 << 32) - 1, b""),
    ("bit_and", [call("bit_and", OUT, A, number(4))], 4, b""),
    ("bit_or", [call("bit_or", OUT, A, number(8))], 13, b""),
    ("bit_xor", [call("bit_xor", OUT, A, number(1))], 4, b""),
    ("shift_left", [call("shift_left", OUT, A, number(1))], 10, b""),
    ("shift_right", [call("shift_right", OUT, A, number(1))], 2, b""),
    ("modify_field", [call("modify_field", OUT, A), call("no_op")], 5, b""),
    ("copy of an invalid header", [call("copy_header", header("plain"), header("x"))], 0, b""),
    ("add_header_fast", [call("add_header_fast", header("plain"))], 0, b"\0"),
    ("write by index", [call("add_header", element(B)), call("assign", value(element(B)), A)], 0, b""),
    ("element 1", [call("add_header", element(number(1))), call("assign", value(element(number(1))), A)], 0, b"\5"),
    ("element 9", [call("add_header", element(number(9))), call("assign", OUT, value(element(number(9))))], 0, b""),
    ("copy of an element", [
        call("add_header", element(number(0))), call("assign", value(element(number(0))), A),
        call("assign_header", header("plain"), element(op("-", B, B))),
    ], 0, b"\5\5"),
    ("union member by index", [call("add_header", member(op("-", B, number(1)), 1))], 0, b"\0"),
    ("a member makes the other invalid", [
        call("add_header", header("x")), call("add_header", header("y")),
        call("assign", OUT, op("b2d", None, op("valid", None, header("x")))),
    ], 0, b"\0"),
    ("union copied by index", [
        call("add_header", header("x")), call("assign", field("v", "x"), A),
        call("assign_union", op("dereference_union_stack", {"type": "header_union_stack", "value": "us"}, number(1)),
             {"type": "header_union", "value": "u"}),
        call("assign", OUT, op("b2d", None, op("==", {"type": "header_union", "value": "u"},
                                               {"type": "header_union", "value": "u2"}))),
    ], 1, b"\5\5"),
    ("push and pop more than there is", [
        call("add_header", element(number(0))), call("push", {"type": "header_stack", "value": "st"}, number(5)),
        call("pop", {"type": "header_union_stack", "value": "us"}, number(9)),
        call("assign", OUT, op("size_stack", None, {"type": "header_stack", "value": "st"})),
    ], 2, b""),
    ("remove_header", [call("add_header", header("plain")), call("remove_header", header("plain"))], 0, b""),
    ("truncate", [call("truncate", number(100)), call("truncate", number(8)), call("truncate", number(50))], 0, b""),
    ("jump", [call("_jump", number(2)), call("assign", OUT, A)], 0, b""),
    ("jump to the end", [call("_jump_if_zero", op("-", A, A), number(2)), call("assign", OUT, A)], 0, b""),
    ("exit runs the action to its end", [call("exit"), call("assign", OUT, A)], 5, b""),
]  # fmt: skip


@pytest.mark.parametrize(("calls", "out", "rest"), [c[1:] for c in PRIMITIVES], ids=[c[0] for c in PRIMITIVES])
def test_primitive(calls: list[Node], out: int, rest: bytes) -> None:
    assert run(program(*calls), a=5, b=2) == (out, rest)


def test_endless_loop_ends_the_packet() -> None:
    loaded = load_program(program(call("_jump", number(0))))
    check_program(loaded)
    assert Device(loaded).process(1, bytes(8), 0) == []


def test_old_drop_is_a_drop() -> None:
    assert Device(load_program(program(call("drop")))).process(1, bytes(8), 0) == []


REFUSED = [
    ("nested too deep", [call("assign", OUT, A)], 300, LoadError),
    ("number for a truth", [call("assign", OUT, op("not", None, A))], 0, LoadError),
    ("truth for a number", [call("assign", OUT, op("==", A, B))], 0, UnsupportedError),
    ("compared unlike things", [call("assign", OUT, op("b2d", None, op("==", A, header("h"))))], 0, LoadError),
    ("unlike headers", [call("assign_header", header("h"), header("plain"))], 0, UnsupportedError),
    ("stacks compared", [
        call("assign", OUT, op("b2d", None, op("==", *[{"type": "header_stack", "value": "st"}] * 2))),
    ], 0, UnsupportedError),
    ("order of headers", [call("assign", OUT, op("b2d", None, op("<", header("h"), header("h"))))], 0, LoadError),
    ("unknown operation", [call("assign", OUT, op("**", A, B))], 0, LoadError),
    ("argument outside of a table's action", [call("assign", OUT, {"type": "runtime_data", "value": 0})], 0, LoadError),
    ("lookahead in an action", [call("assign", OUT, {"type": "lookahead", "value": [0, 8]})], 0, LoadError),
    ("jump into nowhere", [call("_jump", number(7))], 0, UnsupportedError),
    ("constant as a place", [call("assign", number(1), A)], 0, UnsupportedError),
    ("no such array", [call("count", {"type": "counter_array", "value": "c"}, A)], 0, LoadError),
]  # fmt: skip


@pytest.mark.parametrize(("calls", "depth", "error"), [c[1:] for c in REFUSED], ids=[c[0] for c in REFUSED])
def test_refused_at_load(calls: list[Node], depth: int, error: type[SwitchError]) -> None:
    for _ in range(depth):
        calls = [call("assign", OUT, op("+", calls[0]["parameters"][1], A))]
    with pytest.raises(error):
        run(program(*calls))


def test_python_compilers_limit_is_reported_as_unsupported() -> None:
    node = A
    for _ in range(150):
        node = op("~", None, op("-", node, B))
        if len(json.dumps(node)) > 100_000:
            break
    try:
        run(program(call("assign", OUT, node)))
    except (UnsupportedError, LoadError) as error:
        assert "deep" in str(error)
