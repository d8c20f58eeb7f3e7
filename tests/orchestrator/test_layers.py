"""Where things belong in `orchestrator/`: what its text says of who imports whom is so, and cores are pure."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import orchestrator

ROOT = Path(__file__).parents[2]
MODULES = sorted((ROOT / "orchestrator").rglob("*.py"))
PURE = ("coherence", "elasticity", "migration", "moves/placement", "scaling/planning", "scaling/replacements")
COMMANDS = ("elasticity/trial", "migration/diagram")
"""Beside the cores: they begin a process, and write a page."""
EFFECTS = {
    "asyncio", "concurrent", "os", "p4rt_controller", "pathlib", "random", "socket", "sqlite3", "subprocess", "sys",
    "threading", "time",
}  # fmt: skip


def name_of(module: Path) -> str:
    return str(module.relative_to(ROOT / "orchestrator").with_suffix(""))


def part_of(module: Path) -> str:
    return name_of(module).partition("/")[0]


def imported(module: Path) -> Iterator[str]:
    """All that it imports, also within functions; names that come from `orchestrator` itself are its parts."""
    for node in ast.walk(ast.parse(module.read_text())):
        match node:
            case ast.Import(names):
                yield from (each.name for each in names)
            case ast.ImportFrom("orchestrator", names):
                yield from (f"orchestrator.{each.name}" for each in names)
            case ast.ImportFrom(str(name)):
                yield name


def layers() -> dict[str, int]:
    """Part → its line in the package's text, counted from the bottom."""
    parts = re.findall(r"^    (\w+) {2,}\S", orchestrator.__doc__ or "", re.MULTILINE)
    return {part: level for level, part in enumerate(reversed(parts))}


def test_every_part_has_its_place() -> None:
    assert set(layers()) == {part_of(module) for module in MODULES} - {"__init__"}


@pytest.mark.parametrize("module", MODULES, ids=name_of)
def test_a_part_imports_those_below_it(module: Path) -> None:
    known, part = layers(), part_of(module)
    parts = {name.split(".")[1] for name in imported(module) if name.startswith("orchestrator.")} - {part}
    assert [each for each in sorted(parts) if known[each] >= known[part]] == []


@pytest.mark.parametrize("part", ["coherence", "elasticity", "migration"])
def test_cores_know_nothing_of_one_another(part: str) -> None:
    names = {name for module in MODULES if part_of(module) == part for name in imported(module)}
    known = {name.split(".")[1] for name in names if name.startswith("orchestrator.")}
    assert known - {part, "errors"} == set()


@pytest.mark.parametrize("module", [each for each in MODULES if name_of(each).startswith(PURE)], ids=name_of)
def test_a_core_knows_no_clock_and_no_io(module: Path) -> None:
    if name_of(module) not in COMMANDS:
        assert EFFECTS.isdisjoint(name.partition(".")[0] for name in imported(module))
