"""Modules that users write: found in the current directory too, where commands that are scripts do not look."""

from __future__ import annotations

import importlib
import os
import sys
from types import ModuleType

REMEDY = "its directory must be the current one, or in PYTHONPATH"
"""For a module that is not found."""


def in_words(error: BaseException) -> str:
    """What a module of a user's raised, in one line; of text that is no Python, where and which line."""
    if not isinstance(error, SyntaxError):
        return repr(error)
    place = f"{error.filename or 'its text'}, line {error.lineno}" if error.lineno else error.filename or "its text"
    line = f": {error.text.strip()}" if error.text and error.text.strip() else ""
    return f"{type(error).__name__}: {error.msg} ({place}{line})"


def import_here(name: str) -> ModuleType:
    """The module of this dotted name. :raises ImportError: as `importlib.import_module`."""
    if (here := os.getcwd()) not in sys.path:
        sys.path.append(here)
    return importlib.import_module(name)
