"""The orchestrator's configuration file: TOML or JSON, every key known or refused.

control = "unix:/run/splitmerge/control.sock"     # where replicas and agents connect; or a list of addresses
api = "unix:/run/splitmerge/api.sock"             # REST
journal = "/var/lib/splitmerge/journal.db"

[slots]                                           # slot of the topology → switch port
1 = 11
2 = 12

[switch]
address = "127.0.0.1:9559"
p4info = "splitmerge.p4info.txtpb"                # default: the ones in p4src
p4blob = "splitmerge.json"
assignment = "hash"
host_ports = [1, 2]
routes = [{ network = "10.0.1.0/24", port = 1, src_mac = "02:00:00:00:00:fe", dst_mac = "02:00:00:00:01:02" }]
addresses = [{ address = "10.0.1.1", mac = "02:00:00:00:00:fe" }]

Several switches: instead of ``switch`` a table for each, the trunks between them, and slots as switch:port. The routes
of a switch are those of its own hosts; the ways between switches are computed.

slots = { 1 = "s1:11", 2 = "s2:11" }
trunks = [{ a = "s1", a_port = 21, b = "s2", b_port = 21 }]
[switches.s1]                                     # as [switch]
[switches.s2]

[moves]      # orchestrator.migration.Times
[defaults]   # orchestrator.migration.Options: guarantee, buffer, when_full, references, deadline, packets, bytes
[locks]      # service: the lock service of SYNCH, "in-process" or "etcd://host:port"; lease: seconds
[elasticity] # orchestrator.elasticity.ElasticityConfig: policy, settings, min_replicas … (docs/elasticity.md)
[replacement] # enabled, tries, first_wait, longest_wait, young: of replicas that died
[deadlines]  # hello, reattach, silent, reconnect, finish, destroy, list, empty, drain
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec

from orchestrator.elasticity import ElasticityConfig
from orchestrator.migration import Options, Times
from splitmerge.decimals import decimal
from splitmerge.errors import BadInput, shortened
from splitmerge.files import read_whole
from splitmerge.once import check_keys
from splitmerge.tls import Identity
from splitmerge.trunks import PORTS, Trunk, place_of

Assignment = Literal["hash", "least-loaded", "round-robin"]
SLOTS_MOST = 0xFFFF
"""Largest number of a slot."""


class _Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of the file's sections."""


class RouteConfig(_Section, frozen=True, kw_only=True):
    """``p4rt_controller.Route`` as text."""

    network: str
    port: int
    src_mac: str
    dst_mac: str


class AddressConfig(_Section, frozen=True, kw_only=True):
    """``p4rt_controller.AddressReply`` as text."""

    address: str
    mac: str


class PuntConfig(_Section, frozen=True, kw_only=True):
    """``p4rt_controller.PuntPort``: packets of suspended flows come through a port wired to this host."""

    interface: str
    port: int = 509
    ring_bytes: int = 32 * 1024 * 1024


class SwitchConfig(_Section, frozen=True, kw_only=True):
    """The switch and the controller's options."""

    address: str
    p4info: Path | None = None
    """Default: the one of this project's P4 program."""
    p4blob: Path | None = None
    device_id: int = 1
    cpu_port: int = 510
    punt: PuntConfig | None = None
    """Default: they come over P4Runtime."""
    host_ports: tuple[int, ...] = ()
    routes: tuple[RouteConfig, ...] = ()
    addresses: tuple[AddressConfig, ...] = ()
    assignment: Assignment = "hash"
    room: int = 512
    """Frames that a replica may send at once: what each port surely keeps until the switch comes to them."""
    tuning: dict[str, int | float | bool] = {}
    """Further fields of ``p4rt_controller.ControllerOptions``."""


class ReplacementConfig(_Section, frozen=True, kw_only=True):
    """Of replicas that died; times in seconds."""

    enabled: bool = True
    tries: int = 8
    """Replicas that are tried in place of one until it is given up."""
    first_wait: float = 0.25
    """From a death to the first try; doubles with every failure."""
    longest_wait: float = 30.0
    young: float = 60.0
    """A replacement that lives for less is one more failed try."""

    def check(self) -> None:
        """:raises BadInput: naming the key."""
        if self.tries < 1:
            raise BadInput("replacement.tries", f"{self.tries}", "at least 1; enabled = false replaces nobody")
        for name in ("first_wait", "longest_wait", "young"):
            if not getattr(self, name) > 0:
                raise BadInput(f"replacement.{name}", f"{getattr(self, name)}", "more than 0 seconds")


class Deadlines(_Section, frozen=True, kw_only=True):
    """All in seconds."""

    hello: float = 20.0
    """From asking for a replica to its Hello."""
    reattach: float = 5.0
    """After a restart: how long replicas that lived may take to connect again."""
    silent: float = 20.0
    """A connected replica that says nothing for so long hangs (its middlebox does not return) and is ended."""
    reconnect: float = 2.0
    """How long a replica's connection may be away until the agent is told to end it."""
    finish: float = 10.0
    """For a replica's last pushes."""
    destroy: float = 10.0
    """For the agent to end a replica; by force at half of it."""
    list: float = 10.0
    """For one page of a replica's flows."""
    empty: float = 60.0
    """For a scale-in to move everything away."""
    drain: float = 3600.0
    """For the flows of a replica that is drained to end by themselves."""


class LocksConfig(_Section, frozen=True, kw_only=True):
    """The lock service of strong consistency (`SYNCH`)."""

    service: str = "in-process"
    """This process, whose journal keeps locks and values; or ``etcd://host:port``, which every replica must reach."""
    lease: float = 5.0
    """Seconds after which the lock of a replica that hangs may be taken over; etcd counts in whole seconds."""

    @property
    def etcd(self) -> str:
        """Address of etcd; empty if it is not used."""
        return "" if self.service == "in-process" else self.service


class TlsConfig(_Section, frozen=True, kw_only=True):
    """Files that `splitmerge certs` made."""

    ca: Path
    certificate: Path
    key: Path

    @property
    def identity(self) -> Identity:
        """For contexts."""
        return Identity(self.ca, self.certificate, self.key)


class Config(_Section, frozen=True, kw_only=True):
    """The whole file."""

    control: str | tuple[str, ...]
    """``unix:/path``, ``tcp:host:port``, ``tls:host:port``; or several of them."""
    tls: TlsConfig | None = None
    """Certificates, where ``control`` has a ``tls:`` address."""
    api: str
    journal: Path
    slots: dict[int, int]
    """Slot → port, or place (`splitmerge.trunks.place_of`) if there are several switches."""
    switch: SwitchConfig | None = None
    switches: dict[str, SwitchConfig] = {}
    trunks: tuple[Trunk, ...] = ()
    durability: Literal["process", "power"] = "process"
    moves: Times = Times()
    defaults: Options = Options()
    elasticity: ElasticityConfig = ElasticityConfig()
    replacement: ReplacementConfig = ReplacementConfig()
    """Of replicas that died."""
    locks: LocksConfig = LocksConfig()
    deadlines: Deadlines = Deadlines()
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"

    @property
    def assignment(self) -> Assignment:
        """Who chooses the replica of a new flow; the same at all switches."""
        return next(iter(self.all_switches().values())).assignment

    def all_switches(self) -> dict[str, SwitchConfig]:
        """Every switch by its name; one that is alone is called ``switch``."""
        return self.switches if self.switch is None else {"switch": self.switch}

    @property
    def room(self) -> int:
        """Frames that a replica may send at once, whichever switch it is behind."""
        return min(each.room for each in self.all_switches().values())

    @property
    def controls(self) -> tuple[str, ...]:
        """Every address to listen on."""
        return (self.control,) if isinstance(self.control, str) else self.control


T = TypeVar("T")
KEYS = "the text at the top of orchestrator/config.py"
"""Where the keys of `Config` stand."""


def load(path: Path, kind: type[T], keys: str = KEYS) -> T:
    """The configuration in this file. :raises BadInput: naming the place and what would be right.

    :param keys: where the keys that there are stand.
    """
    try:
        raw = read_whole(path, str(path))
    except OSError as error:
        raise BadInput(str(path), error.strerror or str(error), "name a file that can be read") from None
    return parse(raw, kind, str(path), keys, toml=path.suffix != ".json")


def parse(raw: bytes, kind: type[T], where: str, keys: str = KEYS, *, toml: bool) -> T:
    """As `load`, from bytes; ``where`` names them in messages."""
    form = "TOML" if toml else "JSON"
    try:
        data = tomllib.loads(raw.decode()) if toml else json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise BadInput(where, f"not {form}: {error}", f"write {form}") from None
    if not toml:
        check_keys(raw, where)
    try:
        return msgspec.convert(_stringless(data, where), kind, dec_hook=_decode, strict=True)
    except msgspec.ValidationError as error:
        problem, _, place = str(error).partition(" - at `$")
        remedy = f"see {keys} for the keys there are"
        raise BadInput(f"{where}: {place.rstrip('`').lstrip('.') or 'top level'}", problem, remedy) from None


def check(config: Config) -> Config:
    """Check what types cannot say. :raises BadInput: naming the section."""
    if (config.switch is None) == (not config.switches):
        raise BadInput("switch", "not exactly one of switch, switches", "one switch, or a table of several")
    if config.trunks and config.switch is not None:
        raise BadInput("trunks", "there is one switch", "name the switches in `switches`")
    if not config.slots:
        raise BadInput("slots", "there is none", "give at least one slot and its switch port")
    if len(set(config.slots.values())) != len(config.slots):
        raise BadInput("slots", "two slots have one switch port", "give each its own")
    if not config.api.startswith("unix:"):
        raise BadInput("api", f"{config.api!r}", "write unix:/path")
    for name, switch in config.all_switches().items():
        if not 128 <= switch.room <= 1 << 20:
            raise BadInput(f"switch {name!r}: room", f"{switch.room}", "frames, 128 to 1048576")
    config.elasticity.check(config.assignment)
    config.defaults.check("defaults.{}".format).check_used(config.defaults.changed, "defaults.{}".format)
    config.replacement.check()
    for name in config.deadlines.__struct_fields__:
        if not getattr(config.deadlines, name) > 0:
            raise BadInput(f"deadlines.{name}", f"{getattr(config.deadlines, name)}", "more than 0 seconds")
    if not config.locks.lease > 0:
        raise BadInput("locks.lease", f"{config.locks.lease}", "more than 0 seconds")
    if config.locks.etcd:
        from guestlib.coherence.etcd import EtcdAddress  # with the guest library: a quarter of all that is loaded

        EtcdAddress.parse(config.locks.etcd, "locks.service")
    return config


def _decode(kind: type[Any], value: Any) -> Any:
    if kind is Path and isinstance(value, str):
        return Path(value)
    raise ValueError(f"Expected a {kind.__name__.lower()}, got {value!r}")


def _stringless(data: Any, where: str) -> Any:
    """TOML and JSON know only text as keys: slots are numbered. ``s2:11`` becomes a place."""
    slots = data.get("slots") if isinstance(data, Mapping) else None
    if not isinstance(slots, Mapping):
        return data
    switches = data.get("switches")
    names = list(switches) if isinstance(switches, Mapping) else []
    numbered = {
        _number(key): _place(port, names, f"{where}: slots.{shortened(str(key))}") for key, port in slots.items()
    }
    return {**data, "slots": numbered}


def _number(key: Any) -> Any:
    """The number of a slot; what is none stays for the decoder to judge."""
    number = decimal(key, SLOTS_MOST) if isinstance(key, str) else None
    return key if number is None else number


def _place(port: Any, switches: list[str], where: str) -> Any:
    """The place of ``switch:port``; what is no text stays for the decoder to judge."""
    if not isinstance(port, str):
        return port
    name, _, number = port.rpartition(":")
    if name not in switches:
        known = ", ".join(switches) or "none"
        raise BadInput(where, f"{port!r} names no switch", f"write switch:port; the switches are: {known}")
    at = decimal(number, PORTS - 1)
    if not at:
        raise BadInput(where, f"{shortened(number)!r} is no port", f"1 to {PORTS - 1}")
    return place_of(switches.index(name), at)
