"""How a lab is named on the command line: what a hint or a remedy tells somebody to type acts on that lab, no other."""

from __future__ import annotations

import os
import re
import shlex
import tempfile
from pathlib import Path

DEFAULT_NAME = "lab"
NAME_VARIABLE, STATE_DIR_VARIABLE = "SPLITMERGE_LAB", "SPLITMERGE_STATE_DIR"
"""Environment variables that say what ``--name`` and ``--state-dir`` say."""
_QUOTED = re.compile(r"`splitmerge ([a-z][a-z-]*)([^`]*)`")
_LABLESS = ("agent", "certs", "demo", "simulate")
"""Commands that act on no lab."""


def default_state_dir() -> Path:
    """``$XDG_RUNTIME_DIR/splitmerge``, else a folder of this user's in the temporary directory."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime and os.access(runtime, os.W_OK):
        return Path(runtime) / "splitmerge"
    return Path(tempfile.gettempdir()) / f"splitmerge-{os.getuid()}"


def command(directory: Path, verb: str, words: str = "") -> str:
    """``splitmerge VERB`` for the lab in this directory, to be copied into any shell of this user's.

    Options that are the default are left out, unless this environment says otherwise. ``words``: further ones, as they
    are to be typed.
    """
    return " ".join(filter(None, ["splitmerge", verb, *_options(directory.absolute()), words]))


def localised(text: str, directory: Path) -> str:
    """The text with the lab's options in each command that it has between backquotes: the orchestrator's remedies."""

    def local(found: re.Match[str]) -> str:
        verb, words = found[1], found[2].strip()
        return found[0] if verb in _LABLESS or "--name" in words else f"`{command(directory, verb, words)}`"

    return _QUOTED.sub(local, text)


def _options(directory: Path) -> list[str]:
    said = (
        ("--name", directory.name, DEFAULT_NAME, NAME_VARIABLE),
        ("--state-dir", str(directory.parent), str(default_state_dir().absolute()), STATE_DIR_VARIABLE),
    )
    return [
        f"{option} {shlex.quote(value)}"
        for option, value, default, variable in said
        if value != default or os.environ.get(variable, default) != default
    ]
