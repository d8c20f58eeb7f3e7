"""The whole switch as a process, on real interfaces in a network namespace of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
pytestmark = [pytest.mark.integ, pytest.mark.timeout(90)]


@pytest.fixture
def unshare() -> list[str]:
    tool = shutil.which("unshare")
    words = [str(tool), *([] if os.geteuid() == 0 else ["-Ur"]), "-n"]
    if tool is None or subprocess.run([*words, "true"], capture_output=True, check=False).returncode:
        pytest.skip("network namespaces are not allowed here: run as root, or allow user namespaces")
    return words


def test_switch_on_interfaces(unshare: list[str], tmp_path: Path) -> None:
    words = [
        *unshare,
        sys.executable,
        HERE / "namespace_run.py",
        tmp_path,
        HERE / "wire.json",
        HERE / "wire.p4info.txtpb",
    ]
    run = subprocess.run(list(map(str, words)), capture_output=True, text=True, timeout=80, check=False)
    assert run.returncode == 0, run.stderr
    seen = json.loads(run.stdout)
    assert [line for line in seen["lines"] if not line.startswith("[")] == [
        "Adding interface s1 as port 1",
        "Adding interface s2 as port 2",
        "Adding interface s3 as port 3",
        f"Server listening on unix:{tmp_path}/s",
    ]
    assert seen["in_order"], f"{seen['seen']} of 500 frames"
    assert seen["long"]
    assert seen["exit"] == 0
    assert seen["seconds"] < 3
    assert any("send_failed" in line and "port 2" in line for line in seen["log"]), seen["log"]
    assert seen["cpu_while_down"] < 0.5
    assert seen["again"]
    dumped = (tmp_path / "s1_in.pcap").stat().st_size
    assert dumped >= 24 + 500 * (16 + 60) + (16 + 18 + 1480) + 11 * (16 + 60)
    assert (tmp_path / "s2_out.pcap").stat().st_size < dumped
