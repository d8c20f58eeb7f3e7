"""Links that go and come, on real interfaces in a network namespace of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
CHOICES = HERE.parent / "conformance" / "programs" / "choices.json"
pytestmark = [pytest.mark.integ, pytest.mark.timeout(240)]


@pytest.mark.parametrize("backend", ["native", "interpreter"])
def test_watch_ports_follow_links_and_interfaces_come_back(tmp_path: Path, backend: str) -> None:
    if backend == "native":
        pytest.importorskip("llvmlite")
    tool = shutil.which("unshare")
    words = [str(tool), *([] if os.geteuid() == 0 else ["-Ur"]), "-n"]
    if tool is None or subprocess.run([*words, "true"], capture_output=True, check=False).returncode:
        pytest.skip("network namespaces are not allowed here: run as root, or allow user namespaces")
    command = [*words, sys.executable, str(HERE / "namespace_links.py"), str(tmp_path), str(CHOICES), backend]
    run = subprocess.run(command, capture_output=True, text=True, timeout=230, check=False)
    assert run.returncode == 0, run.stderr
    seen = json.loads(run.stdout)
    assert seen["at the start"] == [1]
    both = seen["both"]
    assert min(both) > 0
    assert seen["one"] == [sum(both)], "all go where there is a link"
    assert seen["seconds to stop"] < 1.5, "the loop sees at once that it is to stop"
    assert seen["again"] == [both, both], "as before the interface went, out of it and into it"
