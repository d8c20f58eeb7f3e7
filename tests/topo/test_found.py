"""A lab that is being built: it is found, told of, and ended from outside."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from splitmerge.cli.app import app
from splitmerge.errors import BadInput
from topo import launch
from topo.errors import LabEnded, LabNotFound, LabUnfinished, ProcessFailed
from topo.found import began, unfinished
from topo.launch import start_lab
from topo.model import load_topology, one_switch
from topo.processes import Command
from topo.spec import LabSpec, _alive, read_record

CHILD = """
import signal, subprocess, sys, time
child = subprocess.Popen(["sleep", "60"])
{more}
print(child.pid, flush=True)
time.sleep(60)
"""


@contextmanager
def building(state: Path, more: str = "") -> Iterator[tuple[Path, subprocess.Popen[str], int]]:
    """A process that passes for a lab's which is being built, and its child's number."""
    directory = state / "lab"
    directory.mkdir()
    (directory / "spec.json").write_text("{}")
    argv = [sys.executable, "-c", CHILD.format(more=more), "topo.lab", "--spec", str(directory / "spec.json")]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield directory, process, int(process.stdout.readline())
        finally:
            process.kill()


def test_it_is_told_since_when_and_by_which_process(tmp_path: Path) -> None:
    with building(tmp_path) as (directory, process, _):
        found = unfinished(directory)
        assert found is not None and (found.pid, found.starter) == (process.pid, os.getpid())
        assert found.state == "being built" and abs(found.since - time.time()) < 30
        with pytest.raises(LabUnfinished, match=f"is being built since .* .process {process.pid}, started by process"):
            read_record(directory)
        (directory / "ending").touch()
        ending = unfinished(directory)
        assert ending is not None and ending.state == "being ended"
        status = CliRunner().invoke(app, ["status", "--state-dir", str(tmp_path), "--json"])
        said = json.loads(status.stdout)
        assert (status.exit_code, said["ready"], said["lab"]["state"]) == (0, False, "being ended")
        (directory / "lab.json").write_text(json.dumps({
            "name": "lab", "pid": process.pid, "directory": str(directory), "target": "", "namespaces": {},
            "api_socket": str(directory / "gone.sock"),
        }))  # fmt: skip
        table = CliRunner().invoke(app, ["status", "--state-dir", str(tmp_path)]).stdout
        assert "being ended" in table, "its record is there till the end, its orchestrator is not"
        (directory / "lab.json").unlink()
        (directory / "ending").unlink()
        table = CliRunner().invoke(app, ["status", "--state-dir", str(tmp_path)]).stdout
        assert "being built" in table and f"{process.pid}" in table
        assert f"`splitmerge down --state-dir {tmp_path}` ends it" in table
        with pytest.raises(BadInput, match="end it with `splitmerge down --state-dir"):
            start_lab(LabSpec(name="lab", directory=str(directory)))
    assert unfinished(directory) is None
    with pytest.raises(
        LabNotFound, match=r"no lab runs in .*; files of one that is over are left there \(`splitmerge down --s"
    ):
        read_record(directory)


def test_a_process_that_has_a_dead_labs_number_is_not_the_lab(tmp_path: Path) -> None:
    """After the machine has started anew, say: `down` must not end it."""
    record = {"name": "lab", "pid": os.getpid(), "directory": str(tmp_path), "target": "", "api_socket": ""}
    for since, lives in ((began(os.getpid()), True), (began(os.getpid()) + 1, False), (0, True)):
        (tmp_path / "lab.json").write_text(json.dumps({**record, "namespaces": {}, "began": since}))
        if lives:
            assert read_record(tmp_path).pid == os.getpid()
            continue
        with pytest.raises(LabNotFound, match=r"is gone .process"):
            read_record(tmp_path)


@pytest.mark.parametrize("more", ["", "signal.signal(signal.SIGTERM, signal.SIG_IGN)"], ids=["willing", "stubborn"])
def test_down_ends_it_with_its_children(tmp_path: Path, more: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "STOP_WITHIN", 0.5)
    monkeypatch.setattr(launch, "GUESTS_WITHIN", 0.2)
    with building(tmp_path, more) as (directory, process, child):
        result = CliRunner().invoke(app, ["down", "--state-dir", str(tmp_path), "--json"])
        assert (result.exit_code, json.loads(result.stdout)) == (0, {"name": "lab", "ended": True})
        assert process.wait(10) < 0 and not directory.exists()
        deadline = time.monotonic() + 10
        while _alive(child):  # one whose parent is gone may not have been waited for
            assert time.monotonic() < deadline
            time.sleep(0.01)


@pytest.mark.parametrize(
    ("script", "kind", "said"),
    [
        ("print('ended')", LabEnded, "lab 'x' was ended while it was being built; nothing of it is left"),
        ("import os; os.kill(os.getpid(), 15)", LabEnded, "was ended while"),
        ("import os, shutil; shutil.rmtree(os.getcwd()); os.kill(os.getpid(), 9)", LabEnded, "was ended while"),
        ("sys.exit('what went wrong')", ProcessFailed, "what went wrong"),
    ],
)
@pytest.mark.parametrize("ephemeral", [False, True])
def test_a_start_that_fails_names_no_log_that_it_removes(
    short_dir: Path, script: str, kind: type[Exception], said: str, ephemeral: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    popen = subprocess.Popen
    monkeypatch.setattr(
        "topo.launch.subprocess.Popen",
        lambda argv, **options: popen([sys.executable, "-c", f"import sys; {script}"], **options),
    )
    directory = short_dir / "x"
    with pytest.raises(kind, match=said) as caught:
        start_lab(LabSpec(name="x", directory=str(directory), ephemeral=ephemeral))
    named = [word for word in str(caught.value).replace(";", " ").split() if word.startswith(str(directory))]
    assert all(Path(each).is_file() for each in named)
    assert directory.exists() == bool(named) == (kind is ProcessFailed and not ephemeral)


def test_a_start_that_says_something_else_and_goes_on_is_told_and_ended(
    short_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    popen = subprocess.Popen
    started: list[subprocess.Popen[bytes]] = []

    def stuck(argv: list[str], **options: Any) -> subprocess.Popen[bytes]:
        script = "import time; print('what?', flush=True); time.sleep(60)"
        started.append(popen([sys.executable, "-c", script], **options))
        return started[-1]

    monkeypatch.setattr("topo.launch.subprocess.Popen", stuck)
    monkeypatch.setattr(launch, "STOP_WITHIN", 0.5)
    with pytest.raises(ProcessFailed, match=r"lab: said 'what.' where 'ready' was due, and has not ended within 0.5 s"):
        start_lab(LabSpec(name="x", directory=str(short_dir / "x"), ephemeral=True))
    assert started[0].returncode == -signal.SIGTERM and not (short_dir / "x").exists()


def test_a_start_whose_directory_goes_before_it_begins_is_told_as_one_that_somebody_ended(
    short_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = short_dir / "x"

    @contextmanager
    def down() -> Iterator[None]:
        shutil.rmtree(directory)
        yield

    monkeypatch.setattr("topo.launch.interrupts_later", down)
    with pytest.raises(LabEnded, match="nothing of it is left"):
        start_lab(LabSpec(name="x", directory=str(directory)))


def test_a_log_that_goes_is_quoted_at_length(tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    log.write_text("".join(f"line {number}\n" for number in range(30)))

    async def ready() -> bool:
        return True

    kept, lost = (str(Command("x", [], log, ready, log_kept=each).failed("ended")) for each in (True, False))
    assert f"log: {log}" in kept and "| line 22" in kept and "| line 21" not in kept
    assert str(log) not in lost and "| line 0\n" in lost and lost.endswith("| line 29")


# -- what is refused before anything is begun -----------------------------------------------------------------------


@pytest.mark.parametrize("image", ["", "nothing-here"])
def test_slots_for_machines_need_an_image(tmp_path: Path, image: str) -> None:
    spec = LabSpec(name="x", directory="/x", topology=one_switch(1, 1), vm_image=image and str(tmp_path / image))
    with pytest.raises(BadInput, match="make one: make vm-image"):
        spec.validate()


def test_up_says_so_before_the_middlebox_is_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["up", "--vm-slots", "1", "--state-dir", str(tmp_path / "state"), "--middlebox", "no.such:Thing"]
    error = CliRunner().invoke(app, words).exception
    assert isinstance(error, BadInput) and "make vm-image" in error.remedy, error
    assert not (tmp_path / "state").exists()


def test_a_switch_that_is_alone_has_one_name_for_users() -> None:
    assert one_switch(1).shown_switches() == ("switch",)
    assert load_topology(Path("three-switches")).shown_switches() == ("s1", "s2", "s3")
