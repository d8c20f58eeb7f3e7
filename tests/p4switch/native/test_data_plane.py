"""The loop in generated code on real interfaces, in a network namespace of its own."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
PROGRAM = Path(__file__).parents[3] / "p4src" / "build" / "splitmerge.json"
pytestmark = [pytest.mark.integ, pytest.mark.timeout(180)]


@pytest.fixture
def unshare() -> list[str]:
    tool = shutil.which("unshare")
    words = [str(tool), *([] if os.geteuid() == 0 else ["-Ur"]), "-n"]
    if tool is None or subprocess.run([*words, "true"], capture_output=True, check=False).returncode:
        pytest.skip("network namespaces are not allowed here: run as root, or allow user namespaces")
    return words


def test_nothing_is_lost_or_overtaken_while_tables_change(unshare: list[str]) -> None:
    words = [*unshare, sys.executable, str(HERE / "namespace_run.py"), str(PROGRAM)]
    run = subprocess.run(words, capture_output=True, text=True, timeout=170, check=False)
    assert run.returncode == 0, run.stderr
    seen = json.loads(run.stdout)
    assert seen["all"] and seen["in_order"] and seen["moved"], seen
    assert seen["strays"] == 0
    assert seen["received"][0] == 40_000
    assert seen["sent"] == 20_000 + 2 * seen["moves"]
    assert seen["drops"] == {}
    assert seen["changed"] == [True, True]
    assert seen["dead"] == 10
