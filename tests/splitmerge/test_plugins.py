"""Modules that users write, and others of the same name."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from guestlib import load_middlebox
from orchestrator.elasticity.settings import make_policy
from splitmerge.errors import SplitmergeError
from splitmerge.plugins import FOLDER, import_here


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current directory, with modules of one's own in it."""
    for name in ("topo", "random", "quite_own"):
        (tmp_path / f"{name}.py").write_text("class Dies:\n    pass\n")
    monkeypatch.chdir(tmp_path)
    path = list(sys.path)
    yield tmp_path
    sys.path[:] = path
    sys.modules.pop("quite_own", None)


@pytest.mark.parametrize(
    ("name", "file", "remedy"),
    [
        ("topo", "topo/__init__.py", "it comes before {here}/topo.py: give that another name"),
        ("random", "random.py", "it comes before {here}/random.py: give that another name"),
        ("time", "time (without a file)", "it has: no"),
        ("quite_own", "{here}/quite_own.py", "it has: no"),
    ],
)
def test_the_file_that_was_found_is_named_and_which_it_hides(here: Path, name: str, file: str, remedy: str) -> None:
    for load in (load_middlebox, lambda text: make_policy(text, {})):
        with pytest.raises(SplitmergeError) as caught:
            load(f"{name}:Absent")
        assert file.format(here=here) in str(caught.value) and remedy.format(here=here) in str(caught.value)


@pytest.mark.parametrize("name", ["../limiter", "./limiter", ".limiter", "a..b"])
def test_a_path_is_no_modules_name(name: str) -> None:
    for load in (load_middlebox, lambda text: make_policy(text, {})):
        with pytest.raises(SplitmergeError) as caught:
            load(f"{name}:Limiter")
        said = str(caught.value)
        assert name in said and "its directory must be the current one" in said and "package' argument" not in said


def test_a_labs_process_finds_modules_where_its_command_was_given_and_last(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "elsewhere").mkdir()
    monkeypatch.chdir(here / "elsewhere")
    monkeypatch.setenv(FOLDER, str(here))
    assert Path(str(import_here("quite_own").__file__)) == here / "quite_own.py"
    assert Path(str(import_here("topo").__file__)).parent.name == "topo"
    assert sys.path[-1] == str(here)
