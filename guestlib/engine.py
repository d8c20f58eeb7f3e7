"""The replica between its middlebox, its guest library and the outside: still no I/O and no clock.

A shell (`guestlib.blocking`, `guestlib.aio`) feeds it frames, messages and time, and lends it ways out: `Outlets`.

Its end: Finish (or SIGTERM) -> the traffic interface is read until it is empty -> ``on_finish`` -> final pushes,
repeated until confirmed -> Finished -> done. The deadline of the pushes bounds it.
"""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import msgspec

from guestlib.config import ReplicaConfig
from guestlib.errors import FlowMigrated
from guestlib.guest import Guest
from guestlib.instructions import (
    Hold,
    Instruction,
    Keep,
    Looped,
    Met,
    Process,
    Reply,
    ToLocks,
    ToOrchestrator,
    ToPeer,
    Transmit,
    Unhold,
)
from guestlib.middlebox import Middlebox, Packet
from guestlib.packets.census import Census
from guestlib.packets.dataplane import TAG_BYTES
from guestlib.plain import not_run
from splitmerge.figures import FigureCheck
from splitmerge.flowkey import FlowKey
from splitmerge.messages import Carry, Claim, CountBuckets, Export, Finish, Finished, KeysAdded, Message, Stats

logger = logging.getLogger("guestlib")

TIMERS_AT_ONCE = 256
"""Most timers fired before packets and messages get their turn."""
GONE_INTERVAL = 0.05
"""Seconds between two FlowsGone."""
POSTPONED = 64
"""Most parts of carried packets, claims and refusals that wait for the middlebox; those beyond come again later."""
_LOGGED_FAILURES = 20
"""Tracebacks of a failing middlebox that are logged; later ones are only counted."""

ReplyTo = Callable[[Message], object]


def _nowhere(message: Message) -> None:
    """For replies to what was no message."""


class Outlets(Protocol):
    """What a shell does for the engine."""

    def transmit(self, frame: bytes) -> object:
        """Send a frame on the traffic interface."""

    def to_orchestrator(self, message: Message) -> bool:
        """Send to the orchestrator; False if it is away."""

    def to_locks(self, message: Message) -> object:
        """Send to the lock service, if it can be reached."""

    def to_peer(self, address: str, message: Message, *, again: bool = False) -> object:
        """Send to a peer, if it can be reached; ``again``: only if nothing waits to be sent to it."""

    def looped(self, sequence: int) -> object:
        """The switch has taken what was sent before the LOOP of this number."""

    def counters(self) -> Counters:
        """What only the shell can count."""


@dataclass(frozen=True, slots=True)
class Counters:
    """Seconds of CPU this process used, and frames its interface dropped, by reason."""

    cpu_seconds: float
    drops: dict[str, int]


class Engine:
    """One running replica."""

    def __init__(self, middlebox: Middlebox, guest: Guest, config: ReplicaConfig, outlets: Outlets) -> None:
        self.middlebox = middlebox
        self.guest = guest
        self.config = config
        self._frames = 0
        self._frame_bytes = 0
        self.drops: Counter[str] = Counter()
        self.done = False
        self.clean = True
        """Whether the end came with every final push confirmed."""
        self.waiting = False
        """The middlebox waits inside `get_shared`: nothing may call it."""
        self._deferred: list[Instruction] = []
        self._postponed: deque[tuple[Carry | Claim | KeysAdded, ReplyTo]] = deque()
        self._outlets = outlets
        self._plane = guest.plane
        self._on_packet: Callable[[Guest, Packet], object] = middlebox.on_packet
        self._next_stats = 0.0
        self._next_gone = 0.0
        self._failures = 0
        self._figures = FigureCheck("the middlebox", logger)
        self._census: Census | None = None
        self._finish: Finish | None = None
        self.finishing = False
        self._drained = False
        self._finish_by = 0.0

    # -- stimuli -------------------------------------------------------------------------------------------

    def frames(self, frames: list[bytes], now: float) -> None:
        """A batch of frames from the traffic interface, oldest first; empty when there are none left."""
        guest, plane, on_packet, key_of = self.guest, self._plane, self._on_packet, FlowKey.from_frame
        guest.now = now
        for frame in frames:
            if frame[12:14] == TAG_BYTES or not plane.quiet:
                self.carry_out(plane.handle(frame, now))
                continue
            try:
                if (made := on_packet(guest, Packet(frame, key_of(frame)))) is not None:
                    self._returned(made)
            except Exception as error:
                self._failed(error)
            if self._deferred:
                self._catch_up()
        self._frames += len(frames)
        self._frame_bytes += sum(map(len, frames))
        if self._census is not None:
            self._census.add(frames, now)
        self.carry_out(guest.flush(now))
        if self.finishing and not frames:
            self._drained = True

    def message(self, message: Message, reply: ReplyTo, now: float) -> None:
        """A control message; ``reply`` sends on the connection it came from."""
        if isinstance(message, Finish):
            self._finish = message
            self.end(now, self.config.finish_deadline)
            return
        if isinstance(message, CountBuckets):
            self._count_buckets(message, now)
            return
        if self._deferred and isinstance(message, Export) and message.late != "never":
            return  # packets of its flows may be due before they are frozen: it will be asked for again
        if self.waiting or self._postponed:
            if isinstance(message, KeysAdded) and message.refused:
                # The middlebox is told of keys that another flow has (`Guest.on_refused`); what needs them waits on.
                self._postpone(msgspec.structs.replace(message, keys=()), reply)
                message = msgspec.structs.replace(message, refused=())
            elif isinstance(message, Carry | Claim):
                # Not taken while the middlebox waits: an acknowledgement would let more come. Nor before older ones.
                self._postpone(message, reply)
                return
        self.carry_out(self.guest.handle(message, now), reply)

    def _postpone(self, message: Carry | Claim | KeysAdded, reply: ReplyTo) -> None:
        """It comes again if there is no room for it."""
        if len(self._postponed) < POSTPONED:
            self._postponed.append((message, reply))

    def tick(self, now: float) -> None:
        """Do what time has made due."""
        self.guest.fire_timers(now, TIMERS_AT_ONCE)
        self._catch_up()
        self._take_postponed(now)
        self.carry_out(self.guest.poll(now))
        if now >= self._next_gone:
            self._next_gone = now + GONE_INTERVAL
            self._report_gone()
        if self._census is not None and (counts := self._census.poll(now)) is not None:
            self._outlets.to_orchestrator(counts)
        if now >= self._next_stats:
            self._next_stats = now + self.config.stats_interval
            self._outlets.to_orchestrator(self.stats())
        if self.finishing:
            self._go_on_finishing(now)

    def control_tick(self, now: float) -> None:
        """While the middlebox waits inside `get_shared`: only what does not call it."""
        self.carry_out(self.guest.poll_control(now))

    def next_due(self) -> float:
        """When `tick` should be called at the latest."""
        due = self.guest.next_due()
        if self.finishing:
            return 0.0 if not self._drained else min(self._finish_by, self._next_gone)
        if self._postponed:
            return 0.0
        return self._next_stats if due is None else min(due, self._next_stats)

    def end(self, now: float, deadline: float) -> None:
        """No more packets will come: run the combiners, push, and be done within ``deadline`` seconds."""
        if self.finishing:
            return
        logger.info("replica %d: finishing", self.config.replica)
        self.finishing = True
        self._finish_by = now + deadline

    # -- the end -------------------------------------------------------------------------------------------

    def _go_on_finishing(self, now: float) -> None:
        late = now >= self._finish_by
        if not self._drained and not late:
            return
        if self._on_packet is not _ended:
            self.carry_out(self._plane.finish())  # nobody will send the END that held packets wait for
            self._on_packet = _ended
            self._finish_middlebox(now)
        left = self.guest.coherent.unconfirmed
        if left and not late:
            return
        if left:
            logger.error("replica %d: ends with %d final pushes unconfirmed", self.config.replica, left)
            self.clean = False
        self._report_gone()
        self._outlets.to_orchestrator(self.stats())
        if self._finish is not None:
            self._outlets.to_orchestrator(Finished(request=self._finish.request))
        self.done = True

    def _finish_middlebox(self, now: float) -> None:
        if flows := self.guest.table.count:
            logger.warning("replica %d: %d flows end with it", self.config.replica, flows)
        on_finish = getattr(self.middlebox, "on_finish", None)
        try:
            if on_finish is not None and (problem := not_run(on_finish(self.guest))) is not None:
                raise problem
        except Exception:
            logger.exception("on_finish failed")
            self.clean = False
        self.carry_out(self.guest.poll(now) + self.guest.coherent.finish(now))

    # -- helpers -------------------------------------------------------------------------------------------

    def stats(self) -> Stats:
        """This replica's figures as of now."""
        counters = self._outlets.counters()
        drops = Counter(counters.drops)
        drops.update(self.drops)
        drops.update(self._plane.drops)
        drops.update(self.guest.table.steering.drops)
        figures = {**self._figures.of(self.guest.figures), "hold_expired": float(self._plane.expired)}
        return Stats(
            replica=self.config.replica,
            flows=self.guest.table.count,
            packets=self._frames - self._plane.uncounted,
            bytes=self._frame_bytes - self._plane.uncounted_bytes,
            cpu_seconds=counters.cpu_seconds,
            held=self._plane.held,
            drops=dict(drops),
            hold_dropped=dict(self._plane.told_dropped),
            hold_full=self._plane.full,
            custom=figures,
        )

    def _count_buckets(self, asked: CountBuckets, now: float) -> None:
        """Begin; a repeated request goes on, or is answered as it was."""
        if self._census is None or self._census.request != asked.request:
            self._census = Census(asked, now)
        elif self._census.answer is not None:
            self._outlets.to_orchestrator(self._census.answer)

    def _report_gone(self) -> None:
        while (gone := self.guest.take_gone()) is not None:
            if not self._outlets.to_orchestrator(gone):
                self.guest.keep_gone(gone)
                return

    def carry_out(self, steps: list[Instruction], reply: ReplyTo = _nowhere) -> None:
        """Do what a core asks for, in order."""
        for step in steps:
            match step:
                case Process() | Met() if self.waiting:
                    self._deferred.append(step)
                case Met(epoch):
                    self.carry_out(self.guest.marker_met(epoch))
                case Process(frame, key):
                    self._process(frame, key)
                case Transmit(frame):
                    self._outlets.transmit(frame)
                case ToOrchestrator(message):
                    self._outlets.to_orchestrator(message)
                case ToLocks(message):
                    self._outlets.to_locks(message)
                case ToPeer(address, message, again):
                    self._outlets.to_peer(address, message, again=again)
                case Reply(message):
                    reply(message)
                case Looped(sequence):
                    self._outlets.looped(sequence)
                case Hold() | Keep() | Unhold():
                    raise AssertionError("the guest carries holds out itself")

    def _process(self, frame: bytes, key: FlowKey | None) -> None:
        try:
            if (made := self._on_packet(self.guest, Packet(frame, key))) is not None:
                self._returned(made)
        except Exception as error:
            self._failed(error)
        if self._deferred:
            self._catch_up()

    def _catch_up(self) -> None:
        """Packets due while the middlebox waited, as soon as it does not: before any younger one, or a marker."""
        deferred, self._deferred = self._deferred, []
        self.carry_out(deferred)

    def _take_postponed(self, now: float) -> None:
        """What came while the middlebox waited, and calls it. It may wait again, about any of them."""
        for _ in range(len(self._postponed)):
            message, reply = self._postponed.popleft()
            self.carry_out(self.guest.handle(message, now), reply)

    def _returned(self, made: object) -> None:
        """What `on_packet` returned instead of None, which is nothing to us unless it is code that has not run."""
        if (problem := not_run(made)) is not None:
            self._failed(problem)

    def _failed(self, error: Exception) -> None:
        if isinstance(error, FlowMigrated):
            self.drops["flow_migrated"] += 1
            return
        self.drops["middlebox_error"] += 1
        self.guest.failed()
        self._failures += 1
        if self._failures <= _LOGGED_FAILURES:
            logger.error("the middlebox failed on a packet, which is dropped", exc_info=error)


def _ended(guest: Guest, packet: Packet) -> None:
    """Packets after the end."""
    logger.warning("a packet came after Finish: dropped")
