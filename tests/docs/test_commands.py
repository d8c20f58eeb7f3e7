"""Every `splitmerge` command in a block of the README or the docs is one that there is, with options that it has."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer

from splitmerge.cli.app import app

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def commands(page: Path) -> list[str]:
    """Without what the page says about them on the same line, and without the shell's ``&``."""
    blocks = re.findall(r"^```\w*\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    lines = (line for block in blocks for line in re.findall(r"^(?:\$ )?splitmerge (.+)$", block, re.MULTILINE))
    return [re.split(r"\s{2,}|\s#\s|\s&$", line)[0] for line in lines]


def named(page: Path) -> list[str]:
    """Commands in the page's sentences, as far as these say them: ``splitmerge up --tls``."""
    prose = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    return re.findall(r"`splitmerge ([^`\n]+)`", prose)


SHOWN = [(page.name, command) for page in PAGES for command in commands(page)]


def without_effect(command: Any) -> Any:
    """This command and those below it read their words, and do nothing."""
    for each in getattr(command, "commands", {}).values():
        without_effect(each)
    if not hasattr(command, "commands"):
        command.callback = lambda **options: None
    return command


READS = without_effect(typer.main.get_command(app))


def status(command: str) -> int:
    """What a shell would get for its words; 2 if there is no such command, option or value."""
    with pytest.raises(SystemExit) as ended:
        READS(shlex.split(command))
    return int(ended.value.code or 0)


def unknown(command: str) -> list[str]:
    """Its words that are no command, and no option of that one."""
    words, at = shlex.split(command.partition(" -- ")[0]), READS
    while hasattr(at, "commands"):
        if not words or words[0].startswith("-"):
            break
        if words[0] not in at.commands:
            return words[:1]
        at = at.commands[words.pop(0)]
    known = {"--help"}.union(*([*each.opts, *each.secondary_opts] for each in at.params))
    return [word for word in words if word.startswith("-") and word.partition("=")[0] not in known]


def test_pages_show_commands() -> None:
    assert len(SHOWN) > 30 and {"README.md", "migration.md", "vmm.md"} <= {page for page, _ in SHOWN}


@pytest.mark.parametrize(("page", "command"), SHOWN)
def test_the_command_is_one_that_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, page: str, command: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for file in re.findall(r"[\w-]+\.toml|[\w-]+\.json", command):
        (tmp_path / file).touch()
    assert status(command) == 0


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_command_in_a_sentence_is_one_that_there_is(page: Path) -> None:
    assert {command: wrong for command in named(page) if (wrong := unknown(command))} == {}


@pytest.mark.parametrize(
    ("command", "wrong"),
    [("migrat --all", ["migrat"]), ("up --slots 2 --tsl", ["--tsl"]), ("certs isue", ["isue"]), ("--help", [])],
)
def test_a_word_that_there_is_not_would_be_found(command: str, wrong: list[str]) -> None:
    assert unknown(command) == wrong


@pytest.mark.parametrize(
    "command",
    ["migrat --all", "migrate --target 2 --bukket 1", "migrate --target x", "certs isue", "scale-in --when-full x"],
)
def test_what_there_is_not_would_be_found(command: str) -> None:
    assert status(command) == 2
