"""The switches' part in a move: `suspend`, `redirect`, `resume`, `abandon`, alike for one switch and for several.

Desired rows change first, then the switches. Whatever fails in between leaves the desired state right; the next
reconciliation, or the same call again, brings the switches to it. Every operation is idempotent per epoch.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Iterable
from typing import Protocol

from p4rt_controller.buffer import Room
from p4rt_controller.errors import StaleEpoch, WriteRejected
from p4rt_controller.events import Resumed
from p4rt_controller.exclusive import Exclusive
from p4rt_controller.moves import Move, MoveBook
from p4rt_controller.scopes import checked_scope
from p4rt_controller.tables import Steer
from splitmerge.flowkey import FlowKey
from splitmerge.messages import Scope

_logger = logging.getLogger(__name__)
_KEPT = 4096
"""Results of finished moves that are kept to answer the same call again; so many redirected ones are remembered."""


class Switches(Protocol):
    """What steers the flows: one switch, or several as one."""

    def check_registered(self, replica: int) -> None:
        """:raises UnknownReplica: if it is not registered."""

    def entries(self, epoch: int, buckets: Iterable[int], wanted: Callable[[Steer], bool]) -> set[FlowKey]:
        """Flows of these buckets with entries of their own that no other move has and that ``wanted`` takes."""

    def left_suspended(self, epoch: int, buckets: Iterable[int]) -> set[FlowKey]:
        """Flows that are suspended together with these buckets, at the same replica, and that no other move has."""

    def apart(self, buckets: Iterable[int]) -> set[FlowKey]:
        """All flows of these buckets that have entries of their own, whoever has them."""

    def point(self, keys: Collection[FlowKey], buckets: Collection[int], value: Steer) -> Awaitable[object]:
        """Change the desired entries of a scope at once; the switches have them when what is returned is awaited.

        :raises SwitchUnavailable, WriteRejected: then.
        """

    def mark(self, epoch: int, replica: int) -> None:
        """Nothing of the scope goes to this replica any more: the marker that `drain` waits for may be sent now."""

    def unmark(self, epoch: int) -> None:
        """A marker that was sent is not to be waited for: it may stand before packets that go to the replica."""

    async def loop(self, epoch: int) -> int:
        """Return when every packet that was punted so far is here; rounds. :raises Timeout: …"""

    async def deliver(
        self, move: Move, target: int, seal: Callable[[], Awaitable[None]] | None, busy: Callable[[], bool]
    ) -> None:
        """Deliver a move's packets, and END, as `Traffic.deliver`. :raises UnknownReplica: for the target."""

    async def forget(self, keys: Iterable[bytes]) -> int:
        """Delete flow entries, but those of moves under way; how many."""


class Handover:
    """Gives scopes of flows and buckets from one replica to another: see the module's text."""

    def __init__(self, book: MoveBook, switches: Switches) -> None:
        self._book = book
        self._switches = switches
        self._finished: OrderedDict[int, Resumed] = OrderedDict()
        self._redirected: OrderedDict[int, set[FlowKey]] = OrderedDict()
        """Flow entries that the buckets of a redirected scope brought along."""
        self._exclusive = Exclusive(lambda epoch: book.get(epoch) is not None)

    async def suspend(self, epoch: int, scope: Scope, source: int, room: Room | None, *, mark: bool) -> None:
        """As `Controller.suspend`."""
        keys, buckets = checked_scope(epoch, scope)
        if epoch in self._finished:
            raise StaleEpoch(epoch)
        self._switches.check_registered(source)
        async with self._exclusive.of(epoch):
            captured = self._led_to(epoch, buckets, source) | self._redirected.get(epoch, set())
            move = self._book.open(epoch, keys, buckets, captured, _now(), room, self._switches.apart(buckets))
            await self._lead(epoch, source if mark else None, move.keys, move.buckets, Steer(source, suspended=True))

    async def redirect(self, epoch: int, scope: Scope, source: int, target: int, *, mark: bool) -> None:
        """As `Controller.redirect`."""
        keys, buckets = checked_scope(epoch, scope)
        self._switches.check_registered(target)
        async with self._exclusive.of(epoch):
            brought = self._led_to(epoch, buckets, source)
            self._book.check_free(epoch, keys | brought, buckets)
            captured = self._redirected.setdefault(epoch, set())
            captured |= brought
            if len(self._redirected) > _KEPT:
                self._redirected.popitem(last=False)
            await self._lead(epoch, source if mark else None, keys | captured, buckets, Steer(target))

    async def resume(
        self, epoch: int, scope: Scope, target: int, *, ordered: bool, new: bool, busy: Callable[[], bool]
    ) -> Resumed:
        """As `Controller.resume`."""
        keys, buckets = checked_scope(epoch, scope)
        self._switches.check_registered(target)
        async with self._exclusive.of(epoch):
            done = self._finished.get(epoch)
            if done is not None and done.target == target:
                return done
            started = _now()
            captured = self._switches.left_suspended(epoch, buckets)
            apart = self._switches.apart(buckets)
            move = self._book.open(epoch, keys, buckets, captured, started, apart=apart)
            refusal = await self._point(move, target, new=new)
            rounds = await self._deliver(move, target, busy, at_once=not ordered)
            refused = tuple(map(bytes, keys - move.keys))
            return self._finish(move, move.resumed(rounds, started, _now(), refused, refusal))

    def abandon(self, epoch: int) -> int:
        """As `Controller.abandon`."""
        self._redirected.pop(epoch, None)
        self._switches.unmark(epoch)
        move = self._book.get(epoch)
        if move is None:
            return 0
        kept, lost = self._book.abandon(move, _now())
        _logger.warning("move %d abandoned: %d packets wait for the next, %d are lost", epoch, kept, lost)
        return lost

    async def _lead(
        self, epoch: int, marked: int | None, keys: Collection[FlowKey], buckets: Collection[int], value: Steer
    ) -> None:
        """Point the scope; markers sent before are void. Send ``marked`` its own as soon as that is answered."""
        self._switches.unmark(epoch)
        await self._switches.point(keys, buckets, value)
        if marked is not None:
            self._switches.mark(epoch, marked)

    def _led_to(self, epoch: int, buckets: Iterable[int], source: int) -> set[FlowKey]:
        """Flow entries that the buckets bring along because they lead where the scope does."""
        there = Steer(source)
        return self._switches.entries(epoch, buckets, lambda steer: steer == there)

    async def _point(self, move: Move, target: int, *, new: bool) -> str:
        """Lift the suspension, towards the target. New flows that were refused entries are left out; why they were."""
        try:
            await self._lead(move.epoch, None, move.keys, move.buckets, Steer(target))
        except WriteRejected as error:
            if not new:
                raise
            self._book.leave_out(move, error.flows)
            await self._switches.forget(error.flows)  # one that some switch refuses has no entry at any
            return str(error)
        return ""

    async def _deliver(self, move: Move, target: int, busy: Callable[[], bool], *, at_once: bool) -> int:
        """Collect the packets still on their way here, and deliver all; LOOP markers sent."""
        rounds = 0

        async def seal() -> None:
            nonlocal rounds
            rounds = await self._switches.loop(move.epoch)
            self._book.seal(move)

        if not at_once:
            await seal()
        await self._switches.deliver(move, target, seal if at_once else None, busy)
        return rounds

    def _finish(self, move: Move, resumed: Resumed) -> Resumed:
        self._book.close(move)
        self._finished[move.epoch] = resumed
        if len(self._finished) > _KEPT:
            self._finished.popitem(last=False)
        return resumed


def _now() -> float:
    return asyncio.get_running_loop().time()
