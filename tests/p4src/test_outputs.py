"""The committed outputs of p4c are those of the sources, and what the rest of the project builds upon."""

import json
import re
import shutil
from pathlib import Path

import finsy
import pytest

from p4src import P4BLOB, P4INFO, CompilerFailed, CompilerMissing, StaleOutputs, compiler, record
from p4src.__main__ import main, recompile

with_p4c = pytest.mark.skipif(shutil.which(compiler.COMPILER) is None, reason=f"{compiler.COMPILER} is not on PATH")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the folder, to be spoilt."""
    shutil.copytree(record.FOLDER, tmp_path / "p4src", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path / "p4src"


def test_outputs_are_those_of_the_sources() -> None:
    kept = record.check()
    assert kept.compiler.startswith("p4c-bm2-ss Version 1.")
    assert set(kept.outputs) == {"build/splitmerge.json", "build/splitmerge.p4info.txtpb"}
    assert {"splitmerge.p4", "include/define.p4", "include/control/flow.p4"} <= kept.sources.keys()


@pytest.mark.parametrize(
    ("name", "spoil", "line"),
    [
        ("include/parser.p4", lambda path: path.write_text(path.read_text() + "\n"), "changed: include/parser.p4"),
        ("include/control/flow.p4", lambda path: path.unlink(), "removed: include/control/flow.p4"),
        ("include/control/new.p4", lambda path: path.write_text(""), "added:   include/control/new.p4"),
        ("build/splitmerge.json", lambda path: path.write_text("{}"), "changed: build/splitmerge.json"),
        ("build/splitmerge.p4info.txtpb", lambda path: path.unlink(), "removed: build/splitmerge.p4info.txtpb"),
        ("build/record.json", lambda path: path.unlink(), "record.json: "),
        ("build/record.json", lambda path: path.write_text('{"compiler": 3}'), "record.json: "),
    ],
    ids=["changed source", "removed source", "new source", "changed output", "removed output", "no record", "no JSON"],
)
def test_staleness_is_noticed_and_named(copy: Path, name: str, spoil, line: str) -> None:
    record.check(copy)
    spoil(copy / name)
    with pytest.raises(StaleOutputs, match=re.escape(line)) as raised:
        record.check(copy)
    assert "python -m p4src build" in str(raised.value)


def test_outputs_name_no_machine() -> None:
    blob = json.loads(P4BLOB.read_bytes())
    assert blob["program"] == "splitmerge.p4"
    names = set(re.findall(r'"filename" : "([^"]*)"', P4BLOB.read_text()))
    assert names <= set(record.load().sources) | {"", "core.p4", "v1model.p4"}


def test_absolute_names_are_cut_down() -> None:
    before = (
        b'{"program" : "/home/x/splitmerge.p4", "filename" : "/a b/p4include/core.p4", "filename" : "include/a.p4"}'
    )
    after = b'{"program" : "splitmerge.p4", "filename" : "core.p4", "filename" : "include/a.p4"}'
    assert compiler.without_machine(before) == after


@with_p4c
def test_compiling_again_gives_the_same() -> None:
    kept = record.check()
    if compiler.version() != kept.compiler:
        pytest.skip(f"outputs are by {kept.compiler}; here is {compiler.version()}")
    assert recompile(kept) == "compiled again, with the same result"


@with_p4c
def test_a_wrong_program_is_refused_with_the_compilers_words(copy: Path, tmp_path: Path) -> None:
    broken = copy / "splitmerge.p4"
    broken.write_text(broken.read_text().replace("V1Switch(", "V2Switch("))
    with pytest.raises(CompilerFailed, match="V2Switch"):
        compiler.compile_program(tmp_path, copy)


def test_without_p4c_the_build_is_refused_and_nothing_changes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = record.hashes([P4BLOB, P4INFO, record.RECORD])
    monkeypatch.setenv("PATH", "")
    with pytest.raises(CompilerMissing):
        compiler.version()
    assert main(["build"]) == 1
    assert "p4c-bm2-ss is not on PATH" in capsys.readouterr().err
    assert main(["check"]) == 0
    assert "not compiled again" in capsys.readouterr().out
    assert record.hashes([P4BLOB, P4INFO, record.RECORD]) == before


KEY = "low_addr high_addr low_port high_port protocol"
TABLES = {
    "port_role": ("ingress_port", "set_host set_replica(replica) set_controller set_trunk"),
    "flow_v4": (KEY, "steer(replica, suspend)"),
    "flow_v6": (KEY, "steer(replica, suspend)"),
    "bucket": ("bucket", "steer_bucket(replica, suspend) ask_controller"),
    "replica": ("replica", "to_replica(port) over_trunk(port) to_controller"),
    "route_v4": ("dst", "forward(port, src_mac, dst_mac)"),
    "route_v6": ("dst", "forward(port, src_mac, dst_mac)"),
    "arp": ("target", "arp_reply(mac)"),
    "neighbor": ("target", "neighbor_reply(mac)"),
}


@pytest.fixture(scope="module")
def schema() -> finsy.P4Schema:
    return finsy.P4Schema(P4INFO, P4BLOB)


def test_tables_are_those_of_the_contract(schema: finsy.P4Schema) -> None:
    assert {table.alias for table in schema.tables} == TABLES.keys()


@pytest.mark.parametrize("name", TABLES)
def test_table(schema: finsy.P4Schema, name: str) -> None:
    table = schema.tables[name]
    (info,) = [each for each in schema.p4info.tables if each.preamble.alias == name]
    usable = {each.id for each in info.action_refs if each.scope != each.DEFAULT_ONLY}
    shown = [
        action.alias + (f"({', '.join(parameter.name for parameter in action.params)})" if len(action.params) else "")
        for action in table.actions
        if action.id in usable
    ]
    assert (" ".join(field.alias for field in table.match_fields), " ".join(shown)) == TABLES[name]


@pytest.mark.parametrize("name", TABLES)
def test_nobody_changes_a_default_action(schema: finsy.P4Schema, name: str) -> None:
    (info,) = [each for each in schema.p4info.tables if each.preamble.alias == name]
    assert info.const_default_action_id


@pytest.mark.parametrize(("name", "size"), [("flow_v4", 262144), ("flow_v6", 131072)])
def test_flow_tables_count_and_time_out(schema: finsy.P4Schema, name: str, size: int) -> None:
    (info,) = [each for each in schema.p4info.tables if each.preamble.alias == name]
    assert (info.size, info.idle_timeout_behavior) == (size, info.NOTIFY_CONTROL)
    counter = schema.tables[name].direct_counter
    assert counter is not None
    assert counter.unit.name == "BOTH"


def test_controller_headers(schema: finsy.P4Schema) -> None:
    widths = {
        header.preamble.name: [(field.name, field.bitwidth) for field in header.metadata]
        for header in schema.p4info.controller_packet_metadata
    }
    assert widths == {
        "packet_out": [("egress_port", 9), ("_pad", 7), ("kind", 8), ("epoch", 32), ("sequence", 32)],
        "packet_in": [
            *(("ingress_port", 9), ("_pad", 7), ("reason", 8), ("version", 8), ("protocol", 8)),
            *(("bucket", 16), ("replica", 16), ("low_addr", 128), ("high_addr", 128)),
            *(("low_port", 16), ("high_port", 16)),
        ],
    }


def test_drops_are_counted_in_packets_and_bytes(schema: finsy.P4Schema) -> None:
    (counter,) = schema.counters
    assert (counter.alias, counter.unit.name) == ("drops", "BOTH")
