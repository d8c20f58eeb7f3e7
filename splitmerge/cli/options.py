"""Options that several commands share."""

from __future__ import annotations

from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.elasticity import settings_help
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
    "Name",
    "StateDir",
    "WhenFull",
    "check_buffer",
    "connect",
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


def check_buffer(guarantee: Guarantee | None, buffer: Buffer | None) -> None:
    """:raises BadInput: for a buffer at the controller in moves that hold no packets back."""
    if guarantee in (Guarantee.no_buffer, Guarantee.none) and buffer == Buffer.cpu:
        raise BadInput("--buffer cpu", f"moves with --guarantee {guarantee.value} have no buffer", "leave it out")


class WhenFull(StrEnum):
    """What becomes of a move whose buffer is nearly full."""

    abort = "abort"
    drop = "drop"


def running_lab(name: str, state_dir: Path | None) -> LabRecord:
    """The record of the lab that the options name. :raises LabNotFound: if it does not run."""
    return read_record(lab_directory(name, state_dir))


def connect(name: str, state_dir: Path | None, timeout: float = 30.0) -> OrchestratorClient:
    """A client of that lab's orchestrator; ``timeout`` in seconds. :raises LabNotFound: if it does not run."""
    record = running_lab(name, state_dir)
    return OrchestratorClient(Path(record.api_socket), timeout, partial(localised, directory=Path(record.directory)))
