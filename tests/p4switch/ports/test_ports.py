"""Ports added and removed by command, on real interfaces in a network namespace of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
PROGRAM = Path(__file__).parents[3] / "p4src" / "build" / "splitmerge.json"
pytestmark = [pytest.mark.integ, pytest.mark.timeout(240)]


def run(tmp_path: Path, *words: str) -> dict[str, Any]:
    tool = shutil.which("unshare")
    start = [str(tool), *([] if os.geteuid() == 0 else ["-Ur"]), "-n"]
    if tool is None or subprocess.run([*start, "true"], capture_output=True, check=False).returncode:
        pytest.skip("network namespaces are not allowed here: run as root, or allow user namespaces")
    command = [*start, sys.executable, str(HERE / "namespace_ports.py"), str(tmp_path), str(PROGRAM), *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=230, check=False)
    assert done.returncode == 0, done.stderr
    seen: dict[str, Any] = json.loads(done.stdout)
    return seen


@pytest.mark.parametrize("words", [("native",), ("interpreter",), ("native", "--pcap", "DIR")], ids=" ".join)
def test_ports_come_and_go_while_packets_pass(tmp_path: Path, words: tuple[str, ...]) -> None:
    if words[0] == "native":
        pytest.importorskip("llvmlite")
    seen = run(tmp_path, *(word if word != "DIR" else str(tmp_path) for word in words))
    assert [(port["port"], port["interface"], port["up"]) for port in seen["first"]] == [
        (1, "s1", True),
        (2, "s2", True),
    ]
    assert seen["passed"] == [True] * 10
    assert not seen["gone"], "a port that was removed receives nothing"
    assert seen["in order"], "the other ports' packets are all there, each once"
    expected = ["port 1 is in use", "s1 is port 1 already", "nothing", "70000 is out of range", "port 510 is in use"]
    for refusal, why in zip(seen["refused"], [*expected, "there is no port 3"], strict=True):
        assert refusal.startswith("refused: ")
        assert why in refusal
    last = {port["port"]: port for port in seen["last"]}
    assert set(last) == {1, 2, 3}
    assert last[1]["received_packets"] == last[2]["sent_packets"] == seen["sent"]
    assert last[1]["received_bytes"] == last[2]["sent_bytes"] == seen["sent"] * 46
    assert last[3]["received_packets"] >= 10, "a port that comes back goes on counting"
    assert not last[3]["up"]
    assert seen["table"].splitlines()[0].split()[:3] == ["port", "interface", "up"]
    # What came in while port 4 was already gone had nowhere to go, and is counted.
    assert set(seen["drops"]) <= {"no_such_port 0", "no_such_port 4", "port_removed 3"}, seen["drops"]
    assert not seen["socket left"]
