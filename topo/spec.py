"""What a lab is made of: the file that `splitmerge up` hands to the lab's process."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

import msgspec

from guestlib import ReplicaConfig
from orchestrator.elasticity import read_section
from orchestrator.migration import Options
from orchestrator.vmm.image import ImageError, find
from splitmerge.errors import BadInput
from topo.errors import LabNotFound, LabUnfinished
from topo.found import RECORD, is_labs, stat_of, unfinished
from topo.model import Topology, one_switch
from topo.naming import command

START_WITHIN, VM_START_WITHIN = 90.0, 240.0
READY, ENDED = "ready", "ended"
"""Lines on a lab's standard output, for the command that waits: it serves; it was ended before it did."""
_SOCKET_PATH_LIMIT = 107
"""Bytes in the path of a Unix socket (unix(7))."""


class LabSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that decides how a lab is built. Paths are absolute."""

    name: str
    directory: str
    """State, sockets and logs of this lab live here, and nowhere else."""
    ephemeral: bool = False
    """Ends with the process that started it, and removes its directory."""
    topology: Topology = msgspec.field(default_factory=one_switch)
    target: Literal["embedded", "bmv2"] = "embedded"
    """The switch: this project's own, or ``simple_switch_grpc`` from PATH."""
    punt: Literal["packet-in", "ethernet"] = "ethernet"
    """How packets of suspended flows reach the controller: P4Runtime's packet-ins, or a port wired to it (faster)."""
    middlebox: str = "middleboxes.ids:Ids"
    """``module:Class`` of the middlebox."""
    middlebox_config: dict[str, Any] = {}
    replica: dict[str, int | float] = {}
    """Further fields of `guestlib.ReplicaConfig`, of all replicas: hold_packets, hold_bytes, hold_deadline …"""
    vm_image: str = ""
    """Directory of the image that slots of kind ``vm`` are booted from."""
    vm_start: Literal["snapshot", "boot"] = "snapshot"
    """boot: machines boot anew instead of being restored; for comparison."""
    vm_accelerator: Literal["auto", "kvm", "emulated"] = "auto"
    """auto: KVM where it runs a machine, else QEMU's software emulation."""
    assignment: Literal["hash", "least-loaded", "round-robin"] = "hash"
    guarantee: Literal["none", "loss-free", "order-preserving", "no-buffer"] = "order-preserving"
    """Of moves that say nothing else (docs/migration.md)."""
    buffer: Literal["cpu", "replica"] = "replica"
    """Where packets wait in such moves."""
    defaults: dict[str, Any] = {}
    """Further keys of the orchestrator's section ``defaults``, of such moves: when_full, references, deadline, packets,
    bytes (docs/migration.md)."""
    policy: str = "explicit"
    """When replicas come and go: explicit, static, flow-count, average-flows, utilisation, target, or module:Class."""
    elasticity: dict[str, Any] = {}
    """Further keys of the orchestrator's section ``elasticity``: settings (the policy's own), min_replicas, rebalance
    … (docs/elasticity.md)."""
    replace: bool = True
    """Whether a replica that died is replaced, one for one."""
    grpc_ports: tuple[int, ...] = ()
    """P4Runtime ports of the switches, in order. Default 9559 and the next: in the sandbox they meet nobody else's."""
    tls: bool = False
    """Agents in namespaces of their own, as on other machines: the control network is IP with mutual TLS."""
    silent: float = 20.0
    """Seconds without a word after which a replica hangs and is ended."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    @property
    def root(self) -> Path:
        """The directory as a path."""
        return Path(self.directory)

    @property
    def api_socket(self) -> Path:
        """Where the orchestrator serves its REST API."""
        return self.root / "api.sock"

    @property
    def control_socket(self) -> Path:
        """Where replicas and agents meet the orchestrator."""
        return self.root / "control.sock"

    @property
    def defaults_section(self) -> dict[str, Any]:
        """The orchestrator's section: how flows move, unless a move says otherwise."""
        return {"guarantee": self.guarantee, "buffer": self.buffer} | self.defaults

    @property
    def elasticity_section(self) -> dict[str, Any]:
        """The orchestrator's section; no more replicas than slots unless it says otherwise."""
        return {"policy": self.policy, "max_replicas": len(self.topology.slots)} | self.elasticity

    @property
    def start_within(self) -> float:
        """Seconds for the lab to be ready; booting the first machine on an emulated processor takes its time."""
        return VM_START_WITHIN if self.topology.slots_of("vm") else START_WITHIN

    def validate(self) -> None:
        """:raises BadInput: for what the types alone cannot tell."""
        self.topology.validate()
        if len(os.fsencode(self.root / "replica-65535.sock")) > _SOCKET_PATH_LIMIT:
            raise BadInput(
                f"lab directory {self.directory!r}", "too long for Unix sockets", "use --state-dir with a shorter path"
            )
        if self.topology.slots_of("vm"):
            self._check_image()
        self._check_replica()
        read_section(self.elasticity_section, self.assignment)
        try:
            options = msgspec.convert(self.defaults_section, Options)
        except msgspec.ValidationError as error:
            known = ", ".join(Options.__struct_fields__)
            raise BadInput("defaults", str(error), f"the section has: {known}") from None
        options.check("moves: {}".format).check_used(options.changed, "moves: {}".format)

    def _check_replica(self) -> None:
        place: dict[str, Any] = {"replica": 1, "interface": "mb0", "control": "unix:/control", "peer": "unix:/peer"}
        try:
            ReplicaConfig(**place | self.replica)
        except TypeError as error:
            raise BadInput("replica", str(error), "name fields of guestlib.ReplicaConfig") from None

    def _check_image(self) -> None:
        """Its middlebox is not looked at: one of another image is set up there as well, if its modules are in it."""
        if not self.vm_image:
            raise BadInput("vm_image", "none is given, and there are slots for machines", "make one: make vm-image")
        try:
            find(Path(self.vm_image))
        except ImageError as error:
            raise BadInput(f"slots for machines: {error.where}", error.problem, error.remedy) from None


class LabRecord(msgspec.Struct, frozen=True, kw_only=True):
    """``lab.json``: how to reach a running lab."""

    name: str
    pid: int
    began: int = 0
    """When that process did (`topo.found.began`); 0: not told."""
    directory: str
    target: str
    api_socket: str
    namespaces: dict[str, str]
    """Name → path of the network namespace, valid while the lab runs."""
    switches: dict[str, str] = {}
    """Name → where it serves P4Runtime, in namespace ``switch``; the first has device id 1, the next 2 …"""


def read_record(directory: Path) -> LabRecord:
    """The record of the lab that runs in this directory.

    :raises LabNotFound: if none does, with what to do; LabUnfinished, one of these, if it is being built or ended.
    """
    try:
        record = msgspec.json.decode((directory / RECORD).read_bytes(), type=LabRecord)
    except (OSError, msgspec.DecodeError) as error:
        if found := unfinished(directory):
            raise LabUnfinished(found) from None
        if isinstance(error, PermissionError):
            remedy = "be the user who started it, or name another --state-dir"
            raise LabNotFound(directory, f"{directory} cannot be looked at: {error.strerror}", remedy) from None
        raise _none_runs(directory, f"no lab runs in {directory}") from None
    if not _alive(record.pid, record.began):
        raise _none_runs(directory, f"the lab in {directory} is gone (process {record.pid})")
    return record


def _none_runs(directory: Path, why: str) -> LabNotFound:
    """Says also what one that is over has left, and what removes it."""
    if not is_labs(directory):
        return LabNotFound(directory, why)
    remedy = f"`{command(directory, 'down')}` removes them; `{command(directory, 'up')}` does, and starts another"
    return LabNotFound(directory, f"{why}; files of one that is over are left there", remedy)


def _alive(pid: int, since: int = 0) -> bool:
    """Whether the process runs that began then (0: whenever); an ended one that nobody has waited for does not."""
    fields = stat_of(pid)
    return bool(fields) and fields[0] != "Z" and since in (0, int(fields[19]))
