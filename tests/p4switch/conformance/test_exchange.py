"""The embedded switch with ``--bmv2-strict`` answers a whole session as a real ``simple_switch_grpc`` did.

The comparison is with the recording; where ``simple_switch_grpc`` is on PATH, that is recorded again and compared too.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.bmv2 import bmv2_with_nanomsg
from tests.p4switch.conformance.exchange import RECORDING, play, record
from tests.p4switch.conformance.harness import embedded

DIFFERENCES = {
    "all of fixed_table": "entries of a const table have is_const (P4Runtime 1.4)",
    "insert refused: value empty": "an empty byte string is no number (specification 8.3); there it is 0",
    "counter by delete": "a counter cannot be deleted (9.3); there it is reset",
    "meter read": "rates are read as written; there committed and peak ones come back exchanged",
    "meter array read": "as before",
    "direct counter missing": "NOT_FOUND: the entry is not there (9.3.1); there INVALID_ARGUMENT",
    "direct resources after it": "MODIFY without meter_config takes it away (9.1.7); there it stays",
    "entry by missing member": "NOT_FOUND: the member is not there; there INVALID_ARGUMENT",
    "one shot shows no members": "there are none (9.2.3); there reading them is INVALID_ARGUMENT",
    "group without selector": "a profile without selector has no groups (9.2); there one is made",
    "const entries with priorities": "priorities count down to 1, as in p4c's entries files; there from 2147483646",
    "idle timeout notification": "with the entry's metadata (16.4); there without",
    "broken config": "INVALID_ARGUMENT (14); there UNKNOWN, and for every request that follows",
}
"""Where the embedded switch differs on purpose even if strict: the step, and what the two do."""


def steps_of(recording: dict[str, Any]) -> list[tuple[str, Any]]:
    return [(name, answer) for name, answer in recording["steps"]]


@pytest.mark.parametrize("backend", ["interpreter", "native"])
def test_same_answers_as_recorded(folder: Path, backend: str) -> None:
    if backend == "native":
        pytest.importorskip("llvmlite")
    with embedded(folder, "--bmv2-strict", "--backend", backend) as (address, wire):
        ours = play(address, wire)
    theirs = steps_of(json.loads(RECORDING.read_text()))
    assert [name for name, _ in ours] == [name for name, _ in theirs]
    pairs = zip(ours, theirs, strict=True)
    different = {name: (mine, other) for (name, mine), (_, other) in pairs if mine != other}
    assert different.keys() == DIFFERENCES.keys(), different.keys() ^ DIFFERENCES.keys()


@pytest.mark.integ
def test_recording_is_what_simple_switch_grpc_answers() -> None:
    program = bmv2_with_nanomsg()
    again, before = steps_of(json.loads(json.dumps(record(program)))), steps_of(json.loads(RECORDING.read_text()))
    assert [(step, old) for step, old in zip(again, before, strict=True) if step != old] == []
