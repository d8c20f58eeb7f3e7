"""Starting a lab: what an interrupt leaves, and where this user may not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from splitmerge.errors import BadInput
from topo.errors import LabNotFound
from topo.launch import remove_leftovers, remove_stale, start_lab
from topo.spec import LabSpec, read_record


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


@pytest.fixture
def closed(short_dir: Path) -> Iterator[Path]:
    """A directory of labs below one that this process may not enter, though it be root's."""
    uid = os.geteuid()
    (short_dir / "closed").mkdir(mode=0)
    if uid == 0:
        os.seteuid(65534)
    try:
        yield short_dir / "closed" / "labs"
    finally:
        os.seteuid(uid)
        (short_dir / "closed").rmdir()


@pytest.mark.parametrize(
    "act",
    [
        remove_stale,
        lambda labs: remove_leftovers(labs / "lab"),
        lambda labs: start_lab(LabSpec(name="lab", directory=str(labs / "lab"))),
    ],
    ids=["remove_stale", "down", "up"],
)
def test_a_state_directory_that_may_not_be_entered_is_refused_by_name(
    closed: Path, act: Callable[[Path], object]
) -> None:
    with pytest.raises(BadInput, match=f"^lab directory {closed}.*: Permission denied .use another --state-dir"):
        act(closed)


def test_a_lab_that_may_not_be_looked_at_is_not_told_to_be_none(closed: Path) -> None:
    with pytest.raises(LabNotFound, match=r"cannot be looked at: Permission denied \(be the user who started it"):
        read_record(closed / "lab")


def test_a_python_that_this_user_may_not_run_is_named_and_nothing_stays(
    short_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = short_dir / "python"
    python.write_text("#!/bin/sh\n")
    monkeypatch.setattr(sys, "executable", str(python))
    with pytest.raises(BadInput, match=f"^{python}: Permission denied .install Splitmerge where this user may run it"):
        start_lab(LabSpec(name="x", directory=str(short_dir / "labs" / "x")))
    assert not (short_dir / "labs").exists(), "nor a folder that was made for it"


def test_a_lab_that_is_refused_leaves_folders_that_somebody_else_uses(
    short_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*arguments: Any, **options: Any) -> None:
        (short_dir / "new" / "labs" / "another").mkdir()
        raise PermissionError(13, "Permission denied", sys.executable)

    monkeypatch.setattr("topo.launch.subprocess.Popen", refused)
    with pytest.raises(BadInput):
        start_lab(LabSpec(name="x", directory=str(short_dir / "new" / "labs" / "x")))
    assert [path.name for path in (short_dir / "new" / "labs").iterdir()] == ["another"]
