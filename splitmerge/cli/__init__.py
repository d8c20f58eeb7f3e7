"""The ``splitmerge`` command."""

from splitmerge.cli.app import main

__all__ = ["main"]
