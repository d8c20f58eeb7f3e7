"""An installed Splitmerge needs nothing that is in the repository only."""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
HERE_ONLY = {"benchmarks", "experiments", "ptf_tests", "tests", "tools"}


def packages() -> list[str]:
    """Top-level packages that are installed."""
    found = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]["find"]["include"]
    return [pattern.removesuffix("*") for pattern in found]


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


def test_no_installed_package_imports_one_that_is_not() -> None:
    modules = [path for package in packages() for path in (ROOT / package).rglob("*.py")]
    assert len(modules) > 300
    assert [str(path) for path in modules if HERE_ONLY & set(imported(path))] == []


def test_every_package_is_installed_or_of_the_repository_only() -> None:
    here = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert set(packages()) <= here <= set(packages()) | HERE_ONLY
