"""DNS over UDP and TCP (RFC 1035, RFC 7766): answers "no such name", and names that look like data, are signs.

Many of the first are a program that guesses names (a bot looking for its master, somebody who enumerates a zone); many
of the second a tunnel, which carries what it sends in the names that it asks for. Resolvers ask each question from a
new port, so these signs mean something only per client, over all flows and replicas.

Only the header and the question are read. Names are dnspython's to read: its pointers must point backwards, so that
loops are refused. An answer counts only if its question was seen in this flow, once.
"""

from __future__ import annotations

import re
import struct

import dns.exception
import dns.name
import msgspec

from middleboxes.ids.analysis import BOTH, DONE, NOTHING_READ, Outcome, Reading, Side, Sign
from middleboxes.ids.config import IdsConfig

_HEADER = struct.Struct("!HHHHHH")
"""Identifier, flags, then how many questions, answers, authorities and additionals there are."""
_LENGTH = struct.Struct("!H")
_ANSWER = 0x8000
_OPCODE, _CODE = 0x7800, 0x000F
_NO_SUCH_NAME = 3
_OPEN = 64
"""Questions of a flow without an answer that are remembered; the oldest is forgotten."""
_CHANGE = re.compile(rb"[A-Za-z](?=[0-9])|[0-9](?=[A-Za-z])")
_CHANGES_IN = 6
"""A label is data if more than one in so many characters is followed by the other kind (base32: one in three)."""


class DnsState(msgspec.Struct, tag="dns"):
    """All that is known of a flow. The buffers are for TCP."""

    open: list[int] = []
    """Identifiers of questions without an answer, oldest first."""
    client: bytearray = msgspec.field(default_factory=bytearray)
    server: bytearray = msgspec.field(default_factory=bytearray)
    known: bool = False
    """Whether the client's first message was DNS's."""


class DnsAnalyser:
    """Reads both sides on DNS's port."""

    name = "dns"
    state = DnsState
    sides = BOTH
    first_bytes: frozenset[int] = frozenset()

    def __init__(self, config: IdsConfig) -> None:
        self.ports = frozenset(config.dns_ports)
        self._label = config.tunnel_label

    def begin(self) -> DnsState:
        """The state of a flow of which nothing was read."""
        return DnsState()

    def begins(self, payload: bytes, port: int) -> bool:
        """Whether one whole question goes to a DNS port."""
        whole = len(payload) >= 14 and _LENGTH.unpack_from(payload)[0] == len(payload) - 2
        return port in self.ports and whole and _is_question(payload[2:])

    def datagram(self, state: DnsState, side: Side, payload: bytes) -> Reading:
        """Take one message."""
        signs: list[Sign] = []
        read = self._message(state, side, payload, signs)
        return Reading(messages=int(read), signs=signs, malformed=int(not read))

    def feed(self, state: DnsState, side: Side, data: bytes) -> Reading:
        """Take the next bytes of one side: messages with two bytes of length before each."""
        buffer = state.client if side is Side.CLIENT else state.server
        buffer += data
        if side is Side.CLIENT and not state.known:
            if len(buffer) < 2 + _HEADER.size:
                return NOTHING_READ
            if not _is_question(bytes(buffer[2:])):
                return Reading(outcome=Outcome.FOREIGN, rest=bytes(buffer))
            state.known = True
        signs: list[Sign] = []
        whole = malformed = 0
        while len(buffer) >= 2 and len(buffer) >= (end := 2 + _LENGTH.unpack_from(buffer)[0]):
            read = self._message(state, side, bytes(buffer[2:end]), signs)
            whole, malformed = whole + read, malformed + (not read)
            del buffer[:end]
        return Reading(messages=whole, signs=signs, malformed=malformed)

    def gap(self, state: DnsState, side: Side, missing: int) -> Reading:
        """Where the next message begins cannot be told."""
        return DONE

    def _message(self, state: DnsState, side: Side, message: bytes, signs: list[Sign]) -> bool:
        """Whether it could be read."""
        if len(message) < _HEADER.size:
            return False
        number, flags, questions, *_ = _HEADER.unpack_from(message)
        try:
            name = dns.name.from_wire(message, _HEADER.size)[0] if questions else dns.name.root
        except dns.exception.DNSException:
            return False
        if flags & _ANSWER:
            if side is Side.SERVER and number in state.open:
                state.open.remove(number)
                if flags & _CODE == _NO_SUCH_NAME:
                    signs.append(Sign("dns-nxdomain", name.to_text()))
            return True
        if side is Side.CLIENT and number not in state.open:
            state.open.append(number)
            del state.open[:-_OPEN]
            if looks_like_data(name, self._label):
                signs.append(Sign("dns-tunnel", name.to_text()))
        return True


def looks_like_data(name: dns.name.Name, least: int) -> bool:
    """Whether a label of at least ``least`` characters mixes letters and digits as hex, base32 and base64 do.

    Words joined by hyphens, numbers behind a word and the like do not; bytes that are no ASCII always count.
    """
    return any(len(label) >= least and _mixed(label) for label in name.labels)


def _mixed(label: bytes) -> bool:
    changes = len(_CHANGE.findall(label))
    return not label.isascii() or changes * _CHANGES_IN > len(label)


def _is_question(message: bytes) -> bool:
    """Whether these first twelve bytes can be a client's: a question, of a known kind."""
    _, flags, questions, *_ = _HEADER.unpack_from(message)
    return not flags & _ANSWER and flags & _OPCODE <= 6 << 11 and questions <= 1
