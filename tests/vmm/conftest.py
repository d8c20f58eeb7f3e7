"""What virtual machines need: an image, made once; skipped with the reason where this system lacks something."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from orchestrator.vmm.image import ImageError, build
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
        directory = tmp_path_factory.mktemp("image")
        build("middleboxes.ids:Ids", directory, include=("middleboxes.forward",), kernels=ROOT / "build" / "vm-kernel")
    except (BadInput, ImageError) as error:
        missing(f"virtual machines: {error}")
    return directory
