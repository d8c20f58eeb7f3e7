"""Entries of flows that have ended: when they may go from the switch, and how, so that no flow is split by it."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from dataclasses import dataclass
from typing import Any

from orchestrator.journal import Journal
from orchestrator.migration import NOBODY
from orchestrator.moves.mover import Mover
from orchestrator.moves.placement import Placement
from orchestrator.network import Network
from splitmerge.errors import SplitmergeError
from splitmerge.flowkey import FlowKey
from splitmerge.messages import Scope

logger = logging.getLogger("orchestrator")


@dataclass(frozen=True, slots=True)
class Endings:
    """``bring_home`` moves flows to their bucket's owner; ``holds`` asks a replica; ``later`` runs work in a task."""

    journal: Journal
    placement: Placement
    mover: Mover
    network: Network
    bring_home: Callable[[int, int, Iterable[bytes]], Awaitable[object]]
    holds: Callable[[int, bytes], Awaitable[bool]]
    later: Callable[[Coroutine[Any, Any, None], str], None]

    async def idle(self, key: FlowKey) -> None:
        """No packets for a while: the entry may go if the flow is not held any more, or the bucket says the same."""
        entry = self.placement.entry(key)
        if entry is None or self._holder(key) is not None:
            return
        if self.placement.bucket_owner(key.bucket) == entry and not self.placement.is_second(key):
            await self._forget([key])
            return
        if not await self.holds(entry, key):
            await self.gone(entry, (key,))

    async def gone(self, replica: int, keys: tuple[bytes, ...]) -> None:
        """The replica has deleted these flows: their entries go as soon as that cannot split a flow.

        Safe at once where the bucket leads to the same replica, or to nobody (the next packet begins a new flow).
        Else the key moves to the bucket's owner first: a packet may just have begun the flow anew.
        Those of second keys go at once: no flow begins by one.
        Entries that a move has, or had meanwhile, are the new owner's: it is asked once the move is over.
        """
        moving: dict[int | None, list[bytes]] = {}
        for key in keys:
            holder = self._holder(key)
            if holder is not None or self.placement.entry(key) not in (replica, None):
                moving.setdefault(holder, []).append(key)
        for group in moving.values():
            self.later(self._gone_in_a_move(group), "flows gone in a move")
        moved = {key for group in moving.values() for key in group}
        mine = [key for key in keys if key not in moved and self.placement.entry(key) == replica]
        elsewhere: dict[int, list[bytes]] = {}
        for key in mine:
            owner = self.placement.bucket_owner(FlowKey(key).bucket)
            if owner not in (replica, NOBODY) and not self.placement.is_second(key):
                elsewhere.setdefault(owner, []).append(key)
        away = {key for group in elsewhere.values() for key in group}
        await self._forget([key for key in mine if key not in away])
        for owner, group in elsewhere.items():
            await self.bring_home(replica, owner, group)
            await self._forget(group)

    async def forget_second(self, replica: int) -> None:
        """The replica has died: second keys of flows without state mean nothing; who has the flow anew asks anew."""
        await self._forget([key for key in self.placement.flows_of(replica) if self.placement.is_second(key)])

    async def _gone_in_a_move(self, keys: list[bytes]) -> None:
        for key in keys:
            while (holder := self._holder(key)) is not None:  # the next move may have taken it at once
                await self.mover.wait(holder)
            try:
                await self.idle(FlowKey(key))
            except SplitmergeError as error:
                logger.warning("flow gone in a move: %s", error)

    async def _forget(self, keys: list[bytes] | list[FlowKey]) -> None:
        """Delete entries that say what the bucket says, or that belong to nobody's bucket; others stay."""
        safe = [key for key in keys if self._may_forget(key)]
        if not safe:
            return
        self.journal.forget(safe)
        self.placement.forget(safe)
        await self.network.forget(safe)

    def _may_forget(self, key: bytes) -> bool:
        entry, owner = self.placement.entry(key), self.placement.bucket_owner(FlowKey(key).bucket)
        free = self._holder(key) is None
        return entry is not None and free and (owner in (entry, NOBODY) or self.placement.is_second(key))

    def _holder(self, key: bytes) -> int | None:
        """The epoch of a move under way that has this key; None if none has."""
        return self.mover.locks.holder(Scope(keys=(key,)))
