"""The commands. Each parses and checks what it is given, asks the lab or its orchestrator, and prints the answer."""

from __future__ import annotations

import sys

import typer

from splitmerge.cli.agents import register as register_agents
from splitmerge.cli.demo import register as register_demo
from splitmerge.cli.errors import READER_GONE, Interrupted, status_of
from splitmerge.cli.life import register as register_life
from splitmerge.cli.moves import register as register_moves
from splitmerge.cli.output import end_output, show_error, watched_output
from splitmerge.cli.scaling import register as register_scaling
from splitmerge.cli.simulate import register as register_simulate
from splitmerge.cli.views import register as register_views
from splitmerge.errors import SplitmergeError

app = typer.Typer(
    name="splitmerge",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help=(
        "Stateful network functions that split over more replicas and merge back while traffic flows.\n\n"
        "Start with `splitmerge demo`. Or build a lab with `splitmerge up`, send traffic with "
        "`splitmerge exec client -- curl http://10.0.2.2/`, move its flows with `splitmerge scale-out` and "
        "`splitmerge migrate`, look with `splitmerge status`, and end it with `splitmerge down`."
    ),
)
for register in (
    register_life, register_views, register_moves, register_scaling, register_demo, register_agents, register_simulate,
):  # fmt: skip
    register(app)


def main() -> None:
    """Entry point of the ``splitmerge`` command: an error is one line on standard error and exit status 1.

    Status 130 is for Ctrl-C, which leaves what the orchestrator does going on: the line says what. 141 is for a reader
    that is gone (``splitmerge --help | head -1``), without a word, as of any command that SIGPIPE ends.

    With ``--json`` that line is a JSON object: error, where, remedy.
    """
    with watched_output():
        status = _run()
    sys.exit(end_output(status))


def _run() -> int:
    """The command's status."""
    try:
        app()
    except SplitmergeError as error:
        show_error(error)
        return status_of(error)
    except SystemExit as ended:
        if isinstance(ended.__context__, BrokenPipeError):  # Rich's way and Typer's, who say 1
            return READER_GONE
        if _by_interrupt(ended):  # a command that asks for something says itself what goes on
            show_error(Interrupted("nothing that the command began goes on"))
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    return 0


def _by_interrupt(ended: SystemExit) -> bool:
    """Whether Ctrl-C made Typer end the command, which it does without a word; a command in `exec` may end with 130."""
    return isinstance(getattr(ended.__context__, "__cause__", None), KeyboardInterrupt)
