"""The demo's temporary directory, which goes with it; those of demos that were killed go with the next one."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from topo.found import unfinished

PREFIX = "splitmerge-"
LAB = "demo"
"""Name of the lab, and of its directory in this one."""
OWNER = "owner.lock"
"""File that is locked as long as its demo lives: the kernel unlocks it, whatever way that ends."""


@contextmanager
def workplace() -> Iterator[Path]:
    """A temporary directory for one demo. What killed ones of this user left is removed before."""
    for left in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        _remove_dead(left)
    with tempfile.TemporaryDirectory(prefix=PREFIX) as name:
        directory = Path(name)
        with (directory / f"{OWNER}.new").open("wb") as owner:
            fcntl.flock(owner, fcntl.LOCK_EX)
            os.rename(owner.name, directory / OWNER)  # locked from the beginning: one beginning beside us may look
            yield directory


def _remove_dead(directory: Path) -> None:
    """Remove it, if a demo of this user's made it, and neither that nor its lab lives."""
    try:
        if directory.lstat().st_uid != os.getuid() or directory.is_symlink():
            return
        with (directory / OWNER).open("rb") as owner:
            fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if unfinished(directory / LAB) is None:
                shutil.rmtree(directory, ignore_errors=True)
    except OSError:  # no demo's; or its demo lives, or has just removed it
        return
