"""Starting a lab: what an interrupt leaves."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from topo.launch import start_lab
from topo.spec import LabSpec


def test_an_interrupt_between_a_labs_start_and_its_name_ends_it(
    short_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[subprocess.Popen[bytes]] = []
    popen = subprocess.Popen

    def interrupted(*arguments: Any, **options: Any) -> subprocess.Popen[bytes]:
        process = popen(*arguments, **options)
        started.append(process)
        signal.raise_signal(signal.SIGINT)
        return process

    monkeypatch.setattr("topo.launch.subprocess.Popen", interrupted)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            start_lab(LabSpec(name="x", directory=str(short_dir / "x")))
        assert [process.returncode is not None for process in started] == [True]
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
        for process in started:
            process.kill()
            process.communicate()
    assert not (short_dir / "x").exists()
