"""Modules that users write: found in the current directory too, where commands that are scripts do not look."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from types import ModuleType

from splitmerge.errors import shortened

REMEDY = "its directory must be the current one, or in PYTHONPATH"
"""For a module that is not found."""

FOLDER = "SPLITMERGE_MODULES"
"""Environment variable of a lab's processes, which work in its directory: the one that its command was given in.

Not in PYTHONPATH, whose modules come first: a ``topo.py`` there would be taken for this project's, and no lab begin.
"""


def in_words(error: BaseException) -> str:
    """What a module of a user's raised, in one line; of text that is no Python, where and which line."""
    if not isinstance(error, SyntaxError):
        return repr(error)
    place = f"{error.filename or 'its text'}, line {error.lineno}" if error.lineno else error.filename or "its text"
    line = f": {error.text.strip()}" if error.text and error.text.strip() else ""
    return f"{type(error).__name__}: {error.msg} ({place}{line})"


def found_as(module: ModuleType) -> str:
    """A module by its name and file: it may be another one of this name than is meant."""
    file = getattr(module, "__file__", None)
    return f"{module.__name__} ({file or 'without a file'})"


def instead_of(module: ModuleType) -> str:
    """What to do about a module that was found in place of one in the current directory; empty if there is none."""
    name = module.__name__.partition(".")[0]
    own = [here for here in (Path.cwd() / name, Path.cwd() / f"{name}.py") if here.exists()]
    top = getattr(sys.modules.get(name), "__file__", None)
    if not own or (top is not None and Path(top).resolve().is_relative_to(own[0].resolve())):
        return ""
    return f"it comes before {own[0]}: give that another name"


def import_here(name: str) -> ModuleType:
    """The module of this dotted name. :raises ImportError: as `importlib.import_module`; also if it is none."""
    if "" in name.split("."):  # a path, or relative to nothing: importlib would ask its caller for a package
        raise ModuleNotFoundError(f"{shortened(name)!r} is no module's name, as package.module is", name=name)
    for folder in (os.getcwd(), os.environ.get(FOLDER)):
        if folder and folder not in sys.path:
            sys.path.append(folder)
    return importlib.import_module(name)
