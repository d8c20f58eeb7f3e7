"""The Mininet script: HTTP through the middlebox over Mininet's own links, on either switch node."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bmv2 import bmv2_from_path
from tests.conftest import missing

ROOT = Path(__file__).resolve().parents[2]

pytestmark = [pytest.mark.integ, pytest.mark.slow, pytest.mark.timeout(180)]


@pytest.mark.parametrize("script", [["one_switch", "--slots", "2"], ["three_switches"]], ids=lambda words: words[0])
@pytest.mark.parametrize("target", ["embedded", "bmv2"])
def test_a_script_brings_http_through_the_middlebox_and_leaves_nothing(target: str, script: list[str]) -> None:
    if shutil.which("mnexec") is None:
        missing("Mininet is not installed (apt-get install mininet)")
    if os.geteuid() != 0:
        missing("Mininet needs root")
    if target == "bmv2":
        bmv2_from_path()
    before = set(os.listdir("/sys/class/net"))
    result = subprocess.run(
        [sys.executable, "-m", f"topo.mininet.{script[0]}", *script[1:], "--check", "--target", target],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=150,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "HTTP through the middlebox: 200" in result.stdout
    assert set(os.listdir("/sys/class/net")) - before == set()
