"""`Ids`: the intrusion detection system of §4.1 as a middlebox of the guest library.

Every packet leaves unchanged. What is known of a flow lives in the guest library, its timer too; the counts over all
flows are coherent state; the configuration and the open alert file are internal. A packet whose flow has moved away is
dropped and counted (§3.3): its new owner gets it from the switch.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path

from guestlib import FlowMigrated, FlowMissing, Guest, Packet
from middleboxes.ids.alerts import Alert, AlertFile
from middleboxes.ids.analyser import NOTHING, Analyser, Findings, admits
from middleboxes.ids.config import IdsConfig
from middleboxes.ids.errors import AlertLost
from middleboxes.ids.packet import Segment, segment_of
from middleboxes.ids.state import PacketCount, Statistics, TcpFlow, combine
from middleboxes.ids.tcp import ENDED, Connection
from splitmerge.flowkey import TCP, UDP, FlowKey

logger = logging.getLogger("middleboxes.ids")

STATISTICS = "ids.statistics"
"""Key of the coherent statistics."""
EXPIRE = "ids.expire"
"""The one timer of every flow: looks whether the flow has been silent."""
_NO_PORTS = b"\x00\x00\x00\x00"
_HANDSHAKE = frozenset((Connection.NEW, Connection.OPENING, Connection.ANSWERED))


class Ids:
    """The middlebox. ``clock`` gives the time that alerts carry, in seconds since 1970."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock

    def setup(self, guest: Guest) -> None:
        """Before the snapshot. :raises IdsConfigError: for a configuration that is wrong."""
        self.config = IdsConfig.of(guest.config)
        self._analyser = Analyser(self.config)
        self._alerts = AlertFile(Path(self.config.alerts))
        guest.register_state(TcpFlow, PacketCount, Statistics)
        guest.on_timer(EXPIRE, self._expire)
        guest.create_shared(STATISTICS, Statistics(), combine)

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
                self._count(guest, key, frame, statistics)
            else:
                self._inspect(guest, key, frame, statistics)
        except FlowMigrated:
            statistics.migrated += 1
        finally:
            guest.put_shared(STATISTICS)

    def on_finish(self, guest: Guest) -> None:
        """No more packets will come."""
        self._alerts.close()

    # -- flows that are counted ------------------------------------------------------------------------------

    def _count(self, guest: Guest, key: FlowKey, frame: bytes, statistics: Statistics) -> None:
        """UDP, and fragments (whose key has no ports)."""
        try:
            flow = guest.get_flow(key)
        except FlowMissing:
            guest.create_flow(key, PacketCount())
            guest.flow_timer(key, self.config.udp_idle, EXPIRE)
            statistics.flows += 1
            flow = guest.get_flow(key)
        try:
            flow.packets += 1
            flow.bytes += len(frame)
            statistics.unread += key[-1] == TCP
            guest.send(frame)
        finally:
            guest.put_flow(key)

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
        findings = self._analyser.take(flow, segment)
        if flow.connection is not before and flow.connection in ENDED:
            flow.checked = flow.packets
            guest.flow_timer(key, self.config.linger, EXPIRE)
        if findings is NOTHING:
            return
        _add(statistics, findings)
        if findings.alert:
            self._alert(guest, key, flow, findings, statistics)
        guest.figures.update(requests=statistics.requests, injections=statistics.injections, alerts=statistics.alerts)

    def _alert(self, guest: Guest, key: FlowKey, flow: TcpFlow, findings: Findings, statistics: Statistics) -> None:
        alert = Alert(
            time=self._clock(),
            flow=str(key),
            count=findings.alert,
            replica=guest.replica,
            sample=findings.sample[: self.config.sample_chars],
        )
        try:
            self._alerts.write(alert)
        except AlertLost as error:
            statistics.alerts_lost += 1
            logger.error("%s", error)
            return
        flow.alerted = True
        statistics.alerts += 1

    # -- time --------------------------------------------------------------------------------------------------

    def _expire(self, guest: Guest, key: FlowKey) -> None:
        """Forget a flow that has been silent since the last look, else look again later.

        Counting packets instead of noting times costs a packet nothing, and needs no clock that replicas share. A flow
        so lives between one and two time-outs after its last packet.
        """
        with guest.flow(key) as flow:
            silent = flow.packets == flow.checked
            flow.checked = flow.packets
            if not silent:
                guest.flow_timer(key, self._timeout(flow), EXPIRE)
                return
            guest.delete_flow(key)
        statistics: Statistics = guest.get_shared(STATISTICS)
        statistics.expired += 1
        guest.put_shared(STATISTICS)

    def _timeout(self, flow: TcpFlow | PacketCount) -> float:
        if isinstance(flow, PacketCount):
            return self.config.udp_idle
        if flow.connection in ENDED:
            return self.config.linger
        return self.config.handshake if flow.connection in _HANDSHAKE else self.config.tcp_idle


def _add(statistics: Statistics, findings: Findings) -> None:
    statistics.requests += findings.requests
    statistics.injections += findings.injections
    statistics.malformed += findings.malformed
    statistics.overflows += findings.overflows
    statistics.gaps += findings.gaps
    statistics.gap_bytes += findings.gap_bytes
