"""The per-packet trace: what it says, that it changes nothing, and that it costs nothing when off."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from random import Random

import pytest

from p4switch.backend import BackendChoice, Variant, device_maker
from p4switch.check import check_program
from p4switch.config import LogOptions
from p4switch.device import Device
from p4switch.interpreter import Interpreter
from p4switch.interpreter.traced import TracedInterpreter
from p4switch.ir import Program
from p4switch.load import load_program
from p4switch.logs import TRACE, traces
from p4switch.runtime import DROP_PORT, ActionCall, ActionSet, CloneSession, MulticastGroup, Replica, WeightedAction
from p4switch.stf import parse_stf, run_stf

PROGRAMS = Path(__file__).parent.parent / "programs"


def program_of(name: str) -> Program:
    program = load_program((PROGRAMS / f"{name}.json").read_bytes())
    check_program(program)
    return program


def traced(name: str) -> Device:
    return Device(program_of(name), backend=TracedInterpreter)


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    caplog.set_level(TRACE, "p4switch.packet")
    return caplog.messages


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was said, without the packet's name."""
    return [re.sub(r"^\[\d+\.\d+\] \[cxt 0\] ", "", line) for line in caplog.messages]


@pytest.mark.usefixtures("lines")
def test_a_packet_from_port_to_port(caplog: pytest.LogCaptureFixture) -> None:
    device = traced("tables")
    device.state.tables["MyIngress.exact_table"].insert((1, 2), ActionCall("MyIngress.set", (5,)))
    device.process(0, bytes([1, 1, 0, 2, 0, 0]), 0)
    found = [line for line in said(caplog) if not line.startswith(("Action tables", "tables.p4(144)"))]
    assert found == [
        "Processing packet received on port 0, 6 bytes",
        "Parser 'parser': start",
        "Parser state 'start'",
        "Extracted header 'key', 6 bytes parsed",
        "Parser 'parser': end, 6 bytes parsed",
        "Pipeline 'ingress': start",
        "tables.p4(120) Primitive standard_metadata.egress_spec = 1",
        'tables.p4(121) Condition "hdr.key.which == 1" (node_3) is true',
        "Table 'MyIngress.exact_table': applied, key x=0x01, y=0x0002",
        "Table 'MyIngress.exact_table': hit, entry {x=0x01, y=0x0002}",
        "Action entry is MyIngress.set - 5",
        "Action MyIngress.set",
        "tables.p4(32) Primitive hdr.key.result = value",
        "tables.p4(123) Primitive hdr.key.which = 0x81",
        "Pipeline 'ingress': end",
        "Egress port is 1",
        "Pipeline 'egress': start",
        "Pipeline 'egress': end",
        "Deparser 'deparser': start",
        "Deparsing header 'key'",
        "Deparser 'deparser': end",
        "Transmitting packet of size 6 out of port 1",
    ]


@pytest.mark.parametrize(
    ("table", "match", "priority", "frame", "line"),
    [
        ("lpm_table", ((0x0A00, 8),), 0, bytes([2, 1, 10, 2, 0, 0]), "hit, entry {y=0x0a00/8}"),
        ("lpm_table", ((0x0B00, 8),), 0, bytes([2, 1, 10, 2, 0, 0]), "miss"),
    ],
    ids=["prefix", "miss"],
)
@pytest.mark.usefixtures("lines")
def test_entries_are_shown_as_they_match(
    caplog: pytest.LogCaptureFixture, table: str, match: tuple[tuple[int, int]], priority: int, frame: bytes, line: str
) -> None:
    device = traced("tables")
    device.state.tables[f"MyIngress.{table}"].insert(match, ActionCall("MyIngress.metered", (5,)), priority=priority)
    device.process(0, frame, 0)
    assert f"Table 'MyIngress.{table}': {line}" in said(caplog)


@pytest.mark.usefixtures("lines")
def test_a_chosen_member_is_shown(caplog: pytest.LogCaptureFixture) -> None:
    device = traced("tables")
    one_shot = ActionSet((WeightedAction(ActionCall("MyIngress.set", (8,)), 2),))
    device.state.tables["MyIngress.selector_table"].insert((1,), one_shot)
    device.process(0, bytes([9, 1, 0, 0, 0, 0]), 0)
    assert any(line.startswith("Table 'MyIngress.selector_table': through ActionSet") for line in said(caplog))
    assert "Action entry is MyIngress.set - 8" in said(caplog)


@pytest.mark.parametrize(
    ("kind", "line"),
    [
        (1, "Cloning packet at ingress to session 7, ports 3"),
        (2, "Cloning packet at egress to session 7, ports 3"),
        (3, "Resubmitting packet"),
        (4, "Recirculating packet"),
        (5, "Multicast requested for packet to group 9, ports 2, 4"),
        (7, "Dropping packet at the end of ingress"),
        (8, "Digest 'digest_t'"),
    ],
)
@pytest.mark.usefixtures("lines")
def test_what_becomes_of_packets(caplog: pytest.LogCaptureFixture, kind: int, line: str) -> None:
    device = traced("replication")
    device.state.clone_sessions.insert(7, CloneSession((Replica(3),)))
    device.state.multicast.insert(9, MulticastGroup((Replica(2), Replica(4))))
    device.process(0, bytes([kind]) + bytes(20), 0)
    assert line in said(caplog)


@pytest.mark.usefixtures("lines")
def test_what_does_not_exist_is_said(caplog: pytest.LogCaptureFixture) -> None:
    device = traced("replication")
    for kind in (1, 5):
        device.process(0, bytes([kind]) + bytes(20), 0)
    assert "Cloning packet at ingress to session 7, which does not exist" in said(caplog)
    assert "Multicast requested for packet to group 9, which does not exist: dropping packet" in said(caplog)


def test_each_frame_and_each_copy_has_its_number(caplog: pytest.LogCaptureFixture, lines: list[str]) -> None:
    device = traced("replication")
    device.state.clone_sessions.insert(7, CloneSession((Replica(3),)))
    for _ in range(2):
        device.process(0, bytes([1]) + bytes(20), 0)
    names = [line.split(" ")[0] for line in caplog.messages if "Transmitting" in line]
    assert sorted(names) == ["[0.0]", "[0.1]", "[1.0]", "[1.1]"]


@pytest.mark.usefixtures("lines")
def test_parser_errors_and_failed_assertions(caplog: pytest.LogCaptureFixture) -> None:
    traced("tables").process(0, b"\1", 0)
    assert "Parser 'parser': error PacketTooShort" in said(caplog)
    traced("externs").process(0, bytes([13]) + bytes(12), 0)
    assert "Dropping packet: assert or assume failed" in said(caplog)


@pytest.mark.parametrize("path", sorted(PROGRAMS.glob("*.stf")), ids=lambda path: path.stem)
def test_the_traced_variant_does_the_same(path: Path) -> None:
    assert run_stf(traced(path.stem), parse_stf(path.read_text())) == []


@pytest.mark.parametrize("path", sorted(PROGRAMS.glob("*.json")), ids=lambda path: path.stem)
def test_off_costs_nothing(path: Path) -> None:
    device = Device(program_of(path.stem), backend=lambda state: Interpreter(state, Random(1)))
    backend = device.backend
    assert isinstance(backend, Interpreter)
    assert not re.search(r"\b(debug|trace|found|chosen|text_\d+)\(?", re.sub(r"#.*", "", backend.source))


def test_names_with_percent_signs_do_no_harm(caplog: pytest.LogCaptureFixture, lines: list[str]) -> None:
    blob = (PROGRAMS / "tables.json").read_bytes().replace(b"hdr.key.which == 1", b"hdr.key.which %s 100%")
    device = Device(load_program(blob), backend=TracedInterpreter)
    device.process(0, bytes(6), 0)
    assert any("which %s 100%" in line for line in caplog.messages)


@pytest.mark.parametrize("choice", list(BackendChoice))
def test_the_interpreter_traces_for_every_back_end(choice: BackendChoice, caplog: pytest.LogCaptureFixture) -> None:
    make = device_maker(choice, Variant(traced=True))
    devices = [make(program_of("tables"), drop_port=DROP_PORT) for _ in range(2)]
    assert all(isinstance(device.backend, TracedInterpreter) for device in devices)
    assert len(caplog.records) == (choice is not BackendChoice.INTERPRETER)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (LogOptions(), False),
        (LogOptions(console=True), False),
        (LogOptions(level="trace"), False),
        (LogOptions(console=True, level="trace"), True),
        (LogOptions(file=Path("log"), level="debug"), True),
    ],
)
def test_only_a_log_that_somebody_reads_is_traced(options: LogOptions, expected: bool) -> None:
    assert traces(options) is expected


def test_debug_leaves_out_the_details(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "p4switch.packet")
    traced("tables").process(0, bytes(6), 0)
    assert "Pipeline 'ingress': start" in said(caplog)
    assert not any("Condition" in line or "Primitive" in line for line in said(caplog))
