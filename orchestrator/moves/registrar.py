"""Keys that replicas ask for: second keys of their flows, and keys of expected flows (`guestlib.partitioned.steering`).

`Registrar.add` gives each key an entry in the switch that leads to the replica, journalled before, and then answers; so
the replica lets the first translated packet go when its reply can only come to it. No entry is needed for a key in the
bucket of its flow's own key while that bucket is the replica's.

A replica does not ask for keys in the bucket of their flow while the bucket is its own *whole*: no entry leads from it
to another replica (`Placement.is_whole`, `owned`). So before a key of a bucket may lead to another replica than the
bucket does, the bucket's owner is asked (`Claim`), and from then on asks itself for each.

A second key in another bucket goes with its flow, wherever that bucket goes: `Placement` knows which entries these
are, and moves of buckets leave them out. What a move must take along the source says (`Relate`), and `planning` keeps
the answer true until the move has begun: keys of flows in a scope that is being planned, or moved, wait. The flow may
leave meanwhile; then its new owner asks, and the old question is forgotten.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from orchestrator.journal import Journal
from orchestrator.migration import NOBODY
from orchestrator.moves.placement import Locks, Placement
from splitmerge.errors import PeerError
from splitmerge.flowkey import FlowKey
from splitmerge.messages import AddKeys, KeysAdded, Scope, SecondKey

logger = logging.getLogger("orchestrator.registrar")


class Steered(Protocol):
    """The part of the network that this needs."""

    async def steer(self, keys: Mapping[bytes, int], second: Iterable[bytes]) -> None:
        """As `Network.steer`."""

    def waiting(self, keys: Iterable[bytes]) -> Collection[bytes]:
        """As `Network.waiting`."""


@dataclass(frozen=True, slots=True)
class _Planned:
    """A scope whose related keys are being asked for."""

    scope: Scope
    over: asyncio.Event = field(default_factory=asyncio.Event)

    def touches(self, key: bytes) -> bool:
        return key in self.scope.keys or FlowKey(key).bucket in self.scope.buckets


@dataclass(frozen=True, slots=True)
class _Claim:
    """A key that another replica is being asked for."""

    asker: tuple[int, int]
    """The replica that wants it, and the number of its question."""
    over: asyncio.Event = field(default_factory=asyncio.Event)


class Registrar:
    """One per orchestrator. ``wait`` returns when the move of an epoch is over; ``keeps`` asks who has a key for it.

    ``adopt`` moves new flows to a replica, from nobody, with the packets that wait for them.
    ``claimed`` hears whose it was to say who has a key: that replica has a bucket less that it takes for its own whole.
    """

    def __init__(
        self,
        journal: Journal,
        placement: Placement,
        locks: Locks,
        network: Steered,
        wait: Callable[[int], Awaitable[None]],
        keeps: Callable[[int, SecondKey], Awaitable[bool]],
        adopt: Callable[[int, Collection[bytes]], Awaitable[object]],
        claimed: Callable[[int], object],
    ) -> None:
        self.refused = 0
        """Keys refused: another flow has them."""
        self._journal = journal
        self._placement = placement
        self._locks = locks
        self._network = network
        self._wait = wait
        self._keeps = keeps
        self._adopt = adopt
        self._claimed = claimed
        self._numbers = itertools.count(1)
        self._planned: dict[int, _Planned] = {}
        self._asked: dict[tuple[int, bytes], int] = {}
        self._claims: dict[bytes, _Claim] = {}

    # -- moves -----------------------------------------------------------------------------------------------

    @contextmanager
    def planning(self, scope: Scope) -> Iterator[None]:
        """Inside, no key is added for flows of this scope: what the source said about it stays true."""
        number, planned = next(self._numbers), _Planned(scope)
        self._planned[number] = planned
        try:
            yield
        finally:
            del self._planned[number]
            planned.over.set()

    def gone(self, replica: int, keys: Iterable[bytes]) -> None:
        """The replica has deleted flows with these keys: what it asked before is void."""
        for key in keys:
            self._asked.pop((replica, key), None)

    def lost(self, replica: int) -> None:
        """The replica has died: whatever it asked is void. An entry that leads to it would lead nowhere, for good."""
        self._asked = {asked: number for asked, number in self._asked.items() if asked[0] != replica}

    # -- questions -------------------------------------------------------------------------------------------

    async def add(self, replica: int, message: AddKeys, answer: Callable[[KeysAdded], object]) -> None:
        """See to it that these keys lead to the replica; ``answer`` as soon as some do. Repeats change nothing.

        :raises SplitmergeError: if the switch or another replica cannot be asked; the question will be repeated.
        """
        fresh = [each for each in message.keys if self._asked.get((replica, each.key)) != message.request]
        self._asked.update(((replica, each.key), message.request) for each in fresh)
        try:
            await self._add(replica, message.request, fresh, answer)
        finally:
            for each in fresh:
                if self._asked.get((replica, each.key)) == message.request:
                    del self._asked[replica, each.key]

    async def _add(
        self, replica: int, request: int, wanted: list[SecondKey], answer: Callable[[KeysAdded], object]
    ) -> None:
        while wanted:
            wanted = [each for each in wanted if self._asked.get((replica, each.key)) == request]
            asker = replica, request
            free = [each for each in wanted if self._obstacle(asker, each) is None]
            if not free and wanted:
                obstacle = self._obstacle(asker, wanted[0])
                assert obstacle is not None
                await obstacle()
                continue
            others = {each: other for each in free if (other := self._other(replica, each)) is not None}
            asked_for = {each.key for each in others}
            if plain := [each for each in free if asked_for.isdisjoint((each.key, each.flow))]:
                wanted = [each for each in wanted if each not in plain]
                await self._place(replica, request, plain, frozenset(), answer)
                continue
            with self._claiming(asker, others):
                taken, untold = await self._conflicts(others)
                # Asking took time: a move may have begun, or be over, or the flow may have ended.
                now = [each for each in free if self._obstacle(asker, each) is None]
                now = [each for each in now if (replica, each.key) in self._asked and each.key not in untold]
                now = [each for each in now if others.get(each) == self._other(replica, each)]
                wanted = [each for each in wanted if each not in now]
                await self._place(replica, request, now, taken, answer)
            if untold:
                raise next(iter(untold.values()))

    @contextmanager
    def _claiming(self, asker: tuple[int, int], others: Mapping[SecondKey, int]) -> Iterator[None]:
        """Inside, nobody else gets these keys, and no replica hears that one of their buckets is its own whole."""
        claims = {each.key: _Claim(asker) for each in others}
        self._claims.update(claims)
        try:
            with self._placement.claiming(claims):
                yield
        finally:
            for key, claim in claims.items():
                if self._claims.get(key) is claim:
                    del self._claims[key]
                claim.over.set()
            for other in set(others.values()):
                self._claimed(other)

    def _obstacle(self, asker: tuple[int, int], wanted: SecondKey) -> Callable[[], Awaitable[object]] | None:
        """To wait for what has to be over first: a move, or its planning, of the flow or of the key's entry; where the
        key was chosen in a bucket, a move of that; another's question for the key.
        """
        claim = self._claims.get(wanted.key)
        if claim is not None and claim.asker != asker:
            return claim.over.wait
        for planned in self._planned.values():
            if planned.touches(wanted.flow):
                return planned.over.wait
        holder = self._locks.holder(Scope(keys=(wanted.flow,)))
        if holder is None:
            chosen = Scope(keys=(wanted.key,))
            holder = self._locks.holder(chosen) if wanted.chosen else self._locks.holder_of_key(wanted.key)
        return None if holder is None else partial(self._wait, holder)

    def _other(self, replica: int, wanted: SecondKey) -> int | None:
        """Who may have a flow of this key: whom its entry leads to, or who may choose it; None if nobody else."""
        other = self._placement.entry(wanted.key)
        if other is None and (wanted.chosen or FlowKey(wanted.key).bucket == FlowKey(wanted.flow).bucket):
            other = self._placement.owner(wanted.key)  # it finds ports in this bucket without asking, until asked
        return None if other in (NOBODY, replica) else other

    async def _conflicts(self, others: Mapping[SecondKey, int]) -> tuple[frozenset[bytes], dict[bytes, PeerError]]:
        """The keys that those have living flows of; and those of which one does not say whether it has."""
        taken: set[bytes] = set()
        untold: dict[bytes, PeerError] = {}
        for wanted, other in others.items():
            try:
                if await self._keeps(other, wanted):
                    taken.add(wanted.key)
            except PeerError as error:
                untold[wanted.key] = error
        return frozenset(taken), untold

    async def _place(
        self,
        replica: int,
        request: int,
        wanted: list[SecondKey],
        taken: frozenset[bytes],
        answer: Callable[[KeysAdded], object],
    ) -> None:
        refused = tuple(each.key for each in wanted if each.key in taken)
        self.refused += len(refused)
        placed: dict[bytes, int] = {}
        done: list[bytes] = []
        for each in sorted(wanted, key=lambda each: each.key != each.flow):  # flows before their second keys
            if each.key in taken or not self._is_owner(replica, each, placed):
                continue
            done.append(each.key)
            if self._needs_entry(replica, each):
                placed[each.key] = replica
        if placed:
            second = {each.key for each in wanted if FlowKey(each.key).bucket != FlowKey(each.flow).bucket}
            second &= placed.keys()
            self._journal.place_second(placed, second)
            self._placement.place_second(placed, second)
            await self._lead(replica, placed, second)
        if done or refused:
            answer(KeysAdded(request=request, keys=tuple(done), refused=refused))

    async def _lead(self, replica: int, keys: Collection[bytes], second: Collection[bytes]) -> None:
        """Give these keys their entries. One that has had packets, which nobody got yet, comes with them: by a move,
        after which the switch is told of it as of the others, since which keys are second ones is no matter of moves.
        """
        waiting = self._network.waiting(keys)
        if quiet := [key for key in keys if key not in waiting]:
            await self._network.steer(dict.fromkeys(quiet, replica), second)
        if waiting:
            await self._adopt(replica, waiting)
            mine = [key for key in waiting if self._placement.entry(key) == replica]  # its flow may have left meanwhile
            if mine:
                await self._network.steer(dict.fromkeys(mine, replica), second)

    def _is_owner(self, replica: int, wanted: SecondKey, placed: Mapping[bytes, int]) -> bool:
        """Whether the flow is the replica's; what is expected is its who expects it."""
        if wanted.key == wanted.flow or wanted.flow in placed:
            return True
        owner = self._placement.owner(wanted.flow)
        if owner != replica:
            logger.info("replica %d asks for a key of %s, which is %d's", replica, FlowKey(wanted.flow), owner)
        return owner == replica

    def _needs_entry(self, replica: int, wanted: SecondKey) -> bool:
        home = FlowKey(wanted.flow).bucket
        goes_along = FlowKey(wanted.key).bucket == home and self._placement.bucket_owner(home) == replica
        return not goes_along or self._placement.entry(wanted.key) is not None
