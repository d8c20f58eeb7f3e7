"""`Ids`: the intrusion detection system of §4.1 as a middlebox of the guest library.

Every packet leaves unchanged. What is known of a flow lives in the guest library, its timers too; the counts over all
flows, and those by client, are coherent state; the configuration and the open alert file are internal. A packet whose
flow has moved away is dropped and counted (§3.3): its new owner gets it from the switch.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from guestlib import FlowMigrated, FlowMissing, Guest, Packet
from middleboxes.ids import detector
from middleboxes.ids.alerts import Alert, AlertFile
from middleboxes.ids.analysers import DATAGRAM, STREAM
from middleboxes.ids.analysis import Side, Sign, StreamAnalyser
from middleboxes.ids.config import IdsConfig
from middleboxes.ids.connection import NOTHING, Connections, Findings, admits
from middleboxes.ids.errors import AlertLost
from middleboxes.ids.packet import Segment, datagram_of, segment_of
from middleboxes.ids.state import PacketCount, Statistics, TcpFlow, UdpFlow, Watched, combine
from middleboxes.ids.tally import Tally
from middleboxes.ids.tcp import ENDED, Connection
from middleboxes.ids.watch import ClientWatch, client_of
from splitmerge.flowkey import TCP, UDP, FlowKey

logger = logging.getLogger("middleboxes.ids")

STATISTICS = "ids.statistics"
"""Key of the coherent statistics."""
EXPIRE = "ids.expire"
"""A timer of every flow: looks whether the flow has been silent."""
ASK = "ids.ask"
"""A timer of a flow with signs: looks at what all replicas know of its client."""
_NO_PORTS = b"\x00\x00\x00\x00"
_HANDSHAKE = frozenset((Connection.NEW, Connection.OPENING, Connection.ANSWERED))


class Ids:
    """The middlebox. ``clock`` gives the time that alerts carry, in seconds since 1970."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock

    def setup(self, guest: Guest) -> None:
        """Before the snapshot. :raises IdsConfigError: for a configuration that is wrong."""
        self.prepare(guest, IdsConfig.of(guest.config))

    def prepare(self, guest: Guest, config: IdsConfig) -> None:
        """`setup` with a configuration that is checked: for what is made on top of this middlebox."""
        self.config = config
        streams: dict[str, StreamAnalyser] = {name: STREAM[name](config) for name in config.analysers if name in STREAM}
        datagrams = [DATAGRAM[name](config) for name in config.analysers if name in DATAGRAM]
        self._connections = Connections(streams, config.reassembly_bytes, config.reassembly_segments)
        self._datagrams = {port: analyser for analyser in datagrams for port in analyser.ports}
        self._rules = detector.rules_of(config)
        self._clients = ClientWatch(config, self._rules, self._clock)
        self._alerts = AlertFile(Path(config.alerts))
        guest.register_state(TcpFlow, UdpFlow, PacketCount, Statistics, Tally)
        guest.on_timer(EXPIRE, self._expire)
        guest.on_timer(ASK, self._ask)
        guest.create_shared(STATISTICS, Statistics(), combine)
        self._clients.create(guest)

    def on_packet(self, guest: Guest, packet: Packet) -> None:
        """Forward the packet and learn from it."""
        frame, key = packet.frame, packet.key
        statistics: Statistics = guest.get_shared(STATISTICS)
        try:
            statistics.packets += 1
            statistics.bytes += len(frame)
            if key is None or key[-1] not in (TCP, UDP):
                guest.send(frame)
            elif key[-1] == UDP or key[-5:-1] == _NO_PORTS:
                self._datagram(guest, key, frame, statistics)
            else:
                self._inspect(guest, key, frame, statistics)
        except FlowMigrated:
            statistics.migrated += 1
        finally:
            guest.put_shared(STATISTICS)

    def on_finish(self, guest: Guest) -> None:
        """No more packets will come."""
        self._alerts.close()

    # -- UDP, and fragments (whose key has no ports) -----------------------------------------------------------

    def _datagram(self, guest: Guest, key: FlowKey, frame: bytes, statistics: Statistics) -> None:
        try:
            flow = guest.get_flow(key)
        except FlowMissing:
            guest.create_flow(key, self._new_datagram_flow(key))
            guest.flow_timer(key, self.config.udp_idle, EXPIRE)
            statistics.flows += 1
            flow = guest.get_flow(key)
        try:
            flow.packets += 1
            flow.bytes += len(frame)
            statistics.unread += key[-1] == TCP
            guest.send(frame)
            if type(flow) is UdpFlow:
                self._read_datagram(guest, key, flow, frame, statistics)
        finally:
            guest.put_flow(key)

    def _new_datagram_flow(self, key: FlowKey) -> PacketCount:
        if key[-1] == UDP and key.high_port in self._datagrams:
            return UdpFlow(client=0, analysis=self._datagrams[key.high_port].begin())
        if key[-1] == UDP and key.low_port in self._datagrams:
            return UdpFlow(client=1, analysis=self._datagrams[key.low_port].begin())
        return PacketCount()

    def _read_datagram(self, guest: Guest, key: FlowKey, flow: UdpFlow, frame: bytes, statistics: Statistics) -> None:
        datagram = datagram_of(frame, key)
        if datagram is None:
            statistics.unread += 1
            return
        analyser = self._datagrams[key.high_port if flow.client == 0 else key.low_port]
        side = Side.CLIENT if datagram.sender == flow.client else Side.SERVER
        reading = analyser.datagram(flow.analysis, side, datagram.payload)
        found = Findings({analyser.name: reading.messages}, list(reading.signs), reading.malformed, reading.overflows)
        self._found(guest, key, flow, found, statistics)

    # -- connections -----------------------------------------------------------------------------------------

    def _inspect(self, guest: Guest, key: FlowKey, frame: bytes, statistics: Statistics) -> None:
        segment = segment_of(frame, key)
        try:
            flow: TcpFlow = guest.get_flow(key)
        except FlowMissing:
            if segment is None or not admits(segment):
                statistics.unread += segment is None
                guest.send(frame)
                return
            guest.create_flow(key, TcpFlow())
            guest.flow_timer(key, self.config.handshake, EXPIRE)
            statistics.flows += 1
            flow = guest.get_flow(key)
        try:
            flow.packets += 1
            flow.bytes += len(frame)
            guest.send(frame)
            if segment is None:
                statistics.unread += 1
            else:
                self._analyse(guest, key, flow, segment, statistics)
        finally:
            guest.put_flow(key)

    def _analyse(self, guest: Guest, key: FlowKey, flow: TcpFlow, segment: Segment, statistics: Statistics) -> None:
        before = flow.connection
        findings = self._connections.take(flow, segment)
        if flow.connection is not before and flow.connection in ENDED:
            flow.checked = flow.packets
            guest.flow_timer(key, self.config.linger, EXPIRE)
        if findings is not NOTHING:
            self._found(guest, key, flow, findings, statistics)

    # -- what was found ----------------------------------------------------------------------------------------

    def _found(self, guest: Guest, key: FlowKey, flow: Watched, findings: Findings, statistics: Statistics) -> None:
        _add(statistics, findings)
        if findings.signs:
            self._count(guest, key, flow, findings.signs, statistics)
        guest.figures.update(requests=statistics.requests, injections=statistics.injections, alerts=statistics.alerts)

    def _count(self, guest: Guest, key: FlowKey, flow: Watched, signs: Sequence[Sign], statistics: Statistics) -> None:
        client = client_of(key, flow.client)
        for passed in detector.judge(self._rules, flow.signs, flow.alerted, signs):
            alert = self._alert(guest, passed.sign, passed.number, scope="flow", flow=str(key), client=client)
            if self._write(alert, statistics):
                flow.alerted.add(passed.sign.kind)
        if self._clients.saw(guest, str(key), client, signs) and not flow.asked:
            flow.asked = True
            guest.flow_timer(key, self.config.refresh, ASK)

    def _ask(self, guest: Guest, key: FlowKey) -> None:
        """A while after a sign: has its client, over all replicas, passed a threshold?"""
        with guest.flow(key) as flow:
            flow.asked = False
        for excess, evidence in self._clients.look(guest):
            sign = Sign(excess.kind, evidence.sign if evidence else "")
            flow_seen = evidence.flow if evidence else str(key)
            alert = self._alert(guest, sign, excess.count, scope="client", flow=flow_seen, client=excess.client)
            statistics: Statistics = guest.get_shared(STATISTICS)
            written = self._write(alert, statistics)
            guest.put_shared(STATISTICS)
            if written:
                self._clients.alerted(guest, excess)

    def _alert(
        self, guest: Guest, sign: Sign, count: int, *, scope: Literal["flow", "client"], flow: str, client: str
    ) -> Alert:
        return Alert(
            time=self._clock(),
            flow=flow,
            client=client,
            scope=scope,
            analyser=self._rules[sign.kind].analyser,
            kind=sign.kind,
            count=count,
            replica=guest.replica,
            evidence=sign.evidence[: self.config.sample_chars],
        )

    def _write(self, alert: Alert, statistics: Statistics) -> bool:
        try:
            self._alerts.write(alert)
        except AlertLost as error:
            statistics.alerts_lost += 1
            logger.error("%s", error)
            return False
        statistics.alerts += 1
        return True

    # -- time --------------------------------------------------------------------------------------------------

    def _expire(self, guest: Guest, key: FlowKey) -> None:
        """Forget a flow that has been silent since the last look, else look again later.

        Counting packets instead of noting times costs a packet nothing, and needs no clock that replicas share. A flow
        so lives between one and two time-outs after its last packet.
        """
        statistics: Statistics = guest.get_shared(STATISTICS)
        try:
            with guest.flow(key) as flow:
                silent = flow.packets == flow.checked
                flow.checked = flow.packets
                if silent and type(flow) is TcpFlow and flow.connection is Connection.OPENING and not flow.signs:
                    self._found(guest, key, flow, Findings({}, [Sign("scan", "no answer")]), statistics)
                if not silent or (isinstance(flow, Watched) and flow.asked):
                    guest.flow_timer(key, self._timeout(flow), EXPIRE)
                    return
                guest.delete_flow(key)
            statistics.expired += 1
        finally:
            guest.put_shared(STATISTICS)

    def _timeout(self, flow: PacketCount) -> float:
        if not isinstance(flow, TcpFlow):
            return self.config.udp_idle
        if flow.connection in ENDED:
            return self.config.linger
        return self.config.handshake if flow.connection in _HANDSHAKE else self.config.tcp_idle


def _add(statistics: Statistics, findings: Findings) -> None:
    for name, number in findings.messages.items():
        statistics.messages[name] = statistics.messages.get(name, 0) + number
    for sign in findings.signs:
        statistics.signs[sign.kind] = statistics.signs.get(sign.kind, 0) + 1
    statistics.malformed += findings.malformed
    statistics.overflows += findings.overflows
    statistics.gaps += findings.gaps
    statistics.gap_bytes += findings.gap_bytes
