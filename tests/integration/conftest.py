"""A lab for tests: built once for a module, gone with it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from splitmerge.client import OrchestratorClient
from tests.integration.labs import TestLab, build_lab
from topo.model import load_topology


@pytest.fixture(scope="module")
def state_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("l")


@pytest.fixture(scope="module")
def lab(namespaces: None, state_dir: Path) -> Iterator[TestLab]:
    """One switch, four slots, the IDS, assignment by hash."""
    with build_lab(state_dir) as built:
        yield built


@pytest.fixture
def api(lab: TestLab) -> Iterator[OrchestratorClient]:
    with OrchestratorClient(Path(lab.record.api_socket)) as client:
        yield client


@pytest.fixture(scope="module")
def killing_lab(namespaces: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestLab]:
    """The same, whose orchestrator dies at the step that `TestLab.kill_at` names."""
    with killing(tmp_path_factory.mktemp("k")) as built:
        yield built


@pytest.fixture(scope="module")
def killing_ring(namespaces: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestLab]:
    """Such a lab of three switches."""
    with killing(tmp_path_factory.mktemp("k"), topology=load_topology(Path("three-switches"))) as built:
        yield built


@contextmanager
def killing(directory: Path, **changes: object) -> Iterator[TestLab]:
    """A lab whose orchestrator dies at the step that `TestLab.kill_at` names."""
    saved = {name: os.environ.get(name) for name in ("PYTHONPATH", "SPLITMERGE_KILL_FILE")}
    before = filter(None, (str(Path(__file__).parent / "killer"), saved["PYTHONPATH"]))
    os.environ["PYTHONPATH"] = os.pathsep.join(before)
    os.environ["SPLITMERGE_KILL_FILE"] = str(directory / "kill")
    try:
        with build_lab(directory, **changes) as built:
            yield built
    finally:
        for name, value in saved.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
        shutil.rmtree(directory, ignore_errors=True)
