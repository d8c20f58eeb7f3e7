"""From a TCP segment to signs: one connection's analysis. Sans-IO: no clock, no file, no guest library.

`Connections.take` changes the flow's record and says what was found. The common segments (a pure acknowledgement, data
of a side that nobody reads) touch two numbers and find `NOTHING`.

Which analyser reads a connection. By the server's port where one asks for it; else by the first byte of the client's
stream; else HTTP. An analyser that finds another protocol hands the client's bytes so far to HTTP. A connection whose
start was not seen is picked up where an analyser knows the beginning of a message, and its sender is the client.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from middleboxes.ids import tcp
from middleboxes.ids.analysis import DONE, ONLY_CLIENT, Outcome, Reading, Side, Sign, StreamAnalyser
from middleboxes.ids.packet import ACK, FIN, RST, SYN, Segment
from middleboxes.ids.state import UNSETTLED, TcpFlow
from middleboxes.ids.tcp import Connection, Gap, Half

_CONTROL = FIN | SYN | RST


class Findings(NamedTuple):
    """What one segment brought to light."""

    messages: Mapping[str, int]
    """By analyser."""
    signs: list[Sign]
    malformed: int = 0
    overflows: int = 0
    gaps: int = 0
    gap_bytes: int = 0


NOTHING = Findings({}, [])
_REFUSED = Findings({}, [Sign("scan", "refused")])


def admits(segment: Segment) -> bool:
    """Whether a connection is to be known from this segment on: it opens one, or carries data.

    A straggler of a connection that was forgotten (an acknowledgement, a FIN, a RST) does not bring it back.
    """
    return bool(segment.payload) or segment.flags & (SYN | RST | FIN) == SYN


class Connections:
    """The analysis with these analysers. Holds nothing of any flow."""

    def __init__(
        self, analysers: Mapping[str, StreamAnalyser], reassembly_bytes: int, reassembly_segments: int
    ) -> None:
        self._bytes, self._segments = reassembly_bytes, reassembly_segments
        self._all = tuple(analysers.values())
        self._by_state: dict[type, StreamAnalyser] = {analyser.state: analyser for analyser in self._all}
        self._by_port = {port: analyser for analyser in self._all for port in analyser.ports}
        self._by_first_byte = {byte: analyser for analyser in self._all for byte in analyser.first_bytes}
        self._default = analysers.get("http")

    def take(self, flow: TcpFlow, segment: Segment) -> Findings:
        """Follow the connection through this segment; analyse what the streams that are read gained by it."""
        sender, sequence, acknowledgement, flags, payload, *_ = segment
        if flags & SYN:
            _synchronise(flow, segment)
            sequence += 1
        sending, other = (flow.low, flow.high) if sender == 0 else (flow.high, flow.low)
        if payload and flow.reading == UNSETTLED:
            self._settle(flow, segment, sending, sequence)
        side = Side.CLIENT if sender == flow.client else Side.SERVER
        findings = NOTHING
        if payload and flow.reading > 0 and flow.reading >> side & 1:
            pieces = tcp.receive(sending, sequence, payload, self._bytes, self._segments)
            findings = self._analyse(flow, side, pieces) if pieces else NOTHING
        elif payload or sending.next < 0:
            tcp.follow(sending, sequence, len(payload))
        if flags & ACK and acknowledgement != other.next and flow.reading > 0 and flow.reading >> (1 - side) & 1:
            pieces = tcp.acknowledged(other, acknowledgement)
            findings = _both(findings, self._analyse(flow, Side(1 - side), pieces)) if pieces else findings
        if flags & _CONTROL or flow.connection is not Connection.OPEN or flow.low.fin >= 0 or flow.high.fin >= 0:
            opening = flow.connection is Connection.OPENING
            _advance(flow, segment, sequence, sending)
            refused = opening and flow.connection is Connection.RESET and side is Side.SERVER
            findings = _REFUSED if refused else findings
        return findings

    def _settle(self, flow: TcpFlow, segment: Segment, sending: Half, sequence: int) -> None:
        """The first bytes: whose are to be read?"""
        if flow.client < 0:
            found = next((each for each in self._all if each.begins(segment.payload, segment.port)), None)
            if found is not None:
                flow.client = segment.sender
                tcp.begin(sending, sequence)
                _adopt(flow, found)
            return
        from_client = segment.sender == flow.client
        at_port = self._by_port.get(segment.port if from_client else segment.source_port)
        if at_port is not None:
            _adopt(flow, at_port)
        elif from_client:
            flow.reading = ONLY_CLIENT  # which analyser, the first byte will tell

    def _analyse(self, flow: TcpFlow, side: Side, pieces: list[tcp.Piece]) -> Findings:
        messages: dict[str, int] = {}
        signs: list[Sign] = []
        malformed = overflows = gaps = gap_bytes = 0
        while pieces and flow.reading > 0 and flow.reading >> side & 1:
            piece = pieces.pop(0)
            if isinstance(piece, Gap):
                gaps, gap_bytes = gaps + 1, gap_bytes + piece.missing
            name, reading = self._read(flow, side, piece)
            if reading.messages:
                messages[name] = messages.get(name, 0) + reading.messages
            signs += reading.signs
            malformed, overflows = malformed + reading.malformed, overflows + reading.overflows
            if reading.outcome is Outcome.FOREIGN and self._default is not None:
                _adopt(flow, self._default)
                pieces.insert(0, reading.rest)
            elif reading.outcome is not Outcome.GOING:
                _abandon(flow)
        return Findings(messages, signs, malformed, overflows, gaps, gap_bytes)

    def _read(self, flow: TcpFlow, side: Side, piece: tcp.Piece) -> tuple[str, Reading]:
        """What the flow's analyser makes of a piece, and its name; the first piece says which analyser it is."""
        if flow.analysis is None:
            first = None if isinstance(piece, Gap) else self._by_first_byte.get(piece[0])
            chosen = first or self._default
            if chosen is None:
                return "", DONE
            _adopt(flow, chosen)
        analyser = self._by_state[type(flow.analysis)]
        if isinstance(piece, Gap):
            return analyser.name, analyser.gap(flow.analysis, side, piece.missing)
        return analyser.name, analyser.feed(flow.analysis, side, piece)


def _adopt(flow: TcpFlow, analyser: StreamAnalyser) -> None:
    flow.analysis = analyser.begin()
    flow.reading = analyser.sides
    if analyser.sides == ONLY_CLIENT:
        tcp.forget_pending(flow.high if flow.client == 0 else flow.low)


def _abandon(flow: TcpFlow) -> None:
    """Nobody reads it from here on."""
    flow.analysis, flow.reading = None, 0
    tcp.forget_pending(flow.low)
    tcp.forget_pending(flow.high)


def _both(first: Findings, second: Findings) -> Findings:
    if first is NOTHING:
        return second
    names = {*first.messages, *second.messages}
    return Findings(
        {name: first.messages.get(name, 0) + second.messages.get(name, 0) for name in names},
        first.signs + second.signs,
        first.malformed + second.malformed,
        first.overflows + second.overflows,
        first.gaps + second.gaps,
        first.gap_bytes + second.gap_bytes,
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
    fresh = TcpFlow(packets=flow.packets, bytes=flow.bytes, checked=flow.checked, asked=flow.asked)
    for name in TcpFlow.__struct_fields__:
        setattr(flow, name, getattr(fresh, name))


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
