"""A fabric of three switches: this project's own, and BMv2's where it is on PATH."""

from __future__ import annotations

import contextlib
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.bmv2 import bmv2_with_nanomsg
from tests.fabric.world import RING, FabricWorld, running_fabric
from tests.p4rt_controller.conftest import SwitchProcess


@pytest.fixture(params=["embedded", "bmv2"], scope="module")
def switches(request: pytest.FixtureRequest) -> Iterator[dict[str, SwitchProcess]]:
    """Three running switches, which tests leave running; a new controller puts their tables right."""
    command = [sys.executable, "-m", "p4switch"]
    if request.param == "bmv2":
        command = [bmv2_with_nanomsg()]
    with tempfile.TemporaryDirectory(prefix="f") as directory, contextlib.ExitStack() as stack:
        processes: dict[str, SwitchProcess] = {}
        for name in ("s1", "s2", "s3"):
            (Path(directory) / name).mkdir()
            processes[name] = SwitchProcess(command, Path(directory) / name)
            processes[name].start()
            stack.callback(processes[name].kill)
        yield processes


@pytest.fixture
def make_fabric(
    switches: dict[str, SwitchProcess],
) -> Callable[..., contextlib.AbstractAsyncContextManager[FabricWorld]]:
    """Builds a fabric on the three switches, in a ring unless told otherwise."""

    def make(trunks=RING, **changes):
        return running_fabric(switches, trunks, **changes)

    return make
