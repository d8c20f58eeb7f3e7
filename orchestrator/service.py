"""The orchestrator: owns the replicas, the journal, the moves and the policy; a shell around the cores.

Life: `Orchestrator.restore` (before the controller connects) → `run`: control network up, replicas of an earlier
process attached again, unfinished moves brought to an end, at least one replica → `ready`. Every task belongs to the
task group of `run`. `Peers` hears replicas and agents. `Undertaker` ends replicas that hang or stay away; then
`Settler` gives what they owned to others, and `Replacer` adds others, as it does where there is none yet.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Coroutine, Mapping
from contextlib import AsyncExitStack
from typing import Any

from orchestrator.background import Background
from orchestrator.coherence.hub import Found
from orchestrator.config import Config
from orchestrator.elasticity import Figure
from orchestrator.journal import DeathRow, Journal, JournalState
from orchestrator.migration import Options
from orchestrator.moves.mover import Mover
from orchestrator.moves.placement import Placement
from orchestrator.moves.registrar import Registrar
from orchestrator.moves.reports import Report, Reports, report
from orchestrator.network import SwitchNetwork
from orchestrator.ownership.assigning import Assigner
from orchestrator.ownership.endings import Endings
from orchestrator.ownership.owned import Owned
from orchestrator.ownership.reattaching import Reattacher, restored_state
from orchestrator.ownership.settling import Settler
from orchestrator.peers import Peers
from orchestrator.replicas import health
from orchestrator.replicas.doubts import Doubts
from orchestrator.replicas.ended import Ended
from orchestrator.replicas.fleet import Fleet, Replica, ReplicaState
from orchestrator.replicas.noticed import Deaths, Failures
from orchestrator.replicas.sessions import serve
from orchestrator.replicas.undertaker import Undertaker
from orchestrator.scaling.autoscaler import Autoscaler
from orchestrator.scaling.replacements import Owed, Replacements
from orchestrator.scaling.replacing import FAILED, MADE, Replacer
from orchestrator.scaling.scaler import ScaledOut, Scaler, Wanted
from orchestrator.shared import SharedState
from orchestrator.switch_drops import SwitchDrops
from p4rt_controller import (
    BufferFull,
    ControllerEvent,
    FlowIdle,
    NewFlow,
    PacketFigures,
    SwitchLost,
    SwitchReady,
    SwitchState,
    policy,
)
from splitmerge import messages as m

logger = logging.getLogger("orchestrator")

STARTS = "orchestrator.starts"
"""Name of a total in the journal."""


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
        self.background = Background(self._acted)
        self.shared_state = SharedState(
            journal, state, self.fleet.send, config.locks.lease, config.locks.etcd, fault=self.background.end_with
        )
        self.fleet.on_gone = self.shared_state.gone
        self.fleet.ended = Ended(state.totals)
        self._awake = health.Awake()
        self.undertaker = Undertaker(self.fleet, self._awake, config.deadlines, self.background, self._died)
        self.fleet.unended = self.undertaker.unused
        self.ready = asyncio.Event()
        self.started = False
        """Whether `mover` and `scaler` are there."""
        self.switch_ready = False
        self.switch_drops = SwitchDrops()
        self.replicas_died = state.totals.get("replicas.died", 0)
        """Replicas that ended without being asked to, since the journal was begun."""
        self.deaths = Deaths(state.deaths)
        self.failures = Failures()
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
        self.peers: Peers
        self._network: SwitchNetwork
        self._tasks: asyncio.TaskGroup
        self._unsettled = asyncio.Event()
        self._doubts = Doubts(
            self.fleet, self._awake, config.moves.unreached, self.undertaker.ending, self.undertaker.end_hanging,
            self.background.later,
        )  # fmt: skip

    # -- life --------------------------------------------------------------------------------------------------

    def restore(self, network: SwitchNetwork) -> None:
        """Tell the network what is journalled, before it connects."""
        network.restore(restored_state(self._state, self.fleet, self.placement))

    async def run(self, network: SwitchNetwork, connect: Coroutine[Any, Any, None]) -> None:
        """Work until cancelled. ``connect`` connects the network once the unfinished moves are in its desired state."""
        self._network = network
        self.journal.add({STARTS: 1})
        self.shared_state.begin()
        async with AsyncExitStack() as listening, asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            self.background.begin(tasks)
            self._assemble(network)
            identity = self.config.tls.identity if self.config.tls else None
            for address in self.config.controls:
                await listening.enter_async_context(serve(address, self.peers, identity))
            self.started = self.peers.started = True
            for row in self._state.moves:
                self.mover.recover(row)
            tasks.create_task(connect, name="connect the network")
            try:
                await self._begin()
                await asyncio.get_running_loop().create_future()
            finally:
                self.background.stop()
                self.mover.stopping = True
                self.shared_state.close()

    async def recovered(self) -> None:
        """Return when the moves that an earlier process left are over: at once if it left none."""
        if self._state.moves:
            await self.ready.wait()
        for row in self._state.moves:
            await self.mover.wait(row.plan.epoch)

    def _assemble(self, network: SwitchNetwork) -> None:
        """Make the parts that need the network, or tasks."""
        self.mover = Mover(
            self.journal, network, self.placement, self.fleet.send, self._tasks, self._moved, self.config.moves,
            self.config.defaults, self._doubts.doubt, self._doubts.works,
            reports=Reports(self._state.figures, _part(self._state.totals, "moves")),
            relays=dict(self._state.relays), over=self._moves_over,
        )  # fmt: skip
        network.keep_for(self.mover.awaited)
        self.owned = Owned(self.placement, self.mover, self.fleet.send)
        self.placement.on_whole = self.owned.may_be_whole
        self.registrar = Registrar(
            self.journal, self.placement, self.mover.locks, network, self.mover.wait, self.keeps,
            lambda replica, keys: self.scaler.adopt_expected(replica, keys), self.owned.may_be_mixed,
        )  # fmt: skip
        self.scaler = Scaler(
            self.fleet, self.mover, self.placement, network, self.config.deadlines,
            by_hash=self.by_hash, registrar=self.registrar,
        )  # fmt: skip
        later = self.background.later
        chooses = policy(self.config.assignment)
        self.assigner = Assigner(chooses, self.fleet, self.placement, self.scaler, later, network.waiting)
        self.autoscaler = Autoscaler(self.config.elasticity, self.fleet, self.scaler, self.replacements, later)
        self.endings = Endings(
            self.journal, self.placement, self.mover, network, self.scaler.bring_home, self.holds, later
        )
        self.replacer = Replacer(
            self.replacements, self.journal, self.fleet, self.scaler, self._most_replicas, self._acted,
            self._unsettled.set,
        )  # fmt: skip
        self.peers = Peers(
            self.config, self._state.epoch, self.fleet, self.shared_state, self.mover, self.owned, self.registrar,
            self.endings, self.replacer, self.undertaker, self.background,
        )  # fmt: skip

    async def _begin(self) -> None:
        owners = self.placement.owners()  # those that were scaled in owned nothing any more when they went
        dead = [each for each in self.fleet.gone() if each.number in owners]
        reattacher = Reattacher(
            self.fleet, self.mover, self._network, self.owned, self.scaler, self.undertaker, self.config.deadlines,
            self._tasks, self.ready,
        )  # fmt: skip
        await reattacher.reattach()
        self.replacer.found_dead(dead)
        settler = Settler(
            self.journal, self.fleet, self.placement, self.mover, self._network, self.scaler, self.endings, self.owned,
            self.by_hash, self.replacer, self._unsettled, self.ready,
        )  # fmt: skip
        for replica in [each for each in self.fleet.working() if each.draining]:
            work = self.background.operation(reattacher.go_on_draining(replica), f"drain replica {replica.number}")
            self.unwatched(work, "drain")
        self._tasks.create_task(settler.run(), name="settle")
        self._tasks.create_task(self.replacer.run(), name="replace the dead")
        self._tasks.create_task(self.assigner.run(), name="assign new flows")
        self._tasks.create_task(self._awake.keep(), name="notice own stalls")
        self._tasks.create_task(self.switch_drops.keep(self._network), name="read the switches' drops")
        self._tasks.create_task(self.undertaker.watch(), name="watch for replicas that hang")
        self._tasks.create_task(self._scale(), name="elasticity policy")
        self._unsettled.set()

    # -- operations --------------------------------------------------------------------------------------------

    def migrate(
        self, wanted: Wanted, target: int, source: int | None = None, options: Options | None = None
    ) -> tuple[list[Report], asyncio.Future[list[Report]]]:
        """`Scaler.plan`, as the moves are now; and `Scaler.carry_out`, which goes on though nobody waits for it."""
        planned = self.scaler.plan(wanted, target, source, options)
        result = self.background.operation(self.scaler.carry_out(planned), f"migrate to {target}")
        return [report(each.move) for each in planned], result

    def scale_out(
        self, count: int = 1, *, rebalance: bool = True, kind: str = "", options: Options | None = None
    ) -> asyncio.Future[ScaledOut]:
        """`Scaler.scale_out`, likewise."""
        work = self.scaler.scale_out(count, rebalance=rebalance, kind=kind, options=options)
        return self.background.operation(work, f"scale out by {count}")

    def scale_in(
        self, replica: int | None = None, *, drain: bool = False, options: Options | None = None
    ) -> asyncio.Future[int]:
        """`Scaler.scale_in` or `Scaler.drain`, likewise; the latter moves nothing."""
        work = self.scaler.drain(replica) if drain else self.scaler.scale_in(replica, options)
        return self.background.operation(work, f"{'drain' if drain else 'scale in'} {replica or ''}")

    def unwatched(self, work: asyncio.Future[Any], what: str) -> None:
        """Nobody waits for this any more: if it fails, `problems` says so."""

        def told(done: asyncio.Future[Any]) -> None:
            if not done.cancelled() and (error := done.exception()) is not None:
                self.failures.take(f"{what} failed: {error}", time.time())

        work.add_done_callback(told)

    def rebalance(
        self, by: Figure = "flows", most: int = 64, options: Options | None = None
    ) -> asyncio.Future[list[Report]]:
        """`Scaler.rebalance`, likewise."""
        return self.background.operation(self.scaler.rebalance(by, most, options), f"rebalance by {by}")

    def _most_replicas(self) -> int:
        policy = self.autoscaler.config
        return policy.max_replicas if policy.acts else len(self.config.slots)

    def _acted(self) -> None:
        self.autoscaler.acted(asyncio.get_running_loop().time())

    # -- the network -------------------------------------------------------------------------------------------

    def network_event(self, event: ControllerEvent) -> None:
        """What the controller tells; called from the event loop, does not block."""
        match event:
            case NewFlow(key):
                self.assigner.announced(key)
            case FlowIdle(key):
                self.background.later(self.endings.idle(key), f"idle {key}")
            case BufferFull(epoch):
                self.mover.full(epoch, "the controller")
            case SwitchLost(reason):
                self.switch_ready = False
                logger.warning("the switch is away: %s", reason)
            case SwitchReady():
                self.switch_ready = True
                logger.info("the switch is ready: %s", event)

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

    # -- replicas ----------------------------------------------------------------------------------------------

    async def holds(self, replica: int, key: bytes) -> bool:
        """Whether the replica has a flow of this key. :raises PeerError: if it does not say."""
        return self._is_here(replica) and await self.fleet.holds(replica, key, self.config.deadlines.list)

    async def keeps(self, replica: int, wanted: m.SecondKey) -> bool:
        """Whether the replica has a flow of this key, and keeps it from a new one. :raises PeerError: as `holds`."""
        return self._is_here(replica) and await self.fleet.keeps(replica, wanted, self.config.deadlines.list)

    def _is_here(self, replica: int) -> bool:
        found = self.fleet.replicas.get(replica)
        return found is not None and found.state is not ReplicaState.GONE

    def _died(self, replica: Replica) -> None:
        """It has ended, unasked: whoever counts on it is told. :raises JournalError: it cannot be written down."""
        if replica.state is ReplicaState.GONE:
            return
        logger.error("replica %d is gone; its flows lose their state", replica.number)
        self.replicas_died += 1
        death = DeathRow(replica.number, replica.flows, time.time())
        self.deaths.take(death)
        self.journal.died(death, {"replicas.died": 1})
        if replica.state is ReplicaState.LIVE:  # one that was to go anyway is nobody's loss
            self.replacer.lost(replica)
        self.fleet.set_state(replica, ReplicaState.GONE)
        self.owned.forget(replica.number)
        self.registrar.lost(replica.number)
        self.mover.lost(replica.number)
        self._unsettled.set()

    async def shared(self, key: str) -> Found:
        """Everybody's newest contribution to a coherent object, after asking the living replicas."""
        return await self.shared_state.find(key, self.fleet.living())

    def _moved(self, result: Report) -> None:
        """A move has ended: what it left with an ended replica needs an owner."""
        self.owned.tell_the_rest()
        self.owned.may_be_mixed(result.source, result.target)
        if any(self._is_gone(replica) for replica in (result.source, result.target)):
            self._unsettled.set()

    def _moves_over(self, epoch: int) -> None:
        for replica in self.fleet.living():
            self.fleet.send(replica, m.MovesOver(before=epoch))

    def _is_gone(self, replica: int) -> bool:
        found = self.fleet.replicas.get(replica)
        return found is not None and found.state is ReplicaState.GONE

    async def _scale(self) -> None:
        await self.ready.wait()
        await self.autoscaler.run()


def _part(totals: Mapping[str, int], prefix: str) -> dict[str, int]:
    """Totals whose names begin so, by the rest of their names."""
    return {name.removeprefix(f"{prefix}."): count for name, count in totals.items() if name.startswith(f"{prefix}.")}
