"""The orchestrator: owns the replicas, the journal, the moves and the policy; a shell around the cores.

Life: `Orchestrator.restore` (before the controller connects) → `run`: control network up, replicas of an earlier
process attached again, unfinished moves brought to an end, at least one replica → `ready`. Every task belongs to the
task group of `run`. When a replica dies, `Settler` gives what it owned to others, and `Replacer` adds another, as it
does where there is none yet.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Mapping
from contextlib import AsyncExitStack
from typing import Any, TypeVar

from orchestrator import health
from orchestrator.assigning import Assigner
from orchestrator.autoscaler import Autoscaler
from orchestrator.coherent import Found
from orchestrator.config import Config
from orchestrator.doubts import Doubts
from orchestrator.elasticity import Figure
from orchestrator.ended import Ended
from orchestrator.endings import Endings
from orchestrator.errors import JournalError
from orchestrator.fleet import Fleet, Replica, ReplicaState
from orchestrator.journal import Journal, JournalState
from orchestrator.migration import Options
from orchestrator.mover import Mover
from orchestrator.network import SwitchNetwork
from orchestrator.noticed import Deaths
from orchestrator.owned import Owned
from orchestrator.placement import Placement
from orchestrator.registrar import Registrar
from orchestrator.replacements import Owed, Replacements
from orchestrator.replacing import FAILED, MADE, Replacer
from orchestrator.reports import Report, Reports, report
from orchestrator.scaling import ScaledOut, Scaler, Wanted
from orchestrator.sessions import Session, serve
from orchestrator.settling import Settler
from orchestrator.shared import SharedState
from orchestrator.steps import POINTED, RESERVED, Path
from orchestrator.switch_drops import SwitchDrops
from p4rt_controller import (
    BufferFull,
    ControllerEvent,
    FlowIdle,
    NewFlow,
    PacketFigures,
    RestoredState,
    SwitchLost,
    SwitchReady,
    SwitchState,
    policy,
)
from splitmerge import messages as m
from splitmerge.errors import SplitmergeError, first_of

logger = logging.getLogger("orchestrator")

STARTS = "orchestrator.starts"
"""Name of a total in the journal."""
RETRY = 1.0
"""Seconds until something that failed in the background is tried again."""


T = TypeVar("T")


class Orchestrator:
    """See the module's text. ``clock`` is the event loop's."""

    def __init__(self, config: Config, journal: Journal) -> None:
        self.config = config
        self.journal = journal
        state = journal.load()
        self._state: JournalState = state
        self.by_hash = config.assignment == "hash"
        self.placement = Placement(state.buckets, state.flows, state.second)
        self.fleet = Fleet(journal, config.slots)
        self.fleet.load(state.replicas.values())
        self.shared_state = SharedState(
            journal, state, self.fleet.send, config.locks.lease, config.locks.etcd, fault=self._end_with
        )
        self.fleet.on_gone = self.shared_state.gone
        self.fleet.ended = Ended(state.totals)
        self.fleet.unended = lambda replica: self._later(self._free(replica), f"end replica {replica.number}")
        self.ready = asyncio.Event()
        self.started = False
        """Whether `mover` and `scaler` are there."""
        self.switch_ready = False
        self.switch_drops = SwitchDrops()
        self.replicas_died = state.totals.get("replicas.died", 0)
        """Replicas that ended without being asked to, since the journal was begun."""
        self.deaths = Deaths()
        self.restarts = state.totals.get(STARTS, 0)
        """Orchestrators that had this journal before this one."""
        self.mover: Mover
        self.owned: Owned
        self.scaler: Scaler
        self.assigner: Assigner
        self.autoscaler: Autoscaler
        self.registrar: Registrar
        self.endings: Endings
        self.replacements = Replacements(
            config.replacement, len(config.slots), state.totals.get(MADE, 0), state.totals.get(FAILED, 0)
        )
        self.replacements.left_dead(
            Owed(each.replica, each.kind, each.lived, 0.0, each.failures, each.reason) for each in state.unreplaced
        )
        self.replacer: Replacer
        self._network: SwitchNetwork
        self._tasks: asyncio.TaskGroup
        self._unsettled = asyncio.Event()
        self._burying: set[int] = set()
        self._stopped = False
        self._awake = health.Awake()
        self._doubts = Doubts(self.fleet, self._awake, config.moves.unreached, self._burying, self._end_hanging)

    # -- life --------------------------------------------------------------------------------------------------

    def restore(self, network: SwitchNetwork) -> None:
        """Tell the network what is journalled, before it connects."""
        owners = self.placement.buckets()
        flows = dict(self.placement.flows())
        for row in self._state.moves:
            if row.step in RESERVED and row.plan.path in (
                Path.FORWARD,
                Path.NONE,
            ):  # their entries stay: room must not go
                flows.update(dict.fromkeys(row.plan.scope.keys, row.plan.source))
            if row.step in POINTED:  # the switch points to the target already
                owners.update(dict.fromkeys(row.plan.scope.buckets, row.plan.target))
                flows.update(dict.fromkeys(row.plan.scope.keys, row.plan.target))
        network.restore(
            RestoredState(
                replicas={each.number: each.port for each in self.fleet.replicas.values()},
                buckets={bucket: owner or None for bucket, owner in owners.items()},
                flows=flows,
                second=self.placement.second,
                newest_epoch=self._state.epoch,
            )
        )

    async def run(self, network: SwitchNetwork, connect: Coroutine[Any, Any, None]) -> None:
        """Work until cancelled. ``connect`` connects the network once the unfinished moves are in its desired state."""
        self._network = network
        self.journal.add({STARTS: 1})
        self.shared_state.begin()
        async with AsyncExitStack() as listening, asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            identity = self.config.tls.identity if self.config.tls else None
            for address in self.config.controls:
                await listening.enter_async_context(serve(address, self, identity))
            self.mover = Mover(
                self.journal, network, self.placement, self.fleet.send, tasks, self._moved, self.config.moves,
                self.config.defaults, self._doubts.doubt, self._doubts.works,
                reports=Reports(self._state.figures, _part(self._state.totals, "moves")),
                relays=dict(self._state.relays),
            )  # fmt: skip
            self.owned = Owned(self.placement, self.mover, self.fleet.send)
            self.registrar = Registrar(
                self.journal, self.placement, self.mover.locks, network, self.mover.wait, self.keeps
            )
            self.scaler = Scaler(
                self.fleet, self.mover, self.placement, network, self.config.deadlines,
                by_hash=self.by_hash, registrar=self.registrar,
            )  # fmt: skip
            self.assigner = Assigner(
                policy(self.config.assignment), self.fleet, self.placement, self.scaler, self._later
            )
            self.autoscaler = Autoscaler(
                self.config.elasticity, self.fleet, self.scaler, self.replacements, self._later
            )
            self.endings = Endings(
                self.journal, self.placement, self.mover, network, self.scaler.bring_home, self.holds, self._later
            )
            self.replacer = Replacer(
                self.replacements, self.journal, self.fleet, self.scaler, self._most_replicas, self._acted,
                self._unsettled.set,
            )  # fmt: skip
            self.started = True
            for row in self._state.moves:
                self.mover.recover(row)
            tasks.create_task(connect, name="connect the network")
            try:
                await self._begin()
                await asyncio.get_running_loop().create_future()
            finally:
                self._stopped = self.mover.stopping = True
                self.shared_state.close()

    async def _begin(self) -> None:
        owners = self.placement.owners()  # those that were scaled in owned nothing any more when they went
        dead = [each for each in self.fleet.gone() if each.number in owners]
        await self._reattach()
        self.replacer.found_dead(dead)
        settler = Settler(
            self.journal, self.fleet, self.placement, self.mover, self._network, self.scaler, self.endings, self.owned,
            self.by_hash, self.replacer, self._unsettled, self.ready,
        )  # fmt: skip
        for replica in [each for each in self.fleet.working() if each.draining]:
            self._later(self._go_on_draining(replica), f"drain replica {replica.number}")
        self._tasks.create_task(settler.run(), name="settle")
        self._tasks.create_task(self.replacer.run(), name="replace the dead")
        self._tasks.create_task(self.assigner.run(), name="assign new flows")
        self._tasks.create_task(self._awake.keep(), name="notice own stalls")
        self._tasks.create_task(self.switch_drops.keep(self._network), name="read the switches' drops")
        self._tasks.create_task(self._watch(), name="watch for replicas that hang")
        self._tasks.create_task(self._scale(), name="elasticity policy")
        self._unsettled.set()

    async def _reattach(self) -> None:
        """Bring in the replicas that lived when an earlier process ended, each by itself; then end what it left.

        Returns when all that came are in. One that its agent does not manage to end holds up the moves that name it,
        and no others.
        """
        expected = [each for each in self.fleet.replicas.values() if each.state is not ReplicaState.GONE]
        unknown = {each.number for each in expected}
        self.mover.resume_recovered([each.number for each in self.fleet.gone()], unknown)
        if not expected:
            return
        deadlines = self.config.deadlines
        tasks = [self._tasks.create_task(self._admit_or_bury(each, unknown)) for each in expected]
        await asyncio.wait(tasks, timeout=deadlines.reattach + deadlines.destroy + RETRY)
        coming = [task for each, task in zip(expected, tasks, strict=True) if each.heard.is_set()]
        if coming:  # the switch is away
            await asyncio.wait(coming)

    async def _admit_or_bury(self, replica: Replica, unknown: set[int]) -> None:
        try:
            async with asyncio.timeout(self.config.deadlines.reattach):
                await replica.heard.wait()
        except TimeoutError:
            logger.warning("replica %d did not come back", replica.number)
        if replica.heard.is_set():
            await self._admit(replica)
        else:
            await self._bury(replica)
        unknown.discard(replica.number)
        self.mover.resume_recovered([], unknown)

    async def _admit(self, replica: Replica) -> None:
        """A replica of an earlier process takes part again, unless it dies before the switch knows it."""
        if replica.state is ReplicaState.STARTING:
            self.fleet.set_state(replica, ReplicaState.LIVE)  # from here on its death is noticed
        while replica.state is not ReplicaState.GONE:
            try:
                await self._network.register_replica(replica.number, replica.port)
                break
            except SplitmergeError as error:
                logger.warning("replica %d: %s", replica.number, error)
            await asyncio.sleep(RETRY)
        if replica.state is not ReplicaState.GONE:
            self.owned.tell(replica.number)

    async def _go_on_draining(self, replica: Replica) -> None:
        """What an earlier process began; its flows say how far it is once everything is in its place again."""
        await self.ready.wait()
        if replica.state is not ReplicaState.FINISHING:  # it has died meanwhile
            return
        logger.info("replica %d: its drain goes on", replica.number)
        await self.scaler.go_on_draining(replica)
        self._acted()

    # -- operations --------------------------------------------------------------------------------------------

    def migrate(
        self, wanted: Wanted, target: int, source: int | None = None, options: Options | None = None
    ) -> tuple[list[Report], asyncio.Future[list[Report]]]:
        """`Scaler.plan`, as the moves are now; and `Scaler.carry_out`, which goes on though nobody waits for it."""
        planned = self.scaler.plan(wanted, target, source, options)
        result = self._operation(self.scaler.carry_out(planned), f"migrate to {target}")
        return [report(each.move) for each in planned], result

    def scale_out(
        self, count: int = 1, *, rebalance: bool = True, kind: str = "", options: Options | None = None
    ) -> asyncio.Future[ScaledOut]:
        """`Scaler.scale_out`, likewise."""
        work = self.scaler.scale_out(count, rebalance=rebalance, kind=kind, options=options)
        return self._operation(work, f"scale out by {count}")

    def scale_in(
        self, replica: int | None = None, *, drain: bool = False, options: Options | None = None
    ) -> asyncio.Future[int]:
        """`Scaler.scale_in` or `Scaler.drain`, likewise; the latter moves nothing."""
        work = self.scaler.drain(replica) if drain else self.scaler.scale_in(replica, options)
        return self._operation(work, f"{'drain' if drain else 'scale in'} {replica or ''}")

    def rebalance(
        self, by: Figure = "flows", most: int = 64, options: Options | None = None
    ) -> asyncio.Future[list[Report]]:
        """`Scaler.rebalance`, likewise."""
        return self._operation(self.scaler.rebalance(by, most, options), f"rebalance by {by}")

    def _operation(self, work: Coroutine[Any, Any, T], name: str) -> asyncio.Future[T]:
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._tasks.create_task(self._fulfil(future, work, name), name=name)
        return future

    async def _fulfil(self, future: asyncio.Future[T], work: Coroutine[Any, Any, T], name: str) -> None:
        try:
            result = await work
        except* SplitmergeError as group:
            error = first_of(group)
            logger.warning("%s: %s", name, error)
            _settle_future(future, error=error)
        else:
            _settle_future(future, result)
            self._acted()

    def _most_replicas(self) -> int:
        policy = self.autoscaler.config
        return policy.max_replicas if policy.acts else len(self.config.slots)

    def _acted(self) -> None:
        self.autoscaler.acted(asyncio.get_running_loop().time())

    # -- network events ----------------------------------------------------------------------------------------

    def network_event(self, event: ControllerEvent) -> None:
        """What the controller tells; called from the event loop, does not block."""
        match event:
            case NewFlow(key):
                self.assigner.announced(key)
            case FlowIdle(key):
                self._later(self.endings.idle(key), f"idle {key}")
            case BufferFull(epoch):
                self.mover.full(epoch, "the controller")
            case SwitchLost(reason):
                self.switch_ready = False
                logger.warning("the switch is away: %s", reason)
            case SwitchReady():
                self.switch_ready = True
                logger.info("the switch is ready: %s", event)

    def _later(self, work: Coroutine[Any, Any, None], name: str) -> None:
        if self._stopped:
            work.close()
            return
        self._tasks.create_task(self._logged(work, name), name=name)

    async def _logged(self, work: Coroutine[Any, Any, None], name: str) -> None:
        try:
            await work
        except SplitmergeError as error:
            logger.warning("%s: %s", name, error)

    async def _watch(self) -> None:
        """A replica that hangs is ended, as one that died."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(RETRY)
            for replica in health.hanging(self.fleet, self._awake, loop.time(), self.config.deadlines.silent):
                if replica.number in self._burying:
                    continue
                logger.error("replica %d has said nothing for long: it hangs, and is ended", replica.number)
                self._later(self._bury(replica, hangs=True), f"end replica {replica.number}")

    def _end_hanging(self, number: int) -> None:
        self._later(self._bury(self.fleet.replicas[number], hangs=True), f"end replica {number}")

    def switches(self) -> dict[str, SwitchState]:
        """How each switch is, by its name; empty before `run`."""
        return dict(self._network.switches()) if self.started else {}

    async def read_switches(self) -> None:
        """Read what the switches dropped, as far as they answer within a second. Only after `run` has begun."""
        await self.switch_drops.refresh(self._network)

    async def drops(self) -> dict[str, dict[str, int]]:
        """What was dropped by reason: packets, by replicas, by the switches (as of the last reading, if none comes
        within a second), and by the controller; and, by this process, announcements of flows."""
        if not self.started:
            return {"replicas": {}, "switch": {}, "controller": {}, "orchestrator": {}}
        own = {reason: count for reason, count in self.assigner.drops.items() if count}
        await self.read_switches()
        told = {"switch": self.switch_drops.total(), "orchestrator": own}
        return health.drops(self.fleet, self._network) | told

    def packet_figures(self) -> PacketFigures | None:
        """What became of the packets that came to the controller; None before `run`."""
        return self._network.packet_figures() if self.started else None

    async def holds(self, replica: int, key: bytes) -> bool:
        """Whether the replica has a flow of this key. :raises PeerError: if it does not say."""
        return self._is_here(replica) and await self.fleet.holds(replica, key, self.config.deadlines.list)

    async def keeps(self, replica: int, wanted: m.SecondKey) -> bool:
        """Whether the replica has a flow of this key, and keeps it from a new one. :raises PeerError: as `holds`."""
        return self._is_here(replica) and await self.fleet.keeps(replica, wanted, self.config.deadlines.list)

    def _is_here(self, replica: int) -> bool:
        found = self.fleet.replicas.get(replica)
        return found is not None and found.state is not ReplicaState.GONE

    # -- sessions ----------------------------------------------------------------------------------------------

    def hello(self, session: Session, hello: m.Hello) -> m.Welcome | m.Refused:
        """`sessions.Handler`: who may come in."""
        locks = self.config.locks
        welcome = m.Welcome(epoch=self._state.epoch, locks=locks.etcd, lease=locks.lease, room=self.config.room)
        if hello.role == "agent":
            self.fleet.add_agent(session)
            if self.started:
                self.replacer.agent_here(hello.kind)
            return welcome
        if hello.role != "replica":
            return m.Refused(epoch=0, request="Hello", reason=f"role {hello.role!r}: replica or agent")
        replica = self.fleet.replicas.get(hello.replica)
        if replica is None or replica.state is ReplicaState.GONE:
            return m.Refused(epoch=0, request="Hello", reason=f"replica {hello.replica} is not one of mine")
        if replica.number in self._burying:  # it came back too late: others are about to get what it has
            return m.Refused(epoch=0, request="Hello", reason=f"replica {hello.replica} is being ended")
        if not self.fleet.vouched(replica, session.certified):
            reason = f"the certificate is not of the agent that makes replica {hello.replica}"
            return m.Refused(epoch=0, request="Hello", reason=reason)
        if replica.incarnation not in ("", hello.incarnation):
            return m.Refused(epoch=0, request="Hello", reason=f"replica {hello.replica} is another process")
        self._replica_here(replica, session, hello)
        return welcome

    def _replica_here(self, replica: Replica, session: Session, hello: m.Hello) -> None:
        if replica.session is not None:
            replica.session.close("it has connected again")
        replica.session, replica.address, replica.incarnation = session, hello.address, hello.incarnation
        replica.heard.set()
        self.fleet.set_state(replica, replica.state)
        asyncio.get_running_loop().call_soon(self._attached, replica)

    def _attached(self, replica: Replica) -> None:
        """After the welcome: what it owns whole; then moves repeat what they asked."""
        if not self.started:  # `_admit` comes to it
            return
        self.owned.tell(replica.number)
        self.mover.back(replica.number)

    def closed(self, session: Session) -> None:
        """`sessions.Handler`: a connection has ended."""
        if self.fleet.remove_agent(session):
            return
        replica = self.fleet.replicas.get(session.peer.replica)
        if replica is None or replica.session is not session:
            return
        replica.session = None
        replica.heard.clear()
        self._later(self._missed(replica), f"replica {replica.number} is away")

    async def _missed(self, replica: Replica) -> None:
        """A connection ended: it may come back; if not, make sure that it has ended before others take over."""
        await self._awake.wait(replica, self.config.deadlines.reconnect)
        if not replica.heard.is_set() and replica.state in (ReplicaState.LIVE, ReplicaState.FINISHING):
            await self._bury(replica)

    async def _bury(self, replica: Replica, *, hangs: bool = False) -> None:
        """Nobody may take over from a replica that might still work: its agent ends it first (`Fleet.end`), once."""
        if replica.number in self._burying:
            return
        self._burying.add(replica.number)
        await self.fleet.end(replica, self.config.deadlines.destroy, hangs=hangs)
        try:
            self._died(replica)
        except JournalError as fault:  # nobody would come back to it, and its moves would wait for ever
            logger.critical("replica %d has ended, which cannot be written down", replica.number)
            self._end_with(fault)

    async def _free(self, replica: Replica) -> None:
        """It was made and never used: its slot is free when it has ended."""
        await self.fleet.end(replica, self.config.deadlines.destroy)
        self.fleet.forget(replica)

    def _died(self, replica: Replica) -> None:
        if replica.state is ReplicaState.GONE:
            return
        logger.error("replica %d is gone; its flows lose their state", replica.number)
        self.replicas_died += 1
        self.deaths.take(replica.number, replica.flows, asyncio.get_running_loop().time())
        self.journal.add({"replicas.died": 1})
        if replica.state is ReplicaState.LIVE:  # one that was to go anyway is nobody's loss
            self.replacer.lost(replica)
        self.fleet.set_state(replica, ReplicaState.GONE)
        self.owned.forget(replica.number)
        self.registrar.lost(replica.number)
        self.mover.lost(replica.number)
        self._unsettled.set()

    def message(self, session: Session, message: m.Message) -> None:
        """`sessions.Handler`: a message of a welcomed peer."""
        if session.peer.role == "agent":
            self._agent_message(session, message)
            return
        replica = self.fleet.replicas.get(session.peer.replica)
        if replica is None and isinstance(message, m.SharedPush | m.SharedCollected):
            # Last words of one that is forgotten already: the hub says whether they still count.
            self.shared_state.handle(session.peer.replica, message, self.fleet.living())
        if replica is None or replica.session is not session:
            return
        match message:
            case (
                m.Prepared() | m.Exported() | m.Committed() | m.Forwarding() | m.Released() | m.Discarded()
                | m.Thawed() | m.Returned() | m.Refused()
            ):  # fmt: skip
                self.mover.answer(replica.number, message)
            case m.HoldFull(epoch=epoch):
                self.mover.full(epoch, f"replica {replica.number}")
            case m.HoldDropped(epoch=epoch, dropped=dropped):
                self.mover.dropped(replica.number, epoch, dropped)
            case m.Stats():
                replica.says(message, asyncio.get_running_loop().time())
                for epoch, dropped in message.hold_dropped.items():
                    self.mover.dropped(replica.number, epoch, dropped)
                for epoch in message.hold_full:
                    self.mover.full(epoch, f"replica {replica.number}")
            case m.AddKeys() if replica.state is not ReplicaState.GONE:
                self._later(self.registrar.add(replica.number, message, session.send), "second keys")
            case m.FlowsGone(keys=keys):
                self.registrar.gone(replica.number, keys)
                self._later(self.endings.gone(replica.number, keys), "flows gone")
            case m.FlowList() | m.Finished() | m.Related() | m.BucketCounts():
                self.fleet.answered(message)
            case (
                m.SharedPush() | m.SharedPull() | m.SharedCollected() | m.SharedFolded()
                | m.SharedLock() | m.SharedRenew() | m.SharedWrite() | m.SharedAbandon()
            ):  # fmt: skip
                self.shared_state.handle(replica.number, message, self.fleet.living())
            case m.AddKeys():
                logger.info("replica %d asked for keys before it died", replica.number)
            case _:
                logger.warning("replica %d sent %s, which is not for us", replica.number, type(message).__name__)

    def _agent_message(self, agent: Session, message: m.Message) -> None:
        replica = self.fleet.agent_answered(agent, message)
        if not isinstance(message, m.ReplicaGone):
            return
        if replica is not None and replica.state is ReplicaState.LIVE:
            logger.error("replica %d has ended: %s", replica.number, message.status)
            self._later(self._bury(replica), f"end replica {replica.number}")

    # -- coherent state ----------------------------------------------------------------------------------------

    async def shared(self, key: str) -> Found:
        """Everybody's newest contribution to a coherent object, after asking the living replicas."""
        return await self.shared_state.find(key, self.fleet.living())

    def _end_with(self, fault: JournalError) -> None:
        """This process knows what the journal does not: it ends, and the next one begins with what the journal has."""
        logger.critical("the process ends: %s", fault)
        work = _raise(fault)
        try:
            self._tasks.create_task(work, name="end: the journal cannot be written")
        except RuntimeError:  # it is ending already
            work.close()

    # -- keeping things right ----------------------------------------------------------------------------------

    def _moved(self, result: Report) -> None:
        """A move has ended: what it left with an ended replica needs an owner."""
        self.owned.tell_the_rest()
        if any(self._is_gone(replica) for replica in (result.source, result.target)):
            self._unsettled.set()

    def _is_gone(self, replica: int) -> bool:
        found = self.fleet.replicas.get(replica)
        return found is not None and found.state is ReplicaState.GONE

    async def _scale(self) -> None:
        await self.ready.wait()
        await self.autoscaler.run()


def _part(totals: Mapping[str, int], prefix: str) -> dict[str, int]:
    """Totals whose names begin so, by the rest of their names."""
    return {name.removeprefix(f"{prefix}."): count for name, count in totals.items() if name.startswith(f"{prefix}.")}


async def _raise(fault: Exception) -> None:
    """The end of the process: the next one puts right what the journal knows."""
    raise fault


def _settle_future(future: asyncio.Future[T], result: T | None = None, error: SplitmergeError | None = None) -> None:
    """Give an answer to whoever still waits for it."""
    if future.done():
        return
    if error is None:
        future.set_result(result)  # type: ignore[arg-type]  # None only where T allows it
        return
    future.set_exception(error)
    future.exception()  # nobody may be waiting: it has been logged
