"""The Mininet script: HTTP through the middlebox over Mininet's own links, on either switch node."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import missing

ROOT = Path(__file__).resolve().parents[2]

pytestmark = [pytest.mark.integ, pytest.mark.slow, pytest.mark.timeout(180)]


@pytest.mark.parametrize("target", ["embedded", "bmv2"])
def test_one_switch(target: str) -> None:
    if shutil.which("mnexec") is None:
        missing("Mininet is not installed (apt-get install mininet)")
    if os.geteuid() != 0:
        missing("Mininet needs root")
    if target == "bmv2" and shutil.which("simple_switch_grpc") is None:
        pytest.skip("simple_switch_grpc is not on PATH")
    before = set(os.listdir("/sys/class/net"))
    result = subprocess.run(
        [sys.executable, "-m", "topo.mininet.one_switch", "--check", "--slots", "2", "--target", target],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=150,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "HTTP through the middlebox: 200" in result.stdout
    assert set(os.listdir("/sys/class/net")) == before
