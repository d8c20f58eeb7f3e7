"""The ``splitmerge`` command. Nothing is imported here: all that takes time is, so that Ctrl-C finds `main` at work.

What comes before is the interpreter's: Ctrl-C while it starts (`site`, what an editable install adds to that, the
script that pip makes) is a traceback of its own, which nobody can keep from here.
"""

__all__ = ["interrupted_early", "main"]

_EARLY = "before the command began: nothing is changed", ""


def main() -> None:
    """`splitmerge.cli.app.main`; Ctrl-C ends it with status 130 and one line, also while it is being imported.

    That takes a while, and nothing has been asked of a lab then.
    """
    said = _EARLY
    try:
        from splitmerge.cli.app import main as run

        said = "as the command began or ended", "`splitmerge status` shows what goes on in the lab"
        run()
    except KeyboardInterrupt:
        _end(*said)


def interrupted_early() -> None:
    """End as `main` does that was interrupted before it could do anything."""
    _end(*_EARLY)


def _end(problem: str, remedy: str) -> None:
    """As `splitmerge.cli.output.show_error` would say it, were it here, and `splitmerge.cli.errors.Interrupted`."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # pressed twice, or held: these are the last words
    import json
    import sys

    line = f"error: interrupted: {problem}" + (f" ({remedy})" if remedy else "")
    if "--json" in sys.argv:
        line = json.dumps({"error": problem, "where": "interrupted", "remedy": remedy})
    sys.stderr.write(line + "\n")
    sys.exit(130)
