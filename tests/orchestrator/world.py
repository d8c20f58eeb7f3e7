"""Three real replicas, the real migration core and journal, joined by a fake control network and a fake switch.

See `tests.orchestrator.migration.test_ownership`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import msgspec

from guestlib import FlowMigrated, FlowMissing, Guest, Packet, ReplicaConfig
from guestlib.engine import Counters, Engine
from guestlib.instructions import Instruction
from guestlib.moves.carriers import Carrier
from guestlib.packets.dataplane import DataPlane
from orchestrator import migration as core
from orchestrator.journal import LAST_EPOCH, Journal, MoveRow
from orchestrator.migration.paths import SUSPENDED
from orchestrator.migration.steps import POINTED, Step
from orchestrator.migration.steps import Path as Way
from orchestrator.moves.placement import Locks, Placement
from splitmerge import messages as m
from splitmerge.flowkey import BUCKETS, FlowKey
from splitmerge.tag import Tag, TagKind, pop
from tests.orchestrator.under_way import Operation, Wire

REPLICAS = (1, 2, 3)
CLIENT, SERVER = bytes((10, 0, 1, 2)), bytes((10, 0, 2, 2))
UNOWNED = 7
"""A bucket whose flows the controller assigns."""


def flow_in(bucket: int | None, skip: int = 0) -> FlowKey:
    """A UDP flow between client and server, in this bucket if one is named."""
    found = (FlowKey.of(17, CLIENT, port, SERVER, 9) for port in range(1024, 65536))
    matching = [key for key in found if bucket is None or key.bucket == bucket]
    return matching[skip]


FLOWS = (flow_in(1), flow_in(1, 1), flow_in(2), flow_in(3), flow_in(UNOWNED), flow_in(UNOWNED, 1))


def frame_of(key: FlowKey, number: int) -> bytes:
    port = key.low_port.to_bytes(2, "big") + key.high_port.to_bytes(2, "big")
    ip = bytes((0x45, 0, 0, 32, 0, 0, 0, 0, 64, 17, 0, 0)) + CLIENT + SERVER
    return bytes(12) + b"\x08\x00" + ip + port + bytes((0, 12, 0, 0)) + number.to_bytes(4, "big")


ORDERED = (core.Options(buffer="cpu"), core.Options(buffer="replica"))
SEEDS = 25
"""Runs of each kind."""
TIMES = core.Times()
BRIEF = 0.5
"""Seconds without an answer after which replicas give packets up, in every other run: else they never do."""
AGES = 2e9
"""Seconds in which anything that runs out would have; `Watched` holds wait half as long for END."""


TOO_OLD = ("brought here by epoch", "has decided about these flows", "is forgotten")
"""Why a replica refuses what an older move asks: no move is to be told that whose turn it is."""


class Numbers(msgspec.Struct):
    """The state that moves."""

    expected: int = 0
    seen: list[int] = []


class Crash(Exception):
    """The orchestrator is killed here."""


class Watched(DataPlane):
    """Tells the world which packets it drops: a count would not say whether they were the right ones."""

    def __init__(self, world: World) -> None:
        super().__init__(hold_deadline=AGES / 2)
        self.world = world

    def _append(self, epoch: int, held: object, frame: bytes, key: FlowKey, now: float) -> list[Instruction]:
        before = sum(self.drops.values())
        out = super()._append(epoch, held, frame, key, now)  # type: ignore[arg-type]
        if sum(self.drops.values()) > before:
            self.world.lost.add((key, int.from_bytes(frame[42:46], "big")))
        return out

    @property
    def awaits_end(self) -> bool:
        """Packets wait in a hold that may run out: they would be out of order then, and rightly so."""
        return any(held.packets and not held.undecided for held in self._holds.values())


class WatchedCarrier(Carrier):
    """Tells the world what it gives up: the other side may have taken it, but must not take it later."""

    def __init__(
        self, epoch: int, address: str, take: Callable[..., list[bytes]], now: float, *, open: bool = False
    ) -> None:
        super().__init__(epoch, address, take, now, open=open)
        plane = take.__self__  # type: ignore[attr-defined]
        self.given_up = plane.world.given_up.setdefault(epoch, set())
        self.world: World = plane.world

    def abandon(self) -> None:
        self._note(frame for part in self._unacked for frame in part.frames)
        super().abandon()

    def give_up(self) -> None:
        take = self._take

        def noted(*arguments: int) -> list[bytes]:
            frames = take(*arguments)
            self._note(frames)
            return frames

        self._take = noted
        super().give_up()
        self._take = take

    def _note(self, frames: Iterable[bytes]) -> None:
        packets = {(FlowKey.from_frame(frame), int.from_bytes(frame[42:46], "big")) for frame in frames}
        self.given_up |= packets
        self.world.lost |= packets


class Replica:
    """A real engine between a fake interface and the fake control network; also its middlebox."""

    def __init__(self, number: int, world: World) -> None:
        self.number = number
        self.world = world
        self.queue: deque[bytes] = deque()
        self.guest = Guest(plane=Watched(world))
        self.setup(self.guest)
        self.guest.begin(number, f"incarnation {number}")
        config = ReplicaConfig(replica=number, interface="none", control="unix:/none", peer="unix:/none")
        self.engine = Engine(self, self.guest, config, self)

    def setup(self, guest: Guest) -> None:
        guest.register_state(Numbers)

    def on_packet(self, guest: Guest, packet: Packet) -> None:
        key = packet.key
        assert key is not None
        number = int.from_bytes(packet.frame[42:46], "big")
        try:
            state = guest.get_flow(key)
        except FlowMigrated:
            self.world.check_migrated(key, number)
            raise
        except FlowMissing:
            guest.create_flow(key, Numbers())
            state = guest.get_flow(key)
        self.world.processed(key, number, state)
        guest.put_flow(key)

    def transmit(self, frame: bytes) -> None:
        popped = pop(frame)
        assert popped is not None
        self.world.signals.append(popped[0])

    def to_locks(self, message: m.Message) -> bool:
        return self.to_orchestrator(message)

    def to_orchestrator(self, message: m.Message) -> bool:
        if not isinstance(message, m.Stats):
            self.world.wire.send(self.number, 0, message)
        return True

    def to_peer(self, address: str, message: m.Message, *, again: bool = False) -> None:
        self.world.wire.send(self.number, int(address.removeprefix("unix:/")), message)

    def counters(self) -> Counters:
        return Counters(0.0, {})

    def arrived(self, sender: int, message: m.Message) -> None:
        self.engine.message(message, lambda answer: self.world.wire.send(self.number, sender, answer), self.world.now)

    def frozen(self) -> set[bytes]:
        return {bytes(key) for move in self.guest.moves._sources.values() for key in move.frozen}


class World:
    """Everything, with one clock."""

    def __init__(self, directory: Path, options: tuple[core.Options, ...] = ORDERED) -> None:
        self.options = options
        self.ordered = all(each.guarantee == "order-preserving" for each in options)
        self.late: list[core.Redirect] = []
        self.now = 100.0
        self.path = directory / "journal.db"
        self.wire = Wire()
        self.signals: list[Tag] = []
        self.replicas = {number: Replica(number, self) for number in REPLICAS}
        self.sent = dict.fromkeys(FLOWS, 0)
        self.seen: dict[FlowKey, list[int]] = {key: [] for key in FLOWS}
        self.lost: set[tuple[FlowKey, int]] = set()
        self.given_up: dict[int, set[tuple[FlowKey, int]]] = {}
        """By epoch: what one replica had for another, and does not send any more."""
        self.pinned: dict[FlowKey, int] = {}
        self.flows: dict[bytes, tuple[int, bool]] = {}
        self.buckets = {bucket: (0 if bucket == UNOWNED else 1, False) for bucket in range(BUCKETS)}
        journal = Journal(self.path)
        journal.own({bucket: 1 for bucket in range(BUCKETS) if bucket != UNOWNED})
        journal.close()
        self.fuel: int | None = None
        self.alive = False
        self.start()

    # -- the switch and the controller's buffer ----------------------------------------------------------------

    def inject(self, key: FlowKey) -> None:
        number = self.sent[key]
        self.sent[key] += 1
        replica, suspended = self.flows.get(key) or self.buckets[key.bucket]
        if replica and not suspended:
            self.replicas[replica].queue.append(frame_of(key, number))
        elif not self.alive:
            self.lost.add((key, number))
        elif suspended:
            self.buffers[self.mover_of(key)].append((key, number))
        else:
            self.new.setdefault(key, []).append((key, number))

    def mover_of(self, key: FlowKey) -> int:
        """The epoch whose buffer takes a suspended packet."""
        return next(epoch for epoch, scope in self.scopes.items() if key in scope.keys or key.bucket in scope.buckets)

    def steer(self, scope: m.Scope, replica: int, suspended: bool) -> None:
        self.buckets.update(dict.fromkeys(scope.buckets, (replica, suspended)))
        self.flows.update(dict.fromkeys(scope.keys, (replica, suspended)))

    def pump(self, replica: int, count: int) -> None:
        queue = self.replicas[replica].queue
        frames = [queue.popleft() for _ in range(min(count, len(queue)))]
        self.replicas[replica].engine.frames(frames, self.now)
        # Only now: should the orchestrator die of it, the replica has done its work nevertheless.
        signals, self.signals = self.signals, []
        for tag in signals:
            self.signal(replica, tag)

    def signal(self, replica: int, tag: Tag) -> None:
        """A tagged frame from a replica port reaches the controller."""
        for operation in list(self.operations) if self.alive else []:
            instruction = operation.instruction
            if operation.epoch != tag.epoch or not operation.begun:
                continue
            echo = tag.kind is TagKind.MARKER_ECHO and isinstance(instruction, core.Drain)
            drained = echo and instruction.replica == replica
            resumed = tag.kind is TagKind.RELAY_ACK and isinstance(instruction, core.Resume)
            if drained or (resumed and tag.sequence == operation.awaited and instruction.target == replica):
                self.finish(operation)

    def finish(self, operation: Operation) -> None:
        self.operations.remove(operation)
        if isinstance(operation.instruction, core.Resume):
            del self.scopes[operation.epoch]
            del self.buffers[operation.epoch]
        epoch = self.relays.get(operation.epoch, operation.epoch)
        if epoch not in self.recovering:
            self.feed(operation.epoch, core.NetworkDone())
        elif not any(each.epoch == operation.epoch for each in self.operations):  # both replicas are drained
            self.recovering.discard(epoch)
            self.feed(operation.epoch, core.Recover(operation.epoch))

    def progress(self, operation: Operation) -> None:
        """The controller goes on with one operation."""
        if operation.begun:
            return
        if isinstance(operation.instruction, core.Resume) and not operation.turned:
            self.turn(operation, operation.instruction)
            return
        operation.begun = True
        match operation.instruction:
            case core.Suspend(epoch, scope, source):
                self.suspend(epoch, scope, source)
                self.finish(operation)
            case core.Redirect(_, scope, _, target):
                self.late = [write for write in self.late if write.scope != scope]
                self.steer(scope, target, False)
                self.finish(operation)
            case core.Reserve(_, keys, replica):
                self.flows = dict.fromkeys(keys, (replica, False)) | self.flows
                self.finish(operation)
            case core.Drain(epoch, replica):
                self.tagged(replica, Tag(TagKind.MARKER, epoch, 1), bytes(60))
            case core.Resume(epoch, _, target):
                self.relay(operation, epoch, target)

    def suspend(self, epoch: int, scope: m.Scope, source: int) -> None:
        self.late = [write for write in self.late if write.scope != scope]
        self.steer(scope, source, True)
        self.scopes[epoch] = scope
        self.buffers.setdefault(epoch, [])

    def turn(self, operation: Operation, resume: core.Resume) -> None:
        """From here on packets go to the target directly; the buffer is complete."""
        operation.turned = True
        self.late = [write for write in self.late if write.scope != resume.scope]
        self.scopes.setdefault(resume.epoch, resume.scope)
        buffered = self.buffers.setdefault(resume.epoch, [])
        for key in resume.scope.keys:
            buffered += self.new.pop(FlowKey(key), [])
        self.steer(resume.scope, resume.target, False)

    def relay(self, operation: Operation, epoch: int, target: int) -> None:
        buffered = self.buffers[epoch]
        for number, (key, content) in enumerate(buffered, 1):
            self.tagged(target, Tag(TagKind.RELAYED, epoch, number), frame_of(key, content))
        end = len(buffered) + 1
        operation.awaited = end + 1
        self.tagged(target, Tag(TagKind.END, epoch, end), bytes(60))

    def tagged(self, replica: int, tag: Tag, frame: bytes) -> None:
        self.replicas[replica].queue.append(tag.push(frame))

    # -- the orchestrator --------------------------------------------------------------------------------------

    def start(self) -> None:
        """A new process, with nothing but the journal."""
        self.alive = True
        self.journal = Journal(self.path)
        state = self.journal.load()
        self.placement = Placement(state.buckets, state.flows)
        self.locks = Locks()
        self.moves: dict[int, core.Move] = {}
        self.relays: dict[int, int] = {}
        self.operations: list[Operation] = []
        self.unwritten: list[core.Record] = []
        self.scopes: dict[int, m.Scope] = {}
        self.buffers: dict[int, list[tuple[FlowKey, int]]] = {}
        self.new: dict[FlowKey, list[tuple[FlowKey, int]]] = {}
        self.ended: list[core.Move] = []
        self.buckets = {bucket: (owner, False) for bucket, owner in self.placement.buckets().items()}
        self.flows = {key: (owner, False) for key, owner in self.placement.flows()}
        self.recovering: set[int] = set()
        for move in [self.recover(row) for row in state.moves]:
            if move.step in SUSPENDED[move.plan.path]:
                self.recovering.add(move.plan.epoch)
                drains = [core.Drain(move.relay, each) for each in (move.plan.source, move.plan.target) if each]
                self.operations += [Operation(move.relay, drain) for drain in drains]
            else:
                self.feed(move.relay, core.Recover(move.relay))

    def recover(self, row: MoveRow) -> core.Move:
        """As `Mover.recover` and `Orchestrator.restore`."""
        move = core.Move(row.plan, TIMES, step=row.step)
        move.relay = self.journal.next_epoch()
        self.relays[move.relay] = row.plan.epoch
        self.moves[row.plan.epoch] = move
        if row.plan.renewed:
            self.relays[row.plan.renewed] = row.plan.epoch
        if row.step is not Step.PLANNED:
            self.locks.take(row.plan.epoch, row.plan.scope, row.plan.fence)
        if row.step in POINTED:
            self.steer(row.plan.scope, row.plan.target, False)
        if row.step in SUSPENDED[row.plan.path]:
            self.suspend(move.relay, row.plan.scope, row.plan.source or row.plan.target)
        return move

    def crash(self) -> None:
        """kill -9: memory, connections and buffered packets are gone, queues and replicas are not."""
        self.alive = False
        self.fuel = None
        self.lost |= {packet for buffer in (*self.buffers.values(), *self.new.values()) for packet in buffer}
        for operation in self.operations:
            if operation.begun and isinstance(operation.instruction, core.Resume):
                self.lost -= set(self.buffers[operation.epoch])  # they are in the target's queue
        self.wire.flying = [flight for flight in self.wire.flying if 0 not in flight[:2]]
        self.journal.close()

    def begin(self, scope: m.Scope, source: int, target: int, way: int = 0) -> None:
        if not (scope.keys or scope.buckets) or self.locks.ahead(LAST_EPOCH, scope) is not None:
            return
        self.take_turn(self.plan(scope, source, target, way))

    def plan(self, scope: m.Scope, source: int, target: int, way: int = 0) -> int:
        """As `Mover.plan`: it waits for its turn."""
        options = self.options[way % len(self.options)]
        epoch = self.journal.next_epoch()
        plan = core.Plan(epoch, scope, source, target, f"unix:/{target}", f"unix:/{source}", options)
        self.journal.plan(plan)
        self.moves[plan.epoch] = core.Move(plan, TIMES)
        self.locks.wait(plan.epoch, scope)
        return epoch

    def waiting(self) -> list[int]:
        """Moves whose turn has not come."""
        return [
            epoch for epoch, move in self.moves.items() if move.step is Step.PLANNED and epoch not in self.recovering
        ]

    def take_turn(self, epoch: int, along: Iterable[FlowKey] = ()) -> None:
        """As `Turns.take` and `Mover.begin`. ``along``: what the source says that goes along, if it is there."""
        plan = self.moves[epoch].plan
        mine = self.still_of(plan.source, plan.scope, along if plan.source else ())
        if not (mine.keys or mine.buckets):
            self.feed(epoch, core.Cancel("nothing of it is the source's any more"))
        elif self.locks.ahead(epoch, mine) is None:
            renewed = self.journal.next_epoch() if self.locks.overtaken(epoch) else 0
            if renewed:
                self.relays[renewed] = epoch
            plan = replace(plan, scope=mine, renewed=renewed)
            self.locks.take(epoch, mine, plan.fence)
            self.feed(epoch, core.Begin(plan))

    def still_of(self, source: int, scope: m.Scope, along: Iterable[FlowKey]) -> m.Scope:
        """As `Turns.still_of`."""
        if not source:
            return m.Scope(keys=tuple(key for key in scope.keys if self.placement.entry(key) is None))
        buckets = self.placement.scope_of_buckets(scope.buckets, source)
        named = {bytes(key) for key in (*scope.keys, *along) if self.placement.owner(bytes(key)) == source}
        return m.Scope(keys=tuple(sorted(named | set(buckets.keys))), buckets=buckets.buckets)

    def feed(self, epoch: int, event: core.Event) -> None:
        """As `Mover._feed`; the process may die before any instruction."""
        move = self.moves.get(self.relays.get(epoch, epoch))
        if move is None or not self.alive or move.plan.epoch in self.recovering:
            return
        self.write(move)
        for instruction in move.handle(event, self.now):
            self.spend()
            self.carry_out(move, instruction)
        move.validate()
        if move.ended:
            assert not any(why in move.reason for why in TOO_OLD), f"move {move.plan.epoch} was too old: {move.reason}"
            del self.moves[move.plan.epoch]
            self.locks.free(move.plan.epoch)
            self.ended.append(move)
            self.check_count(move)

    def spend(self) -> None:
        if self.fuel is not None:
            self.fuel -= 1
            if self.fuel < 0:
                raise Crash

    def write(self, move: core.Move) -> None:
        """What need not be on disk at once: before anything else happens to the move, but the marker may have gone."""
        for record in [each for each in self.unwritten if each.epoch == move.plan.epoch]:
            self.spend()
            self.unwritten.remove(record)
            if move.step is record.step:
                self.journal.record(record.epoch, record.step, record.relay)

    def carry_out(self, move: core.Move, instruction: core.Instruction) -> None:
        match instruction:
            case core.Record(_, _, _, later=True):
                self.unwritten.append(instruction)
            case core.Record(epoch, step, relay) if move.ended:
                owners, flows = move.owners()
                self.journal.end(MoveRow(move.plan, step, relay, move.reason), owners, flows)
                self.placement.own(owners, move.plan.target)
                self.placement.place(flows)
            case core.Record(epoch, step, relay):
                self.journal.record(epoch, step, relay)
            case core.Replan(plan):
                self.journal.replan(plan)
            case core.Send(replica, message):
                under = getattr(message, "epoch", move.relay)
                assert under in (move.plan.fence, move.relay), f"{message} is of no epoch of move {move.plan.epoch}"
                self.wire.send(0, replica, message)
            case (
                core.Reserve(epoch)
                | core.Suspend(epoch)
                | core.Redirect(epoch)
                | core.Drain(epoch)
                | core.Resume(epoch)
            ):
                self.operations.append(Operation(epoch, instruction))
            case core.Abandon(epoch):
                operation = next(each for each in self.operations if each.epoch == epoch)
                self.operations.remove(operation)
                self.feed(epoch, core.NetworkFailed("abandoned"))

    def deliver(self, index: int, *, keep: bool = False) -> None:
        sender, to, message = self.wire.flying[index]
        if not keep:
            del self.wire.flying[index]
        if to:
            self.replicas[to].arrived(sender, message)
        else:
            self.feed(getattr(message, "epoch", 0), core.Answer(sender, message))

    def tick(self, seconds: float) -> None:
        self.now += seconds
        for replica in self.replicas.values():
            replica.engine.tick(self.now)
        for epoch, move in list(self.moves.items()) if self.alive else []:
            if epoch not in self.recovering and move.timer is not None and move.timer <= self.now:
                self.feed(epoch, core.Tick())

    # -- what is checked ---------------------------------------------------------------------------------------

    def processed(self, key: FlowKey, number: int, state: Numbers) -> None:
        assert number not in state.seen, f"{key}: packet {number} again"
        state.seen.append(number)
        self.seen[key].append(number)
        if self.ordered:
            assert number >= state.expected, f"{key}: packet {number} late: {state.expected} was next"
            missing = {(key, earlier) for earlier in range(state.expected, number)}
            assert missing <= self.lost, f"{key}: {number} before {sorted(missing - self.lost)}"
            state.expected = number + 1

    def check_owners(self) -> None:
        for key in FLOWS:
            active = [number for number, each in self.replicas.items() if key in each.guest.table.active]
            frozen = [number for number, each in self.replicas.items() if key in each.frozen()]
            assert len(active) <= 1, f"{key} is active at {active}"
            assert active or frozen or not self.seen[key], f"{key}: nobody has it"
        for replica in self.replicas.values():
            drops = set(replica.engine.drops) - {"flow_migrated"}  # those are known: `check_migrated`
            assert not drops, dict(replica.engine.drops)

    def check_migrated(self, key: FlowKey, number: int) -> None:
        """A packet comes to a replica that its flow has left: only one that was given up, and arrives all the same."""
        given_up = any((key, number) in packets for packets in self.given_up.values())
        assert given_up, f"{key}: packet {number} came behind its flow"

    def check_count(self, move: core.Move) -> None:
        """What was given up on the way back, and the source has not taken, is what the move says was dropped."""
        if move.step is Step.UNDONE and move.plan.path is Way.REPLICA and Step.SEALING in move.figures.entered:
            given_up = self.given_up.get(move.plan.fence, ())
            lost = {(key, number) for key, number in given_up if number not in self.seen[key]}
            assert move.figures.dropped == len(lost), f"{move.figures.dropped} counted, {sorted(lost)} lost"

    def ages_pass(self) -> None:
        """For long nothing happens that anybody waits for; no packet waits for END."""
        if not any(replica.guest.plane.awaits_end for replica in self.replicas.values()):  # type: ignore[attr-defined]
            self.tick(AGES)

    def settle(self) -> None:
        """A network that loses nothing any more, until everything has come to rest."""
        self.fuel = None
        if not self.alive:
            self.start()
        for _ in range(2000):
            waiting = any(each.queue or each.guest.plane.held for each in self.replicas.values())
            if not (self.moves or self.wire.flying or waiting):
                break
            while self.wire.flying:
                self.deliver(0)
            for operation in list(self.operations):
                self.progress(operation)
            for epoch in self.waiting():
                self.take_turn(epoch)
            for replica in self.replicas:
                self.pump(replica, 100)
            self.tick(0.1)
            self.check_owners()
        assert not self.moves, [list(move.history) for move in self.moves.values()]

    def end(self) -> None:
        """Come to rest, and check that everything sent was processed, at the one owner."""
        for flow, number in self.pinned.items():
            self.replicas[number].guest.put_flow(flow)
        self.settle()
        self.assign(1)
        for flow in FLOWS:
            self.inject(flow)
        self.settle()
        self.assign(2)
        self.settle()
        for flow in FLOWS:
            arrived = set(self.seen[flow]) | {number for key, number in self.lost if key == flow}
            assert arrived == set(range(self.sent[flow])), f"{flow}: packets are missing"
            owner = self.placement.owner(flow)
            assert flow in self.replicas[owner].guest.table.active or not self.seen[flow]
            assert (self.flows.get(flow) or self.buckets[flow.bucket]) == (owner, False)
        self.journal.close()

    def assign(self, target: int) -> None:
        for key in list(self.new):
            if self.placement.entry(key) is None:
                self.begin(m.Scope(keys=(bytes(key),)), 0, target)
