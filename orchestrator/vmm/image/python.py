"""This very Python, as files for another root: interpreter, standard library, the packages that a middlebox imports.

What goes in is found by importing the middlebox in a fresh interpreter and looking at what was loaded: each top-level
package outside the standard library goes in whole. The image's Python is the one that builds it, so wheels fit.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from orchestrator.vmm.image.errors import ImageError

HOME = "/python"
"""Where Python is in the image."""
PROBE_WITHIN = 60.0
_UNWANTED = frozenset(
    [
        "test",
        "tests",
        "idlelib",
        "tkinter",
        "turtledemo",
        "ensurepip",
        "lib2to3",
        "pydoc_data",
        "__pycache__",
        "site-packages",
        "dist-packages",
        "distutils",
        "xmlrpc",
        "curses",
        "dbm",
        "sqlite3",
        "turtle.py",
        "pydoc.py",
        "venv",
        "_pydecimal.py",
        "doctest.py",
        "pdb.py",
    ]
)
_UNWANTED_PREFIXES = (
    "config-",
    ".",
    "_tkinter.",
    "_sqlite3.",
    "_curses",
    "_dbm.",
    "_gdbm.",
    "readline.",
    "nis.",
    "_test",
    "_ctypes_test",
)
_PROBE = """
import importlib, json, sys
for name in json.loads(sys.argv[1]):
    importlib.import_module(name)
print(json.dumps({n.partition(".")[0]: None for n in sys.modules}))
print(json.dumps({n: (getattr(sys.modules[n], "__file__", None), list(getattr(sys.modules[n], "__path__", [])))
                  for n in sorted({n.partition(".")[0] for n in sys.modules}) if n in sys.modules}))
"""


def version() -> str:
    """As in ``lib/python3.11``."""
    return f"python{sys.version_info.major}.{sys.version_info.minor}"


def files(modules: list[str], search: Path) -> Iterator[tuple[str, Path]]:
    """(name in the image, file here) of the interpreter, its library and what these modules import, libraries last.

    :param search: directory that is first on the module path, as the current one is for ``python -m``.
    :raises ImageError: if one of the modules cannot be imported.
    """
    interpreter = Path(os.path.realpath(sys.executable))
    found: list[tuple[str, Path]] = [(f"{HOME}/bin/{version()}", interpreter)]
    library = Path(sysconfig.get_path("stdlib"))
    found += ((f"{HOME}/lib/{version()}/{path.relative_to(library)}", path) for path in _tree(library))
    packages = f"{HOME}/lib/{version()}/site-packages"
    for root in third_party(modules, search):
        paths = [root] if root.is_file() else list(_tree(root))
        found += ((f"{packages}/{path.relative_to(root.parent)}", path) for path in paths)
    yield from found
    yield from shared_libraries([path for _, path in found if path == interpreter or ".so" in path.suffixes])


def third_party(modules: list[str], search: Path) -> list[Path]:
    """Files and directories of the top-level packages, outside the standard library, that these modules load."""
    argv = [sys.executable, "-c", _PROBE, json.dumps(modules)]
    result = subprocess.run(argv, cwd=search, capture_output=True, text=True, timeout=PROBE_WITHIN, check=False)
    if result.returncode != 0:
        said = result.stderr.strip().splitlines()[-1:] or ["no reason given"]
        raise ImageError(f"modules {', '.join(modules)}", said[0], "they must be importable here")
    places = json.loads(result.stdout.splitlines()[-1])
    roots: dict[Path, None] = {}
    for name, (file, path) in places.items():
        if name in sys.stdlib_module_names or name.startswith("__") or (file is None and not path):
            continue
        root = Path(file).parent if path and file else Path(path[0] if path else file)
        roots[root] = None
        if (bundled := root.parent / f"{name}.libs").is_dir():  # shared libraries that a wheel brings
            roots[bundled] = None
    return list(roots)


def shared_libraries(binaries: list[Path]) -> Iterator[tuple[str, Path]]:
    """The libraries that these need, under the names that the dynamic linker looks for, and the linker itself."""
    seen: set[str] = set()
    for binary in binaries:
        result = subprocess.run(["ldd", str(binary)], capture_output=True, text=True, timeout=PROBE_WITHIN, check=False)
        if result.returncode != 0 and "not a dynamic executable" not in result.stderr:
            raise ImageError(f"ldd {binary}", result.stderr.strip(), "is the file whole?")
        for match in re.finditer(r"(?:=> )?(/\S+) \(0x", result.stdout):
            if match[1] not in seen:
                seen.add(match[1])
                yield match[1], Path(os.path.realpath(match[1]))


def without_debug_symbols(path: Path, scratch: Path) -> bytes:
    """A library's content, less what only debuggers read (where binutils are here): it would cost memory."""
    if shutil.which("strip") is None:
        return path.read_bytes()
    argv = ["strip", "--strip-unneeded", "-o", str(scratch), str(path)]
    stripped = subprocess.run(argv, capture_output=True, timeout=PROBE_WITHIN, check=False).returncode == 0
    return (scratch if stripped else path).read_bytes()


def _tree(root: Path) -> Iterator[Path]:
    for path in sorted(root.iterdir()):
        if (
            path.name in _UNWANTED
            or path.name.startswith(_UNWANTED_PREFIXES)
            or path.suffix in (".pyi", ".pyc", ".a", ".h")
        ):
            continue
        if path.is_dir():
            yield from _tree(path)
        elif path.is_file():
            yield path
