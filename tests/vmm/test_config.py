"""An agent's configuration: what is refused when it starts, and where the refusal says the fault is."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from orchestrator.config import parse
from orchestrator.vmm.config import AgentConfig
from splitmerge.errors import BadInput

ROOT = Path(__file__).resolve().parents[2]
SLOT = {"interface": "mb0", "control_address": "192.0.2.11/24"}
GOOD: dict[str, Any] = {
    "control": "tcp:192.0.2.1:9560", "middlebox": "tests.idle:Idle", "directory": "/run/x", "slots": {"1": SLOT},
}  # fmt: skip


def read(**change: Any) -> AgentConfig:
    return parse(json.dumps(GOOD | change).encode(), AgentConfig, "agent.json", toml=False).check()


def test_the_configuration_of_the_page_is_good() -> None:
    assert read().slots[1].interface == "mb0"
    assert read(control="unix:/run/control.sock", slots={"1": {"interface": "x" * 15}}).slots[1].control_address == ""


@pytest.mark.parametrize(
    ("change", "where", "problem"),
    [
        ({"slots": {}}, "slots", "there is none"),
        ({"slots": {"0": SLOT}}, "slots", "0 is no slot's number"),
        ({"control": "tcp:192.0.2.1:0"}, "control", "'tcp:192.0.2.1:0' has port 0"),
        ({"control": "tls:192.0.2.1:0"}, "control", "'tls:192.0.2.1:0' has port 0"),
        ({"control": "192.0.2.1"}, "control", "'192.0.2.1' is no address"),
        ({"slots": {"1": SLOT | {"interface": "x" * 16}}}, "slots.1.interface", "'x+' is no interface's name"),
        ({"slots": {"1": SLOT | {"interface": "ü" * 8}}}, "slots.1.interface", "'ü+' is no interface's name"),
        ({"slots": {"1": SLOT | {"interface": ""}}}, "slots.1.interface", "'' is no interface's name"),
        ({"slots": {"1": SLOT | {"interface": "a b"}}}, "slots.1.interface", "'a b' is no interface's name"),
        ({"slots": {"1": SLOT | {"interface": ".."}}}, "slots.1.interface", "is no interface's name"),
        ({"slots": {"1": SLOT | {"control_interface": "x" * 16}}}, "slots.1.control_interface", "is no interface's"),
        ({"slots": {"1": SLOT | {"control_address": "192.0.2.11"}}}, "slots.1.control_address", "no prefix length"),
        ({"slots": {"1": SLOT | {"control_address": "192.0.2.300/24"}}}, "slots.1.control_address", "300"),
    ],
)
def test_what_cannot_be_is_refused_by_place(change: dict[str, Any], where: str, problem: str) -> None:
    with pytest.raises(BadInput, match=problem) as caught:
        read(**change)
    assert caught.value.where == where and caught.value.remedy


def test_the_command_says_so_and_starts_nothing(tmp_path: Path) -> None:
    path = tmp_path / "agent.json"
    path.write_text(json.dumps(GOOD | {"control": "tcp:192.0.2.1:0", "directory": str(tmp_path)}))
    argv = [sys.executable, "-m", "splitmerge", "agent", "--config", str(path)]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=30)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
    assert "control: 'tcp:192.0.2.1:0' has port 0 (the port where the orchestrator listens)" in done.stderr
