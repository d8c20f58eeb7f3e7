"""Ports that come and go while the switch runs."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass

from p4switch.config import InterfaceBinding, SwitchConfig
from p4switch.engine import Engine
from p4switch.errors import PortError
from p4switch.ports import DumpPort, InterfacePort, LinkMonitor, PacketIo, PcapPort

log = logging.getLogger("p4switch")


@dataclass(frozen=True, slots=True)
class PortState:
    """One port. Counts are frames and bytes."""

    port: int
    interface: str
    up: bool
    received_packets: int
    received_bytes: int
    sent_packets: int
    sent_bytes: int


def open_interface(config: SwitchConfig, item: InterfaceBinding) -> tuple[InterfacePort, PacketIo]:
    """The interface, and what the engine takes: the interface within its dumps.

    :raises BadInput: there is no such interface. :raises PortError: its dumps cannot be written.
    """
    interface = InterfacePort(item.port, item.interface)
    port: PacketIo = interface
    try:
        if config.pcap is not None:
            port = PcapPort(port, config.pcap)
    except PortError:
        interface.close()
        raise
    if config.dump:
        port = DumpPort(port, config.dump)
    return interface, port


class SwitchPorts:
    """The ports of a running switch; ``links`` None: they are not interfaces, and stay as they are."""

    def __init__(self, config: SwitchConfig, engine: Engine, links: LinkMonitor | None) -> None:
        self._config = config
        self._engine = engine
        self._links = links
        self._lock = threading.Lock()
        """One change at a time."""

    def add(self, item: InterfaceBinding) -> None:
        """Packets come and go there from now on.

        :raises PortError: the number or the interface is in use, or packets come from elsewhere.
        :raises BadInput: there is no such interface.
        """
        links = self._changeable()
        with self._lock:
            for state in self.all():
                if state.port == item.port:
                    raise PortError(f"port {item.port} is in use, by {state.interface}")
                if state.interface == item.interface:
                    raise PortError(f"{item.interface} is port {state.port} already")
            interface, port = open_interface(self._config, item)
            try:
                self._engine.add_port(port)
            except (PortError, TimeoutError):
                port.close()
                raise
            self._engine.set_link(item.port, True)
            links.add(interface)
        log.info("port %d: %s was added", item.port, item.interface)

    def remove(self, port: int) -> None:
        """Nothing comes or goes there from now on; members of groups that watch it are left out.

        :raises PortError: there is no such port, or packets come from elsewhere.
        """
        links = self._changeable()
        with self._lock:
            self._engine.remove_port(port)
            links.remove(port)
            self._engine.set_link(port, False)
        log.info("port %d was removed", port)

    def all(self) -> list[PortState]:
        """By number."""
        outputs, received = self._engine.outputs(), self._engine.received
        down, found = self._engine.ports_down(), []
        for io in self._engine.ports:
            for port, name in io.ports().items():
                packets, octets = received.get(port, (0, 0))
                queue = outputs.get(port)
                sent = (0, 0) if queue is None else (queue.packets, queue.bytes)
                found.append(PortState(port, name, port not in down, packets, octets, *sent))
        return sorted(found, key=lambda state: state.port)

    def _changeable(self) -> LinkMonitor:
        if self._links is None:
            raise PortError("this switch's packets come from elsewhere than interfaces; start it with -i, or no ports")
        return self._links
