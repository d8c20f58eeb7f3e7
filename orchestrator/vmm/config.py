"""A VMM agent's configuration file: TOML or JSON, every key known or refused.

control = "unix:/run/splitmerge/control.sock"    # or tcp:host:port, tls:host:port
middlebox = "middleboxes.ids:Ids"
directory = "/run/splitmerge"                    # sockets and state of its replicas
kind = "process"                                 # or "vm"

[slots.1]
netns = "/proc/4711/fd/7"                        # of processes; none: the agent's own namespace
interface = "mb0"                                # of a VM: its tap, in the agent's namespace
port = 11
# of a VM, and of processes whose peers are VMs or on other machines:
control_interface = "ctl11"                      # a VM's tap on the control network
control_address = "169.254.77.11/24"             # this replica's own

[tls]                                            # where control is tls: — from `splitmerge certs`
ca = "ca.pem"
certificate = "left.pem"
key = "left.key"

[middlebox_config]                               # the middlebox's own
[replica]                                        # further fields of guestlib.ReplicaConfig, as
hold_packets = 131072                            # most packets that wait at a replica, half of them for one move
hold_bytes = 134217728                           # the same in bytes
[machine]                                        # of VMs: `MachineConfig`
"""

from __future__ import annotations

import ipaddress
import os
import re
from pathlib import Path
from typing import Any, Literal

import msgspec

from guestlib import ReplicaConfig
from guestlib.config import Address
from guestlib.machine import Traffic
from splitmerge.errors import BadInput, shortened
from splitmerge.tls import Identity

PEER_PORT = 9561
"""TCP port on which replicas with an address of their own listen for their peers."""


SLOTS_MOST = 0xFFFF
INTERFACE_NAME = re.compile(rb"[^\s/:]{1,15}")
"""What the kernel takes (IFNAMSIZ, ``dev_valid_name``)."""


class SlotConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a replica's traffic comes in."""

    interface: str
    netns: Path | None = None
    """File that names the network namespace (``/proc/PID/fd/N``); None: the agent's own."""
    port: int = 0
    """Switch port behind the interface; for people."""
    control_interface: str = ""
    """Of a VM: the tap of its control interface."""
    control_address: str = ""
    """IPv4 address with prefix length where its peers reach it; without one, a Unix socket in ``directory``."""


class TlsConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Files that `splitmerge certs` made."""

    ca: Path
    certificate: Path
    key: Path

    @property
    def identity(self) -> Identity:
        """For contexts."""
        return Identity(self.ca, self.certificate, self.key)


class MachineConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Virtual machines."""

    image: Path
    """Directory that ``make vm-image`` wrote."""
    traffic: Traffic
    """The traffic interface, the same in every replica."""
    memory: int = 384
    """MiB of each; pages of the snapshot that a machine does not change are shared."""
    accelerator: Literal["auto", "kvm", "emulated"] = "auto"
    """auto: KVM if it runs a test machine in time, else QEMU's software emulation."""
    start: Literal["snapshot", "boot"] = "snapshot"
    """boot: every replica boots anew; for comparison."""
    boot_within: float = 180.0
    """Seconds for the first machine to boot and prepare the middlebox."""
    restore_within: float = 20.0
    """Seconds for a replica to be restored and begin."""


class AgentConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole file."""

    control: str
    middlebox: str
    """``package.module:Class``."""
    directory: Path
    slots: dict[int, SlotConfig]
    kind: Literal["process", "vm"] = "process"
    middlebox_config: dict[str, Any] = {}
    replica: dict[str, int | float] = {}
    """Further fields of `guestlib.ReplicaConfig`, by name."""
    machine: MachineConfig | None = None
    name: str = ""
    """Differs between the agents of one orchestrator; ``process agent`` or ``vm agent`` if empty."""
    tls: TlsConfig | None = None
    """Certificates, where ``control`` is ``tls:``; the replicas use them too."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"

    @property
    def agent_name(self) -> str:
        """`name`, or what stands for it."""
        return self.name or f"{self.kind} agent"

    def check(self) -> AgentConfig:
        """This configuration. :raises BadInput: for what the types alone cannot tell, naming the place."""
        if not self.slots:
            raise BadInput("slots", "there is none", "give at least one")
        control = Address.parse(self.control, "control")
        if control.path is None and not control.port:
            raise BadInput("control", f"{self.control!r} has port 0", "the port where the orchestrator listens")
        for number, slot in self.slots.items():
            where = f"slots.{number}"
            if not 1 <= number <= SLOTS_MOST:
                raise BadInput("slots", f"{number} is no slot's number", f"1 to {SLOTS_MOST}")
            check_interface(f"{where}.interface", slot.interface)
            if slot.control_interface:
                check_interface(f"{where}.control_interface", slot.control_interface)
            if slot.control_address:
                _check_control_address(f"{where}.control_address", slot.control_address)
        return self

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
                peer=self.peer_address(replica, place),
                settings=self.middlebox_config,
                tls=self.tls.identity if self.tls else None,
                **self.replica,  # type: ignore[arg-type]  # checked by ReplicaConfig itself
            )
        except TypeError as error:
            raise BadInput("replica", str(error), "name fields of guestlib.ReplicaConfig") from None

    def peer_address(self, replica: int, place: SlotConfig) -> str:
        """Where this replica's peers bring state."""
        if not place.control_address:
            return f"unix:{self.directory}/replica-{replica}.sock"
        scheme = "tls" if self.tls else "tcp"
        return f"{scheme}:{place.control_address.partition('/')[0]}:{PEER_PORT}"


def check_interface(where: str, name: str) -> None:
    """:raises BadInput: unless an interface can have this name."""
    if not INTERFACE_NAME.fullmatch(os.fsencode(name)) or name in (".", ".."):
        raise BadInput(where, f"{shortened(name)!r} is no interface's name", "1 to 15 bytes, no space, / or :")


def _check_control_address(where: str, text: str) -> None:
    remedy = "an IPv4 address with prefix length, as 192.0.2.11/24"
    try:
        ipaddress.IPv4Interface(text)
    except ValueError as error:
        raise BadInput(where, str(error), remedy) from None
    if "/" not in text:
        raise BadInput(where, f"{text!r} has no prefix length", remedy)
