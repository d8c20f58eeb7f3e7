"""`Adc`: the load balancer of §2.1 as a middlebox of the guest library.

A connection to a virtual service is given to a server, and stays there: the flow table, by the client's address and
port, is the library's. Replies come to the replica that has the connection: with source ``own`` because the port that
the server sees is chosen so (one bucket for both keys), with source ``client`` because the library has the second key
steered before the first packet leaves.
"""

from __future__ import annotations

import itertools
import logging
import random
from collections import Counter
from collections.abc import Callable

from guestlib import PULL, FlowExists, FlowMigrated, FlowMissing, Guest, Packet
from middleboxes.adc.choice import least_connections, round_robin
from middleboxes.adc.config import AdcConfig, Server, Service
from middleboxes.adc.health import Prober
from middleboxes.adc.state import LOAD, Check, Connection, Load, combine
from middleboxes.config import address_of
from middleboxes.packets import ACK, SYN, Datagram
from splitmerge.colocation import Outside
from splitmerge.errors import SplitmergeError
from splitmerge.flowkey import TCP, UDP, FlowKey

logger = logging.getLogger("middleboxes.adc")

EXPIRE = "adc.expire"
"""The timer of every connection: looks whether it has been silent."""
CHECK = "adc.check"
"""The timer of every health check: judges the last look and begins the next."""
CHECK_PORTS = 1023


class Adc:
    """The middlebox. ``choose`` gives random numbers below 2**16 (RFC 6056)."""

    def __init__(self, choose: Callable[[], int] = lambda: random.getrandbits(16)) -> None:
        self._choose = choose

    def setup(self, guest: Guest) -> None:
        """Before the snapshot. :raises BadInput: for a configuration that is wrong."""
        self.config = AdcConfig.of(guest.config)
        self.answers = self.config.answers()
        self._own = {len(address): address for address in reversed(self.config.addresses())}
        self._services = {self._place(service): index for index, service in enumerate(self.config.services)}
        self._addresses = {
            server.name: address_of(server.address, "middlebox adc")
            for service in self.config.services
            for server in service.servers
        }
        self._up: dict[str, bool] = {}
        self._checks: dict[str, FlowKey] = {}
        self._turns = itertools.count()
        self._drops: Counter[str] = Counter()
        self._others: dict[str, int] = {}
        self._others_down: dict[str, int] = {}
        self._refresh_at = 0.0
        guest.register_state(Connection, Check, Load)
        guest.on_timer(EXPIRE, self._expire)
        guest.on_timer(CHECK, self._check)
        guest.on_refused(self._refused)
        guest.create_shared(LOAD, Load({}, {}, {}), combine)

    @staticmethod
    def _place(service: Service) -> tuple[bytes, int, int]:
        return address_of(service.address, "middlebox adc"), service.number, service.port

    # -- packets -----------------------------------------------------------------------------------------------

    def on_packet(self, guest: Guest, packet: Packet) -> None:
        """Pass one packet on to the server or the client, or drop and count it."""
        key = packet.key
        data = Datagram.of(packet.frame) if key is not None else None
        if key is None or data is None:
            self._drop(guest, "not_ip")
        elif data.fragment or not data.readable or data.protocol not in (TCP, UDP):
            self._drop(guest, "protocol")
        else:
            self._take(guest, key, data)

    def _take(self, guest: Guest, key: FlowKey, data: Datagram) -> None:
        try:
            flow: Connection | Check = guest.get_flow(key)
        except FlowMissing:
            flow_or_reason = self._begin(guest, key, data)
            if flow_or_reason:
                self._drop(guest, flow_or_reason)
                return
            flow = guest.get_flow(key)
        try:
            if isinstance(flow, Check):
                self._take_answer(guest, key, flow, data)
                return
            if not self._starts_over(flow, data):
                self._pass(guest, key, flow, data)
                return
        finally:
            guest.put_flow(key)
        self._end(guest, key, flow)
        self._take(guest, key, data)

    def _starts_over(self, flow: Connection, data: Datagram) -> bool:
        """Whether a SYN is of a new connection: the old one is over, or its server does not answer any more."""
        if data.protocol != TCP or data.flags & (SYN | ACK) != SYN or data.source != flow.client:
            return False
        return flow.stage.closed or (not flow.answered and not self._up.get(flow.name, True))

    def _pass(self, guest: Guest, key: FlowKey, flow: Connection, data: Datagram) -> None:
        from_client = data.source == flow.client and data.source_port == flow.client_port
        flow.packets += 1
        flow.answered = flow.answered or not from_client
        if data.protocol == TCP and flow.stage.took(data.flags, opener=from_client):
            guest.flow_timer(key, self._timeout(flow, TCP), EXPIRE)
        if from_client:
            data.set_source(flow.source, flow.source_port)
            data.set_destination(flow.server, flow.server_port)
        else:
            data.set_source(flow.virtual, flow.virtual_port)
            data.set_destination(flow.client, flow.client_port)
        guest.send(bytes(data))

    def _drop(self, guest: Guest, reason: str) -> None:
        self._drops[reason] += 1
        guest.figures[f"dropped_{reason}"] = self._drops[reason]

    # -- connections -------------------------------------------------------------------------------------------

    def _begin(self, guest: Guest, key: FlowKey, data: Datagram) -> str:
        """Give a new connection to a server; why not, if it is none or there is none."""
        index = self._services.get((data.destination, data.protocol, data.destination_port))
        if index is None:
            return "no_service"
        if data.protocol == TCP and data.flags & (SYN | ACK) != SYN:
            return "no_connection"
        self._look_after(guest, index)
        service = self.config.services[index]
        living = [server for server in service.servers if self._up.get(server.name, True)]
        if not living:
            return "no_server"
        server = self._choose_server(guest, service, living)
        return self._add(guest, key, data, service, server)

    def _add(self, guest: Guest, key: FlowKey, data: Datagram, service: Service, server: Server) -> str:
        address = self._addresses[server.name]
        source, port = data.source, data.source_port
        second = FlowKey.of(data.protocol, source, port, address, server.port)
        if service.source == "own":
            outside = Outside(self._own[len(source)], address, server.port, data.protocol)
            found = guest.colocated_port(outside, key, self.config.ports, self._choose())
            if found is None:
                return "no_port"
            (port, second), source = found, outside.address
        flow = Connection(
            data.source, data.source_port, data.destination, data.destination_port,
            address, server.port, source, port, server.name,
        )  # fmt: skip
        try:
            guest.create_flow(key, flow, aliases=[second])
        except FlowExists:
            return "conflict"
        guest.flow_timer(key, self._timeout(flow, data.protocol), EXPIRE)
        self._count(guest, server.name, 1)
        return ""

    def _choose_server(self, guest: Guest, service: Service, living: list[Server]) -> Server:
        turn = next(self._turns) + guest.replica  # so that new replicas do not all begin with the first server
        if service.policy == "round-robin":
            return round_robin(living, turn)
        if guest.now >= self._refresh_at:
            self._refresh(guest)
        load: Load = guest.get_shared(LOAD)
        open_now = {name: load.open.get(name, 0) + self._others.get(name, 0) for name in self._addresses}
        guest.put_shared(LOAD)
        return least_connections(living, open_now, turn)

    def _refresh(self, guest: Guest) -> None:
        """What the other replicas have, and which servers they find down."""
        self._refresh_at = guest.now + self.config.refresh
        load: Load = guest.get_shared(LOAD)
        mine = combine([load])
        guest.put_shared(LOAD)
        try:
            total: Load = guest.get_shared(LOAD, PULL)
        except SplitmergeError as error:
            logger.warning("the other replicas' loads cannot be asked for: %s", error)
            return
        self._others = {name: count - mine.open.get(name, 0) for name, count in total.open.items()}
        self._others_down = {name: count - mine.down.get(name, 0) for name, count in total.down.items()}
        guest.put_shared(LOAD)

    def _count(self, guest: Guest, name: str, change: int) -> None:
        load: Load = guest.get_shared(LOAD)
        load.open[name] = load.open.get(name, 0) + change
        if change > 0:
            load.given[name] = load.given.get(name, 0) + 1
            guest.figures[f"given {name}"] = load.given[name]
        guest.put_shared(LOAD)

    def _end(self, guest: Guest, key: FlowKey, flow: Connection) -> None:
        guest.delete_flow(key)
        self._count(guest, flow.name, -1)

    # -- health ------------------------------------------------------------------------------------------------

    def _look_after(self, guest: Guest, index: int) -> None:
        """See to it that this replica checks the service's servers."""
        service = self.config.services[index]
        if service.health.kind == "none":
            return
        missing = [
            (number, server)
            for number, server in enumerate(service.servers)
            if (key := self._checks.get(server.name)) is None or not guest.has_flow(key)
        ]
        if not missing:
            return
        # A new replica, or one whose checks went with a move of all its flows: what it knew is old; the others know.
        self._refresh(guest)
        for number, server in missing:
            check = Check(index, number, 0, up=not self._others_down.get(server.name))
            self._judge(guest, check, server)
            self._begin_check(guest, check, server)

    def _begin_check(self, guest: Guest, check: Check, server: Server) -> None:
        """On a port that no other replica uses for this server, as a rule; a key that moved away is passed over."""
        address = self._addresses[server.name]
        for attempt in range(CHECK_PORTS):
            check.port = (guest.replica + 37 * attempt) % CHECK_PORTS + 1
            key = FlowKey.of(TCP, self._own[len(address)], check.port, address, server.port)
            try:
                guest.create_flow(key, check, expected=True)
            except (FlowExists, FlowMigrated):
                continue
            self._checks[server.name] = key
            self._check(guest, key)
            return
        logger.error("server %s is not checked: no port is left for it", server.name)

    def _check(self, guest: Guest, key: FlowKey) -> None:
        with guest.flow(key) as check:
            server = self.config.services[check.service].servers[check.server]
            if self._checks.get(server.name) != key:  # another replica's, come by a move: that one begins another
                guest.delete_flow(key)
                return
            guest.send(self._prober(check).begin(check))
            guest.flow_timer(key, self.config.services[check.service].health.interval, CHECK)
            self._judge(guest, check, server)

    def _take_answer(self, guest: Guest, key: FlowKey, check: Check, data: Datagram) -> None:
        for frame in self._prober(check).take(check, data):
            guest.send(frame)
        server = self.config.services[check.service].servers[check.server]
        if self._checks.get(server.name) == key:
            self._judge(guest, check, server)

    def _prober(self, check: Check) -> Prober:
        service = self.config.services[check.service]
        server = service.servers[check.server]
        address = self._addresses[server.name]
        return Prober(service.health, self._own[len(address)], address, server.port, service.address)

    def _judge(self, guest: Guest, check: Check, server: Server) -> None:
        if check.up is self._up.get(server.name, True):
            return
        self._up[server.name] = check.up
        logger.warning("server %s is %s", server.name, "up" if check.up else "down")
        load: Load = guest.get_shared(LOAD)
        load.down[server.name] = int(not check.up)
        guest.put_shared(LOAD)
        guest.figures["servers_down"] = sum(not up for up in self._up.values())

    # -- time --------------------------------------------------------------------------------------------------

    def _refused(self, guest: Guest, key: FlowKey, second: FlowKey) -> None:
        """A connection elsewhere has the key to its server: the client's SYN, said again, begins it anew."""
        if not guest.has_flow(key):
            return
        with guest.flow(key) as flow:
            if isinstance(flow, Connection):
                self._end(guest, key, flow)

    def _expire(self, guest: Guest, key: FlowKey) -> None:
        """Forget a connection that has been silent since the last look, else look again later."""
        with guest.flow(key) as flow:
            if flow.packets == flow.checked:
                self._end(guest, key, flow)
                return
            flow.checked = flow.packets
            guest.flow_timer(key, self._timeout(flow, key.protocol), EXPIRE)

    def _timeout(self, flow: Connection, protocol: int) -> float:
        if protocol == UDP:
            return self.config.udp_idle
        if flow.stage.closed:
            return self.config.tcp_closed
        return self.config.tcp_idle if flow.stage.opened else self.config.tcp_opening
