"""What `splitmerge up` does once it knows which lab is wanted: the middlebox's trial, the lab, the way out."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from splitmerge.cli.errors import Interrupted
from splitmerge.cli.output import show_warning, working
from splitmerge.cli.signals import Interruption
from splitmerge.cli.trial import Trial
from splitmerge.errors import BadInput
from splitmerge.files import read_whole
from splitmerge.once import check_keys
from topo.errors import LabNotFound
from topo.launch import start_lab, stop_lab
from topo.naming import command
from topo.spec import LabRecord, LabSpec, read_record

CONFIGURE = "guest.configure refuses unknown keys: docs/guestlib.md, configuration"
"""What to do about a middlebox that takes no notice of its configuration."""


def read_config(path: Path | None) -> dict[str, Any]:
    """A middlebox's configuration, TOML or else JSON. :raises BadInput: naming the file."""
    if path is None:
        return {}
    where, toml = f"--config {path}", path.suffix == ".toml"
    decode = msgspec.toml.decode if toml else msgspec.json.decode
    try:
        raw = read_whole(path, where)
        if not raw.strip() and not toml:  # TOML that says nothing is an empty table
            raise BadInput(where, "is empty", "{} says that nothing is configured; see docs/middleboxes/")
        config = decode(raw, type=dict[str, Any])
    except OSError as error:
        raise BadInput(where, error.strerror or str(error), "give a JSON or TOML file") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadInput(where, str(error), "see docs/middleboxes/, docs/guestlib.md") from None
    if not toml:
        check_keys(raw, where)
    return config


def set_up_for_trial(spec: LabSpec, config: Path | None) -> None:
    """Warns of what the middlebox has not read of its configuration. :raises BadInput: if this lab cannot have it."""
    trial = Trial(spec.middlebox, spec.middlebox_config)
    with working(f"setting up {spec.middlebox} for trial"):
        tried = trial.result()
    spec.topology.check_answers(spec.middlebox, tried.answers)
    if tried.unread:
        problem = f"{spec.middlebox} has not read {', '.join(tried.unread)} in its setup"
        show_warning(f"--config {config}", problem, CONFIGURE)


def build(spec: LabSpec, interruption: Interruption) -> LabRecord:
    """The lab, which serves. :raises Interrupted: when it was called off; nothing is left then, or that is said."""
    record: LabRecord | None = None
    try:
        with working(f"building lab {spec.name!r}"):
            record = start_lab(spec)
        interruption.check()
    except KeyboardInterrupt:
        if record is not None:  # called off as it had just come up
            with working(f"ending lab {spec.name!r}"):
                stop_lab(record)
        raise _called_off(spec.root) from None
    return record


def _called_off(directory: Path) -> Interrupted:
    if not directory.exists():
        return Interrupted("nothing of the lab is left")
    with suppress(LabNotFound):  # one that was there before, or came up at this very moment
        running = read_record(directory)
        return Interrupted(f"lab {running.name!r} runs", f"`{command(directory, 'down')}` ends it")
    return Interrupted(f"something of the lab is left in {directory}", f"`{command(directory, 'down')}` removes it")
