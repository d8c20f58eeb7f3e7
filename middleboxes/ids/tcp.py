"""TCP: one direction's bytes in order, and the state of a connection. Sans-IO; all state is typed data.

Reassembly. `Half` is one direction. ``next`` is the sequence number of the first byte not yet delivered. A segment that
starts there is delivered at once; one beyond it waits in ``pending``, sorted, without overlaps; what lies before it has
been seen and is cut off. Where two segments carry different bytes for one place, **the first that arrived wins**.

Gaps. The IDS is on the path, so a segment lost behind it comes again. Bytes are given up, and a `Gap` delivered in
their place, only when (a) ``pending`` is full: then the hole before its first segment, or (b) the other side
acknowledges bytes never seen here: it has them, so they will not come again.

Mid-stream. A connection whose SYN was not seen is picked up at its first segment (`Half.next` is -1 until then).

Sequence numbers are compared modulo 2**32 (RFC 9293 §3.4). Segments further than `WINDOW` ahead are nobody's in a
connection that works, and are counted and ignored, so that a forged segment cannot fill the buffer or force a gap.
"""

from __future__ import annotations

import enum

import msgspec

from middleboxes.ids.packet import ACK, FIN, RST, SYN

_MASK = 0xFFFFFFFF
_HALF_SPACE = 0x80000000
WINDOW = 1 << 30
"""The largest window that TCP can announce (RFC 7323 §2.3)."""


class Gap(msgspec.Struct, frozen=True):
    """``missing`` bytes of the stream that were never seen stand here."""

    missing: int


Piece = bytes | Gap


class Half(msgspec.Struct):
    """One direction of a connection."""

    next: int = -1
    """Sequence number of the first byte not yet delivered; -1: nothing seen yet."""
    pending: list[tuple[int, bytes]] = []
    """Out-of-order (sequence, bytes), in stream order, without overlaps."""
    pending_bytes: int = 0
    fin: int = -1
    """Sequence number of the FIN; -1: none seen."""
    gaps: int = 0
    gap_bytes: int = 0
    duplicate_bytes: int = 0
    """Bytes seen again."""
    ignored: int = 0
    """Segments outside any window."""

    @property
    def finished(self) -> bool:
        """Whether every byte up to the FIN has been delivered or given up."""
        return self.fin >= 0 and self.next == (self.fin + 1) & _MASK


def _ahead(sequence: int, reference: int) -> int:
    """How far ``sequence`` lies ahead of ``reference``: -2**31 … 2**31 - 1."""
    return ((sequence - reference + _HALF_SPACE) & _MASK) - _HALF_SPACE


def begin(half: Half, sequence: int) -> None:
    """The first byte of this direction has this sequence number."""
    half.next = sequence & _MASK


def receive(half: Half, sequence: int, payload: bytes, limit: int, segments: int) -> list[Piece]:
    """Take a segment's payload; return what can now be delivered, in order.

    At most ``limit`` bytes in ``segments`` pieces wait out of order; beyond that the first hole becomes a `Gap`.
    """
    if half.next < 0:
        begin(half, sequence)
    if half.fin >= 0 and _ahead(sequence + len(payload), half.fin) > 0:
        _disbelieve_fin(half)
    offset = _ahead(sequence, half.next)
    if offset == 0 and not half.pending:
        half.next = (sequence + len(payload)) & _MASK
        _pass_fin(half)
        return [payload]
    if abs(offset) > WINDOW:
        half.ignored += 1
        return []
    if offset < 0:
        half.duplicate_bytes += min(-offset, len(payload))
        payload = payload[-offset:]
        offset = 0
    if payload:
        _insert(half, offset, payload)
    pieces = _deliver(half)
    while half.pending_bytes > limit or len(half.pending) > segments:
        pieces.append(_give_up(half, half.pending[0][0]))
        pieces += _deliver(half)
    return pieces


def acknowledged(half: Half, acknowledgement: int) -> list[Piece]:
    """The other side has every byte before ``acknowledgement``: give up what has not been seen of them.

    Returns what can be delivered now; nothing in the usual case that all of them were seen.
    """
    if half.next < 0 or not 0 < _ahead(acknowledgement, half.next) <= WINDOW:
        return []
    pieces: list[Piece] = []
    while (missing := _ahead(acknowledgement, half.next)) > 0:
        target = acknowledgement
        if half.pending and _ahead(half.pending[0][0], half.next) < missing:
            target = half.pending[0][0]
        pieces.append(_give_up(half, target))
        pieces += _deliver(half)
    return pieces


def finish(half: Half, sequence: int) -> None:
    """A FIN stands at this sequence number, which is that of the segment plus its payload's length."""
    if half.next < 0:
        begin(half, sequence)
    if half.fin < 0 and 0 <= _ahead(sequence, half.next) <= WINDOW:
        half.fin = sequence & _MASK
        _pass_fin(half)


def follow(half: Half, sequence: int, length: int) -> None:
    """Keep ``next`` at the highest byte seen, for a direction whose bytes nobody reads."""
    end = (sequence + length) & _MASK
    if half.next < 0 or 0 < _ahead(end, half.next) <= WINDOW:
        half.next = end
        _pass_fin(half)


def forget_pending(half: Half) -> None:
    """Nobody reads this direction any more."""
    half.pending.clear()
    half.pending_bytes = 0


def in_window(half: Half, sequence: int) -> bool:
    """Whether a RST here would be believed: exactly the next byte, or as far ahead as unseen data could be in flight.

    RFC 5961 §3.2 wants the exact byte; a middlebox cannot know what the end point has, so it takes a little more.
    """
    return half.next < 0 or 0 <= _ahead(sequence, half.next) <= 0xFFFF


def _pass_fin(half: Half) -> None:
    if half.fin >= 0 and half.next == half.fin:
        half.next = (half.fin + 1) & _MASK


def _disbelieve_fin(half: Half) -> None:
    """Data beyond the FIN: nobody took the FIN for true, or it was forged to blind us."""
    if half.finished:
        half.next = half.fin
    half.fin = -1


def _insert(half: Half, offset: int, payload: bytes) -> None:
    """Put those parts of [offset, offset + len) that are not pending yet among the pending ones."""
    kept: list[tuple[int, bytes]] = []
    added: list[tuple[int, bytes]] = []
    for sequence, data in half.pending:
        start = _ahead(sequence, half.next)
        end = start + len(data)
        if payload and offset < end and start < offset + len(payload):
            if offset < start:
                added.append(((half.next + offset) & _MASK, payload[: start - offset]))
            half.duplicate_bytes += min(end, offset + len(payload)) - max(start, offset)
            payload, offset = payload[end - offset :], end
        kept.append((sequence, data))
    if payload:
        added.append(((half.next + offset) & _MASK, payload))
    reference = half.next
    half.pending = sorted(kept + added, key=lambda piece: _ahead(piece[0], reference))
    half.pending_bytes += sum(len(data) for _, data in added)


def _deliver(half: Half) -> list[Piece]:
    """Take from ``pending`` what follows without a hole."""
    pieces: list[Piece] = []
    while half.pending and half.pending[0][0] == half.next:
        _, data = half.pending.pop(0)
        half.pending_bytes -= len(data)
        half.next = (half.next + len(data)) & _MASK
        pieces.append(data)
    _pass_fin(half)
    return pieces


def _give_up(half: Half, sequence: int) -> Gap:
    missing = _ahead(sequence, half.next)
    half.gaps += 1
    half.gap_bytes += missing
    half.next = sequence
    return Gap(missing)


# -- the connection --------------------------------------------------------------------------------------------


class Connection(enum.IntEnum):
    """State of a connection as seen from its path."""

    NEW = 0
    OPENING = 1
    """A SYN was seen."""
    ANSWERED = 2
    """The SYN was answered."""
    OPEN = 3
    """The handshake is complete, or the connection was picked up mid-stream."""
    CLOSING = 4
    """One side has sent its FIN and all before it."""
    CLOSED = 5
    """Both have."""
    RESET = 6


class Signal(enum.IntEnum):
    """What a segment means to the connection."""

    SYN = 0
    SYN_ACK = 1
    OTHER = 2
    FINISHED = 3
    """One side's FIN was reached."""
    BOTH_FINISHED = 4
    RST = 5


_C, _S = Connection, Signal
TRANSITIONS: dict[tuple[Connection, Signal], Connection] = {
    (_C.NEW, _S.SYN): _C.OPENING,
    (_C.NEW, _S.SYN_ACK): _C.ANSWERED,
    (_C.NEW, _S.OTHER): _C.OPEN,
    (_C.OPENING, _S.SYN): _C.OPENING,
    (_C.OPENING, _S.SYN_ACK): _C.ANSWERED,
    (_C.OPENING, _S.OTHER): _C.OPEN,
    (_C.ANSWERED, _S.SYN): _C.ANSWERED,
    (_C.ANSWERED, _S.SYN_ACK): _C.ANSWERED,
    (_C.ANSWERED, _S.OTHER): _C.OPEN,
    (_C.OPEN, _S.SYN): _C.OPEN,
    (_C.OPEN, _S.SYN_ACK): _C.OPEN,
    (_C.OPEN, _S.OTHER): _C.OPEN,
    (_C.CLOSING, _S.SYN): _C.CLOSING,
    (_C.CLOSING, _S.SYN_ACK): _C.CLOSING,
    (_C.CLOSING, _S.OTHER): _C.CLOSING,
    (_C.CLOSED, _S.SYN): _C.OPENING,  # the ports are used again: the caller starts a new record
    (_C.CLOSED, _S.SYN_ACK): _C.CLOSED,
    (_C.CLOSED, _S.OTHER): _C.CLOSED,
    (_C.RESET, _S.SYN): _C.OPENING,  # likewise
    (_C.RESET, _S.SYN_ACK): _C.RESET,
    (_C.RESET, _S.OTHER): _C.OPEN,  # data after a RST: its receiver did not believe it, so neither do we
    **{(state, _S.FINISHED): _C.CLOSING for state in _C if state not in (_C.CLOSED, _C.RESET)},
    **{(state, _S.BOTH_FINISHED): _C.CLOSED for state in _C if state is not _C.RESET},
    **{(state, _S.RST): _C.RESET for state in _C},
    (_C.CLOSED, _S.FINISHED): _C.CLOSED,
    (_C.RESET, _S.FINISHED): _C.RESET,
    (_C.RESET, _S.BOTH_FINISHED): _C.RESET,
    (_C.CLOSED, _S.RST): _C.CLOSED,
}
"""Every pair; a test checks that none is missing."""

ENDED = frozenset((Connection.CLOSED, Connection.RESET))


def signal_of(flags: int, low: Half, high: Half) -> Signal:
    """What a segment with these flags says, once both halves have taken it."""
    if flags & RST:
        return Signal.RST
    if flags & SYN:
        return Signal.SYN_ACK if flags & ACK else Signal.SYN
    if low.finished and high.finished:
        return Signal.BOTH_FINISHED
    return Signal.FINISHED if flags & FIN or low.finished or high.finished else Signal.OTHER
