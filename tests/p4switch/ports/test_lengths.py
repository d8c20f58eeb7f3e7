"""Frames of every length on real interfaces, in a network namespace of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
pytestmark = [pytest.mark.integ, pytest.mark.timeout(90)]


@pytest.mark.parametrize("backend", ["native", "interpreter"])
def test_every_length_passes_and_what_is_too_long_is_counted(tmp_path: Path, backend: str) -> None:
    if backend == "native":
        pytest.importorskip("llvmlite")
    tool = shutil.which("unshare")
    start = [str(tool), *([] if os.geteuid() == 0 else ["-Ur"]), "-n"]
    if tool is None or subprocess.run([*start, "true"], capture_output=True, check=False).returncode:
        pytest.skip("network namespaces are not allowed here: run as root, or allow user namespaces")
    words = ["-m", "tests.p4switch.ports.namespace_lengths", str(tmp_path), str(HERE / "wire.json"), backend]
    run = subprocess.run(
        [*start, sys.executable, *words], cwd=ROOT, capture_output=True, text=True, timeout=80, check=False
    )
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout) == {"all": [True, True], "after": [True]}
