"""What virtual machines need: an image, made once; skipped with the reason where this system lacks something."""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path

import pytest

from orchestrator.vmm.image import ImageError, build, find
from orchestrator.vmm.libvirt.host import load_libvirt, missing_programs
from splitmerge.errors import BadInput
from tests.conftest import missing

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def vm_image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The image of the IDS and of Forward, with the kernel kept under ``build/`` between runs."""
    if os.geteuid() != 0:
        missing("virtual machines in tests need root")
    if lacking := missing_programs():
        missing(f"virtual machines: there is no {lacking}")
    try:
        load_libvirt()
        return shared_image(tmp_path_factory)
    except (BadInput, ImageError) as error:
        missing(f"virtual machines: {error}")


def shared_image(factory: pytest.TempPathFactory) -> Path:
    """Made once a run of the tests, by whichever of pytest-xdist's workers comes first."""
    alone = "PYTEST_XDIST_WORKER" not in os.environ
    directory = factory.mktemp("image") if alone else factory.getbasetemp().parent / "vm-image"
    directory.mkdir(exist_ok=True)
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with contextlib.suppress(ImageError):
            find(directory)
            return directory
        build("middleboxes.ids:Ids", directory, include=("middleboxes.forward",), kernels=ROOT / "build" / "vm-kernel")
    return directory
