"""The files that give a lab's hosts their names."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from topo import names
from topo.model import one_switch
from topo.names import names_of, write_names

ROOT = Path(__file__).parents[2]


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine's /etc that has one of the two files."""
    folder = tmp_path / "machine"
    folder.mkdir()
    (folder / "hosts").write_text("127.0.0.1 localhost\n")
    monkeypatch.setattr(names, "ETC", folder)
    return folder


def test_every_host_has_its_name_and_the_machine_keeps_its_own(machine: Path, tmp_path: Path) -> None:
    write_names(tmp_path, one_switch(1))
    assert (tmp_path / "etc" / "hosts").read_text().splitlines() == [
        "10.0.1.2 client",
        "fd00:1::2 client",
        "10.0.2.2 server",
        "fd00:2::2 server",
        "127.0.0.1 localhost",
    ]


def test_what_the_machine_does_not_have_is_not_replaced(machine: Path, tmp_path: Path) -> None:
    write_names(tmp_path, one_switch(1))
    assert list(names_of(tmp_path)) == [(tmp_path / "etc" / "hosts", machine / "hosts")]
    assert list(names_of(tmp_path / "none")) == []


@pytest.mark.integ
@pytest.mark.usefixtures("namespaces")
def test_a_command_sees_files_in_place_of_others_and_nobody_else_does(tmp_path: Path) -> None:
    """Run as root of a sandbox, as commands of an ordinary user's lab are."""
    own, other = tmp_path / "own", tmp_path / "other"
    own.write_text("own")
    other.write_text("other")
    program = (
        "import os, sys\nfrom pathlib import Path\nfrom topo.enter import popen_beside\n"
        "from topo.namespaces import enter_sandbox\nenter_sandbox()\n"
        "own, other = map(Path, sys.argv[1:])\n"
        "for file in (own, own.parent / 'none'):\n"
        "    popen_beside(os.getpid(), ['cat', other], files=[(file, other)]).wait()\n"
        "print('', other.read_text())\n"
    )
    command = [sys.executable, "-uc", program, str(own), str(other)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30)
    assert (result.stdout, result.stderr) == ("ownother other\n", ""), "one that cannot be put there stops nothing"
    assert other.read_text() == "other" and str(other) not in Path("/proc/mounts").read_text()
    os.unlink(other)  # nothing holds it
