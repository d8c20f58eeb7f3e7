"""What processes of a lab are found from outside."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from topo.enter import descendants

ROOT = Path(__file__).resolve().parents[2]


def test_a_thread_that_ends_while_children_are_looked_for_hides_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python 3.11 waits for each child in a thread, so that one ends whenever a process of the lab does."""
    glob = Path.glob
    monkeypatch.setattr(Path, "glob", lambda path, pattern: [path / "0" / "children", *glob(path, pattern)])
    with subprocess.Popen(["sleep", "60"]) as child:
        try:
            assert child.pid in dict(descendants(os.getpid()))
        finally:
            child.kill()


@pytest.mark.integ
@pytest.mark.usefixtures("namespaces")
def test_a_command_begins_with_no_signal_blocked_whoever_runs_it() -> None:
    """Run as root of a sandbox, as commands of an ordinary user's lab are."""
    program = (
        "import os, signal\nfrom topo.enter import popen_beside\nfrom topo.namespaces import enter_sandbox\n"
        "enter_sandbox()\nsignal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGHUP})\n"
        "popen_beside(os.getpid(), ['grep', 'SigBlk', '/proc/self/status']).wait()\n"
    )
    command = [sys.executable, "-c", program]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30)
    assert (result.stdout.split(), result.stderr) == (["SigBlk:", "0" * 16], "")
