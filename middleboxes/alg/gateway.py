"""The application-layer gateway: addresses inside FTP's control connections, and the connections that they announce.

Whoever is inside announces its own address, which nobody outside can reach: it becomes an external one, and the
sequence numbers behind it are shifted. A new data connection is a flow before its first packet comes, in the bucket of
the control connection and in its group. If a client inside announces, the server's port is known, as a rule: then the
flow's two keys are steered, and the announcement leaves after that. Else, and for servers with other ports, the first
packet is matched with what is announced (`middleboxes.alg.expect`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from guestlib import PULL, FlowMigrated, Guest
from middleboxes.alg import ftp as protocol
from middleboxes.alg.config import AlgConfig
from middleboxes.alg.expect import EXPECTED, Expectation, Expectations
from middleboxes.alg.sequence import MODULUS, Edit, Gap
from middleboxes.alg.state import Ftp, Mapping
from middleboxes.packets import ACK, FIN, RST, SYN, Datagram
from splitmerge.colocation import Outside
from splitmerge.errors import SplitmergeError
from splitmerge.flowkey import TCP, FlowKey

logger = logging.getLogger("middleboxes.alg")

PULL_INTERVAL = 0.01
"""Seconds between two pulls: a port scan must not keep the replicas busy."""
PULL_AGAIN = 5.0
"""… after one that was not answered in time: this replica stood still meanwhile, and would do nothing else."""


CONFLICT = 1.0
"""Seconds after which it is in vain to ask for a client's port that a living connection has: by then one that was about
to end has ended, and the sender has repeated its command a few times."""
NO_PORT, LATER = "no_port", "ftp_later"


class NotNow(Exception):
    """A segment of a control connection cannot leave now. It is dropped; its sender says it again.

    ``number``: where what cannot leave begins, in the sender's numbers. ``reason``: what the drop is counted as:
    `NO_PORT` if an announced connection can have no external port now, `LATER` if something else has to leave first, or
    to be settled.
    """

    def __init__(self, number: int, reason: str) -> None:
        super().__init__(number)
        self.number = number
        self.reason = reason


class Gateway:
    """One per replica. ``timer`` is the name of the flows' timer."""

    def __init__(self, config: AlgConfig, clock: Callable[[], float], choose: Callable[[], int], timer: str) -> None:
        self._config = config
        self._clock = clock
        self._choose = choose
        self._timer = timer
        self._pull_at = 0.0

    # -- control connections -----------------------------------------------------------------------------------

    def rewrite(self, guest: Guest, flow: Mapping, ftp: Ftp, data: Datagram, *, outward: bool) -> bytes | None:
        """Rewrite a segment of a control connection; the key of the data flow that it must wait for, if any.

        :raises NotNow: and the segment must not leave: the other side would be told an address that it cannot reach, or
            it comes behind a segment of which that is so, and which has not come again (`Gap`).
        """
        sent, received = (ftp.outward, ftp.inward) if outward else (ftp.inward, ftp.outward)
        sequence = data.sequence
        if data.flags & (SYN | ACK) == SYN:  # of a connection with other numbers
            ftp.gap = Gap()
        reset = bool(data.flags & RST)
        if reset and outward and ftp.gap.behind(sequence):
            sequence = ftp.gap.start  # nobody says it again: it gets the number that the other side waits for
            data.sequence = sequence
        elif outward and not reset:
            self._outward(guest, flow, ftp, data)
        if sent:
            data.sequence = sent.forth(sequence)
        if received:
            data.acknowledgement = received.back(data.acknowledgement)
            data.map_sack(received.back)
        if not outward:
            if data.flags & ACK:  # what the other side has, nobody repeats
                ftp.gap.close(data.acknowledgement)
            return None
        if not guest.waits_for(ftp.waits):
            ftp.waits = b""
        return None if reset else ftp.waits or None  # what waits for an announcement may be dropped with it

    def _outward(self, guest: Guest, flow: Mapping, ftp: Ftp, data: Datagram) -> None:
        """`_announce`, if nothing is missing in front of the segment. :raises NotNow:"""
        end = (data.sequence + len(data.payload) + bool(data.flags & FIN)) % MODULUS
        if end == data.sequence:  # an acknowledgement has no place in the stream
            return
        try:
            if ftp.gap.behind(data.sequence):
                raise NotNow(ftp.gap.start, LATER)
            self._announce(guest, flow, ftp, data)
        except NotNow as missing:
            ftp.gap.open(missing.number, end)
            raise
        ftp.gap.close(end)

    def _announce(self, guest: Guest, flow: Mapping, ftp: Ftp, data: Datagram) -> None:
        """Rewrite what announces a connection, for each of which there is a flow then. :raises NotNow:"""
        payload, sequence = data.payload, data.sequence
        read = protocol.command if flow.remote_port in self._config.ftp_ports else protocol.reply
        pieces: list[bytes] = []
        done = 0
        for start, line in protocol.lines(payload):
            number = (sequence + start) % MODULUS
            edit = ftp.outward.of(number)
            if edit is None and not ftp.outward.covers(number) and (said := read(line)) is not None:
                edit = self._edit(guest, flow, ftp, number, said)
            if edit is not None:
                pieces += [payload[done:start], edit.text]
                done = start + edit.length
        if done:
            data.payload = b"".join((*pieces, payload[done:]))

    def _edit(self, guest: Guest, flow: Mapping, ftp: Ftp, number: int, said: protocol.Announcement) -> Edit | None:
        """What the line becomes; None if it is left as it is. :raises NotNow:"""
        if said.address not in (b"", flow.inside):  # for somebody else: no business of ours (RFC 2577 §2)
            self._count(guest, "ftp_foreign")
            return None
        if guest.waits_for(ftp.waits):  # nothing behind that may have an edit: it may have to be made anew (`withdraw`)
            raise NotNow(number, LATER)
        is_client = flow.remote_port in self._config.ftp_ports
        if is_client and ftp.vain and ftp.refused == number:
            return self._give_up(guest, flow, ftp, number, said)
        remote_port = self._config.ftp_data_port if is_client else 0
        home = self._home(flow)
        outside = Outside(flow.outside, flow.remote, remote_port, TCP)
        found = guest.colocated_port(outside, home, self._config.ports, self._choose())
        self._forget_unused(guest, ftp, home)  # only now: another port than that is the better one
        found = found or guest.colocated_port(outside, home, self._config.ports, self._choose())
        if found is None:
            raise NotNow(number, NO_PORT)
        if is_client and self._has_port(guest, flow, said.port):
            if self._in_vain(ftp, number):
                return self._give_up(guest, flow, ftp, number, said)
            raise NotNow(number, LATER)
        port, key = found
        data = Mapping(
            flow.inside, said.port, flow.outside, port, flow.remote, remote_port, flow.group, expected=True,
            control=bytes(home),
        )  # fmt: skip
        try:
            self._expect(guest, key, data, is_client=is_client)
        except FlowMigrated:  # one of its keys is on its way
            raise NotNow(number, LATER) from None
        edit = Edit(number, len(said.line), said.rewritten(flow.outside, port))
        ftp.outward.add(edit)
        ftp.waits = ftp.announced = bytes(key)
        self._count(guest, "ftp_rewritten")
        return edit

    def _has_port(self, guest: Guest, flow: Mapping, port: int) -> bool:
        """Whether a living connection here has the port that a client listens on.

        Who listens on a port again has done with what it announced there before. Such a flow is still here until its
        time-out; left with its key, the new one's packets from inside would be nobody's.
        """
        inner = FlowKey.of(TCP, flow.inside, port, flow.remote, self._config.ftp_data_port)
        if guest.has_flow(inner):
            self.give_way(guest, inner, listens=True)
        return guest.has_flow(inner)

    def _in_vain(self, ftp: Ftp, number: int) -> bool:
        """What begins here is refused, perhaps again; whether there is no use in trying once more."""
        now = self._clock()
        if not ftp.refused_at or ftp.refused != number:
            ftp.refused, ftp.refused_at, ftp.vain = number, now, False
        return now - ftp.refused_at >= CONFLICT

    def _give_up(self, guest: Guest, flow: Mapping, ftp: Ftp, number: int, said: protocol.Announcement) -> Edit:
        """A living connection goes on to have the client's port. The server is told a port that is none,
        which it refuses (RFC 959 §5.4, RFC 2577 §3): so the client learns it at once, and may choose another one.
        """
        logger.warning("port %d of a client is in use by another connection: what it announces is refused", said.port)
        edit = Edit(number, len(said.line), said.rewritten(flow.outside, 0))
        ftp.outward.add(edit)
        self._count(guest, "ftp_conflict")
        return edit

    @staticmethod
    def _forget_unused(guest: Guest, ftp: Ftp, home: FlowKey) -> None:
        """The next announcement of a control connection takes the place of one that nobody has used, or used from
        another port than expected: else each would take one of the bucket's 63 ports for a minute. Who comes late is
        let in as `expectation` says.
        """
        if not ftp.announced or not guest.has_flow(ftp.announced):
            return
        with guest.flow(ftp.announced) as earlier:
            if earlier.expected and earlier.control == home:
                guest.delete_flow(ftp.announced)

    @staticmethod
    def _home(flow: Mapping) -> FlowKey:
        """The control connection's key outside; if it began inside, its own key has the same bucket, as a rule."""
        return FlowKey.of(TCP, flow.outside, flow.outside_port, flow.remote, flow.remote_port)

    def _expect(self, guest: Guest, key: FlowKey, data: Mapping, *, is_client: bool) -> None:
        inner = FlowKey.of(TCP, data.inside, data.inside_port, data.remote, data.remote_port)
        guest.create_flow(key, data, aliases=[inner] if is_client else [], group=data.group, expected=is_client)
        guest.flow_timer(key, self._config.expect, self._timer)
        now = self._clock()
        expectations: Expectations = guest.get_shared(EXPECTED)
        expectations.add(
            Expectation(
                data.outside, data.outside_port, data.remote, data.inside, data.inside_port, data.group,
                now + self._config.expect,
            ),
            now,
        )  # fmt: skip
        guest.put_shared(EXPECTED)

    def withdraw(self, guest: Guest, key: FlowKey, *, refused: bool = False) -> None:
        """Packets of a connection that was announced would not come here: another flow has one of its keys, or the
        switch was not told of them in time. So its announcement, with all that follows, has not left
        (`Guest.send_after`), and is dropped. It is announced anew when that comes again; not for ever, if ``refused``:
        another flow has the client's port.
        """
        if not guest.has_flow(key):
            return
        with guest.flow(key) as data:
            if not data.expected:
                return
        guest.delete_flow(key)
        self._count(guest, "ftp_withdrawn")
        if not guest.has_flow(data.control):  # it has moved on with what it announced: who comes is let in
            return
        expectations: Expectations = guest.get_shared(EXPECTED)
        expectations.remove(data.outside, data.outside_port, data.remote)
        guest.put_shared(EXPECTED)
        with guest.flow(data.control) as control:
            ftp: Ftp | None = control.ftp
            if ftp is not None and ftp.waits == key:
                edit = ftp.outward.edits.pop()
                ftp.gap.open(edit.start, edit.end)
                ftp.waits = b""
                ftp.vain = refused and self._in_vain(ftp, edit.start)

    def give_way(self, guest: Guest, key: FlowKey, *, listens: bool) -> None:
        """A new connection wants a key of this flow, which ends for it if it may; ``listens``: `Mapping.gives_way`."""
        with guest.flow(key) as flow:
            gives_way = flow.gives_way(listens=listens)
            unsaid = gives_way and flow.expected and guest.waits_for(key)
            announced = FlowKey.of(TCP, flow.outside, flow.outside_port, flow.remote, flow.remote_port)
        if unsaid:
            self.withdraw(guest, announced)
        elif gives_way:
            guest.delete_flow(key)

    # -- data connections --------------------------------------------------------------------------------------

    def expectation(self, guest: Guest, data: Datagram) -> Expectation | None:
        """What a connection from outside, that no flow is known of, was announced as.

        Everybody is asked, also where this replica has announced the endpoint: another one may have done so since.
        """
        wanted = (data.destination, data.destination_port, data.source)
        now = self._clock()
        mine: Expectations = guest.get_shared(EXPECTED)
        found = mine.find(*wanted, now)
        guest.put_shared(EXPECTED)
        if guest.now < self._pull_at:
            if found is None:
                self._count(guest, "ftp_not_asked")
            return found
        self._pull_at = guest.now + PULL_INTERVAL
        try:
            everybodys: Expectations = guest.get_shared(EXPECTED, PULL)
        except SplitmergeError as error:
            logger.warning("announced connections cannot be asked for: %s", error)
            self._pull_at = guest.now + PULL_AGAIN  # by the time before the wait, of some two seconds
            return found
        found = everybodys.find(*wanted, now)
        guest.put_shared(EXPECTED)
        return found

    def came(self, guest: Guest, data: Datagram) -> None:
        """Whoever was announced has come, and not from the port that he was expected from: from there nobody will."""
        outside = Outside(data.destination, data.source, self._config.ftp_data_port, TCP)
        usual = outside.key(data.destination_port)
        if not guest.has_flow(usual):
            return
        with guest.flow(usual) as flow:
            if flow.expected:
                guest.delete_flow(usual)

    @staticmethod
    def _count(guest: Guest, name: str) -> None:
        guest.figures[name] = guest.figures.get(name, 0) + 1
