"""KVM is used where it truly works: found by trying, with a deadline. QEMU here is a script that behaves badly."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest

from orchestrator.vmm.libvirt import accelerator
from orchestrator.vmm.libvirt.accelerator import EMULATOR, trouble

AMPLE, SHORT = 20.0, 0.3
"""Seconds that the test machine gets: a busy system takes a while to end even a script; what hangs has the second."""
BAD = {
    "it refuses": (
        "echo 'failed to initialize kvm: No such device' >&2; exit 1", AMPLE, "status 1: failed to initialize kvm",
    ),
    "it hangs": ("exec sleep 60", SHORT, "did not end within 0.3 s"),
    "it hangs and takes no SIGTERM": ("trap '' TERM; while :; do sleep 1; done", SHORT, "did not end within 0.3 s"),
    "it ends without running anything": ("exit 0", AMPLE, "status 0: no word"),
}  # fmt: skip


@pytest.fixture
def usable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A /dev/kvm that may be opened, on any system; the directory is first on PATH."""
    device = tmp_path / "kvm"
    device.touch()
    monkeypatch.setattr(accelerator, "KVM", str(device))
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(accelerator, "TRY_WITHIN", AMPLE)
    return tmp_path


@pytest.mark.parametrize(("script", "within", "said"), BAD.values(), ids=BAD.keys())
def test_what_does_not_run_a_machine_in_time_is_not_used_and_says_why(
    usable: Path, monkeypatch: pytest.MonkeyPatch, script: str, within: float, said: str
) -> None:
    monkeypatch.setattr(accelerator, "TRY_WITHIN", within)
    program = usable / EMULATOR
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    started = time.monotonic()
    assert said in trouble("kvm")
    assert time.monotonic() - started < 5


def test_without_the_device_nothing_is_tried(usable: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = usable / EMULATOR
    program.write_text("#!/bin/sh\nexit 33\n")
    program.chmod(0o755)
    assert trouble("kvm") == ""
    monkeypatch.setattr(accelerator, "KVM", str(usable / "none"))
    assert "is not there" in trouble("kvm")


def test_without_qemu_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert trouble("tcg") == f"there is no {EMULATOR}"


@pytest.mark.integ
@pytest.mark.skipif(shutil.which(EMULATOR) is None, reason="QEMU is not installed")
def test_qemu_itself_runs_the_test_machine_under_software_emulation() -> None:
    assert trouble("tcg") == ""
