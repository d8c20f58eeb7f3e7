"""`make demo`'s command, short: its figures, its verdict, and that nothing is left behind."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from splitmerge.demo.workplace import workplace
from topo.enter import descendants

ROOT = Path(__file__).resolve().parents[2]
TARGET = os.environ.get("SPLITMERGE_TEST_TARGET", "embedded")
SHORT = ["--target", TARGET, "--migrations", "20", "--seconds", "6", "--limit", "30"]


@pytest.fixture
def tmp_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Short, since the paths of Unix sockets must be."""
    return tmp_path_factory.mktemp("d")


pytestmark = [pytest.mark.integ, pytest.mark.slow, pytest.mark.usefixtures("namespaces"), pytest.mark.timeout(150)]


def demo(tmp_path: Path, *arguments: str, enter: Callable[[], object] | None = None) -> subprocess.Popen[str]:
    """The command, with a temporary directory of its own, which it must leave empty."""
    (tmp_path / "t").mkdir(exist_ok=True)
    return subprocess.Popen(
        [sys.executable, "-m", "splitmerge", "demo", *arguments],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(tmp_path / "t"), "COLUMNS": "120"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        preexec_fn=enter,
    )


def descendants_named(marker: str) -> list[str]:
    """Command lines of running processes that mention the marker."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = entry.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:  # it has just ended
            continue
        if marker in line:
            found.append(line)
    return found


def wait_for(process: subprocess.Popen[str], marker: str) -> None:
    """Until the demo, which must live, has started a process whose command line has the marker."""
    deadline = time.monotonic() + 60
    while not any(marker in line for _, line in descendants(process.pid)):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline, f"no {marker}"
        time.sleep(0.05)


def nothing_left(tmp_path: Path) -> None:
    deadline = time.monotonic() + 20
    while (left := descendants_named(str(tmp_path / "t"))) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert left == []
    assert os.listdir(tmp_path / "t") == []


@pytest.mark.parametrize(
    "more",
    [["--punt", "packet-in"], ["--punt", "ethernet"], ["--topology", "three-switches", "--punt", "ethernet"]],
    ids=["packet-in", "ethernet", "three switches"],
)
def test_everything_is_accounted_for(tmp_path: Path, more: list[str]) -> None:
    report = tmp_path / "report.json"
    process = demo(tmp_path, *SHORT, *more, "--json", str(report))
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 0, said
    figures = json.loads(report.read_text())
    assert {
        "requests", "injections_sent", "injections_counted", "alerts_expected", "alerts_seen", "migrations", "udp_sent",
        "lost", "duplicated", "reordered", "suspend_ms", "seconds",
    } <= figures.keys()  # fmt: skip
    assert set(figures["suspend_ms"]) == {"p50", "p99", "max"}
    assert figures["migrations"] >= 20 and figures["requests"] > 100 and figures["udp_sent"] > 500
    assert figures["injections_counted"] == figures["injections_sent"] > 0
    assert figures["alerts_seen"] == figures["alerts_expected"] > 0
    assert (figures["lost"], figures["duplicated"], figures["reordered"]) == (0, 0, 0)
    assert "everything that was sent is accounted for" in said
    nothing_left(tmp_path)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_interrupted_it_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    process = demo(tmp_path, *SHORT, enter=lambda: signal.signal(number, signal.SIG_DFL))  # a shell may have it ignored
    wait_for(process, "traffic.udp")
    process.send_signal(number)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "Traceback" not in said
    assert "interrupted: ending the demo's lab" in said
    assert "interrupted: the demo's lab is ended, and nothing of it is left" in " ".join(said.split())
    nothing_left(tmp_path)


def test_killed_it_leaves_no_process_and_its_files_to_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = demo(tmp_path, *SHORT)
    wait_for(process, "orchestrator.vmm")
    process.kill()
    process.communicate(timeout=30)
    deadline = time.monotonic() + 20
    while (left := descendants_named(str(tmp_path / "t"))) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert left == []
    assert os.listdir(tmp_path / "t") != []
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "t"))
    with workplace():
        pass
    assert os.listdir(tmp_path / "t") == []


def _become_ordinary() -> None:
    """A user namespace in which this process is uid 1000 and has no capabilities once it has executed a program."""
    libc = ctypes.CDLL(None, use_errno=True)
    uid, gid = os.getuid(), os.getgid()
    assert libc.unshare(0x10000000) == 0, os.strerror(ctypes.get_errno())
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"1000 {uid} 1")
    Path("/proc/self/gid_map").write_text(f"1000 {gid} 1")


def test_as_an_ordinary_user(tmp_path: Path) -> None:
    process = demo(tmp_path, *SHORT, "--seconds", "3", "--migrations", "5", enter=_become_ordinary)
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 0, said
    nothing_left(tmp_path)


def test_a_temporary_directory_too_long_is_a_clear_error() -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / ("x" * 80)
        path.mkdir()
        process = demo(path, *SHORT)
        said, _ = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "too long for Unix sockets" in " ".join(said.split())
