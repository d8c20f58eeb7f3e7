"""What processes of a lab are found from outside."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from topo.enter import descendants


def test_a_thread_that_ends_while_children_are_looked_for_hides_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python 3.11 waits for each child in a thread, so that one ends whenever a process of the lab does."""
    glob = Path.glob
    monkeypatch.setattr(Path, "glob", lambda path, pattern: [path / "0" / "children", *glob(path, pattern)])
    with subprocess.Popen(["sleep", "60"]) as child:
        try:
            assert child.pid in dict(descendants(os.getpid()))
        finally:
            child.kill()
