"""Modules that users write: found in the current directory too, where commands that are scripts do not look."""

from __future__ import annotations

import importlib
import os
import sys
from types import ModuleType

REMEDY = "its directory must be the current one, or in PYTHONPATH"
"""For a module that is not found."""


def import_here(name: str) -> ModuleType:
    """The module of this dotted name. :raises ImportError: as `importlib.import_module`."""
    if (here := os.getcwd()) not in sys.path:
        sys.path.append(here)
    return importlib.import_module(name)
