"""What both shells share: the sockets of one replica around its `Engine`."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable
from typing import Protocol

from guestlib.coherence.etcd import EtcdAddress
from guestlib.coherence.worker import LockWorker
from guestlib.config import Address, ReplicaConfig
from guestlib.engine import Counters, Engine
from guestlib.errors import MiddleboxError
from guestlib.guest import Guest
from guestlib.links import Connection, Link, Listener, Poller
from guestlib.middlebox import Middlebox, set_up
from guestlib.packets.dataplane import DataPlane
from guestlib.packets.intake import Intake
from guestlib.packets.pace import WINDOW, PacedSender
from splitmerge.errors import BadInput, PeerError, SplitmergeError
from splitmerge.linux.promptness import ask_for_short_slices
from splitmerge.messages import Carried, FlowsGone, Hello, Message, Refused, Staged, Stats, Welcome
from splitmerge.tls import REPLICA

logger = logging.getLogger("guestlib")


RING_BYTES = 16 * 1024 * 1024
"""Room for frames that the replica has not come to: some 8,000. It may be busy with thousands that had waited."""
CONGESTED = 4 * 1024 * 1024
"""Bytes waiting on a connection above which what can be said later is not said."""


class FrameSocket(Protocol):
    """The traffic interface: `splitmerge.linux.afpacket.PacketSocket`, or anything like it."""

    def fileno(self) -> int: ...

    def receive(self, limit: int) -> list[bytes]: ...

    def send(self, frame: bytes) -> object: ...

    @property
    def drops(self) -> int: ...

    def close(self) -> None: ...


def prepare(middlebox: Middlebox, settings: ReplicaConfig | None = None) -> Guest:
    """The guest of a middlebox that has been set up, before the snapshot: no socket, no thread, safe to fork.

    Keys of its configuration that the setup has not asked for are logged (`Guest.unread`).
    :raises SplitmergeError: the middlebox's own; MiddleboxError for whatever else its setup raises, and BadInput, as
        `guestlib.middlebox.set_up`.
    """
    guest = Guest(settings.settings if settings else None, plane=_plane(settings))
    where = f"middlebox {type(middlebox).__module__}:{type(middlebox).__name__}"
    try:
        set_up(middlebox, guest, where)
    except SplitmergeError:
        raise
    except (Exception, SystemExit) as error:  # of a middlebox that anybody may have written
        logger.exception("setup of %s", type(middlebox).__name__)
        raise MiddleboxError(where, f"its setup fails: {error!r}", "see its code, and its configuration") from error
    if unread := guest.unread():
        logger.warning("%s: its setup has not read, of its configuration: %s", where, ", ".join(unread))
    return guest


def _plane(config: ReplicaConfig | None) -> DataPlane:
    if config is None:
        return DataPlane()
    return DataPlane(hold_packets=config.hold_packets, hold_bytes=config.hold_bytes, hold_deadline=config.hold_deadline)


class Shell:
    """One replica with its sockets open. It is the engine's outlets; a loop calls it when things are ready.

    The thread that makes it serves it: it gets short time slices (`ask_for_short_slices`).
    """

    def __init__(
        self,
        middlebox: Middlebox,
        guest: Guest,
        config: ReplicaConfig,
        packets: FrameSocket,
        poller: Poller,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.config = config
        self.packets = packets
        self.guest = guest
        self.clock = clock
        self.engine = Engine(middlebox, guest, config, self)
        self.incarnation = config.incarnation or uuid.uuid4().hex
        self._sender = PacedSender(packets.send, clock)
        self.transmit = self._sender.send
        self.looped = self._sender.looped
        self._intake = Intake(packets, self._sender)
        self._poller = poller
        self._peers: dict[str, Link] = {}
        self.listener = Listener(Address.parse(config.peer, "peer"), poller, self._welcome, self._from_peer, config.tls)
        control = Address.parse(config.control, "control")
        self.control = Link(
            control, poller, self._hello, self._from_orchestrator,
            keep=True, identity=config.tls, welcomed=self._welcomed,
        )  # fmt: skip
        guest.send = self._sender.send
        guest.clock = clock
        self._bad_told = False
        self._locks: LockWorker | None = None
        """Once the lock service is known to be another process: at this address."""
        self._locks_at = ""
        guest.begin(config.replica, self.incarnation)
        ask_for_short_slices()

    # -- the loop's side -----------------------------------------------------------------------------------

    def packets_ready(self) -> None:
        """Take one batch of frames."""
        frames = self._intake.take(self.config.batch)
        self.engine.frames(frames, self.clock())

    def tick(self) -> None:
        """Do what time has made due."""
        now = self.clock()
        self._tick_links(now)
        if self.engine.finishing or self._intake.waiting:
            self.packets_ready()
        self.engine.tick(now)
        self._sender.tick(now)

    def control_tick(self, now: float) -> None:
        """As `tick`, while the middlebox waits inside `get_shared`: nothing that calls it."""
        self._tick_links(now)
        self.engine.control_tick(now)

    def _tick_links(self, now: float) -> None:
        self.control.tick(now)
        for address, link in list(self._peers.items()):
            link.tick(now)
            if link.disused(now):
                del self._peers[address]

    def next_due(self) -> float:
        """When `tick` should be called at the latest."""
        if self._intake.waiting:
            return 0.0
        due = min(self.engine.next_due(), self._sender.next_due())
        for link in (self.control, *self._peers.values()):
            at = link.next_due()
            due = due if at is None else min(due, at)
        return due

    def terminate(self) -> None:
        """SIGTERM: finish, with or without an orchestrator."""
        deadline = self.config.term_deadline if self.control.connected else 0.0
        self.engine.end(self.clock(), deadline)

    def close(self) -> None:
        """Close every socket."""
        self._sender.finish()
        if self._locks is not None:
            self._locks.close()
        self.control.close()
        for link in self._peers.values():
            link.close()
        self.listener.close()
        self.packets.close()

    # -- the engine's outlets ------------------------------------------------------------------------------

    def to_orchestrator(self, message: Message) -> bool:
        """Send to the orchestrator; False if it is away."""
        if self.control.unsent > CONGESTED and isinstance(message, Stats | FlowsGone):
            return False
        return self.control.connected and self.control.send(message, self.clock())

    def to_locks(self, message: Message) -> bool:
        """Send to the lock service: the orchestrator, or the one that it names in its Welcome."""
        welcome = self.control.welcome
        if welcome is not None and welcome.locks != self._locks_at:
            self._change_locks(welcome.locks, welcome.lease)
        if self._locks is not None:
            self._locks.take(message)
            return True
        return welcome is not None and self.to_orchestrator(message)

    def _change_locks(self, address: str, lease: float) -> None:
        if self._locks is not None:
            self._locks.close()
        self._locks_at = address
        self._locks = None
        if address:
            self._locks = LockWorker(
                EtcdAddress.parse(address), self.config.tls, self.incarnation, lease, self._poller,
                lambda answer: self.engine.message(answer, self.to_locks, self.clock()),
            )  # fmt: skip

    def to_peer(self, address: str, message: Message, *, again: bool = False) -> bool:
        """Send to a peer, connecting first if need be; ``again``: not while anything waits to be sent to it."""
        link = self._peers.get(address)
        if link is None:
            try:
                target = Address.parse(address)
            except BadInput as error:
                logger.error("peer: %s", error)
                return False
            link = self._peers[address] = Link(
                target,
                self._poller,
                self._peer_hello,
                self._from_target,
                keep=False,
                identity=self.config.tls,
                expected=REPLICA,
            )
        # What is repeated because the peer is slow would only make it slower.
        return link.unsent <= (0 if again else CONGESTED) and link.send(message, self.clock())

    def counters(self) -> Counters:
        """CPU time of this process, and what the interface dropped."""
        bad_frames = self._bad_frames()
        drops = {
            "interface": self.packets.drops,
            "send_failed": getattr(self.packets, "send_failures", 0) - bad_frames,
            "bad_frame": bad_frames,
            "send_overflow": self._sender.dropped,
        }
        return Counters(time.process_time(), {reason: count for reason, count in drops.items() if count})

    def _bad_frames(self) -> int:
        """Frames of a length that the interface never takes; that there are some is logged once."""
        count: int = getattr(self.packets, "bad_frames", 0)
        if count and not self._bad_told:
            self._bad_told = True
            logger.error(
                "the middlebox sends frames of a length that %s never takes, one of %d bytes: dropped (bad_frame); "
                "they need 14 bytes at least, at most 14 more than its MTU",
                self.config.interface, getattr(self.packets, "bad_length", 0),
            )  # fmt: skip
        return count

    # -- messages ------------------------------------------------------------------------------------------

    def _welcomed(self, welcome: Welcome) -> None:
        self._sender.window = welcome.room or WINDOW

    def _from_orchestrator(self, connection: Connection, message: Message) -> None:
        self.engine.message(message, connection.send, self.clock())

    def _from_peer(self, connection: Connection, message: Message) -> None:
        self.engine.message(message, connection.send, self.clock())

    def _from_target(self, connection: Connection, message: Message) -> None:
        if not isinstance(message, Staged | Carried | Refused):
            raise PeerError(f"a target may not say {type(message).__name__}")
        self.engine.message(message, connection.send, self.clock())

    def _hello(self) -> Hello:
        config = self.config
        name = config.name or f"replica {config.replica}"
        return Hello(
            role="replica",
            replica=config.replica,
            name=name,
            address=str(self.listener.address),
            incarnation=self.incarnation,
        )

    def _peer_hello(self) -> Hello:
        return Hello(role="peer", replica=self.config.replica, incarnation=self.incarnation)

    def _welcome(self) -> Welcome:
        return Welcome(epoch=self.guest.moves.newest)
