"""The ``splitmerge`` command."""

from __future__ import annotations

import json
import sys

__all__ = ["main"]


def main() -> None:
    """`splitmerge.cli.app.main`; Ctrl-C ends it with status 130, also while it is being imported, which takes a while.

    Nothing has been asked of a lab then, and the command says so.
    """
    try:
        from splitmerge.cli.app import main as run  # here, for that
    except KeyboardInterrupt:
        sys.stderr.write(_interrupted(as_json="--json" in sys.argv) + "\n")
        sys.exit(130)
    try:
        run()
    except KeyboardInterrupt:
        sys.exit(130)


def _interrupted(*, as_json: bool) -> str:
    """As `splitmerge.cli.output.show_error` would, were it here."""
    said = {"error": "before the command began: nothing is changed", "where": "interrupted", "remedy": ""}
    return json.dumps(said) if as_json else f"error: {said['where']}: {said['error']}"
