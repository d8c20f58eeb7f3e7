"""Commands that hints name act on the lab that they are about, in whatever shell they are typed."""

from __future__ import annotations

from pathlib import Path

import pytest

from topo.naming import command, default_state_dir, localised


@pytest.fixture(autouse=True)
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SPLITMERGE_LAB", "SPLITMERGE_STATE_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))


@pytest.mark.parametrize(
    ("directory", "said"),
    [
        ("lab", "splitmerge down"),
        ("x", "splitmerge down --name x"),
        ("/labs/lab", "splitmerge down --state-dir /labs"),
        ("/labs/x", "splitmerge down --name x --state-dir /labs"),
        ("/my labs/x", "splitmerge down --name x --state-dir '/my labs'"),
    ],
)
def test_options_that_are_the_default_are_left_out(directory: str, said: str) -> None:
    assert command(default_state_dir() / directory, "down") == said


@pytest.mark.parametrize(
    ("variable", "value", "directory", "said"),
    [
        ("SPLITMERGE_LAB", "x", "x", " --name x"),  # another shell may not have the variable
        ("SPLITMERGE_LAB", "x", "lab", " --name lab"),  # this shell has it
        ("SPLITMERGE_LAB", "lab", "lab", ""),
        ("SPLITMERGE_STATE_DIR", "/labs", "/labs/lab", " --state-dir /labs"),
        ("SPLITMERGE_STATE_DIR", "/labs", "{default}/lab", " --state-dir {default}"),
    ],
)
def test_the_environment_is_neither_relied_on_nor_obeyed(
    variable: str, value: str, directory: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    default = default_state_dir()
    told = command(default / directory.format(default=default), "down")
    assert told == "splitmerge down" + said.format(default=default)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("see `splitmerge moves`, or GET /moves", "see `splitmerge moves --name x`, or GET /moves"),
        ("`splitmerge cancel 17`", "`splitmerge cancel --name x 17`"),
        ("`splitmerge certs init`, `splitmerge demo`", "`splitmerge certs init`, `splitmerge demo`"),
        ("`splitmerge down --name x`", "`splitmerge down --name x`"),
        ("scale in, or start with more slots", "scale in, or start with more slots"),
    ],
)
def test_what_others_say_to_type_gets_the_labs_options(text: str, said: str) -> None:
    assert localised(text, default_state_dir() / "x") == said
