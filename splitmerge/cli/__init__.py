"""The ``splitmerge`` command."""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """`splitmerge.cli.app.main`; Ctrl-C ends it with status 130, also while it is being imported."""
    try:
        from splitmerge.cli.app import main as run  # here, for that

        run()
    except KeyboardInterrupt:
        sys.exit(130)
