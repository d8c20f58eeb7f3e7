"""What people and policies ask for: migrate, scale out, scale in, rebalance. Each is a sequence of moves."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass

from orchestrator.config import Deadlines
from orchestrator.elasticity import Figure
from orchestrator.errors import AlreadyThere, MoveRefused, NoSuchReplica, ReplicaEnded, ScalingFailed
from orchestrator.migration import NOBODY, Move, Options
from orchestrator.moves.mover import Mover
from orchestrator.moves.placement import Placement
from orchestrator.moves.registrar import Registrar
from orchestrator.moves.reports import Report, in_words, report
from orchestrator.moves.running import Late, Running
from orchestrator.moves.sequel import Sequel
from orchestrator.moves.turns import Turns
from orchestrator.network import Network
from orchestrator.replicas.agents import SEE_LOG
from orchestrator.replicas.fleet import Fleet, Replica, ReplicaState
from orchestrator.scaling import planning
from orchestrator.scaling.measuring import Measurer, weigh
from splitmerge.errors import BadInput, SplitmergeError, first_of
from splitmerge.flowkey import BUCKETS, FlowKey
from splitmerge.messages import Scope

logger = logging.getLogger("orchestrator.scaling")

PAUSE = 0.5
"""Seconds until flows that were in use are tried again: for the first time, and when some of them have moved."""
PAUSE_MOST = 8.0
"""… and at most. It doubles while nothing moves: each try is a move, journalled and listed."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a migration is to take: flows, buckets, or both; or everything that its source has."""

    keys: tuple[FlowKey, ...] = ()
    buckets: tuple[int, ...] = ()
    everything: bool = False


@dataclass(frozen=True, slots=True)
class ScaledOut:
    """What came of a scale-out."""

    added: list[int]
    """The new replicas."""
    moves: list[Report]
    """What gave them their share; moves that are late go on (`Report.over`)."""


class Scaler:
    """Plans and runs sequences of moves. One scale-out or scale-in at a time; migrations run beside them."""

    def __init__(
        self,
        fleet: Fleet,
        mover: Mover,
        placement: Placement,
        network: Network,
        deadlines: Deadlines,
        *,
        by_hash: bool,
        registrar: Registrar,
    ) -> None:
        self.fleet = fleet
        self.mover = mover
        self.placement = placement
        self.network = network
        self.deadlines = deadlines
        self.by_hash = by_hash
        self.turns = Turns(fleet, mover, placement, registrar, deadlines.list)
        self.sequel = Sequel(self.turns, fleet, deadlines.list)
        self.scaling = asyncio.Lock()
        self._measurer = Measurer(fleet, network, deadlines.list, by_hash=by_hash)
        self.start_ups: dict[str, float] = {}
        """Seconds from asking for the newest replica of this kind until it was known to the switch."""
        self.on_count: Callable[[int], None] = lambda by: None
        """Called with 1 when a replica takes flows from now on, with -1 when one has been taken away on purpose."""

    # -- moves -------------------------------------------------------------------------------------------------

    def plan(
        self, wanted: Wanted, target: int, source: int | None = None, options: Options | None = None
    ) -> list[Running]:
        """Moves of flows or buckets to a replica, one for each replica that has some of them; `carry_out` is next.

        ``options``: how; None: as the configuration says.
        :raises NoSuchReplica: :raises BadInput: for a bucket that is none.
        :raises MoveRefused: if there is nothing to move, or ``source`` does not own it.
        """
        self.fleet.get(target)
        shares = self._shares(wanted, target, source)
        return self._planned([(share_source, target, units) for share_source, units in shares], options)

    def _shares(self, wanted: Wanted, target: int, source: int | None) -> list[tuple[int, Scope]]:
        if source is not None:
            self.fleet.get(source)
        if bad := next((bucket for bucket in wanted.buckets if not 0 <= bucket < BUCKETS), None):
            raise BadInput("buckets", f"{bad} is none", f"0 to {BUCKETS - 1}")
        owners = self._owners(wanted, source)
        if (nobodys := owners.get(NOBODY)) is not None:
            raise self._unowned(nobodys)
        if source is not None and (others := owners.keys() - {source}):
            whose = ", ".join(f"{_one_of(owners[other])} goes to replica {other}" for other in sorted(others))
            problem = f"not all of it is replica {source}'s: {whose}"
            raise MoveRefused("source", problem, "leave the source out, or name what it owns")
        owners.pop(target, None)
        if not owners:
            raise AlreadyThere("migrate", f"replica {target} has all of it already", "name another target")
        return sorted(owners.items(), key=lambda share: share[0])

    def _owners(self, wanted: Wanted, source: int | None) -> dict[int, Scope]:
        if wanted.everything:
            if source is None:
                raise BadInput("source", "missing", "with all, say from which replica")
            scope = self.placement.scope_of_replica(source)
            if not scope.keys and not scope.buckets:
                raise MoveRefused(f"replica {source}", "has nothing to move", "`splitmerge replicas` says who has")
            return {source: scope}
        placement = self.placement
        whole = {bucket: placement.bucket_owner(bucket) for bucket in wanted.buckets}
        keys: dict[int, list[bytes]] = {owner: [] for owner in whole.values()}
        for key in dict.fromkeys(wanted.keys):
            owner = placement.owner(key)
            if whole.get(key.bucket) != owner or placement.is_second(key):  # else it goes with its bucket
                keys.setdefault(owner, []).append(key)
        scopes = {owner: placement.scope_of_buckets(whole, owner) for owner in keys}
        return {
            owner: Scope(keys=tuple(dict.fromkeys((*mine, *scopes[owner].keys))), buckets=scopes[owner].buckets)
            for owner, mine in keys.items()
        }

    def _unowned(self, scope: Scope) -> MoveRefused:
        """Why what nobody owns cannot be moved."""
        if scope.buckets and not self.by_hash:
            problem = "the controller assigns every flow by itself here: no replica owns a bucket"
            return MoveRefused("buckets", problem, "name flows, or move all of a replica")
        return MoveRefused("migrate", "nobody has some of these flows yet", "they are assigned when packets come")

    def _planned(self, moves: Iterable[tuple[int, int, Scope]], options: Options | None = None) -> list[Running]:
        planned: list[Running] = []
        try:
            for source, target, scope in moves:
                running = self.turns.plan(source, target, scope, options)
                planned += [] if running is None else [running]
        except SplitmergeError as error:
            for running in planned:
                self.mover.cancel(running.move.plan.epoch, f"another move was refused: {error}")
            raise
        return planned

    async def _all(self, moves: Iterable[tuple[int, int, Scope]], options: Options | None = None) -> list[Report]:
        """Run moves at once; those whose scope is taken wait for the others.

        :raises SplitmergeError: as `carry_out`.
        """
        return await self.carry_out(self._planned(moves, options))

    async def carry_out(self, planned: Iterable[Running]) -> list[Report]:
        """Run moves that have been planned, and what follows from each; reports of all.

        Flows in use for too long stay, and are reported in `Report.pinned`; the rest is moved (`Sequel`).
        When one of them is late (`Running.late`), this returns how all stand that there are so far, and these go on
        without anybody who waits: neither a request nor scaling hangs on a switch that is away.
        :raises SplitmergeError: the first of theirs, not a group of them: callers catch it by its type.
        """
        moves, late = list(planned), Late()
        work = asyncio.create_task(self._carry_out(moves, late), name="carry out moves")
        try:
            await asyncio.wait((work, late.told), return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            work.cancel()
            await asyncio.wait((work,))
            raise
        if work.done():
            return work.result()
        self.mover.tasks.create_task(_go_on(work), name="moves that are late")
        begun = [*late.moves, *(each for each in moves if each not in late.moves)]
        return [self.mover.reports.get(each.move.plan.epoch) or report(each.move) for each in begun]

    async def _carry_out(self, moves: list[Running], late: Late) -> list[Report]:
        if len(moves) == 1:  # as nearly all are: no group of tasks for one
            return await self.sequel.carry_out(moves[0], late)
        failed: SplitmergeError | None = None
        try:
            async with asyncio.TaskGroup() as tasks:
                running = [
                    tasks.create_task(self.sequel.carry_out(each, late), name=f"move {each.move.plan.epoch}")
                    for each in moves
                ]
        except* SplitmergeError as group:
            failed = first_of(group)
        if failed is not None:
            raise failed
        return [result for task in running for result in task.result()]

    async def adopt_new(self, target: int, keys: Iterable[FlowKey]) -> Move | None:
        """New flows, whose packets the controller buffers, become this replica's; how that ended.

        None if all of them have owners by now.
        """
        running = self.turns.plan(NOBODY, target, Scope(keys=tuple(keys)))
        if running is None:
            return None
        await self.turns.take(running)
        return running.move

    async def adopt_expected(self, target: int, keys: Iterable[bytes]) -> None:
        """As `adopt_new`, of keys that this replica has asked for when packets of them waited."""
        with suppress(NoSuchReplica):  # it is to end, and does not drain: what waits goes to whom its flows go to
            await self.adopt_new(target, [FlowKey(key) for key in keys])

    async def bring_home(self, source: int, owner: int, keys: Iterable[bytes]) -> Report | None:
        """Flows with entries of their own go to their bucket's owner; None if they are not the source's any more."""
        running = self.turns.plan(source, owner, Scope(keys=tuple(sorted(keys))))
        return None if running is None else await self.turns.take(running)

    async def adopt_orphans(self, gone: Replica) -> list[Report]:
        """What an ended replica owned goes to the others, without state."""
        survivors = {each.number: each.flows for each in self.fleet.live()}
        if not survivors:
            return []
        scope = self.placement.scope_of_replica(gone.number)
        lonely = [key for key in scope.keys if self.placement.bucket_owner(FlowKey(key).bucket) != gone.number]
        shares = planning.merge(gone.number, dict.fromkeys(scope.buckets, 0), survivors)
        shares += planning.merge(gone.number, dict.fromkeys(lonely, 1), survivors)
        return await self._share(shares)

    def _scope(self, share: planning.Share) -> Scope:
        buckets = [unit for unit in share.units if isinstance(unit, int)]
        if buckets:
            return self.placement.scope_of_buckets(buckets, share.source)
        return Scope(keys=tuple(unit for unit in share.units if isinstance(unit, bytes)))

    async def _flows(self, replica: int) -> list[bytes]:
        """Keys of its flows, without their second keys as far as these have entries."""
        keys = await self.fleet.flows(replica, self.deadlines.list)
        return [key for key in keys if not self.placement.is_second(key)]

    # -- loads -------------------------------------------------------------------------------------------------

    async def loads(self, replica: int) -> dict[planning.Unit, int]:
        """Flows in each of the replica's units: buckets by hash, single flows under controller assignment."""
        keys = await self._flows(replica)
        if self.by_hash:
            return dict(planning.bucket_loads(self.placement.buckets_of(replica), keys).items())
        return {key: 1 for key in keys if self.placement.entry(key) == replica}

    # -- scaling -----------------------------------------------------------------------------------------------

    async def scale_out(
        self,
        count: int = 1,
        *,
        rebalance: bool = True,
        split: int | None = None,
        kind: str = "",
        options: Options | None = None,
    ) -> ScaledOut:
        """Add replicas; with ``rebalance`` each gets its share. ``split``: the one replica to take half from.

        :param kind: what they are to be, ``process`` or ``vm``; any if empty.
        :param options: how flows move to them; None, here and below: as the configuration says.
        :raises ScalingFailed: :raises AgentFailed: replicas added before the failure stay.
        """
        if count < 1:
            raise BadInput("count", f"{count} is too few", "at least 1")
        if count > (free := self.fleet.free_slots()):
            raise ScalingFailed(
                "scale-out", f"{count} replicas wanted, {free} slots free", "scale in, or start with more slots"
            )
        result = ScaledOut([], [])
        async with self.scaling:
            for _ in range(count):
                replica = await self.add(kind)
                result.added.append(replica.number)
                if split is not None:
                    result.moves.extend(await self._split(split, replica.number, options))
                elif rebalance:
                    result.moves.extend(await self.give_share(replica.number, options))
        return result

    async def add(self, kind: str = "") -> Replica:
        """One more replica, known to the switch, without flows."""
        begun = asyncio.get_running_loop().time()
        replica = await self.fleet.create(self.deadlines.hello, kind)
        try:
            await self.network.register_replica(replica.number, replica.port)
            await self.fleet.settle(replica, self.deadlines.reconnect)
            if replica.ended.is_set():  # nobody else looks after one that is STARTING
                problem = f"ended before the switch knew it: {replica.status}"
                raise ReplicaEnded(f"replica {replica.number}", problem, SEE_LOG)
            if not replica.heard.is_set():
                raise ScalingFailed(f"replica {replica.number}", "was cut off before the switch knew it", SEE_LOG)
        except SplitmergeError:
            await self._disown(replica)
            await self.fleet.discard(replica, self.deadlines.destroy)
            raise
        self.fleet.set_state(replica, ReplicaState.LIVE)
        replica.since = asyncio.get_running_loop().time()
        self.start_ups[self.fleet.agents.kind_of(replica.slot)] = replica.since - begun
        self.on_count(1)
        logger.info("replica %d lives on slot %d, port %d", replica.number, replica.slot, replica.port)
        return replica

    async def _disown(self, replica: Replica) -> None:
        """The network need not know it any more; a switch that is away learns that when it is back."""
        try:
            await self.network.unregister_replica(replica.number)
        except SplitmergeError as error:
            logger.warning("replica %d: %s", replica.number, error)

    async def _split(self, source: int, target: int, options: Options | None) -> list[Report]:
        units = planning.half(await self.loads(source))
        return await self._share([planning.Share(source, target, units)] if units else [], options)

    async def give_share(self, newcomer: int, options: Options | None = None) -> list[Report]:
        """Give a replica its share of what the others have."""
        loads = {each.number: await self.loads(each.number) for each in self.fleet.live()}
        return await self._share(planning.rebalance(loads, newcomer), options)

    async def _share(self, shares: Iterable[planning.Share], options: Options | None = None) -> list[Report]:
        return await self._all([(each.source, each.target, self._scope(each)) for each in shares], options)

    async def rebalance(self, by: Figure = "flows", most: int = 64, options: Options | None = None) -> list[Report]:
        """Even the load over the living replicas: at most ``most`` buckets (or flows, if these are assigned) move.

        ``by``: what is evened; `measuring` says where packets and processor time come from.
        """
        if most < 1:
            raise BadInput("most", f"{most} is too few", "at least 1")
        async with self.scaling:
            packets = await self._measurer.packets() if by != "flows" else {}
            loads = {
                each.number: weigh(each, by, await self.loads(each.number), packets.get(each.number, {}))
                for each in self.fleet.live()
            }
            return await self._share(planning.even(loads, most), options)

    async def scale_in(self, replica: int | None = None, options: Options | None = None) -> int:
        """Move everything away from a replica (default: the one with the fewest flows) and end it; its number.

        :raises ScalingFailed: it is the last one, or flows stay in use; then it lives on.
        """
        async with self.scaling:
            victim = self._victim(replica)
            self.fleet.set_state(victim, ReplicaState.FINISHING)
            try:
                await self._empty(victim, options)
            except (SplitmergeError, TimeoutError):
                if victim.state is ReplicaState.FINISHING:
                    self.fleet.set_state(victim, ReplicaState.LIVE)
                raise
        await self._end(victim)  # other scaling goes on: this may take as long as an agent does not manage it
        return victim.number

    async def drain(self, replica: int | None = None) -> int:
        """End a replica without moving its flows: it gets no new ones, and ends when those that it has have ended.

        The baseline of §5.3. Other scaling goes on meanwhile. An orchestrator that starts anew goes on with it
        (`go_on_draining`), with the whole of ``deadlines.drain`` before it.
        :raises ScalingFailed: it is the last one, new flows would still come (assignment by hash), it died, all others
            have, or flows are left at the deadline; then it lives on.
        """
        if self.by_hash:
            problem = "new flows of its buckets would still come to it"
            raise ScalingFailed("drain", problem, "start with assignment least-loaded or round-robin")
        async with self.scaling:
            victim = self._victim(replica)
            self.fleet.set_state(victim, ReplicaState.FINISHING, draining=True)
        await self.go_on_draining(victim)
        return victim.number

    async def go_on_draining(self, victim: Replica) -> None:
        """The rest of `drain`, also for one that an earlier process began. :raises ScalingFailed: as it does."""
        try:
            await self._wait_empty(victim)
            async with self.scaling:
                await self._empty(victim)  # entries that no flow has any more
        except (SplitmergeError, TimeoutError):
            if victim.state is ReplicaState.FINISHING:
                self.fleet.set_state(victim, ReplicaState.LIVE)
            raise
        await self._end(victim)

    async def _wait_empty(self, victim: Replica) -> None:
        """Until its flows have ended, and none is on its way to it."""
        number = victim.number
        try:
            async with asyncio.timeout(self.deadlines.drain):
                while victim.flows or self.mover.touches(number) or await self._flows(number):
                    await asyncio.sleep(PAUSE)
                    if victim.state is not ReplicaState.FINISHING:
                        raise ScalingFailed(f"replica {number}", "it died while its flows ended", "others have them")
                    if not self.fleet.live():
                        raise _last_one(number)
        except TimeoutError:
            problem = f"{victim.flows} flows have not ended within {self.deadlines.drain:g} s"
            raise ScalingFailed(f"replica {number}", problem, "scale in by moving them") from None

    def _victim(self, replica: int | None) -> Replica:
        living = self.fleet.live()
        victim = None if replica is None else self.fleet.get(replica)
        if victim is not None and victim.state is not ReplicaState.LIVE:
            raise _leaves_already(victim)
        if len(living) < 2:
            raise ScalingFailed("scale-in", "only one replica lives", "somebody must own the flows")
        return victim or min(living, key=lambda each: (each.flows, -each.number))

    async def _empty(self, victim: Replica, options: Options | None = None) -> None:
        number, pause, before = victim.number, PAUSE, None
        undone: Report | None = None
        try:
            async with asyncio.timeout(self.deadlines.empty):
                while True:
                    is_left, failed = await self._give_away(victim, options)
                    undone = failed or undone
                    if not is_left:
                        return
                    left = self.placement.scope_of_replica(number)
                    pause = PAUSE if left != before else min(2 * pause, PAUSE_MOST)
                    before = left
                    await self._pause(pause)  # flows were in use: nobody tells when they are not
        except TimeoutError:
            left = self.placement.scope_of_replica(number)
            problem = (
                f"{in_words(len(left.keys), len(left.buckets))} could not be moved within {self.deadlines.empty:g} s"
            )
            if undone is not None:
                problem += f"; the last move, {undone.epoch}: {undone.why}"
            raise ScalingFailed(f"replica {number}", problem, "it lives on; `splitmerge moves` tells of each") from None

    async def _pause(self, seconds: float) -> None:
        """At most so long: where nobody else lives any more, what the dead had waits for the one that was to go."""
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        while self.fleet.live() and (left := until - loop.time()) > 0:  # noqa: ASYNC110 - bounded, and rare
            await asyncio.sleep(min(PAUSE, left))

    async def _give_away(self, victim: Replica, options: Options | None) -> tuple[bool, Report | None]:
        """Move what it has; whether something is left, or still on its way to it, and the last move that was undone.

        :raises ScalingFailed: nobody is left to take it, or a flow cannot be moved at all.
        """
        number = victim.number
        survivors = {each.number: each.flows for each in self.fleet.live()}
        if not survivors:
            raise _last_one(number)
        keys = await self._flows(number)
        buckets = self.placement.buckets_of(number)
        owned = set(buckets)
        entries = self.placement.flows_of(number)
        lonely = [key for key in entries if FlowKey(key).bucket not in owned and not self.placement.is_second(key)]
        if not buckets and not lonely:  # second keys go with their flows: these have none
            lonely = list(entries)
        shares = planning.merge(number, planning.bucket_loads(buckets, keys), survivors)
        shares += planning.merge(number, dict.fromkeys(lonely, 1), survivors)
        reports = await self._share(shares, options)
        if refused := next((each for each in reports if each.final and not each.done), None):
            remedy = "it lives on; tell the middlebox to keep less state a flow, or scale in when that flow has ended"
            raise ScalingFailed(f"replica {number}", f"a flow of it cannot be moved: {refused.reason}", remedy)
        undone = next((each for each in reversed(reports) if not each.done), None)
        left = self.placement.scope_of_replica(number)
        return bool(left.keys or left.buckets) or self.mover.touches(number), undone

    async def _end(self, victim: Replica) -> None:
        """Its combiners run, it pushes, it ends, its slot is free. It owns nothing, so failures only cost time.

        While its agent is there and has not ended it, its slot is not free: it may still send and receive.
        """
        number = victim.number
        left = await self._count_left(number)
        victim.leaving = True
        if left:
            logger.warning("replica %d still holds %d flows that it does not own; they end with it", number, left)
        try:
            await self.fleet.finish(number, self.deadlines.finish)
        except SplitmergeError as error:
            logger.error("replica %d: its last pushes are missing: %s", number, error)
        await self.fleet.end(victim, self.deadlines.destroy)
        self.fleet.set_state(victim, ReplicaState.GONE)
        await self.network.unregister_replica(number)
        self.fleet.forget(victim)
        self.on_count(-1)
        logger.info("replica %d has ended; slot %d is free", number, victim.slot)

    async def _count_left(self, replica: int) -> int:
        try:
            return len(await self.fleet.flows(replica, self.deadlines.list))
        except SplitmergeError as error:
            logger.warning("replica %d: %s", replica, error)
            return 0


def _one_of(scope: Scope) -> str:
    """The first of it, for people."""
    return f"flow {FlowKey(scope.keys[0])}" if scope.keys else f"bucket {scope.buckets[0]}"


async def _go_on(work: asyncio.Task[list[Report]]) -> None:
    """Nobody waits for the outcome any more: see /moves. The task ends with this one."""
    try:
        await work
    except SplitmergeError as error:
        logger.warning("moves that were late: %s", error)


def _last_one(number: int) -> ScalingFailed:
    """Why a replica stays that was to go."""
    return ScalingFailed(f"replica {number}", "no other replica lives any more", "scale out first")


def _leaves_already(victim: Replica) -> ScalingFailed:
    """Why a replica that is not LIVE is not removed once more."""
    where, number = f"replica {victim.number}", victim.number
    if victim.draining:
        remedy = f"wait for it, or move them away: `splitmerge migrate --all --source {number} --target ANOTHER`"
        return ScalingFailed(where, f"drains already: it ends with the last of its {victim.flows} flows", remedy)
    return ScalingFailed(where, "is being removed already", "wait for it")
