"""The replicas: who lives, on which slot, how to ask them something."""

from __future__ import annotations

import asyncio
import enum
import itertools
import logging
import secrets
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TypeVar

import msgspec

from orchestrator.elasticity import Load
from orchestrator.errors import AgentFailed, NoSuchReplica, ReplicaEnded, ScalingFailed
from orchestrator.journal import Journal, ReplicaRow
from orchestrator.replicas.agents import REPEAT, SEE_LOG, Agents, certified_name, until_answered
from orchestrator.replicas.ended import Ended, counted
from orchestrator.replicas.noticed import Recent
from orchestrator.replicas.sessions import Session
from splitmerge.errors import PeerError
from splitmerge.figures import MOST, FigureCheck
from splitmerge.messages import (
    AgentError,
    BucketCounts,
    Claim,
    CountBuckets,
    CreateReplica,
    DestroyReplica,
    Finish,
    Finished,
    FlowList,
    ListFlows,
    Message,
    Relate,
    Related,
    ReplicaCreated,
    ReplicaGone,
    Scope,
    SecondKey,
    Stats,
)

logger = logging.getLogger("orchestrator.fleet")

PAGE = 4096
"""Flows asked for in one ListFlows."""

_M = TypeVar("_M", bound=Message)

_NUMBER_BITS = 48
"""Requests are numbered from a random number on: what answers an earlier orchestrator fits none of ours."""
DRAINING = "draining"
"""In the journal: FINISHING, and `Replica.draining`."""


class ReplicaState(enum.StrEnum):
    """A replica's life. Values are written to the journal."""

    STARTING = "starting"
    """Asked for; not yet heard of, or not yet known to the switch."""
    LIVE = "live"
    """May own flows and take more."""
    FINISHING = "finishing"
    """Gives its flows away, then ends."""
    GONE = "gone"
    """Has ended; may still own flows until others have taken them."""


@dataclass(slots=True)
class Replica:
    """What is known of one replica."""

    number: int
    slot: int
    port: int
    state: ReplicaState = ReplicaState.STARTING
    incarnation: str = ""
    maker: str | None = None
    """Name in the certificate of the agent that was asked to make it, empty if that came without one; None: nobody has
    been asked. Journalled before it is asked."""
    address: str = ""
    """Where its peers send state."""
    draining: bool = False
    """It is FINISHING and keeps its flows until they end (`Scaler.drain`); journalled, as its state."""
    leaving: bool = False
    """It owns nothing any more and is asked to end: that it ends then is no death (`Scaler.scale_in`)."""
    pid: int = 0
    session: Session | None = None
    stats: Stats | None = None
    told: float = 0.0
    """When its newest Stats came, by the event loop's clock; they come about four times a second."""
    pause: float = 0.0
    """Seconds between its two newest Stats: long while it works off a batch of packets that take it long."""
    took: float = 0.0
    """When Stats last said that it had taken packets since those before, by the same clock; 0: never yet."""
    since: float = 0.0
    """When it began to take flows, by the event loop's clock; 0 if it did before this process, or does not yet."""
    status: str = ""
    """How it ended, in its agent's words."""
    recent: Recent = field(default_factory=Recent)
    """What its middlebox failed on lately."""
    load: Load = field(default_factory=Load)
    """As `orchestrator.scaling.autoscaler` measured it last, over its window."""
    figures: FigureCheck = field(init=False)
    heard: asyncio.Event = field(default_factory=asyncio.Event)
    """Set while it is connected."""
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the agent says so."""

    def __post_init__(self) -> None:
        self.figures = FigureCheck(f"replica {self.number}", logger, 2 * MOST)  # the library adds some of its own

    def says(self, stats: Stats, now: float) -> None:
        """Its newest Stats, by the event loop's clock; of the middlebox's figures in it those that are figures."""
        if self.told:
            self.pause = now - self.told
        if stats.packets > (self.stats.packets if self.stats else 0):
            self.took = now
        self.stats, self.told = msgspec.structs.replace(stats, custom=self.figures.of(stats.custom)), now
        self.recent.take(stats, now)

    @property
    def flows(self) -> int:
        """Flows held, as of its last Stats."""
        return self.stats.flows if self.stats else 0


class Fleet:
    """All replicas that are not forgotten, and the agents that make them."""

    def __init__(self, journal: Journal, slots: Mapping[int, int]) -> None:
        self.replicas: dict[int, Replica] = {}
        self.agents = Agents(sorted(slots))
        self.on_gone: Callable[[int], object] = lambda replica: None
        """Called when a replica has ended, with its number, before that is journalled; again, if it cannot be."""
        self.ended = Ended()
        """What those had counted that have ended."""
        self.unended: Callable[[Replica], None] = lambda replica: None
        """Told of a replica that was never used and whose end nobody has confirmed: see to it, then `forget` it."""
        self._journal = journal
        self._slots = dict(sorted(slots.items()))
        self._requests = itertools.count(secrets.randbits(_NUMBER_BITS))
        self._answers: dict[int, tuple[int, asyncio.Future[Message]]] = {}

    # -- who lives ---------------------------------------------------------------------------------------------

    def load(self, rows: Iterable[ReplicaRow]) -> None:
        """What an earlier process knew; none of them is connected yet."""
        for row in rows:
            draining = row.state == DRAINING
            state = ReplicaState.FINISHING if draining else ReplicaState(row.state)
            if state is ReplicaState.FINISHING and not draining:
                # A scale-in that was under way is over; whoever wanted it asks again.
                logger.warning("replica %d was to be scaled in when the orchestrator ended: it lives on", row.replica)
                state = ReplicaState.LIVE
            self.replicas[row.replica] = Replica(
                row.replica, row.slot, row.port, state, row.incarnation, row.maker, draining=draining
            )

    def get(self, replica: int) -> Replica:
        """A replica that may own flows. :raises NoSuchReplica: if there is none of this number."""
        found = self.replicas.get(replica)
        if found is None or found.state not in (ReplicaState.LIVE, ReplicaState.FINISHING):
            raise NoSuchReplica(replica, [each.number for each in self.live()])
        return found

    def live(self) -> list[Replica]:
        """Replicas that take flows, by number."""
        return [each for _, each in sorted(self.replicas.items()) if each.state is ReplicaState.LIVE]

    def working(self) -> list[Replica]:
        """Replicas that may have flows, by number: those that take some, and those that give theirs away."""
        states = (ReplicaState.LIVE, ReplicaState.FINISHING)
        return [each for _, each in sorted(self.replicas.items()) if each.state in states]

    def living(self) -> list[int]:
        """Numbers of the replicas that may have written something and have not ended, reachable or not."""
        here = {
            n for n, each in self.replicas.items() if each.session is not None and each.state is not ReplicaState.GONE
        }
        return sorted(here | {each.number for each in self.working()})

    def gone(self) -> list[Replica]:
        """Replicas that have ended and are not forgotten yet."""
        return [each for _, each in sorted(self.replicas.items()) if each.state is ReplicaState.GONE]

    def set_state(self, replica: Replica, state: ReplicaState, *, draining: bool = False) -> None:
        """Journal and take a new state. ``draining``: FINISHING is that of a drain, and stays so.

        :raises JournalError: it has the old one.
        """
        counts: dict[str, int] = {}
        if state is ReplicaState.GONE:
            self.on_gone(replica.number)  # first: who reads that it has ended need not look for what it left
            if replica.state is not ReplicaState.GONE:
                self._will_not_answer(replica.number)
                counts = counted(replica.stats)
        draining = (draining or replica.draining) and state is ReplicaState.FINISHING
        row = ReplicaRow(
            replica.number, replica.slot, replica.port, DRAINING if draining else state.value, replica.incarnation,
            replica.maker,
        )  # fmt: skip
        self._journal.put_replica(row, counts)
        self.ended.take(counts)
        replica.state, replica.draining = state, draining

    def forget(self, replica: Replica) -> None:
        """It has ended and owns nothing: its slot is free."""
        if replica.state is not ReplicaState.GONE:  # it was never used, but may have a lock
            self.on_gone(replica.number)
        self._journal.drop_replica(replica.number)
        self.replicas.pop(replica.number, None)

    def send(self, replica: int, message: Message) -> bool:
        """Send, if it is connected."""
        found = self.replicas.get(replica)
        return found is not None and found.session is not None and found.session.send(message)

    # -- life and death ----------------------------------------------------------------------------------------

    def free_slots(self) -> int:
        """Slots without a replica."""
        return len(self._slots) - len(self._used())

    async def create(self, deadline: float, kind: str = "") -> Replica:
        """A replica on a free slot, connected; its state is STARTING: the switch does not know it yet.

        :param kind: ``process`` or ``vm``; any if empty.
        :raises SlotsLeaving: no slot is free, but one will be.
        :raises ScalingFailed: no slot is free, or it did not say its Hello in time (it is destroyed again).
        :raises ReplicaEnded: it ended before its Hello.
        :raises AgentFailed: the agent refused or is not there.
        """
        slot = self.agents.free_slot(self._used(), kind, self._leaving())
        replica = Replica(self._journal.next_replica(), slot, self._slots[slot])
        self.replicas[replica.number] = replica
        self.set_state(replica, ReplicaState.STARTING)
        try:
            async with asyncio.timeout(deadline):
                await self._ask_agent(
                    CreateReplica(request=replica.number, replica=replica.number, slot=slot), ReplicaCreated
                )
                await _either(replica.heard, replica.ended)
        except (TimeoutError, AgentFailed) as error:
            await self.discard(replica, deadline)
            if isinstance(error, AgentFailed):
                raise
            raise ScalingFailed(f"replica {replica.number}", f"no Hello within {deadline:g} s", SEE_LOG) from None
        if not replica.heard.is_set():  # a middlebox that crashes as it starts: no need to wait for its Hello
            await self.discard(replica, deadline)
            raise ReplicaEnded(f"replica {replica.number}", f"ended before its Hello: {replica.status}", SEE_LOG)
        return replica

    async def settle(self, replica: Replica, deadline: float) -> None:
        """Until it is connected or has ended, for ``deadline`` seconds: a connection that ends says neither by itself.

        The kernel closes it before the agent can say that the replica has ended, and how.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(deadline):
                await _either(replica.heard, replica.ended)

    async def discard(self, replica: Replica, deadline: float) -> None:
        """End a replica that owns nothing. Its slot is free when that is confirmed; until then it is `unended`."""
        if await self.destroy(replica, deadline):
            self.forget(replica)
        else:
            self.unended(replica)

    def _used(self) -> set[int]:
        return {each.slot for each in self.replicas.values()}

    def _leaving(self) -> set[int]:
        """Slots of replicas that have ended, or are being ended, or looked for before that: their connection ended."""
        leaving = (ReplicaState.STARTING, ReplicaState.GONE)  # nobody makes one meanwhile: `Scaler.scaling`
        return {each.slot for each in self.replicas.values() if each.state in leaving or not each.heard.is_set()}

    def next_kind(self) -> str:
        """What the next replica will be; empty if nobody knows."""
        try:
            return self.agents.kind_of(self.agents.free_slot(self._used(), ""))
        except ScalingFailed:  # there is no room for one
            return ""

    def vouched(self, replica: Replica, names: frozenset[str] | None) -> bool:
        """Whether who says to be this replica can be it, by the names in its certificate (None: it has none).

        An agent's replicas have the agent's own certificate; it vouches for those that it was asked to make, and for no
        others, whatever slots it says are its own. Nobody with a certificate is a replica of an agent without one.
        """
        if not replica.maker:
            return replica.maker is not None and names is None
        return names is not None and replica.maker in names

    def _maker_of(self, replica: Replica) -> Session | None:
        return self.agents.maker(replica.maker, replica.slot)

    def _tell_agent(self, number: int, message: CreateReplica | DestroyReplica) -> None:
        replica = self.replicas.get(number)
        if replica is None:
            return
        agent = self.agents.of_slot(replica.slot) if isinstance(message, CreateReplica) else self._maker_of(replica)
        if agent is None:
            return
        if isinstance(message, CreateReplica) and replica.maker != (maker := certified_name(agent)):
            replica.maker = maker
            self.set_state(replica, replica.state)
        agent.send(message)

    async def destroy(self, replica: Replica, deadline: float, *, hangs: bool = False) -> bool:
        """End it, by force at half the deadline (seconds); whether the agent says that it has ended.

        ``hangs``: by force at once: it would not hear that it is to end.
        """
        if replica.ended.is_set():
            return True
        number = replica.number
        request = DestroyReplica(request=number, replica=number, deadline=0.0 if hangs else deadline / 2)
        try:
            async with asyncio.timeout(deadline):
                await self._ask_agent(request, ReplicaGone)
        except (TimeoutError, AgentFailed) as error:
            logger.error("replica %d: not sure that it has ended: %s", replica.number, str(error) or "no answer")
            return False
        return True

    async def end(self, replica: Replica, deadline: float, *, hangs: bool = False) -> None:
        """Return when it cannot work any more: the agent that made it says so, or was away for ``deadline`` seconds.

        An agent that is there and does not manage to end it is asked again, however often that takes: somebody else
        with the same flows, or on the same port, would be worse. One that is away has taken its replicas with it.
        """
        while not replica.ended.is_set():
            met, begun = self.agents.met, asyncio.get_running_loop().time()
            away = self._maker_of(replica) is None
            if await self.destroy(replica, deadline, hangs=hangs):
                return
            if away and met == self.agents.met:
                logger.error("replica %d: its agent is not here: taken for dead", replica.number)
                return
            await asyncio.sleep(max(0.0, begun + REPEAT - asyncio.get_running_loop().time()))

    async def finish(self, replica: int, deadline: float) -> None:
        """Let it run its combiners and push for the last time. :raises PeerError: if it does not in time."""
        await self._ask(replica, lambda request: Finish(request=request), Finished, deadline)

    async def flows(self, replica: int, deadline: float, limit: int | None = None) -> list[bytes]:
        """Keys of the flows that it holds, in byte order, at most ``limit``. :raises PeerError: if it does not say."""
        keys: list[bytes] = []
        while limit is None or len(keys) < limit:
            page = await self.page(replica, keys[-1] if keys else b"", PAGE, deadline)
            keys += page.keys
            if page.complete or not page.keys:
                break
        return keys if limit is None else keys[:limit]

    async def page(self, replica: int, after: bytes, limit: int, deadline: float) -> FlowList:
        """One page of its flows: keys greater than ``after``."""
        return await self._ask(replica, lambda r: ListFlows(request=r, after=after, limit=limit), FlowList, deadline)

    async def holds(self, replica: int, key: bytes, deadline: float) -> bool:
        """Whether it has a flow of this key. :raises PeerError: if it does not say."""
        return key in (await self.page(replica, _before(key), 1, deadline)).keys

    async def keeps(self, replica: int, wanted: SecondKey, deadline: float) -> bool:
        """Whether it has a flow of this key, which does not give way. :raises PeerError: if it does not say."""
        answer = await self._ask(
            replica, lambda r: Claim(request=r, key=wanted.key, flow=wanted.flow), FlowList, deadline
        )
        return wanted.key in answer.keys

    async def count_buckets(self, replica: int, seconds: float, deadline: float) -> BucketCounts:
        """Which buckets its packets come in, for so many seconds from now. :raises PeerError: if it does not say."""
        return await self._ask(
            replica, lambda r: CountBuckets(request=r, seconds=seconds), BucketCounts, seconds + deadline
        )

    async def related(
        self, replica: int, scope: Scope, groups: Iterable[str], deadline: float, patience: float | None = None
    ) -> Related:
        """What a move of the scope must take along, and of these groups; flows in use too, if there is ``patience``.

        :raises PeerError: if it does not say within so many seconds and its patience.
        """
        wanted, seconds = tuple(groups), deadline + (patience or 0.0)

        def question(number: int) -> Relate:
            return Relate(request=number, scope=scope, groups=wanted, patience=patience)

        return await self._ask(replica, question, Related, seconds)

    # -- questions and answers ---------------------------------------------------------------------------------

    def answered(self, replica: int, message: Message) -> None:
        """A replica's answer to a numbered request; of no effect if it is one to a question of somebody else's."""
        asked, future = self._answers.get(getattr(message, "request", 0), (0, None))
        if future is not None and asked == replica and not future.done():
            future.set_result(message)

    def agent_answered(self, agent: Session, message: Message) -> Replica | None:
        """An agent's answer, or news of a replica; that replica, if there is one and this agent may speak of it.

        An agent speaks of the replicas that it was asked to make; what it says of others is logged, and not believed.
        """
        number = message.request if isinstance(message, AgentError) else getattr(message, "replica", 0)
        replica = self.replicas.get(number)
        if replica is None:  # forgotten: nobody waits for it
            return None
        if replica.maker is not None and replica.maker != certified_name(agent):
            logger.error("%s: %s of replica %d, which it did not make", agent.name, type(message).__name__, number)
            return None
        match message:
            case AgentError(reason=reason):
                self.agents.failed(number, reason)
                return replica
            case ReplicaCreated(pid=pid):
                replica.pid = pid
            case ReplicaGone(status=status):
                replica.status = status
                replica.ended.set()
        self.agents.answered(number, message)
        return replica

    def _will_not_answer(self, replica: int) -> None:
        for asked, future in self._answers.values():
            if asked == replica and not future.done():
                future.set_exception(_ended(replica))

    async def _ask(self, replica: int, make: Callable[[int], Message], answer: type[_M], deadline: float) -> _M:
        asked = self.replicas.get(replica)
        if asked is None or asked.state is ReplicaState.GONE:  # it died before it could be asked
            raise _ended(replica)
        number = next(self._requests)
        request = make(number)
        future: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._answers[number] = replica, future
        try:
            async with asyncio.timeout(deadline):
                found = await until_answered(future, lambda: self.send(replica, request))
        except TimeoutError:
            name = type(request).__name__
            raise PeerError(f"replica {replica} did not answer {name} within {deadline:g} s") from None
        finally:
            del self._answers[number]
        if not isinstance(found, answer):
            raise PeerError(f"replica {replica} answered {type(request).__name__} with {type(found).__name__}")
        return found

    async def _ask_agent(self, request: CreateReplica | DestroyReplica, answer: type[Message]) -> Message:
        """Ask until the agent answers about this replica; requests have its number."""
        number = request.replica
        return await self.agents.ask(number, answer, lambda: self._tell_agent(number, request))


async def _either(*events: asyncio.Event) -> None:
    """Until one of them is set, and still is."""
    while not any(event.is_set() for event in events):
        waits = [asyncio.ensure_future(event.wait()) for event in events]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()


def _ended(replica: int) -> PeerError:
    return PeerError(f"replica {replica} has ended")


def _before(key: bytes) -> bytes:
    """A string with nothing between it and the key in byte order, among strings of a flow key's length."""
    if key[-1] == 0:
        return bytes(key[:-1])
    return bytes(key[:-1]) + bytes((key[-1] - 1,)) + b"\xff" * 64
