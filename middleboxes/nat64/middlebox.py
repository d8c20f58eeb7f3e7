"""Stateful NAT64 as a middlebox of the guest library (RFC 6146); the translation itself is `translate`.

A session is one flow with two keys: the IPv6 one inside and the IPv4 one outside. It belongs to the side that it began
on; the other key is its second one, which the library has steered to the same replica before the first translated
packet leaves. With endpoint-dependent mapping the external port is chosen in the same bucket, which needs no entry.
"""

from __future__ import annotations

import random
import struct
import time
from collections import Counter
from collections.abc import Callable

from guestlib import FlowExists, FlowMissing, Guest, Packet
from middleboxes.nat64 import build, hairpin
from middleboxes.nat64.bib import BIB, Bib, combine
from middleboxes.nat64.config import Nat64Config
from middleboxes.nat64.endpoints import IN_IPV4, Endpoints
from middleboxes.nat64.errors import Untranslatable
from middleboxes.nat64.fragments import Pieces
from middleboxes.nat64.incoming import INCOMING, Incoming, Stranger, is_stranger, met, overdue
from middleboxes.nat64.parsed import Parsed, parse
from middleboxes.nat64.session import ESTABLISHED, TRANS, V4_INIT, V6_INIT, Path, Session, Turn, advance
from middleboxes.nat64.translate import error_to_ipv4, error_to_ipv6, quoted, to_ipv4, to_ipv6
from middleboxes.packets import ACK, SYN, transport_checksum
from splitmerge.flowkey import TCP, UDP, FlowKey

EXPIRE, FRAGMENTS = "nat64.expire", "nat64.fragments"
"""Timers: of a session's lifetime, and of fragments that wait."""
_FLAGS_AT = 13
_MACS = bytes.fromhex("0200000000fe") * 2
"""Of frames that no frame led to; the switch writes its own."""
_ETHERTYPE = {4: b"\x08\x00", 6: b"\x86\xdd"}


class Nat64:
    """The middlebox. ``clock`` gives seconds since 1970, ``choose`` random numbers below 2**16 (RFC 6056)."""

    def __init__(
        self, clock: Callable[[], float] = time.time, choose: Callable[[], int] = lambda: random.getrandbits(16)
    ) -> None:
        self._clock = clock
        self._choose = choose

    def setup(self, guest: Guest) -> None:
        """Before the snapshot. :raises BadInput: for a configuration that is wrong."""
        self.config = config = Nat64Config.of(guest.config)
        self._prefix, self._pool, self._own = config.pref64(), config.addresses(), config.own_address()
        self.answers = self._pool
        self._limits = config.limits
        self._drops: Counter[str] = Counter()
        self._identification = self._choose()
        self._endpoints = Endpoints(config, self._clock, self._choose)
        self._errors_at, self._errors = 0, 0
        self._incoming = Incoming(config.incoming_syn, config.held_syns)
        self._holds = config.filtering != "address-and-port-dependent" and config.held_syns > 0
        guest.register_state(Session, Pieces, Stranger, Bib)
        guest.on_timer(EXPIRE, self._expire)
        guest.on_timer(FRAGMENTS, self._give_up)
        guest.on_timer(INCOMING, self._unanswered)
        guest.on_refused(self._refuse)
        guest.create_shared(BIB, Bib(), combine)

    # -- packets ---------------------------------------------------------------------------------------------

    def on_packet(self, guest: Guest, packet: Packet) -> None:
        """Translate one packet and send it, or drop and count it."""
        if packet.key is None:
            self._drop(guest, "not_ip")
            return
        data: Parsed | None = None
        try:
            data = parse(packet.frame[14:])
            self._check(data)
            if data.protocol == TCP and not data.later and len(data.payload) <= _FLAGS_AT:
                raise Untranslatable("malformed")
            if data.is_error:
                self._take_error(guest, data)
            elif data.fragment is not None:
                self._take_fragment(guest, packet.key, data)
            else:
                self._take(guest, packet.key, data)
        except Untranslatable as error:
            self._drop(guest, error.reason)
            if error.answer and data is not None and not data.is_error and not data.later:
                self._answer(guest, error.answer)

    def _check(self, data: Parsed) -> None:
        if not data.is_ipv6:
            if data.destination not in self._pool:
                raise Untranslatable("not_for_us")
        elif not self._prefix.has(data.destination):
            raise Untranslatable("not_for_us")
        elif self._prefix.has(data.source):  # RFC 6146 §3.5: it would come back for ever
            raise Untranslatable("loop")
        elif self._turns(data) and (
            not self._endpoints.independent or data.protocol not in (TCP, UDP) or data.fragment
        ):
            raise Untranslatable("hairpin")

    def _take(self, guest: Guest, key: FlowKey, data: Parsed) -> None:
        ports = data.ports
        if ports is None:
            raise Untranslatable("protocol")
        if key != FlowKey.of(data.protocol, data.source, ports[0], data.destination, ports[1]):
            if data.is_ipv6 and self._turns(data):
                raise Untranslatable("hairpin")
            # Behind extension headers the switch sees no ports, so the session may be at another replica.
            self._translate(guest, self._stray(guest, data, ports), data)
            return
        try:
            session = guest.get_flow(key)
        except FlowMissing:
            if not self._begin(guest, key, data, ports):
                return
            session = guest.get_flow(key)
        try:
            if session.syn and not self._meet(guest, key, session, data, ports):
                return
            self._refresh(guest, key, session, data)
            if session.turn is None:
                self._translate(guest, session.path, data)
            else:
                self._turn_round(guest, session.path, session.turn, data)
        finally:
            guest.put_flow(key)

    def _turns(self, data: Parsed) -> bool:
        """Whether a host inside sends to an external endpoint of ours."""
        return self._prefix.extract(data.destination) in self._pool

    def _turn_round(self, guest: Guest, path: Path, turn: Turn, data: Parsed) -> None:
        """To IPv4 and back, if the receiver's filter lets it in. :raises Untranslatable: ``filtered``."""
        sender = hairpin.sender_of(path, data)
        turn.sent |= sender
        mine, theirs = (path, turn.path) if sender == hairpin.OPENER else (turn.path, path)
        if turn.sent == sender and not self._endpoints.lets_in(
            guest, IN_IPV4.get(data.protocol, data.protocol), theirs
        ):
            raise Untranslatable("filtered")
        self._identification = (self._identification + 1) & 0xFFFF
        outward = to_ipv4(data, mine.to_remote(), self._limits, self._own, self._identification)
        for each in hairpin.again(outward):
            for packet in to_ipv6(
                each, theirs.to_inside(self._prefix.embed(theirs.remote)), self._limits, self._pool[0]
            ):
                self._send(guest, packet)

    def _translate(self, guest: Guest, path: Path, data: Parsed) -> None:
        if data.is_ipv6:
            self._identification = (self._identification + 1) & 0xFFFF
            packets = to_ipv4(data, path.to_remote(), self._limits, self._own, self._identification)
        else:
            packets = to_ipv6(data, path.to_inside(self._prefix.embed(path.remote)), self._limits, self._pool[0])
        for each in packets:
            self._send(guest, each)

    @staticmethod
    def _send(guest: Guest, packet: bytes) -> None:
        guest.send(_MACS + _ETHERTYPE[packet[0] >> 4] + packet)

    def _answer(self, guest: Guest, packet: bytes) -> None:
        """An ICMP error of our own, if there have not been too many this second."""
        second = int(guest.now)
        if second != self._errors_at:
            self._errors_at, self._errors = second, 0
        self._errors += 1
        if self._errors <= self.config.errors_per_second:
            self._send(guest, packet)

    def _drop(self, guest: Guest, reason: str) -> None:
        self._drops[reason] += 1
        guest.figures[f"dropped_{reason}"] = self._drops[reason]

    # -- sessions --------------------------------------------------------------------------------------------

    def _begin(self, guest: Guest, key: FlowKey, data: Parsed, ports: tuple[int, int]) -> bool:
        """A packet without a session. False: it is a SYN from outside, and held. :raises Untranslatable:"""
        if data.protocol == TCP and data.payload[_FLAGS_AT] & (SYN | ACK) != SYN:
            raise Untranslatable("no_session")
        if data.is_ipv6 and self._turns(data):
            self._begin_turn(guest, key, data, ports)
            return True
        try:
            path, second = (
                self._endpoints.outward(guest, key, data, ports)
                if data.is_ipv6
                else self._endpoints.inward(guest, data, ports)
            )
        except Untranslatable:
            if data.is_ipv6 or data.protocol != TCP or not self._holds:
                raise
            self._hold(guest, key, data, ports)
            return False
        self._create(guest, key, second, path, data)
        return True

    def _begin_turn(self, guest: Guest, key: FlowKey, data: Parsed, ports: tuple[int, int]) -> None:
        """A session of two hosts inside: who has the endpoint that this one sends to? :raises Untranslatable:"""
        remote = self._prefix.extract(data.destination)
        there = self._endpoints.owner(guest, data.protocol, remote, ports[1])
        path, _ = self._endpoints.outward(guest, key, data, ports)
        back = hairpin.opposite(path, there.inside, there.inside_port)
        second = FlowKey.of(
            data.protocol, back.inside, back.inside_port, self._prefix.embed(back.remote), back.remote_port
        )
        self._create(guest, key, second, path, data, turn=Turn(back))

    def _create(
        self, guest: Guest, key: FlowKey, second: FlowKey, path: Path, data: Parsed, *, expected: bool = False,
        turn: Turn | None = None,
    ) -> None:  # fmt: skip
        protocol = IN_IPV4.get(data.protocol, data.protocol)
        session = Session(path, protocol, V6_INIT if data.is_ipv6 else V4_INIT, turn=turn)
        if is_stranger(guest, second):  # what it waits for has come
            guest.delete_flow(second)
        try:
            guest.create_flow(key, session, aliases=[second], expected=expected)
        except FlowExists:
            raise Untranslatable("conflict") from None
        guest.flow_timer(key, self._lifetime(session), EXPIRE)

    def _refuse(self, guest: Guest, key: FlowKey, second: FlowKey) -> None:
        """Two endpoints inside have one candidate and one remote: this one begins anew with its next candidate."""
        self._endpoints.refuse(second)
        guest.delete_flow(key)

    # -- SYNs from outside that are held (`incoming`) ----------------------------------------------------------

    def _hold(self, guest: Guest, key: FlowKey, data: Parsed, ports: tuple[int, int]) -> None:
        """Keep it until the host inside sends a SYN too, or time is up. :raises Untranslatable: ``syn_overflow``."""
        self._incoming.hold(guest, key, data, self._endpoints.to_hold(guest, data, ports))

    def _meet(self, guest: Guest, key: FlowKey, held: Session | Stranger, data: Parsed, ports: tuple[int, int]) -> bool:
        """A packet of a connection whose first SYN is held: whether it goes on as one of its session.

        RFC 5382 REQ-4: once the host inside has sent its SYN, the one held is dropped silently. One repeated from
        outside is judged anew. :raises Untranslatable: it is no reason to wait no longer.
        """
        if data.payload[_FLAGS_AT] & (SYN | ACK) != SYN:
            raise Untranslatable("no_session")
        if isinstance(held, Stranger):
            path, second = self._endpoints.inward(guest, data, ports)
            guest.delete_flow(key)
            self._create(guest, key, second, path, data)
            self._take(guest, key, data)
            return False
        if not data.is_ipv6 and not self._endpoints.lets_in(guest, TCP, held.path):
            raise Untranslatable("filtered")
        met(guest, key, held)
        return True

    def _unanswered(self, guest: Guest, key: FlowKey) -> None:
        """Time is up: its sender is told, unless the host has sent to it meanwhile, from another replica's session."""
        syn = overdue(guest, key)
        ports = syn.ports
        assert ports is not None  # it was held by them
        if self._endpoints.has_answered(guest, syn, ports[1]):
            return
        self._drop(guest, "syn_unanswered")
        self._answer(guest, build.error4(3, 3, 0, self._pool[0], syn.source, syn.raw))

    # -- time ------------------------------------------------------------------------------------------------

    def _refresh(self, guest: Guest, key: FlowKey, session: Session, data: Parsed) -> None:
        """A packet of the session: its TCP state, its lifetime, and its binding's. :raises Untranslatable:"""
        if session.syn:
            raise Untranslatable("filtered")
        if session.protocol == TCP:
            side = data.version
            if session.turn is not None:  # the opener is the IPv6 side of its session
                side = 6 if hairpin.sender_of(session.path, data) == hairpin.OPENER else 4
            session.state, lifetime = advance(session.state, side, data.payload[_FLAGS_AT])
            if not lifetime:
                return
            seconds = self.config.tcp_established if lifetime == "established" else self.config.tcp_transitory
        else:
            seconds = self._lifetime(session)
        guest.flow_timer(key, seconds, EXPIRE)
        now = self._clock()
        if self._endpoints.independent and session.told < now + seconds:
            session.told = now + 2 * seconds
            self._endpoints.bind(guest, session.protocol, session.path, session.told)
            if session.turn is not None and session.turn.sent & hairpin.OTHER:
                self._endpoints.bind(guest, session.protocol, session.turn.path, session.told)

    def _lifetime(self, session: Session) -> float:
        """Of a session that begins."""
        if session.protocol == TCP:
            return self.config.tcp_transitory
        return self.config.udp if session.protocol == UDP else self.config.icmp

    def _expire(self, guest: Guest, key: FlowKey) -> None:
        with guest.flow(key) as session:
            if session.protocol != TCP or session.state != ESTABLISHED:
                guest.delete_flow(key)
                return
            session.state = TRANS  # RFC 6146 §3.5.2.2: whoever is still there answers the probe
            guest.flow_timer(key, self.config.tcp_transitory, EXPIRE)
            self._probe(guest, session.path)

    def _probe(self, guest: Guest, path: Path) -> None:
        """An empty segment to the host inside, as RFC 6146 §3.5.2.2 has it."""
        ends = path.to_inside(self._prefix.embed(path.remote))
        head = struct.pack("!HHIIBBHHH", ends.source_port, ends.destination_port, 0, 0, 5 << 4, ACK, 0, 0, 0)
        segment = bytearray(head)
        segment[16:18] = transport_checksum(ends.source, ends.destination, TCP, segment).to_bytes(2, "big")
        self._send(guest, build.ipv6(ends.source, ends.destination, TCP, len(segment)) + segment)

    # -- packets whose key is not their session's --------------------------------------------------------------

    def _stray(self, guest: Guest, data: Parsed, ports: tuple[int, int]) -> Path:
        """The path of a packet whose ports are not in the key that it came by. A host inside may begin a session so.

        :raises Untranslatable:
        """
        key = FlowKey.of(data.protocol, data.source, ports[0], data.destination, ports[1])
        if guest.has_flow(key):
            with guest.flow(key) as session:
                if session.syn and data.is_ipv6:
                    self._meet(guest, key, session, data, ports)
                self._refresh(guest, key, session, data)
        if data.is_ipv6:
            path = self._path(guest, data.protocol, data.source, ports[0], data.destination, ports[1])
        else:
            path = self._path(guest, data.protocol, data.destination, ports[1], data.source, ports[0])
        if path is not None:
            return path
        begins = data.protocol != TCP or data.payload[_FLAGS_AT : _FLAGS_AT + 1] == bytes((SYN,))
        if not (self._endpoints.independent and data.is_ipv6 and begins):
            raise Untranslatable("no_session")
        path, second = self._endpoints.outward(guest, key, data, ports)
        self._create(guest, key, second, path, data, expected=True)
        with guest.flow(key) as session:
            self._refresh(guest, key, session, data)
        return path

    def _path(
        self, guest: Guest, protocol: int, ours: bytes, our_port: int, remote: bytes, remote_port: int
    ) -> Path | None:
        """Of a conversation between our side (the host inside in IPv6, the external address in IPv4) and a remote.

        By a session here, else by what is bound. None: nobody knows it.
        """
        key = FlowKey.of(protocol, ours, our_port, remote, remote_port)
        if guest.has_flow(key):
            with guest.flow(key) as session:
                return None if session.syn else session.path
        if not self._endpoints.independent:
            return None
        if len(ours) == 4:
            try:
                return self._endpoints.bound(guest, protocol, ours, our_port, remote, remote_port)
            except Untranslatable:
                return None
        return self._endpoints.bound_inside(
            guest, protocol, (ours, our_port), self._prefix.extract(remote), remote_port
        )

    def _take_fragment(self, guest: Guest, key: FlowKey, data: Parsed) -> None:
        """A fragment goes on when it is known where to, which the first one says."""
        assert data.fragment is not None
        if data.protocol not in (TCP, UDP):
            raise Untranslatable("icmp_fragment")
        try:
            pieces: Pieces = guest.get_flow(key)
        except FlowMissing:
            guest.create_flow(key, Pieces())
            pieces = guest.get_flow(key)
        try:
            guest.flow_timer(key, self.config.fragments, FRAGMENTS)
            self._place_fragment(guest, pieces, data)
        finally:
            guest.put_flow(key)

    def _place_fragment(self, guest: Guest, pieces: Pieces, data: Parsed) -> None:
        assert data.fragment is not None
        identity = data.source + data.fragment.identification.to_bytes(4, "big") + bytes((data.protocol,))
        datagram = pieces.of(identity, self._clock(), self.config.fragments)
        if datagram is None:
            raise Untranslatable("fragment_overflow")
        if not data.later and data.ports is not None:
            datagram.path = self._stray(guest, data, data.ports)
        if datagram.path is None:
            if not pieces.hold(datagram, data.raw):
                raise Untranslatable("fragment_overflow")
            return
        self._translate(guest, datagram.path, data)
        waiting, datagram.held = datagram.held, []
        for raw in waiting:
            self._translate(guest, datagram.path, parse(raw))

    def _give_up(self, guest: Guest, key: FlowKey) -> None:
        with guest.flow(key) as pieces:
            for _ in range(pieces.waiting):
                self._drop(guest, "fragment_late")
            guest.delete_flow(key)

    def _take_error(self, guest: Guest, data: Parsed) -> None:
        """An ICMP error: about a packet that was translated, by whose endpoints the session is found."""
        inner = quoted(data)
        ports = inner.ports
        if ports is None:
            raise Untranslatable("icmp_error")
        if data.is_ipv6:  # the host inside, or a router there, about what came to it
            if not self._prefix.has(inner.source):
                raise Untranslatable("icmp_error")
            path = self._path(guest, inner.protocol, inner.destination, ports[1], inner.source, ports[0])
        else:
            path = self._path(guest, inner.protocol, inner.source, ports[0], inner.destination, ports[1])
        if path is None:
            raise Untranslatable("icmp_error")
        if data.is_ipv6:
            translated = error_to_ipv4(data, path.outside, path.remote, inner, path.from_remote(), self._limits)
        else:
            ends = path.from_inside(self._prefix.embed(path.remote))
            source = self._prefix.embed(data.source)
            translated = error_to_ipv6(data, source, path.inside, inner, ends, self._limits)
        self._send(guest, translated)
