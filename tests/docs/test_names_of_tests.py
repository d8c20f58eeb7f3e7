"""Tests that the Makefile, the README and the docs name are tests that there are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ptf_tests.run import CannotRun, check_names, known_tests

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "Makefile", ROOT / "README.md", ROOT / "ptf_tests" / "run.py", *sorted((ROOT / "docs").rglob("*.md"))]
RUNNER = re.compile(r"ptf_tests/run\.py((?: +[\w.^-]+)*)")
MAKE = re.compile(r"\bTEST=([\w.^]+)")
FILES = re.compile(r"\btests/[\w/]+\.py\b")


def ptf_names(text: str) -> list[str]:
    """What a line gives to `make ptf` or to the runner, without options and what the page says behind it."""
    said = [re.split(r" {4,}", words)[0] for words in RUNNER.findall(text)]
    words = [re.sub(r"--\w+ \S+", "", each).split() for each in said]
    return [*MAKE.findall(text), *(word for each in words for word in each if not word.startswith("-"))]


def test_ptf_tests_that_are_named_exist() -> None:
    named = {path.name: ptf_names(path.read_text()) for path in PAGES}
    assert len(named["Makefile"]) == 1 and len(named["p4.md"]) == 2 and len(named["run.py"]) == 2
    for names in named.values():
        check_names(names, known_tests())


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("steering.Client", "there is no test steering.Client; steering has: Tcp4, Udp4, "),
        ("clients", "there is no test clients; modules of tests: drops, entries, "),
        ("client.Client", "there is no test client.Client; modules of tests: drops, "),
        ("^steering.Client", "there is no test ^steering.Client; steering has: "),
    ],
)
def test_a_ptf_test_that_there_is_not_would_be_found(name: str, said: str) -> None:
    with pytest.raises(CannotRun) as caught:
        check_names(["steering", "all", "^fuzz", name], known_tests())
    assert str(caught.value).startswith(said)


def test_files_of_tests_that_are_named_exist() -> None:
    named = {file for path in PAGES for file in FILES.findall(path.read_text())}
    assert len(named) > 15
    assert [file for file in sorted(named) if not (ROOT / file).exists()] == []
