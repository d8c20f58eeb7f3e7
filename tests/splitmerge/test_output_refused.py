"""Where what a command says cannot be written, or nobody reads it: one line, or none, and no traceback."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from splitmerge.cli.output import watched_output, working

ROOT = Path(__file__).resolve().parents[2]
SPLITMERGE = [sys.executable, "-m", "splitmerge"]
COMMANDS = [["--help"], ["migrate", "--help"], ["certs", "show"], ["certs", "show", "--json"], ["simulate", "--json"]]
"""By Typer and Rich; by Rich; a table, in its own time; JSON, which waits for the end; much of it."""


@pytest.fixture
def command(request: pytest.FixtureRequest, tmp_path: Path) -> list[str]:
    words: list[str] = list(request.param)
    if words[0] == "certs":
        made = subprocess.run([*SPLITMERGE, "certs", "init", "--directory", str(tmp_path)], cwd=ROOT, timeout=60)
        assert made.returncode == 0
        words += ["--directory", str(tmp_path)]
    if words[0] == "simulate":
        words += ["burst"]
    return [*SPLITMERGE, *words]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join, indirect=True)
def test_a_full_disk_is_one_line(command: list[str]) -> None:
    with open("/dev/full", "w") as full:
        ended = subprocess.run(command, cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    assert ended.returncode == 1
    problem = "cannot be written: No space left on device"
    if "--json" in command:
        said = json.loads(ended.stderr)
        assert (said["where"], said["error"]) == ("standard output", problem)
        return
    assert ended.stderr.startswith(f"error: standard output: {problem} (give it a file")
    assert ended.stderr.count("\n") == 1


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join, indirect=True)
def test_a_reader_that_is_gone_ends_it_without_a_word_as_sigpipe_does(command: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as pipe:
        ended = subprocess.run(command, cwd=ROOT, stdout=pipe, stderr=subprocess.PIPE, text=True, timeout=60)
    assert (ended.returncode, ended.stderr) == (128 + 13, "")


def test_work_is_done_on_a_full_disk_before_anything_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """`splitmerge up` would fail at the trial of its middlebox, say that what it has done is done, and have no lab."""
    done = []
    with open("/dev/full", "wb", buffering=0) as full:  # as of PYTHONUNBUFFERED: to write nothing at all fails too
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(full, write_through=True))
        with watched_output():
            for _ in range(2):
                with working("building") as status:
                    status.update("still building")
                    done.append(True)
    assert len(done) == 2


def test_an_error_stays_the_status_where_nobody_reads() -> None:
    words = [*SPLITMERGE, "migrate", "--target", "2"]
    with open("/dev/full", "w") as full:
        ended = subprocess.run(words, cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    assert ended.returncode == 1 and ended.stderr.startswith("error: migrate: nothing to move")


def test_a_closed_output_is_nobodys_trouble(tmp_path: Path) -> None:
    words = [*SPLITMERGE, "certs", "init", "--directory", str(tmp_path)]
    closed = subprocess.run(["sh", "-c", 'exec "$@" >&-', "sh", *words], cwd=ROOT, capture_output=True, timeout=60)
    assert (closed.returncode, closed.stderr) == (0, b"") and (tmp_path / "ca.pem").exists()
