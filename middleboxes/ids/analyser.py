"""From a TCP segment to injections: the per-flow analysis. Sans-IO: no clock, no file, no guest library.

`Analyser.take` changes the flow's record and says what was found. The common segments (a pure acknowledgement, the
server's data) touch two numbers and find `NOTHING`.
"""

from __future__ import annotations

from typing import NamedTuple

from middleboxes.ids import http, sqli, tcp
from middleboxes.ids.config import IdsConfig
from middleboxes.ids.packet import ACK, FIN, RST, SYN, Segment
from middleboxes.ids.state import TcpFlow
from middleboxes.ids.tcp import Connection, Gap, Half

_CONTROL = FIN | SYN | RST


class Findings(NamedTuple):
    """What one segment brought to light."""

    requests: int = 0
    injections: int = 0
    alert: int = 0
    """``num_sqli`` when an injection passed the threshold of a flow that has not alerted, here or elsewhere; else 0."""
    sample: str = ""
    """That injection."""
    malformed: int = 0
    overflows: int = 0
    gaps: int = 0
    gap_bytes: int = 0


NOTHING = Findings()


def admits(segment: Segment) -> bool:
    """Whether a connection is to be known from this segment on: it opens one, or carries data.

    A straggler of a connection that was forgotten (an acknowledgement, a FIN, a RST) does not bring it back.
    """
    return bool(segment.payload) or segment.flags & (SYN | RST | FIN) == SYN


class Analyser:
    """The analysis with one configuration. Holds nothing of any flow."""

    def __init__(self, config: IdsConfig) -> None:
        self._limits = http.Limits(head=config.max_head, body=config.max_body)
        self._bytes, self._segments = config.reassembly_bytes, config.reassembly_segments
        self._parameters = config.max_parameters
        self._threshold = config.sqli_thresh

    def take(self, flow: TcpFlow, segment: Segment) -> Findings:
        """Follow the connection through this segment; analyse what the client's stream gained by it."""
        sender, sequence, acknowledgement, flags, payload = segment
        if flags & SYN:
            _synchronise(flow, segment)
            sequence += 1
        sending, other = (flow.low, flow.high) if sender == 0 else (flow.high, flow.low)
        if flow.client < 0 and payload:
            _pick_up(flow, sender, sending, sequence, payload)
        findings = NOTHING
        if payload and sender == flow.client:
            findings = self._client_data(flow, sending, sequence, payload)
        elif payload or sending.next < 0:
            tcp.follow(sending, sequence, len(payload))
        if flags & ACK and sender != flow.client and acknowledgement != other.next and flow.client >= 0:
            pieces = tcp.acknowledged(other, acknowledgement)
            findings = self._analyse(flow, pieces) if pieces else findings
        if flags & _CONTROL or flow.connection is not Connection.OPEN or flow.low.fin >= 0 or flow.high.fin >= 0:
            _advance(flow, segment, sequence, sending)
        return findings

    def _client_data(self, flow: TcpFlow, half: Half, sequence: int, payload: bytes) -> Findings:
        pieces = tcp.receive(half, sequence, payload, self._bytes, self._segments)
        return self._analyse(flow, pieces) if pieces else NOTHING

    def _analyse(self, flow: TcpFlow, pieces: list[tcp.Piece]) -> Findings:
        state = flow.http
        malformed, overflows = state.malformed, state.overflows
        requests: list[http.Request] = []
        gaps = gap_bytes = 0
        for piece in pieces:
            if isinstance(piece, Gap):
                gaps, gap_bytes = gaps + 1, gap_bytes + piece.missing
                requests += http.gap(state, piece.missing)
            else:
                requests += http.feed(state, piece, self._limits)
        samples = [sample for request in requests if (sample := sqli.injection(request, self._parameters)) is not None]
        # The injection that passes the threshold, wherever segments end; after a lost alert, the next one.
        passing = max(self._threshold - flow.num_sqli, 0)
        alert = not flow.alerted and passing < len(samples)
        flow.requests += len(requests)
        flow.num_sqli += len(samples)
        return Findings(
            requests=len(requests),
            injections=len(samples),
            alert=flow.num_sqli - len(samples) + passing + 1 if alert else 0,
            sample=samples[passing] if alert else "",
            malformed=state.malformed - malformed,
            overflows=state.overflows - overflows,
            gaps=gaps,
            gap_bytes=gap_bytes,
        )


def _synchronise(flow: TcpFlow, segment: Segment) -> None:
    """A SYN: who the client is, and where this direction begins. Ports used again make a new connection."""
    opening = not segment.flags & ACK
    if opening and flow.connection in tcp.ENDED:
        _renew(flow)
    if flow.client < 0:
        flow.client = segment.sender if opening else 1 - segment.sender
    if flow.connection in (Connection.NEW, Connection.OPENING, Connection.ANSWERED):
        tcp.begin(flow.low if segment.sender == 0 else flow.high, segment.sequence + 1)


def _renew(flow: TcpFlow) -> None:
    """Forget the connection, keep the counts of the flow's packets: its idle timer compares them."""
    fresh = TcpFlow(packets=flow.packets, bytes=flow.bytes, checked=flow.checked)
    for name in TcpFlow.__struct_fields__:
        setattr(flow, name, getattr(fresh, name))


def _pick_up(flow: TcpFlow, sender: int, half: Half, sequence: int, payload: bytes) -> None:
    """Mid-stream: the first side that sends a request line is the client, and its stream begins there."""
    if http.begins_request(payload):
        flow.client = sender
        tcp.begin(half, sequence)


def _advance(flow: TcpFlow, segment: Segment, sequence: int, sending: Half) -> None:
    flags = segment.flags
    if flags & RST and not tcp.in_window(sending, sequence):
        sending.ignored += 1
        return
    if flags & FIN:
        tcp.finish(sending, sequence + len(segment.payload))
    if flow.connection is Connection.RESET and not segment.payload and not flags & _CONTROL:
        return  # a straggling acknowledgement does not bring it back to life
    flow.connection = tcp.TRANSITIONS[flow.connection, tcp.signal_of(flags, flow.low, flow.high)]
