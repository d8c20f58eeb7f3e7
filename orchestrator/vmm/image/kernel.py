"""Debian's kernel for virtual machines, fetched with apt and unpacked without being installed; its virtio modules."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from orchestrator.vmm.image.errors import ImageError

META_PACKAGE = "linux-image-cloud-amd64"
"""Debian's package that depends on the newest kernel for virtual machines."""
WANTED = ("virtio_pci", "virtio_net", "virtio_console")
FETCH_WITHIN = 300.0
"""Seconds for apt to bring the kernel."""


@dataclass(frozen=True, slots=True)
class Kernel:
    """A kernel that was unpacked."""

    version: str
    vmlinuz: Path
    modules: tuple[Path, ...]
    """In the order in which they can be loaded."""


def obtain(directory: Path, wanted: tuple[str, ...] = WANTED) -> Kernel:
    """The kernel in this directory; fetched first if there is none. :raises ImageError: saying what is missing."""
    if not list(directory.glob("boot/vmlinuz-*")):
        _fetch(directory)
    found = sorted(directory.glob("boot/vmlinuz-*"))
    if not found:
        raise ImageError(f"kernel in {directory}", "there is no boot/vmlinuz-*", "remove the directory and try again")
    version = found[-1].name.removeprefix("vmlinuz-")
    tree = directory / "lib" / "modules" / version
    return Kernel(version, found[-1], load_order(tree, wanted))


def load_order(tree: Path, wanted: tuple[str, ...]) -> tuple[Path, ...]:
    """The modules named and what they depend on, dependencies first. :raises ImageError: for one that is not there."""
    known = {path.name.split(".")[0].replace("-", "_"): path for path in tree.rglob("*.ko*")}
    order: list[Path] = []

    def visit(name: str) -> None:
        path = known.get(name.replace("-", "_"))
        if path is None:
            raise ImageError(f"kernel modules in {tree}", f"there is no {name}", f"use the kernel of {META_PACKAGE}")
        for needed in dependencies(path.read_bytes()):
            visit(needed)
        if path not in order:
            order.append(path)

    for name in wanted:
        visit(name)
    return tuple(order)


def dependencies(module: bytes) -> list[str]:
    """Modules that this one (an uncompressed .ko) needs, from its .modinfo section."""
    match = re.search(rb"\0depends=([^\0]*)\0", module)
    return [name for name in match[1].decode().split(",") if name] if match else []


def _fetch(directory: Path) -> None:
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise ImageError("kernel", "apt-get and dpkg-deb are not here", "build the image on Debian or Ubuntu")
    try:
        package = _newest()
    except ImageError:
        if os.geteuid() != 0:
            raise
        _run(["apt-get", "update", "-qq"], Path.cwd(), "is the network there?")  # a machine that never asked knows none
        package = _newest()
    with tempfile.TemporaryDirectory(prefix="splitmerge-kernel-") as scratch:
        # As root, apt fetches as another user, who must be able to write here.
        os.chmod(scratch, 0o777)
        _run(["apt-get", "download", "-qq", package], Path(scratch))
        package_file = next(Path(scratch).glob("*.deb"), None)
        if package_file is None:
            raise ImageError("kernel", f"apt-get download {package} brought nothing", "run apt-get update first")
        _run(["dpkg-deb", "-x", str(package_file), f"{scratch}/unpacked"], Path(scratch))
        unpacked = Path(scratch) / "unpacked"
        directory.mkdir(parents=True, exist_ok=True)
        for part in ("boot", "lib"):
            shutil.move(unpacked / part, directory / part)


def _newest() -> str:
    answer = _run(["apt-cache", "depends", META_PACKAGE], Path.cwd(), "run apt-get update first")
    match = re.search(r"Depends: (linux-image-\S+)", answer)
    if match is None:
        raise ImageError("kernel", f"{META_PACKAGE} depends on no kernel", "run apt-get update first")
    return match[1]


def _run(argv: list[str], cwd: Path, remedy: str = "see the message") -> str:
    result = subprocess.run(argv, cwd=cwd, capture_output=True, text=True, timeout=FETCH_WITHIN, check=False)
    if result.returncode != 0:
        raise ImageError(" ".join(argv[:3]), result.stderr.strip() or f"status {result.returncode}", remedy)
    return result.stdout
