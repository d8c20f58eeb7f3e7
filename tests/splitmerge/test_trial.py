"""A middlebox's trial before a lab is built: what it refuses, how it fails, and that nothing of it is left."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from splitmerge.cli import trial
from splitmerge.cli.app import app
from splitmerge.cli.trial import Trial
from splitmerge.errors import BadInput
from topo.model import one_switch

MODULE = """
import os, sys, time

class Box:
    answers = (bytes((10, 0, 1, 100)),)
    def setup(self, guest): {setup}
    def on_packet(self, guest, packet): ...
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory, where modules of middleboxes are found."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    return tmp_path


def box(folder: Path, setup: str = "...", head: str = "") -> str:
    """The name of a middlebox whose setup is this code."""
    name = f"box{len(list(folder.glob('box*.py')))}"
    (folder / f"{name}.py").write_text(head + MODULE.format(setup=setup))
    return f"{name}:Box"


def test_it_tells_where_the_middlebox_answers(folder: Path) -> None:
    for said in ("['10.0.1.100']", "{bytes((10, 0, 1, 100))}", "[__import__('ipaddress').ip_address('10.0.1.100')]"):
        assert Trial(box(folder, f"self.answers = {said}"), {}).result().answers == (bytes((10, 0, 1, 100)),)
    assert Trial(box(folder), {}).result().answers == (bytes((10, 0, 1, 100)),)
    assert Trial("middleboxes.ids:Ids", {}).result().answers == ()
    service = {"address": "10.0.1.100", "port": 80, "servers": [{"address": "10.0.2.2", "port": 80}]}
    for name, settings in (
        ("middleboxes.nat64:Nat64", {"secret": "x"}), ("middleboxes.alg:Alg", {}),
        ("middleboxes.adc:Adc", {"services": [service]}),
    ):  # fmt: skip
        answers = Trial(name, settings).result().answers
        assert answers
        one_switch().check_answers(name, answers)


@pytest.mark.parametrize(
    ("setup", "said"),
    [
        ("raise KeyError('x')", r"its setup fails: KeyError\('x'\)"),
        ("exec('x = = 1')", r"its setup fails: SyntaxError: invalid syntax \(<string>, line 1: x = = 1\)"),
        ("sys.exit(3)", r"its setup fails: SystemExit\(3\)"),
        ("os._exit(3)", r"its setup ends the process \(exit 3\)"),
        ("os.kill(os.getpid(), 11)", r"its setup ends the process \(signal SIGSEGV\)"),
        ("self.answers = ('nowhere',)", "self.answers has 'nowhere', which is no address .an address is 4 or 16 bytes"),
        (
            "self.answers = '10.0.2.100'",
            "self.answers is '10.0.2.100', no list of addresses .write a list, also of one",
        ),
        ("self.answers = bytes(4)", r"self.answers is b'.*', no list of addresses"),
        ("self.answers = None", "self.answers is None, no list of addresses"),
        ("self.answers = [5]", "self.answers has 5, which is no address"),
        ("self.answers = [b'short']", "self.answers has b'short', which is no address"),
        ("guest.figures['x'] = 'y'", "a figure that its setup makes: 'x' is a str .figures are finite numbers"),
        ("os.fork() or time.sleep(2); sys.exit(4)", r"its setup fails: SystemExit\(4\)"),
    ],
)
def test_a_setup_that_fails_or_ends_the_process_is_told(folder: Path, setup: str, said: str) -> None:
    name = box(folder, setup)
    with pytest.raises(BadInput, match=f"--middlebox {name}: {said}"):
        Trial(name, {}).result()


def test_a_middlebox_that_is_never_awaited_is_told(folder: Path) -> None:
    name = box(folder)
    file = folder / f"{name.removesuffix(':Box')}.py"
    file.write_text(file.read_text().replace("def on_packet", "async def on_packet"))
    with pytest.raises(BadInput, match=f"middlebox '{name}': on_packet is a coroutine function .*write a plain `def`"):
        Trial(name, {}).result()


@pytest.mark.parametrize("head", ["raise SystemExit\n", "1 / 0\n", "this is no Python\n"])
def test_a_module_that_cannot_be_imported_is_told(folder: Path, head: str) -> None:
    name = box(folder, head=head)
    with pytest.raises(BadInput, match=f"middlebox '{name}': cannot be imported: .*correct the module"):
        Trial(name, {}).result()


def test_a_module_that_is_no_python_is_told_with_its_place(folder: Path) -> None:
    name = box(folder, head="x = = 1\n")
    file = folder / f"{name.removesuffix(':Box')}.py"
    with pytest.raises(BadInput) as caught:
        Trial(name, {}).result()
    said = f"cannot be imported: SyntaxError: invalid syntax ({file}, line 1: x = = 1) (correct the module)"
    assert str(caught.value).endswith(said)


@pytest.mark.parametrize("setup", ["time.sleep(60)", "exec('while True: pass')"])
def test_a_setup_that_never_returns_is_ended(folder: Path, setup: str) -> None:
    name, begun = box(folder, setup), time.monotonic()
    tried = Trial(name, {})
    with pytest.raises(BadInput, match=f"--middlebox {name}: its setup has not returned within 0.5 s .see its code"):
        tried.result(0.5)
    assert time.monotonic() - begun < 10
    with pytest.raises(ProcessLookupError):
        os.kill(tried.pid, 0)


def test_up_builds_no_lab_for_a_middlebox_that_hangs_or_answers_where_nothing_comes(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for setup, within, said in (
        ("time.sleep(60)", 0.5, "has not returned within 0.5 s"),
        ("self.answers = (bytes((10, 0, 1, 7)),)", 30.0, "10.0.1.7 is not virtual in the topology"),
    ):
        monkeypatch.setattr(trial, "SETUP_WITHIN", within)
        argv = ["up", "--state-dir", str(folder / "labs"), "--middlebox", box(folder, setup)]
        result = CliRunner().invoke(app, argv)
        assert isinstance(result.exception, BadInput) and said in str(result.exception)
    assert not (folder / "labs").exists()


@pytest.mark.parametrize(
    ("setup", "unread"),
    [("...", ("idle", "most")), ("guest.config['most']", ("idle",)), ("dict(guest.config)", ())],
)
def test_it_tells_of_the_configuration_what_the_setup_does_not_read(
    folder: Path, setup: str, unread: tuple[str, ...]
) -> None:
    assert Trial(box(folder, setup), {"most": 2, "idle": 5}).result().unread == unread


def test_up_warns_of_keys_that_nobody_reads_before_there_is_a_lab(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Enough(Exception):
        """The lab would be built now."""

    def start(_spec: object) -> None:
        raise Enough

    monkeypatch.setattr("splitmerge.cli.building.start_lab", start)
    (folder / "box.toml").write_text("most = 2")
    name = box(folder)
    argv = ["up", "--state-dir", str(folder / "labs"), "--middlebox", name, "--config", "box.toml", "--json"]
    result = CliRunner().invoke(app, argv)
    assert isinstance(result.exception, Enough) and result.stdout == ""
    problem = f"{name} has not read most in its setup"
    assert result.stderr.startswith(f"warning: --config box.toml: {problem} (guest.configure")
    monkeypatch.setattr(sys, "argv", ["splitmerge", *argv])
    told = json.loads(CliRunner().invoke(app, argv).stderr)
    assert (told["where"], told["warning"]) == ("--config box.toml", problem)
