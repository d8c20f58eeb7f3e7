"""Options that several commands share."""

from __future__ import annotations

import math
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from orchestrator.elasticity import settings_help
from orchestrator.migration import Options
from splitmerge.client import OrchestratorClient
from splitmerge.errors import BadInput
from topo.launch import lab_directory
from topo.naming import DEFAULT_NAME, NAME_VARIABLE, STATE_DIR_VARIABLE, localised
from topo.spec import LabRecord, read_record

__all__ = [
    "DEFAULT_NAME",
    "SET_HELP",
    "Buffer",
    "Guarantee",
    "Json",
    "MoveBuffer",
    "MoveBytes",
    "MoveDeadline",
    "MoveGuarantee",
    "MovePackets",
    "MoveReferences",
    "MoveWhenFull",
    "Name",
    "StateDir",
    "WhenFull",
    "connect",
    "how",
    "running_lab",
]

Name = Annotated[str, typer.Option("--name", envvar=NAME_VARIABLE, help="Which lab.")]
StateDir = Annotated[
    Path | None,
    typer.Option(
        "--state-dir",
        envvar=STATE_DIR_VARIABLE,
        help="Where labs keep sockets and logs.",
        show_default="runtime dir",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
SET_HELP = f"name=value (repeat): {settings_help()}. docs/elasticity.md says what each does."
"""Of ``--set``."""


class Guarantee(StrEnum):
    """What a move promises about packets (docs/migration.md)."""

    order_preserving = "order-preserving"
    loss_free = "loss-free"
    no_buffer = "no-buffer"
    none = "none"


class Buffer(StrEnum):
    """Where packets wait while their flow moves."""

    replica = "replica"
    cpu = "cpu"


class WhenFull(StrEnum):
    """What becomes of a move whose buffer is nearly full."""

    abort = "abort"
    drop = "drop"


# -- how flows move ----------------------------------------------------------------------------------------------

_PANEL = "How flows move; else as `splitmerge up` said (docs/migration.md)"
MoveGuarantee = Annotated[
    Guarantee | None,
    typer.Option(
        "--guarantee",
        help="What is promised about their packets; no-buffer may reorder, none may lose late ones.",
        rich_help_panel=_PANEL,
    ),
]
MoveBuffer = Annotated[
    Buffer | None,
    typer.Option(
        "--buffer",
        help="Where packets wait: at the target, or the controller; not with guarantee no-buffer or none.",
        rich_help_panel=_PANEL,
    ),
]
MoveWhenFull = Annotated[
    WhenFull | None,
    typer.Option(
        "--when-full",
        help="The buffer is nearly full: abort calls the move off, and drops, counted, only what has no room until "
        "then; drop goes on, and drops what has no room. Not with guarantee none.",
        rich_help_panel=_PANEL,
    ),
]
MoveReferences = Annotated[
    float | None,
    typer.Option(
        "--references",
        help="Wait so long for flows in use (seconds, 0 to 3600), which then stay; the others move at once.",
        rich_help_panel=_PANEL,
    ),
]
MoveDeadline = Annotated[
    float | None,
    typer.Option(
        "--deadline",
        help="Call a move off if it is not decided by then (seconds, 0 to 3600). A replica that it waits for, and that "
        "says nothing for 2 s past that, is killed: all its flows go on elsewhere, without their state.",
        rich_help_panel=_PANEL,
    ),
]
MovePackets = Annotated[
    int | None,
    typer.Option(
        "--packets",
        help="Most packets that wait for one move; not with guarantee none.",
        min=1,
        rich_help_panel=_PANEL,
    ),
]
MoveBytes = Annotated[
    int | None,
    typer.Option("--bytes", help="Most bytes that do; not with guarantee none.", min=1, rich_help_panel=_PANEL),
]


def how(
    guarantee: Guarantee | None = None,
    buffer: Buffer | None = None,
    when_full: WhenFull | None = None,
    references: float | None = None,
    deadline: float | None = None,
    packets: int | None = None,
    size: int | None = None,
) -> dict[str, Any]:
    """How flows are to move, as requests and the configuration's section ``defaults`` have it: what was said.

    :raises BadInput: for what makes no sense; how much is too much, the orchestrator knows.
    """
    for where, seconds in (("--references", references), ("--deadline", deadline)):
        if seconds is not None and not 0 <= seconds < math.inf:  # nan is not, either
            raise BadInput(f"{where} {seconds:g}", "not a time", "seconds, 0 to 3600")
    options = {
        "guarantee": guarantee, "buffer": buffer, "when_full": when_full, "references": references,
        "deadline": deadline, "packets": packets, "bytes": size,
    }  # fmt: skip
    said = {name: value for name, value in options.items() if value is not None}
    if guarantee is not None:  # else the orchestrator knows it
        chosen = msgspec.convert({"guarantee": guarantee.value}, Options)
        chosen.check_used(said, lambda name: f"--{name.replace('_', '-')}")
    return said


def running_lab(name: str, state_dir: Path | None) -> LabRecord:
    """The record of the lab that the options name. :raises LabNotFound: if it does not run."""
    return read_record(lab_directory(name, state_dir))


def connect(name: str, state_dir: Path | None, timeout: float = 30.0) -> OrchestratorClient:
    """A client of that lab's orchestrator; ``timeout`` in seconds. :raises LabNotFound: if it does not run."""
    record = running_lab(name, state_dir)
    return OrchestratorClient(Path(record.api_socket), timeout, partial(localised, directory=Path(record.directory)))
