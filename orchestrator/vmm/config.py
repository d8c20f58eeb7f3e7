"""The process agent's configuration file: TOML or JSON, every key known or refused.

control = "unix:/run/splitmerge/control.sock"
middlebox = "middleboxes.ids:Ids"
directory = "/run/splitmerge"                    # replicas listen there for their peers

[slots.1]
netns = "/proc/4711/fd/7"                        # none: the agent's own namespace
interface = "mb0"
port = 11

[middlebox_config]                               # the middlebox's own
[replica]                                        # further fields of guestlib.ReplicaConfig
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import msgspec

from guestlib import ReplicaConfig
from splitmerge.errors import BadInput


class SlotConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a replica's traffic comes in."""

    interface: str
    netns: Path | None = None
    """File that names the network namespace (``/proc/PID/fd/N``); None: the agent's own."""
    port: int = 0
    """Switch port behind the interface; for people."""


class AgentConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole file."""

    control: str
    middlebox: str
    """``package.module:Class``."""
    directory: Path
    slots: dict[int, SlotConfig]
    middlebox_config: dict[str, Any] = {}
    replica: dict[str, int | float] = {}
    """Further fields of `guestlib.ReplicaConfig`, by name."""
    name: str = "process agent"
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"

    def replica_config(self, replica: int, slot: int) -> ReplicaConfig:
        """What this replica is told. :raises BadInput: for an unknown slot or a wrong field."""
        place = self.slots.get(slot)
        if place is None:
            raise BadInput("slot", f"{slot} is none", f"slots: {', '.join(map(str, sorted(self.slots)))}")
        try:
            return ReplicaConfig(
                replica=replica,
                interface=place.interface,
                control=self.control,
                peer=f"unix:{self.directory}/replica-{replica}.sock",
                settings=self.middlebox_config,
                **self.replica,  # type: ignore[arg-type]  # checked by ReplicaConfig itself
            )
        except TypeError as error:
            raise BadInput("replica", str(error), "name fields of guestlib.ReplicaConfig") from None
