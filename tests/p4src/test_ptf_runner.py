"""The PTF runner says what is missing, and leaves nothing behind."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import p4src

RUNNER = Path(p4src.__file__).parent.parent / "ptf_tests" / "run.py"
DEADLINE = 30.0
RUN_PTF = """
import signal, sys
from pathlib import Path
from ptf_tests import run
signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
run._run_ptf(Path(sys.argv[1]), "", "ipc://nowhere", Path(sys.argv[2]), [])
"""
"""A program: the runner's last part, with its handler; the arguments are a ptf and a folder."""


def run(path: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The runner with this PATH and no TARGET."""
    environment = {name: value for name, value in os.environ.items() if name != "TARGET"} | {"PATH": path}
    command = [sys.executable, str(RUNNER), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=DEADLINE, check=False)


def switch(folder: Path, script: str) -> Path:
    """A program named simple_switch_grpc."""
    program = folder / "simple_switch_grpc"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return program


def test_help_teaches() -> None:
    said = run(os.environ["PATH"], "-h").stdout
    assert "--target bmv2" in said
    assert "suspend.Resume" in said


def test_a_test_that_there_is_not_is_told_with_those_that_there_are() -> None:
    done = run(os.environ["PATH"], "steering.Client")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("ptf_tests: there is no test steering.Client; steering has: Tcp4, Udp4, ")


def test_the_tests_known_are_those_that_ptf_finds(tmp_path: Path) -> None:
    from ptf_tests.run import known_tests

    ptf = Path(sys.executable).parent / "ptf"
    words = ["--test-dir", str(RUNNER.parent), "--list-test-names", "--platform", "nn", "all"]
    environment = os.environ | {"PYTHONPATH": str(RUNNER.parents[1]), "PYTHONDONTWRITEBYTECODE": "1"}
    listed = subprocess.run(
        [sys.executable, str(ptf), *words], cwd=tmp_path, env=environment, capture_output=True, text=True,
        timeout=DEADLINE, check=True,
    )  # fmt: skip
    names = [f"{module}.{test}" for module, tests in known_tests().items() for test in tests]
    assert sorted(line for line in listed.stdout.splitlines() if " " not in line) == sorted(names)


def test_missing_switch_is_named(tmp_path: Path) -> None:
    done = run(str(tmp_path), "--target", "bmv2")
    assert done.returncode == 2
    assert "simple_switch_grpc is neither beside" in done.stderr


def test_unknown_target_is_refused() -> None:
    done = run(os.environ["PATH"], "--target", "tofino")
    assert done.returncode == 2
    assert "invalid choice: 'tofino'" in done.stderr


def test_a_switch_that_ends_at_once_shows_its_words(tmp_path: Path) -> None:
    switch(tmp_path, "echo no such flag >&2; exit 3")
    done = run(f"{tmp_path}:{os.environ['PATH']}", "--target", "bmv2")
    assert done.returncode == 2
    assert "the switch ended with status 3:\nno such flag" in done.stderr


def test_a_bmv2_that_cannot_bring_packets_is_refused(tmp_path: Path) -> None:
    switch(tmp_path, "echo '  --thrift-port arg  TCP port'")
    done = run(f"{tmp_path}:{os.environ['PATH']}", "--target", "bmv2")
    assert done.returncode == 2
    assert "simple_switch_grpc was built without nanomsg" in done.stderr


def assert_takes_along(runner: subprocess.Popen[bytes], pid: int) -> None:
    """SIGTERM ends the runner, and with it the process that it runs."""
    runner.send_signal(signal.SIGTERM)
    assert runner.wait(DEADLINE) == 128 + signal.SIGTERM
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_told_to_end_it_stops_the_switch(tmp_path: Path) -> None:
    """The switch here never listens; it tells its process id through a FIFO."""
    fifo = tmp_path / "pid"
    os.mkfifo(fifo)
    switch(tmp_path, f"test $1 != --help || exit 1; echo $$ > {fifo}; exec sleep 600")
    runner = subprocess.Popen(
        [sys.executable, str(RUNNER), "--target", "bmv2"],
        env=os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"},
        stderr=subprocess.DEVNULL,
    )
    assert_takes_along(runner, int(fifo.read_text()))


def test_told_to_end_it_stops_ptf(tmp_path: Path) -> None:
    """The ptf here tells its process id through a FIFO, and ends by itself long after this test."""
    fifo, ptf = tmp_path / "pid", tmp_path / "ptf"
    os.mkfifo(fifo)
    ptf.write_text(f"import os, time\nopen({str(fifo)!r}, 'w').write(str(os.getpid()))\ntime.sleep(600)\n")
    runner = subprocess.Popen(
        [sys.executable, "-c", RUN_PTF, str(ptf), str(tmp_path)], cwd=RUNNER.parents[1], stderr=subprocess.DEVNULL
    )
    assert_takes_along(runner, int(fifo.read_text()))


def test_a_signal_while_ptf_is_being_started_leaves_none_behind(tmp_path: Path) -> None:
    """It comes between the fork and the process's name: the runner signals itself from within `subprocess.Popen`."""
    pids, ptf = tmp_path / "pids", tmp_path / "ptf"
    ptf.write_text("import time\ntime.sleep(600)\n")
    early = (
        "import os, subprocess\n"
        "begin = subprocess.Popen._execute_child\n"
        "def execute(self, *args):\n"
        "    begin(self, *args)\n"
        f"    open({str(pids)!r}, 'w').write(str(self.pid))\n"
        "    os.kill(os.getpid(), 15)\n"
        "subprocess.Popen._execute_child = execute\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", early + RUN_PTF, str(ptf), str(tmp_path)],
        cwd=RUNNER.parents[1], stderr=subprocess.DEVNULL, timeout=DEADLINE, check=False,
    )  # fmt: skip
    assert done.returncode == 128 + signal.SIGTERM
    with pytest.raises(ProcessLookupError):
        os.kill(int(pids.read_text()), 0)
