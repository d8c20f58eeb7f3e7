"""The demo's temporary directory: gone with the demo, or with the next one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from splitmerge.demo.workplace import workplace

ROOT = Path(__file__).parents[2]
DEMO = """
import time
from splitmerge.demo.workplace import LAB, workplace
with workplace() as directory:
    (directory / LAB).mkdir()
    (directory / LAB / "lab.log").write_text("what it said")
    print(directory, flush=True)
    time.sleep(60)
"""


@pytest.fixture
def demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """A process that has a workplace, and that workplace."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(
        [sys.executable, "-c", DEMO], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        yield process, Path(process.stdout.readline().strip())
        process.kill()


def test_what_a_killed_demo_left_goes_with_the_next_one(
    demo: tuple[subprocess.Popen[str], Path], tmp_path: Path
) -> None:
    process, left = demo
    with workplace() as mine:
        assert {left, mine} == set(tmp_path.iterdir()), "it lives"
    process.send_signal(signal.SIGKILL)
    process.wait(10)
    assert list(tmp_path.iterdir()) == [left]
    with workplace() as mine:
        assert list(tmp_path.iterdir()) == [mine]
    assert list(tmp_path.iterdir()) == []


def test_directories_that_no_demo_made_or_whose_lab_lives_stay(
    demo: tuple[subprocess.Popen[str], Path], tmp_path: Path
) -> None:
    process, left = demo
    process.send_signal(signal.SIGKILL)
    process.wait(10)
    foreign = tmp_path / "splitmerge-mine"
    foreign.mkdir()
    link = tmp_path / "splitmerge-link"
    link.symlink_to(left)
    argv = [sys.executable, "-c", "print(flush=True); input()", "topo.lab", "--spec", str(left / "demo" / "spec.json")]
    (left / "demo" / "spec.json").write_text("{}")
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as lab:  # as its command line tells
        assert lab.stdout is not None and lab.stdout.readline()  # which a process has a moment after it has begun
        with workplace():
            assert left.exists()
        lab.kill()
    with workplace():
        assert not left.exists()
    assert set(tmp_path.iterdir()) == {foreign, link}
