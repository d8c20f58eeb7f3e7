"""Makes an image: ``vmlinuz``, ``initramfs.cpio`` and ``image.json``, which says what it is and of what it was made."""

from __future__ import annotations

import os
import py_compile
import shutil
import sys
import tempfile
from pathlib import Path

import msgspec

from orchestrator.vmm.image import kernel, python
from orchestrator.vmm.image.cpio import Archive
from orchestrator.vmm.image.errors import ImageError

RECORD = "image.json"
GUEST = "guestlib.machine.init"
"""What runs as process 1."""
_INIT = """#!{home}/bin/{version} -I
from guestlib.machine.init import main
main()
"""


class Image(msgspec.Struct, frozen=True, kw_only=True):
    """An image that was made. Paths are relative to ``image.json`` in the file, absolute here."""

    kernel: str
    """Version of the kernel."""
    python: str
    middlebox: str
    vmlinuz: str = "vmlinuz"
    initramfs: str = "initramfs.cpio"
    newest: float = 0.0
    """Time of the newest file that went in, seconds since 1970."""


def build(middlebox: str, directory: Path, *, include: tuple[str, ...] = (), kernels: Path | None = None) -> Image:
    """Make the image of a middlebox in this directory; an earlier one there is replaced once the new one is whole.

    :param middlebox: ``package.module:Class``.
    :param include: further modules to put in, beside those that importing the middlebox loads.
    :param kernels: where the kernel is, or is unpacked to; by default beside the image.
    :raises ImageError: saying what cannot be had.
    """
    directory.mkdir(parents=True, exist_ok=True)
    found = kernel.obtain(kernels or directory / "kernel")
    modules = [GUEST, middlebox.partition(":")[0], *include]
    with tempfile.TemporaryDirectory(prefix=".image-", dir=directory) as scratch:
        archive_path = Path(scratch) / "initramfs.cpio"
        with Archive(archive_path) as archive:
            newest = _fill(archive, found, modules, Path(scratch) / "byte-code")
        shutil.copyfile(found.vmlinuz, Path(scratch) / "vmlinuz")
        image = Image(kernel=found.version, python=sys.version.split()[0], middlebox=middlebox, newest=newest)
        (Path(scratch) / RECORD).write_bytes(msgspec.json.format(msgspec.json.encode(image)))
        for name in ("initramfs.cpio", "vmlinuz", RECORD):
            (Path(scratch) / name).replace(directory / name)
    return find(directory)


def find(directory: Path) -> Image:
    """The image in this directory. :raises ImageError: if there is none, with how to make one."""
    remedy = f"make one: make vm-image, or python -m orchestrator.vmm.image --output {directory}"
    try:
        image = msgspec.json.decode((directory / RECORD).read_bytes(), type=Image)
    except OSError as error:
        raise ImageError(f"image {directory}", error.strerror or str(error), remedy) from None
    except msgspec.DecodeError as error:
        raise ImageError(f"image {directory / RECORD}", str(error), remedy) from None
    whole = msgspec.structs.replace(
        image,
        vmlinuz=str((directory / image.vmlinuz).resolve()),
        initramfs=str((directory / image.initramfs).resolve()),
    )
    for path in (whole.vmlinuz, whole.initramfs):
        if not os.path.isfile(path):
            raise ImageError(f"image {directory}", f"there is no {path}", remedy)
    return whole


def _fill(archive: Archive, found: kernel.Kernel, modules: list[str], scratch: Path) -> float:
    for name in ("proc", "sys", "dev", "run", "tmp", "root"):
        archive.directory(name)
    for name, major, minor in (
        ("console", 5, 1),
        ("null", 1, 3),
        ("urandom", 1, 9),
    ):  # Python starts before /dev is mounted
        archive.character_device(f"dev/{name}", major, minor)
    for number, module in enumerate(found.modules):
        archive.file(f"modules/{number:02}-{module.name}", module.read_bytes())
    newest = 0.0
    for name, path in python.files(modules, Path.cwd()):
        newest = max(newest, path.stat().st_mtime)
        content = python.without_debug_symbols(path, scratch) if ".so" in name else path.read_bytes()
        archive.file(name, content, 0o755 if os.access(path, os.X_OK) else 0o644)
        if path.suffix == ".py":
            _compiled(archive, name, path, scratch)
    archive.file("init", _INIT.format(home=python.HOME, version=python.version()).encode(), 0o755)
    return newest


def _compiled(archive: Archive, name: str, path: Path, scratch: Path) -> None:
    """The byte code beside a source file (PEP 552, hash not checked): emulated processors compile slowly."""
    try:
        py_compile.compile(
            str(path), str(scratch), "/" + name.lstrip("/"), doraise=True, quiet=2,
            invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
        )  # fmt: skip
    except py_compile.PyCompileError:
        return  # a template or a test of bad source: nothing imports it
    directory, _, base = name.rpartition("/")
    cached = f"{directory}/__pycache__/{base.removesuffix('.py')}.{sys.implementation.cache_tag}.pyc"
    archive.file(cached, scratch.read_bytes())
