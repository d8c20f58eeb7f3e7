"""What all tests share."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("default", deadline=None)
settings.register_profile("thorough", deadline=None, max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))

ROOT = Path(__file__).resolve().parent.parent

# What earlier tests have left as garbage stays the worker's: in a process that is forked from it, a nanomsg socket that
# is finalised there ends the process (nng panics).
os.register_at_fork(after_in_child=gc.freeze)


def pytest_collection_finish() -> None:
    """Modules and thousands of tests stay: collections that look through them stop a test for tenths of a second."""
    gc.collect()
    gc.freeze()


def missing(what: str) -> None:
    """A piece that a test needs is not here: skip, saying so; in CI that is a failure."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"{what} (in CI nothing may be missing)")
    pytest.skip(what)


@pytest.fixture(scope="session")
def namespaces() -> None:
    """For tests that make network namespaces: skips (fails in CI) where the kernel refuses them."""
    probe = "from topo.namespaces import enter_sandbox; enter_sandbox()"
    result = subprocess.run([sys.executable, "-c", probe], cwd=ROOT, capture_output=True, text=True, timeout=20)
    if result.returncode != 0:
        missing(f"network namespaces: {result.stderr.strip().splitlines()[-1]}")


@pytest.fixture
def short_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory whose path leaves room for the names of Unix sockets."""
    return tmp_path_factory.mktemp("s")
