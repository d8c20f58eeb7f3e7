"""A whole switch: ports, engine, P4Runtime server, metrics; and its life as a process in the foreground."""

from __future__ import annotations

import gc
import logging
import signal
import sys
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TextIO

from finsy.proto import p4i, p4r
from google.protobuf import text_format
from google.protobuf.message import DecodeError

from p4switch import logs, metrics
from p4switch.admin import ControlSocket, SwitchPorts, open_interface
from p4switch.backend import Variant, device_maker, make_engine
from p4switch.config import SwitchConfig
from p4switch.dataplane import DataplaneServer, StreamPorts
from p4switch.engine import EngineOptions
from p4switch.p4runtime import ControlPlane, PipelineOptions, Refused, Server, ServerOptions, TlsOptions
from p4switch.ports import DumpPort, FilePorts, InterfacePort, LinkMonitor, NanomsgPorts, PacketIo
from p4switch.thrift import ThriftPort
from splitmerge.errors import BadInput

log = logging.getLogger("p4switch")
_POLL = 0.5
"""Seconds between looks whether the data thread still lives."""
_SIGNALS = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGUSR1})


class Switch:
    """Everything that one run needs. Use as a context manager; `start` after entering.

    :raises BadInput: a flag asks for what cannot be had. :raises PortError: likewise, of ports.
    """

    def __init__(self, config: SwitchConfig) -> None:
        self.config = config
        with ExitStack() as undo:
            opened = _open_ports(config, undo)
            plain = opened.interfaces is not None and config.pcap is None and not config.dump
            engine_options = EngineOptions(cpu_port=config.cpu_port, queues=config.priority_queues, interfaces=plain)
            self.engine = make_engine(config.backend, opened.io, engine_options)
            undo.callback(self.engine.stop)
            options = ServerOptions(config.device_id, config.strict)
            maker = device_maker(config.backend, Variant(logs.traces(config.log), config.priority_queues))
            pipelines = PipelineOptions(config.drop_port, config.strict, maker)
            self.control = ControlPlane(self.engine, options, pipelines)
            if config.json is not None:
                self._load(config)
            self.metrics = None
            if config.metrics_address is not None:
                self.metrics = metrics.MetricsServer(config.metrics_address, self.engine, self.control)
                undo.callback(self.metrics.close)
            self.server = _open_server(config, self.control)
            if self.server is not None:
                undo.callback(self.server.stop)
            self.dataplane = None
            if opened.stream is not None:
                self.dataplane = DataplaneServer(opened.stream, config.device_id, self.engine.set_link)
                undo.callback(self.dataplane.stop)
            self.files = opened.files
            self.links = None
            if opened.interfaces is not None:
                self.links = LinkMonitor(opened.interfaces, self.engine.set_link)
                undo.callback(self.links.close)
            self.ports = SwitchPorts(config, self.engine, self.links)
            self.control_socket = None
            if config.control_socket is not None:
                self.control_socket = ControlSocket(config.control_socket, self.ports)
                undo.callback(self.control_socket.close)
            self.thrift = None
            if config.thrift_port is not None:
                self.thrift = ThriftPort(config.thrift_port)
                undo.callback(self.thrift.close)
            self._undo = undo.pop_all()

    def _load(self, config: SwitchConfig) -> None:
        assert config.json is not None
        info = p4i.P4Info() if config.p4info is None else _read_p4info(config)
        try:
            self.control.load(p4r.ForwardingPipelineConfig(p4info=info, p4_device_config=config.json.read_bytes()))
        except Refused as error:
            raise BadInput(str(config.json), error.message, "compile the program again with p4c-bm2-ss") from None

    def start(self) -> None:
        """Begin to move packets and to answer."""
        if self.links is not None:
            self.links.start()
        self.engine.start()
        if self.server is not None:
            self.server.start()
        if self.dataplane is not None:
            self.dataplane.start()
        if self.files is not None:
            self.files.start()
        if self.control_socket is not None:
            self.control_socket.start()
        if self.thrift is not None:
            self.thrift.start()

    def __enter__(self) -> Switch:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._undo.close()


@dataclass
class _Opened:
    """Packet I/O, and those parts of it that somebody else deals with too."""

    io: list[PacketIo] = field(default_factory=list)
    stream: StreamPorts | None = None
    files: FilePorts | None = None
    interfaces: list[InterfacePort] | None = None
    """None: packets come from elsewhere."""


def _open_ports(config: SwitchConfig, undo: ExitStack) -> _Opened:
    opened = _Opened()
    if config.packet_in is not None:
        opened.io.append(NanomsgPorts(config.packet_in))
        undo.callback(opened.io[0].close)
    elif config.dataplane_address is not None:
        opened.stream = StreamPorts(config.dataplane_address)
        opened.io.append(opened.stream)
        undo.callback(opened.stream.close)
    elif config.files_after is not None:
        names = {item.port: item.interface for item in config.interfaces}
        opened.files = FilePorts(names, Path(), config.files_after)
        opened.io.append(opened.files)
        undo.callback(opened.files.close)
    else:
        _open_interfaces(config, opened, undo)
    if config.dump and opened.interfaces is None:
        opened.io = [DumpPort(port, config.dump) for port in opened.io]
    return opened


def _open_interfaces(config: SwitchConfig, opened: _Opened, undo: ExitStack) -> None:
    opened.interfaces = []
    for item in config.interfaces:
        interface, port = open_interface(config, item)
        undo.callback(port.close)
        opened.interfaces.append(interface)
        opened.io.append(port)


def _read_p4info(config: SwitchConfig) -> p4i.P4Info:
    assert config.p4info is not None
    raw, info = config.p4info.read_bytes(), p4i.P4Info()
    try:
        if config.p4info.suffix in (".bin", ".pb"):
            info.ParseFromString(raw)
        else:
            text_format.Parse(raw, info)
    except (text_format.ParseError, DecodeError, UnicodeDecodeError) as error:
        raise BadInput(f"--p4info {config.p4info}", str(error), "give the P4Info that p4c wrote") from None
    return info


def _open_server(config: SwitchConfig, control: ControlPlane) -> Server | None:
    try:
        return Server(control, config.grpc_address, _tls(config))
    except BadInput as error:
        if not config.grpc_optional or error.where != "--grpc-server-addr":
            raise
        log.warning("there is no P4Runtime: %s", error)
        return None


def _tls(config: SwitchConfig) -> TlsOptions | None:
    tls = config.tls
    return None if tls is None else TlsOptions(tls.cert, tls.key, tls.ca, tls.client_auth)


def run(config: SwitchConfig) -> int:
    """Run in the foreground until SIGTERM or SIGINT (exit status 0), or until the data thread fails (1).

    :raises SplitmergeError: it could not start.
    """
    logs.set_up(config.log)
    for note in config.notes:
        _say(sys.stderr, f"note: {note}")
    # Blocked before any thread starts, so that every thread inherits it and `_wait` alone receives them.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        with Switch(config) as switch:
            elsewhere = config.packet_in is not None or config.dataplane_address is not None
            for item in () if elsewhere else config.interfaces:
                _say(sys.stdout, f"Adding interface {item.interface} as port {item.port}")
            _settle_memory()
            switch.start()
            if switch.server is not None:
                _say(sys.stdout, f"Server listening on {config.grpc_address}")
            return _wait(switch)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _settle_memory() -> None:
    """Keep the collector from walking modules and tables again and again: entries are never part of a cycle."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


def _wait(switch: Switch) -> int:
    while switch.engine.failure is None:
        received = signal.sigtimedwait(_SIGNALS, _POLL)
        if received is not None:
            _log_counts(switch)
            if received.si_signo != signal.SIGUSR1:
                return 0
    _say(sys.stderr, f"the data plane failed: {switch.engine.failure!r}")
    return 1


def _log_counts(switch: Switch) -> None:
    for line in metrics.lines(switch.engine, switch.control):
        log.info("%s", line)


def _say(stream: TextIO, text: str) -> None:
    stream.write(text + "\n")
    stream.flush()
