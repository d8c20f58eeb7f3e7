"""What the command line says, checked."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from p4switch.backend import BackendChoice
from splitmerge.decimals import decimal
from splitmerge.errors import BadInput, shortened

LARGEST_PORT = 0xFFFF


@dataclass(frozen=True, slots=True)
class InterfaceBinding:
    """``-i port@interface``."""

    port: int
    interface: str


def parse_binding(text: str, flag: str = "-i/--interface") -> InterfaceBinding:
    """``PORT@INTERFACE``, within spaces as p4c's STF runner writes it. :raises BadInput: it is not that."""
    number, at, name = text.strip(" ").partition("@")
    if not at or not number.isascii() or not number.isdecimal() or not name:
        raise BadInput(flag, f"{shortened(text)!r} is not PORT@INTERFACE", "for instance 1@veth1")
    port = decimal(number, LARGEST_PORT)
    if port is None:
        raise BadInput(flag, f"port {shortened(number)} is out of range", f"give 0..{LARGEST_PORT}")
    if len(name.encode()) > 15:
        raise BadInput(flag, f"{name!r} is too long for an interface's name", "see `ip link`")
    return InterfaceBinding(port, name)


@dataclass(frozen=True, slots=True)
class LogOptions:
    """Where the log goes. Neither ``console`` nor ``file``: nowhere but warnings on standard error."""

    console: bool = False
    file: Path | None = None
    """Without the ``.txt`` that simple_switch_grpc appends."""
    level: str = "info"
    """trace, debug, info, warn, error or off."""
    flush: bool = False
    max_size: int = 5_242_880
    """Bytes of one log file."""
    max_files: int = 3


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """``--grpc-server-ssl`` and its files."""

    cert: Path
    key: Path
    ca: Path | None = None
    client_auth: bool = False


@dataclass(frozen=True, slots=True)
class SwitchConfig:
    """One run of the switch."""

    json: Path | None = None
    """The program; None with --no-p4."""
    p4info: Path | None = None
    """P4Info of ``json``, which only tests and demos without a controller need."""
    interfaces: tuple[InterfaceBinding, ...] = ()
    packet_in: str | None = None
    """Address of a nanomsg PAIR socket; then ``interfaces`` are not opened."""
    dataplane_address: str | None = None
    """Where to offer ``p4.bm.DataplaneInterface``; then ``interfaces`` are not opened."""
    files_after: int | None = None
    """Packets of ``interfaces`` come from files and go to files, this many seconds after the start."""
    pcap: Path | None = None
    device_id: int = 0
    cpu_port: int | None = None
    drop_port: int = 511
    grpc_address: str = "127.0.0.1:9559"
    grpc_optional: bool = False
    """Go on without P4Runtime if its address is taken."""
    tls: TlsFiles | None = None
    priority_queues: int = 1
    """Queues of each port, the last of which goes first."""
    dump: int = 0
    """Bytes of each frame that are logged."""
    thrift_port: int | None = None
    """Where to listen so that wrappers believe that the switch is up."""
    metrics_address: str | None = None
    """``host:port`` of a Prometheus endpoint."""
    control_socket: Path | None = None
    """Unix socket through which `p4switch ports`, `port-add` and `port-remove` reach the switch."""
    strict: bool = False
    backend: BackendChoice = BackendChoice.AUTO
    log: LogOptions = field(default_factory=LogOptions)
    notes: tuple[str, ...] = ()
    """Flags that were taken and do nothing here, each with its reason."""
