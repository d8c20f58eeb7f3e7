"""What a command says when it refuses."""

from __future__ import annotations

from typer.testing import CliRunner

from splitmerge.cli.app import app
from splitmerge.errors import SplitmergeError


def refusal(*arguments: str) -> str:
    error = CliRunner().invoke(app, list(arguments)).exception
    assert isinstance(error, SplitmergeError), error
    return str(error)
