"""Launchers under BMv2's names, and the subcommands of ``p4switch``."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
from pathlib import Path

import pytest

from p4switch.cli import main
from p4switch.shims import NAMES, write_shims

PROGRAMS = Path(__file__).parent.parent / "programs"


def test_the_process_that_was_started_is_the_switch(tmp_path: Path) -> None:
    """Same process id, found through PATH, ends on SIGTERM; modules beside it or in PYTHONPATH are not taken."""
    shims = tmp_path / "shims"
    write_shims(shims)
    (tmp_path / "p4switch.py").write_text("raise SystemExit('not this one')")
    address = f"unix:{tmp_path}/grpc"
    words = ["simple_switch_grpc", "--log-console", "-Ltrace", "--thrift-port", "9090", "--no-p4"]
    process = subprocess.Popen(
        [*words, "--", "--grpc-server-addr", address],
        env={**os.environ, "PATH": f"{shims}:{os.environ['PATH']}", "PYTHONPATH": str(tmp_path)},
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line.strip())
            if line.startswith("Server listening"):
                break
        assert lines[-1] == f"Server listening on {address}"
        command = Path(f"/proc/{process.pid}/cmdline").read_bytes()
        assert b"p4switch" in command
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0


def test_launchers_are_executable_and_may_be_written_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        assert main(["shims", str(tmp_path)]) == 0
    paths = [tmp_path / name for name in NAMES]
    assert capsys.readouterr().out.split() == [str(path) for path in paths] * 2
    assert all(path.stat().st_mode & stat.S_IXUSR for path in paths)


def test_nothing_else_is_written_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = tmp_path / NAMES[1]
    other.write_text("the real one")
    assert main(["shims", str(tmp_path)]) == 1
    assert "something else" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == [NAMES[1]]
    assert other.read_text() == "the real one"


@pytest.mark.parametrize("backend", ["interpreter", "auto"])
def test_stf_as_a_subcommand(backend: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["stf", str(PROGRAMS / "tables.json"), str(PROGRAMS / "tables.stf"), "--backend", backend]
    assert main(words) == 0
    bad = tmp_path / "bad.stf"
    bad.write_text("packet 0 0601 0000 0000\nexpect 1 ff")
    assert main([*words[:2], str(bad), *words[3:]]) == 1
    assert "line 2" in capsys.readouterr().out


def test_stf_on_the_native_back_end() -> None:
    pytest.importorskip("llvmlite")
    assert main(["stf", str(PROGRAMS / "tables.json"), str(PROGRAMS / "tables.stf"), "--backend=native"]) == 0


def test_several_simple_switches_run_at_once_as_none_was_given_an_address(tmp_path: Path) -> None:
    """BMv2's simple_switch serves no P4Runtime; p4c's STF runner starts as many as there are tests."""
    write_shims(tmp_path)
    words = [str(tmp_path / "simple_switch"), "-i", " 0@pcap0", "--use-files", "0"]  # with its space
    (tmp_path / "pcap0_in.pcap").touch()
    program = str(PROGRAMS / "tables.json")
    running = [subprocess.Popen([*words, program], cwd=tmp_path, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    try:
        for process in running:
            assert process.stdout is not None
            assert process.stdout.readline() == "Adding interface pcap0 as port 0\n"
    finally:
        for process in running:
            process.terminate()
            with process:
                assert process.wait(20) == 0
