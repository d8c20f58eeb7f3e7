"""Keeps a connection to the switch, and mastership, for as long as the controller runs.

        connect ──► bid ──► primary ──► prepare (pipeline, clone session, tables) ──► ready
           ▲         │         ▲                                                     │  │
           │         └ backup ─┴── bid higher after a while ◄── another is primary ──┘  │
           └──────────── throttled ◄──── connection lost, switch hangs, refusal ────────┘

The owner is told of each change through `SessionOwner`; what to do about tables and operations is the owner's part.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import Any, Protocol

from finsy import GRPCStatusCode
from finsy.proto import U128

from p4rt_controller.errors import ControllerError, SwitchUnavailable
from p4rt_controller.link import Link
from p4rt_controller.options import ControllerOptions
from splitmerge.errors import first_of

_logger = logging.getLogger(__name__)


class SessionOwner(Protocol):
    """What a session tells."""

    async def prepare(self, link: Link) -> None:
        """Mastership has been won: make the switch right."""

    def lost(self, reason: str) -> None:
        """Connection or mastership is gone; may be called more than once."""

    def packet(self, packet: Any) -> None:
        """A ``p4.v1.PacketIn``."""

    def idle(self, notification: Any) -> None:
        """A ``p4.v1.IdleTimeoutNotification``."""

    async def check(self, link: Link) -> None:
        """Is the switch still as prepared? :raises SwitchUnavailable: if not: the session starts again."""


@dataclass(frozen=True, slots=True)
class _Role:
    """Answer to a bid, or news: whether this client is primary, and the primary's (or highest known) election id."""

    primary: bool
    vacant: bool
    """There is no primary: the last one left (P4Runtime §5.3; BMv2 promotes the next client instead)."""
    election_id: int


class Session:
    """The connection and its repair. `run` ends only by cancellation; see `ending`."""

    def __init__(self, options: ControllerOptions, owner: SessionOwner) -> None:
        self._options = options
        self._owner = owner
        self._roles: asyncio.Queue[_Role] = asyncio.Queue()  # one a change of mastership
        self._ready_since_connect = False
        self.link: Link | None = None
        """The connection, while there is one."""
        self.primary = False
        self.election_id = options.election_id
        self.connections = 0
        self.stream_errors = 0
        self.last_error = ""
        self.ending = False
        """Set before `run` is cancelled: a task group that fails at that very moment forgets the cancellation
        (Python 3.11), and the next connection would never end."""

    async def run(self) -> None:
        """Connect, prepare, and start again whenever anything breaks; waits double up to ``reconnect_max``."""
        delay = self._options.reconnect_min
        while True:
            reason = await self._connect_once()
            if self.ending:
                return
            self._gone(reason)
            delay = self._options.reconnect_min if self._ready_since_connect else delay
            await asyncio.sleep(delay)
            delay = min(delay * 2, self._options.reconnect_max)

    async def _connect_once(self) -> str:
        """One connection, to its end; why it ended."""
        self._roles = asyncio.Queue()
        self._ready_since_connect = False
        self.connections += 1
        try:
            async with Link(self._options) as link:
                self.link = link
                await self._serve(link)
        except ExceptionGroup as group:
            error = first_of(group)
            if isinstance(error, ControllerError):
                return str(error)
            _logger.exception("session failed")
            return f"internal error: {error!r}"
        return "ended"

    async def _serve(self, link: Link) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(link.send_loop(), name="p4rt:send")
            tasks.create_task(link.receive_loop(self._message), name="p4rt:receive")
            tasks.create_task(self._govern(link), name="p4rt:govern")

    def _message(self, message: Any) -> None:
        match message.WhichOneof("update"):
            case "packet":
                self._owner.packet(message.packet)
            case "arbitration":
                news = message.arbitration
                code = GRPCStatusCode(news.status.code)
                self._roles.put_nowait(
                    _Role(code == GRPCStatusCode.OK, code == GRPCStatusCode.NOT_FOUND, U128.decode(news.election_id))
                )
            case "idle_timeout_notification":
                self._owner.idle(message.idle_timeout_notification)
            case other:
                self.stream_errors += 1
                _logger.warning("stream message %s: %s", other, str(message)[:500])

    async def _govern(self, link: Link) -> None:
        """Win mastership, prepare, watch. :raises SwitchUnavailable: to start again."""
        link.bid(self.election_id)
        self.election_id += 1  # the next connection bids higher than this one, which may linger on the switch
        role = await self._next_role("arbitration", self._options.rpc_deadline)
        while True:
            while not role.primary:
                role = await self._regain(link, role)
            await self._reign(link)
            role = await self._lose(role)

    async def _next_role(self, what: str, seconds: float) -> _Role:
        try:
            async with asyncio.timeout(seconds):
                return await self._roles.get()
        except TimeoutError:
            raise SwitchUnavailable(what, f"no answer within {seconds:g} s") from None

    async def _regain(self, link: Link, role: _Role) -> _Role:
        """Backup: bid above the primary, or wait for it to leave."""
        self._owner.lost(f"another client is primary (election id {role.election_id})")
        if not (self._options.reclaim or role.vacant):
            return await self._roles.get()
        self.election_id = max(self.election_id, role.election_id + 1)
        link.bid(self.election_id)
        self.election_id += 1
        return await self._next_role("arbitration", self._options.rpc_deadline)

    async def _reign(self, link: Link) -> None:
        """Primary: prepare, and check from time to time until there is news."""
        self.primary = True
        await self._owner.prepare(link)
        self._ready_since_connect = True
        self.last_error = ""
        while self._roles.empty():
            await self._news_within(self._options.health_interval)
            if self._roles.empty():
                await self._owner.check(link)

    async def _news_within(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                role = await self._roles.get()
        except TimeoutError:
            return
        if not role.primary:
            self._roles.put_nowait(role)

    async def _lose(self, role: _Role) -> _Role:
        """Another client took over: say so, and give it (or a short visit) time."""
        role = self._roles.get_nowait()
        self.primary = False
        self._owner.lost(f"another client is primary (election id {role.election_id})")
        _logger.warning("mastership lost to election id %d", role.election_id)
        try:
            async with asyncio.timeout(self._options.mastership_retry):
                return await self._roles.get()
        except TimeoutError:
            return role

    def _gone(self, reason: str) -> None:
        if reason != self.last_error:
            _logger.warning("switch %s: %s", self._options.address, reason)
        self.link = None
        self.primary = False
        self.last_error = reason
        self._owner.lost(reason)
