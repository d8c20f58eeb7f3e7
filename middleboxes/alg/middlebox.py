"""`Alg`: the packet modifier of §4.2 as a middlebox of the guest library.

Hosts inside appear under an external address. A flow's own key is that of the side it began on. Where it begins inside,
the external port is chosen so that the translated key has the same bucket: replies come to the replica that has the
mapping without an entry in the switch. A flow that begins outside (a forwarded port, an FTP data connection) has the
side inside as a second key, which the library has steered before the first packet leaves.
"""

from __future__ import annotations

import ipaddress
import random
import time
from collections import Counter
from collections.abc import Callable

from guestlib import FlowExists, FlowMissing, Guest, Packet
from middleboxes.alg.config import AlgConfig
from middleboxes.alg.expect import EXPECTED, Expectations, combine
from middleboxes.alg.gateway import NO_PORT, Gateway, NotNow
from middleboxes.alg.state import Ftp, Mapping
from middleboxes.packets import ACK, SYN, Datagram
from splitmerge.colocation import Outside
from splitmerge.flowkey import ICMP, ICMPV6, TCP, UDP, FlowKey

EXPIRE = "alg.expire"
"""The one timer of every flow: looks whether the flow has been silent."""


class Alg:
    """The middlebox. ``clock`` gives seconds since 1970, ``choose`` random numbers below 2**16 (RFC 6056)."""

    def __init__(
        self, clock: Callable[[], float] = time.time, choose: Callable[[], int] = lambda: random.getrandbits(16)
    ) -> None:
        self._clock = clock
        self._choose = choose

    def setup(self, guest: Guest) -> None:
        """Before the snapshot. :raises BadInput: for a configuration that is wrong."""
        self.config = AlgConfig.of(guest.config)
        self._networks = self.config.networks()
        self._externals = self.answers = self.config.addresses()
        self._servers = self.config.servers()
        self._ports = self.config.ports
        self._gateway = Gateway(self.config, self._clock, self._choose, EXPIRE)
        self._drops: Counter[str] = Counter()
        guest.register_state(Mapping, Expectations)
        guest.on_timer(EXPIRE, self._expire)
        guest.on_refused(self._refused)
        guest.on_wanted(self._wanted)
        guest.create_shared(EXPECTED, Expectations(), combine)

    # -- packets ---------------------------------------------------------------------------------------------

    def on_packet(self, guest: Guest, packet: Packet) -> None:
        """Translate one packet and send it, or drop and count it."""
        key = packet.key
        data = Datagram.of(packet.frame) if key is not None else None
        if key is None or data is None:
            self._drop(guest, "not_ip")
        elif data.fragment:
            self._drop(guest, "fragment")  # its ports are in another one, which may be at another replica
        elif data.readable and (data.protocol in (TCP, UDP) or data.echo):
            self._take(guest, key, data)
        elif (quoted := data.quoted) is not None:
            self._take_error(guest, data, quoted)
        else:
            self._drop(guest, "protocol")

    def _take(self, guest: Guest, key: FlowKey, data: Datagram) -> None:
        try:
            flow: Mapping = guest.get_flow(key)
        except FlowMissing:
            reason = self._begin(guest, key, data)
            if reason:
                self._drop(guest, reason)
                return
            flow = guest.get_flow(key)
        try:
            self._translate(guest, key, flow, data)
        except NotNow as missing:
            self._drop(guest, missing.reason)
        finally:
            guest.put_flow(key)

    def _translate(self, guest: Guest, key: FlowKey, flow: Mapping, data: Datagram) -> None:
        outward = data.source == flow.inside and data.source_port == flow.inside_port
        flow.packets += 1
        if flow.expected:
            flow.expected = False
            guest.flow_timer(key, self._timeout(flow, data.protocol), EXPIRE)
        if flow.ftp is not None and flow.stage.begins_anew(data.flags):
            flow.ftp = Ftp()  # the endpoints' next connection has other numbers
        after = None
        if flow.ftp is not None:
            after = self._gateway.rewrite(guest, flow, flow.ftp, data, outward=outward)
        if data.protocol == TCP and flow.stage.took(data.flags, opener=outward):  # only now: a FIN may not leave
            guest.flow_timer(key, self._timeout(flow, TCP), EXPIRE)
        if outward:
            data.set_source(flow.outside, flow.outside_port)
        else:
            data.set_destination(flow.inside, flow.inside_port)
        if after is None:
            guest.send(bytes(data))
        else:
            guest.send_after(bytes(data), after)

    def _take_error(self, guest: Guest, data: Datagram, quoted: Datagram) -> None:
        """An ICMP error (RFC 5508 §4): about a packet that was translated, so the quotation has to be put back."""
        if not quoted.readable or quoted.protocol not in (TCP, UDP, ICMP, ICMPV6):
            self._drop(guest, "protocol")
            return
        ports = (quoted.source_port, quoted.destination_port)
        key = FlowKey.of(quoted.protocol, quoted.source, ports[0], quoted.destination, ports[1])
        if not guest.has_flow(key):  # its key has no ports, so it may have come to another replica than its flow's
            self._drop(guest, "icmp_error")
            return
        with guest.flow(key) as flow:
            if quoted.source == flow.outside:
                quoted.set_source(flow.inside, flow.inside_port)
                data.set_destination(flow.inside)
            else:
                quoted.set_destination(flow.outside, flow.outside_port)
                data.set_source(flow.outside)
            data.requote(quoted)
            guest.send(bytes(data))

    def _drop(self, guest: Guest, reason: str) -> None:
        self._drops[reason] += 1
        guest.figures[f"dropped_{reason}"] = self._drops[reason]

    # -- flows -----------------------------------------------------------------------------------------------

    def _begin(self, guest: Guest, key: FlowKey, data: Datagram) -> str:
        """Make the flow that this packet begins; why not, if it begins none."""
        if data.protocol == TCP and data.flags & (SYN | ACK) != SYN:
            return "no_mapping"
        if self._is_inside(data.source):
            return "hairpin" if data.destination in self._externals else self._begin_inside(guest, key, data)
        if data.destination not in self._externals:
            return "unsolicited"
        place = (len(data.destination), data.protocol, data.destination_port)
        server = self._servers.get(place)
        if server is not None:
            flow = Mapping(*server, data.destination, data.destination_port, data.source, data.source_port)
            is_control = data.protocol == TCP and server[1] in self.config.ftp_ports
            return self._begin_outside(guest, key, flow, data.protocol, control=is_control)
        expectation = self._gateway.expectation(guest, data) if data.protocol == TCP else None
        if expectation is None:
            return "unsolicited"
        self._gateway.came(guest, data)
        flow = Mapping(
            expectation.inside, expectation.inside_port, data.destination, data.destination_port,
            data.source, data.source_port, group=expectation.group,
        )  # fmt: skip
        return self._begin_outside(guest, key, flow, TCP)

    def _begin_inside(self, guest: Guest, key: FlowKey, data: Datagram) -> str:
        for external in self._externals:
            if len(external) != len(data.source):
                continue
            outside = Outside(external, data.destination, data.destination_port, data.protocol)
            found = guest.colocated_port(outside, key, self._ports, self._choose())
            if found is not None:
                port, second = found
                flow = Mapping(data.source, data.source_port, external, port, data.destination, data.destination_port)
                control = data.protocol == TCP and data.destination_port in self.config.ftp_ports
                return self._add(guest, key, second, flow, data.protocol, control=control)
        return NO_PORT

    def _begin_outside(self, guest: Guest, key: FlowKey, flow: Mapping, protocol: int, *, control: bool = False) -> str:
        second = FlowKey.of(protocol, flow.inside, flow.inside_port, flow.remote, flow.remote_port)
        return self._add(guest, key, second, flow, protocol, control=control)

    def _add(self, guest: Guest, key: FlowKey, second: FlowKey, flow: Mapping, protocol: int, *, control: bool) -> str:
        if control:
            flow.ftp = Ftp()
            flow.group = f"ftp {key}"
        try:
            guest.create_flow(key, flow, aliases=[second], group=flow.group)
        except FlowExists:
            return "conflict"
        guest.flow_timer(key, self._timeout(flow, protocol), EXPIRE)
        return ""

    def _is_inside(self, address: bytes) -> bool:
        shown = ipaddress.ip_address(address)
        return any(shown in network for network in self._networks)

    def _refused(self, guest: Guest, key: FlowKey, second: FlowKey) -> None:
        """A living flow elsewhere has one of its keys: it cannot work. Its first packet, said again, begins it anew."""
        if not guest.has_flow(key):  # its other key was refused too
            return
        with guest.flow(key) as flow:
            expected = flow.expected
        if expected:
            self._gateway.withdraw(guest, key, refused=second != key)
        else:
            guest.delete_flow(key)

    def _wanted(self, guest: Guest, key: FlowKey, wanted: FlowKey) -> None:
        with guest.flow(key) as flow:
            listens = bool(flow.group) and flow.ftp is None and wanted != key  # what is announced begins outside
        self._gateway.give_way(guest, key, listens=listens)

    # -- time ------------------------------------------------------------------------------------------------

    def _expire(self, guest: Guest, key: FlowKey) -> None:
        """Forget a flow that has been silent since the last look, else look again later.

        Counting packets costs a packet less than moving a timer. A flow so lives one to two time-outs.
        """
        with guest.flow(key) as flow:
            if flow.packets == flow.checked and flow.expected and guest.waits_for(key):
                self._gateway.withdraw(guest, key)  # nobody has heard of it
                return
            if flow.packets == flow.checked:
                guest.delete_flow(key)
                return
            flow.checked = flow.packets
            guest.flow_timer(key, self._timeout(flow, key.protocol), EXPIRE)

    def _timeout(self, flow: Mapping, protocol: int) -> float:
        config = self.config
        if flow.expected:
            return config.expect
        if protocol == UDP:
            return config.udp_idle
        if protocol != TCP:
            return config.icmp_idle
        if flow.stage.closed:
            return config.tcp_closed
        return config.tcp_idle if flow.stage.opened else config.tcp_opening
